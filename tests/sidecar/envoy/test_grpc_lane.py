"""The lane of gRPC apart from what it carries: which calls are calls, what is a message, and how a call ends."""

from __future__ import annotations

import pytest

from sidecar.errors import PublicError
from sidecar.grpc_lane import NOT_FOUND, Head, Lane, failure, reply, unframed
from sidecar.hpack import Block, Decoder
from sidecar.http2 import MalformedError, Response

PATH = "/a.Service/Method"
POST = ((":method", "POST"), (":scheme", "http"), (":path", PATH))
GRPC = ("content-type", "application/grpc")


def echo(head: Head, body: bytes) -> Response:
    return reply(unframed(body, 100))


LANE = Lane({PATH: echo})


def status_of(*fields: tuple[str, str], is_whole: bool = True) -> dict[str, str]:
    """Send a call with these headers; return what its answer's head says, and its trailers."""
    head = LANE.read(Block(fields, is_whole), "192.0.2.1")
    found = LANE.answer(head, reply(b"hello").body)
    assert isinstance(found, Response)
    return dict(Decoder().decode(found.head).fields) | dict(Decoder().decode(found.trailers).fields)


def test_a_call() -> None:
    """A call of a method that is there is answered, whatever kind of gRPC it says it is."""
    expected = {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}

    assert status_of(*POST, GRPC) == expected
    assert (
        status_of(*POST, (":authority", "bylaw"), ("content-type", "application/grpc+proto"), ("te", "trailers"))
        == expected
    )


def test_another_method() -> None:
    """A method that is not there is an RPC that says so; a request that is no RPC is told by its status."""
    other = status_of(*POST[:2], (":path", "/a.Service/Other"), GRPC)

    assert (other[":status"], other["grpc-status"]) == ("200", "12")
    assert status_of((":method", "GET"), *POST[1:], GRPC)[":status"] == "415"
    assert status_of(*POST)[":status"] == "415"
    assert status_of(*POST, ("content-type", "application/json"))[":status"] == "415"


MALFORMED = {
    "nothing": (),
    "no method": POST[1:],
    "no path": (*POST[:2], GRPC),
    "two paths": (*POST, (":path", "/b"), GRPC),
    "a status": (*POST, (":status", "200"), GRPC),
    "a path behind a header": (*POST[:2], GRPC, POST[2]),
    "upper case": (*POST, GRPC, ("X-A", "a")),
    "of a connection": (*POST, GRPC, ("connection", "close")),
    "another te": (*POST, GRPC, ("te", "gzip")),
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_heads_of_no_request(fields: tuple[tuple[str, str], ...]) -> None:
    """What HTTP/2 calls malformed is."""
    with pytest.raises(MalformedError):
        LANE.read(Block(fields), None)


def test_what_a_method_is_told() -> None:
    """A method is told who asks, the metadata in order, and whether that is all of it."""
    head = LANE.read(Block((*POST, GRPC, ("a", "1"), ("a", "2")), is_whole=False), "192.0.2.1")

    assert head == Head(echo, "192.0.2.1", (GRPC, ("a", "1"), ("a", "2")), is_whole=False)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_request"),
        (b"\0\0\0\0", "bad_request"),
        (b"\0\0\0\0\5hell", "bad_request"),
        (b"\0\0\0\0\5hello\0\0\0\0\0", "bad_request"),
        (b"\1\0\0\0\5hello", "bad_request"),
        (b"\2\0\0\0\5hello", "bad_request"),
        (b"\0\0\0\0\x65" + bytes(101), "too_large"),
        (b"\0\xff\xff\xff\xff", "too_large"),
        (b"\0\0\0\0\5" + bytes(200), "too_large"),
    ],
)
def test_what_is_no_message(body: bytes, code: str) -> None:
    """A body has one message, whole, not compressed, and not too large."""
    with pytest.raises(PublicError) as caught:
        unframed(body, 100)

    assert caught.value.code == code


def test_messages() -> None:
    """A message is what stands behind its length, also if that is nothing."""
    assert unframed(b"\0\0\0\0\5hello", 100) == b"hello"
    assert unframed(bytes(5), 100) == b""
    assert unframed(reply(bytes(100)).body, 100) == bytes(100)


def test_a_failure() -> None:
    """An RPC that fails is a head alone, with the reason in printable ASCII."""
    failed = failure(NOT_FOUND, "not “here”")

    assert dict(Decoder().decode(failed.head).fields) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "not %E2%80%9Chere%E2%80%9D",
    }
    assert (failed.body, failed.trailers) == (b"", b"")
