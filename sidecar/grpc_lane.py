"""gRPC over `http2`, as much of it as calls of one message and one answer need.

    header block ──▶ `Lane.read` ──▶ Head: which method, who asks, his metadata
    body ──▶ method: `unframed` ──▶ message … `reply` or `failure` ──▶ Response

Own code, though `grpcio` does it all, by the figure: with a handler that does nothing a call took `grpc.aio` 170 to 240
µs, twice what is spent here on a whole check, and it holds 25 MiB.

A method gets the body as it came: what to say of one that is no message is its own affair. Whatever metadata says of
compression, a message that is compressed says so itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from sidecar.errors import bad_request, too_large
from sidecar.hpack import Block
from sidecar.http2 import MalformedError, Response

CONTENT_TYPE: Final = "application/grpc"
#: As `google.rpc.Code` has them.
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
UNIMPLEMENTED: Final = 12

_PSEUDO: Final = frozenset((":method", ":scheme", ":path", ":authority"))
_OF_CONNECTIONS: Final = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
#: Before a message: whether it is compressed, and its length in four bytes.
_PREFIX: Final = 5

Metadata = tuple[tuple[str, str], ...]


class Head(NamedTuple):
    """The head of a call.

    Args:
        method: answers it.
        metadata: as much as there is room for; `is_whole`: all of it.
    """

    method: Method
    peer: str | None
    metadata: Metadata
    is_whole: bool = True


Answer = Response | Awaitable[Response]
Method = Callable[[Head, bytes], Answer]


class Lane:
    """Answers calls.

    Args:
        methods: by path.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = dict(methods)

    def read(self, block: Block, peer: str | None) -> Head:
        """Read the head of a call.

        Raises:
            MalformedError: it is no head of a request.
        """
        fields = block.fields
        split = next((place for place, (name, _) in enumerate(fields) if name[:1] != ":"), len(fields))
        pseudo = dict(fields[:split])
        if len(pseudo) != split or not pseudo.keys() <= _PSEUDO or not {":method", ":scheme", ":path"} <= pseudo.keys():
            raise MalformedError
        metadata = fields[split:]
        for name, value in metadata:
            if (
                name[:1] == ":"
                or name != name.lower()
                or name in _OF_CONNECTIONS
                or (name == "te" and value != "trailers")
            ):
                raise MalformedError
        return Head(self._method(pseudo, dict(metadata)), peer, metadata, block.is_whole)

    def _method(self, pseudo: Mapping[str, str], metadata: Mapping[str, str]) -> Method:
        if pseudo[":method"] != "POST" or not metadata.get("content-type", "").startswith(CONTENT_TYPE):
            return _no_grpc
        return self._methods.get(pseudo[":path"], _unimplemented)

    def answer(self, head: Head, body: bytes) -> Answer:
        """Answer a call."""
        return head.method(head, body)


def _no_grpc(_: Head, __: bytes) -> Response:
    return Response(_literal(":status", "415"))


def _unimplemented(_: Head, __: bytes) -> Response:
    return failure(UNIMPLEMENTED, "there is no such method here")


def unframed(body: bytes, most: int) -> bytes:
    """Return the one message of a body.

    Raises:
        PublicError: there is not one, or it is compressed or too large.
    """
    length = int.from_bytes(body[1:_PREFIX], "big")
    if length > most or len(body) > _PREFIX + most:
        raise too_large(f"a check has at most {most // 1024} KiB: leave out with_request_body")
    if len(body) != _PREFIX + length:
        raise bad_request("a call has one message, and it is whole")
    if body[0]:
        raise bad_request("messages are not compressed here")
    return body[_PREFIX:]


def reply(message: bytes) -> Response:
    """Answer a call whose RPC is OK."""
    return Response(_HEAD, b"\0" + len(message).to_bytes(4, "big") + message, _OK)


def failure(code: int, message: str) -> Response:
    """End a call whose RPC is not OK."""
    return Response(_HEAD + _literal("grpc-status", str(code)) + _literal("grpc-message", quote(message, " ")))


def _literal(name: str, value: str) -> bytes:
    """Write a field that no table holds; both parts are shorter than 127 bytes."""
    return b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())


#: `:status: 200` has a number.
_HEAD: Final = b"\x88" + _literal("content-type", CONTENT_TYPE)
_OK: Final = _literal("grpc-status", "0")
