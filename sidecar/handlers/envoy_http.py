"""Envoy's check over HTTP: any method, at `/envoy` followed by the path that is asked about.

    method, target, headers ──▶ `asked_of` ──▶ EnvoyCheck ──▶ `reply_of` ──▶ 200, 401, 403

Nothing of the target is decoded, joined or redirected: what follows the prefix is what is decided on, byte for byte.
Envoy itself writes `!` for bytes that are no UTF-8, so a path with a `!` is denied here. Bodies say nothing, and Envoy
sends none unless it is told to.

INVARIANT: an answer is 200, 401 or 403. Envoy takes 5xx for an error, which `failure_mode_allow` lets through, so a
verdict of 503 is written as 403 with its code in the body. (What is no HTTP never comes here; 400 denies, too.)

All of it but `make_handler` knows no library: the fast lane makes the same calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from aiohttp import web

from sidecar.answers import must_close, response_of
from sidecar.envoy import DECISION_ID, ENVOY, HOST, Asked, EnvoyCheck, Verdict, as_it_came, is_reserved
from sidecar.exchange import Call, Reply, names_in, taken_over

PREFIX: Final = "/envoy"
#: For the router of aiohttp, under every method. It looks at decoded paths, and a `.` is no line end.
PATH: Final = r"/envoy{path:[\s\S]*}"
#: Under which Envoy sends a caller's key: its own `authorization` is the end user's.
CALLER_KEY: Final = "bylaw-caller-key"
#: By which Envoy is told what to take off a request.
REMOVE: Final = "x-envoy-auth-headers-to-remove"

Headers = Iterable[tuple[str, str]]

#: Headers that differ between requests for the same: by user, by client, or each time.
VARYING: Final = frozenset(("authorization", "x-request-id", "x-forwarded-for", "traceparent", "tracestate"))


class Shape(NamedTuple):
    """What a request asks, but for headers that vary.

    Args:
        keys: of the caller, as a header `Authorization` would have them.
        reserved: names of headers that only this service may set.
    """

    method: str
    path: str
    keys: tuple[str, ...]
    reserved: tuple[str, ...]


def shape_of(method: str, target: str, headers: Headers) -> Shape:
    """Read what does not vary. `read` says what the arguments are."""
    keys: list[str] = []
    reserved: list[str] = []
    for written, value in headers:
        name = written.lower()
        if name == CALLER_KEY:
            keys.append(f"Bearer {value}")
        elif name.startswith("x") and is_reserved(name) and name not in reserved:
            reserved.append(name)
    path = as_it_came(target[len(PREFIX) :]) if target.startswith(PREFIX) else ""
    return Shape(method, path, tuple(keys), tuple(reserved))


def completed(
    shape: Shape, headers: Headers, peer: str | None, trusted_hops: int, certificates: tuple[str, ...] = ()
) -> tuple[Asked, Call]:
    """Read what varies. Of the headers all others are passed over; their names are in lower case."""
    authorization: list[str] = []
    forwarded: list[str] = []
    request_id = parent = None
    state = ""
    for name, value in headers:
        if name == "authorization":
            authorization.append(value)
        elif name == "x-request-id":
            request_id = value
        elif name == "x-forwarded-for":
            forwarded.append(value)
        elif name == "traceparent":
            parent = value
        elif name == "tracestate":
            state = value
    address = address_in(forwarded, trusted_hops) if trusted_hops else None
    trace = (parent, state) if parent is not None else None
    call = Call(ENVOY, peer, HOST, shape.keys, taken_over(request_id), None, certificates, trace)
    return Asked(shape.method, shape.path, tuple(authorization), address, shape.reserved, False), call


def read(
    method: str, target: str, headers: Headers, peer: str | None, trusted_hops: int, certificates: tuple[str, ...] = ()
) -> tuple[Asked, Call]:
    """Read a request.

    Args:
        target: as it stands in the request line.
        headers: names and values, in order.
        peer: the address of the other end.
        trusted_hops: how many hops of `x-forwarded-for` are believed, Envoy being the first.
        certificates: names in the client certificate that was verified.
    """
    listed = [(name.lower(), value) for name, value in headers]
    return completed(shape_of(method, target, listed), listed, peer, trusted_hops, certificates)


def address_in(forwarded: Iterable[str], trusted_hops: int) -> str | None:
    """Return the address that the last hop to be believed has seen; None: no hop is, or it has seen none.

    >>> address_in(["203.0.113.9, 198.51.100.7", "192.0.2.1"], 2)
    '198.51.100.7'
    """
    named = [each.strip() for value in forwarded for each in value.split(",")]
    return named[-trusted_hops] if 0 < trusted_hops <= len(named) else None


def respond(check: EnvoyCheck, asked: Asked, call: Call) -> Reply | Awaitable[Reply]:
    """Answer; nothing is raised, now or later."""
    try:
        verdict = check.judge(asked, call)
        return reply_of(verdict) if isinstance(verdict, Verdict) else _later(check, verdict, call)
    except Exception as error:  # the one place: nothing but an answer may leave
        return failed(check, error, call)


async def _later(check: EnvoyCheck, verdict: Awaitable[Verdict], call: Call) -> Reply:
    try:
        return reply_of(await verdict)
    except Exception as error:  # the same, of what had to wait
        return failed(check, error, call)


def failed(check: EnvoyCheck, error: Exception, call: Call) -> Reply:
    """Answer an error: never by the status that other errors have, which Envoy may let through."""
    return reply_of(check.failed(error, call))


def reply_of(verdict: Verdict) -> Reply:
    """Write a verdict."""
    if verdict.status == 200:
        own = ((DECISION_ID, verdict.decision_id), (REMOVE, _listed(verdict.removed)))
        return Reply(200, b"", verdict.headers + own)
    return Reply(401 if verdict.status == 401 else 403, verdict.body.encode(), verdict.headers)


@lru_cache(256)
def _listed(names: tuple[str, ...]) -> str:
    return ",".join(names)


def make_handler(check: EnvoyCheck, trusted_hops: int = 0) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the handler of `PATH`."""

    async def handler(request: web.Request) -> web.Response:
        try:
            names = names_in(request.get_extra_info("peercert"))
            headers = request.headers.items()
            asked, call = read(request.method, request.raw_path, headers, request.remote, trusted_hops, names)
            found = respond(check, asked, call)
        except Exception as error:  # the same, of what cannot be read
            found = failed(check, error, Call(ENVOY, request.remote, HOST))
        response = response_of(found if isinstance(found, Reply) else await found)
        if check.gate.traffic.is_stopping or must_close(request):
            response.force_close()
        return response

    return handler
