"""What goes in and out of the decision API, whichever lane it came by: a `Call`, its body, a `Reply`.

Neither knows of a connection or a library: aiohttp's handlers and the fast lane make the same calls of the same bytes,
and write the same replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, cast
from uuid import uuid4

from sidecar.errors import PublicError, error_body

REQUEST_ID: Final = "X-Request-ID"
AT_LEAST: Final = "Bylaw-At-Least"
MAX_REQUEST_ID: Final = 256
#: After these the rest of the body may still be on its way, and is not waited for.
_CLOSING: Final = frozenset((408, 413))


class Call(NamedTuple):
    """What a request says before its body.

    Args:
        path: which endpoint, without a query.
        peer: the address of the other end; none or empty on a Unix socket, which has no other machines on it.
        host: what the header says.
        authorization: the values of the header, in order.
        request_id: the caller's own, if it can be echoed and logged as it is.
        at_least: tokens of states that the facts must have reached, as in the header.
        certificates: names in the client certificate that was verified.
        trace: `traceparent` and `tracestate`, where the request is part of a trace.
    """

    path: str
    peer: str | None
    host: str | None
    authorization: tuple[str, ...] = ()
    request_id: str | None = None
    at_least: str | None = None
    certificates: tuple[str, ...] = ()
    trace: tuple[str, str] | None = None


class Reply(NamedTuple):
    """An answer: JSON. `is_last`: nothing that follows on its connection is read."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    is_last: bool = False


def said(body: str) -> Reply:
    """Answer a question that was answered."""
    return Reply(200, body.encode())


def refusal(error: PublicError, request_id: str | None) -> Reply:
    """Answer an error, under the caller's id or one that is made here."""
    known = request_id or uuid4().hex
    headers = ((REQUEST_ID, known), *error.headers.items())
    return Reply(error.status, error_body(error, known).encode(), headers, error.status in _CLOSING)


def taken_over(sent: str | None) -> str | None:
    """Return the caller's own request id, if it is one that can be echoed and logged as it is."""
    if sent and len(sent) <= MAX_REQUEST_ID and sent.isascii() and sent.isprintable():
        return sent
    return None


def names_in(certificate: Mapping[str, object] | None) -> tuple[str, ...]:
    """List the names in a client certificate that was verified, as `ssl` gives it: URIs, DNS names."""
    if not certificate:
        return ()
    listed = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    return tuple(f"{kind.lower()}:{name}" for kind, name in listed if kind in ("URI", "DNS"))
