"""HTTP/2 as it is spoken here: frames byte by byte, and what becomes of those that break the protocol.

No client's library would send most of this, so frames are written by hand, and a transport that only takes down what
is written stands in for the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from struct import pack
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import http2
from sidecar.hpack import Block, Decoder
from sidecar.http2 import Connection, MalformedError, Response, Server
from tests.databases import run
from tests.sidecar.test_identity import UNHURRIED

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = 5, 6, 7, 8, 9, 11
#: `:method: GET`, `:scheme: http`, `:path: /`.
BLOCK: Final = b"\x82\x86\x84"
WHOLE: Final = END_HEADERS | END_STREAM
LAST: Final = 2**31 - 1


class Frame(NamedTuple):
    """A frame that was written."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return pack(">I", len(payload))[1:] + bytes((kind, flags)) + pack(">I", stream) + payload


def setting(name: int, value: int) -> bytes:
    return pack(">HI", name, value)


BEGIN: Final = http2.PREFACE + frame(SETTINGS)


def frames_in(written: bytes) -> Iterator[Frame]:
    while written:
        length = int.from_bytes(written[:3], "big")
        yield Frame(written[3], written[4], int.from_bytes(written[5:9], "big"), written[9 : 9 + length])
        written = written[9 + length :]


class Wire(asyncio.Transport):
    """A transport that takes down what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5)})
        self.written = b""
        self.is_closed = self.is_aborted = self.is_read = False
        self.is_read = True

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


class Echo:
    """Answers with the body; a path of its own has it wait, fail, or be malformed."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.heads = 0

    def read(self, block: Block, peer: str | None) -> str:
        self.heads += 1
        path = dict(block.fields).get(":path", "")
        if path == "/malformed":
            raise MalformedError
        assert peer == "192.0.2.1"
        return path if block.is_whole else "/cut"

    def answer(self, head: str, body: bytes) -> Response | Awaitable[Response]:
        if head == "/fails":
            raise RuntimeError("secret")
        if head in ("/waits", "/fails-later"):
            return self._later(head, body)
        return Response(b"\x88", body if head == "/" else head.encode(), b"\x89")

    async def _later(self, head: str, body: bytes) -> Response:
        await self.goes_on.wait()
        if head == "/fails-later":
            raise RuntimeError("secret")
        return Response(b"\x88", body, b"\x89")


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A client, written by hand, and the connection that it has."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.clock = Clock()
        self.server: Server[str] = Server(self.echo, clock=self.clock)
        self.connection: Connection[str] = Connection(self.server)
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        self.greeting = self.heard()

    def heard(self) -> list[Frame]:
        """Return what was written since."""
        written, self.wire.written = self.wire.written, b""
        return list(frames_in(written))

    def say(self, data: bytes) -> list[Frame]:
        self.connection.data_received(data)
        return self.heard()

    def pass_time(self, seconds: float) -> list[Frame]:
        self.clock.now += seconds
        self.server.look_after()
        return self.heard()


@pytest.fixture
def peer() -> Peer:
    """A client that has greeted."""
    made = Peer()
    assert made.say(BEGIN) == [Frame(SETTINGS, ACK, 0, b"")]
    return made


def request(stream: int = 1, body: bytes = b"hello") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, BLOCK) + frame(DATA, END_STREAM, stream, body)


def to(path: str, stream: int = 1) -> bytes:
    """Write a request without a body."""
    block = b"\x82\x86\x04" + bytes([len(path)]) + path.encode()
    return frame(HEADERS, WHOLE, stream, block)


def answer(stream: int = 1, body: bytes = b"hello") -> list[Frame]:
    sent = [Frame(DATA, 0, stream, body)] if body else []
    return [Frame(HEADERS, END_HEADERS, stream, b"\x88"), *sent, Frame(HEADERS, WHOLE, stream, b"\x89")]


def code_in(heard: list[Frame]) -> tuple[int, int]:
    """Return the kind and the code of the last frame, by which something ended."""
    last = heard[-1]
    at = {GOAWAY: 4, RST_STREAM: 0}[last.kind]
    return last.kind, int.from_bytes(last.payload[at : at + 4], "big")


# --- requests ---------------------------------------------------------------------------------------------------------


def test_the_greeting() -> None:
    """A client is told first how many streams it may open, and how much it may send."""
    settings, window = Peer().greeting

    assert settings == Frame(SETTINGS, 0, 0, setting(3, http2.STREAMS) + setting(4, http2.STREAM_WINDOW))
    assert window == Frame(WINDOW_UPDATE, 0, 0, pack(">I", http2.WINDOW - 65_535))


def test_a_request(peer: Peer) -> None:
    """A request is answered by a head, a body and trailers."""
    assert peer.say(request()) == answer()


def test_heads_are_read_once(peer: Peer) -> None:
    """Of requests whose heads are alike the head is read for the first alone."""
    for stream in (1, 3, 5):
        assert peer.say(request(stream)) == answer(stream)

    assert peer.echo.heads == 1


LONG: Final = (
    BEGIN
    + frame(HEADERS, END_HEADERS | PADDED | PRIORITISED, 1, b"\x02" + bytes(5) + BLOCK + bytes(2))
    + frame(PRIORITY, 0, 1, bytes(5))
    + frame(DATA, PADDED, 1, b"\x03hel" + bytes(3))
    + frame(HEADERS, END_STREAM, 3, BLOCK[:1])
    + frame(CONTINUATION, 0, 3, BLOCK[1:2])
    + frame(CONTINUATION, END_HEADERS, 3, BLOCK[2:])
    + frame(DATA, 0, 1, b"")
    + frame(99, 255, 7, b"unknown")
    + frame(DATA, 0, 1, b"lo")
    + frame(PING, 0, 0, b"12345678")
    + frame(HEADERS, WHOLE, 1, b"\x00\x01a\x01b")
)
LONG_ANSWER: Final = [
    Frame(SETTINGS, ACK, 0, b""),
    *answer(3, b""),
    Frame(PING, ACK, 0, b"12345678"),
    *answer(),
]


def test_pieces_of_any_length() -> None:
    """However a connection's bytes are cut, the frames in them are the same."""
    whole = Peer()
    assert whole.say(LONG) == LONG_ANSWER

    for cut in range(1, len(LONG)):
        parted = Peer()
        assert parted.say(LONG[:cut]) + parted.say(LONG[cut:]) == LONG_ANSWER

    single = Peer()
    assert [each for byte in LONG for each in single.say(bytes([byte]))] == LONG_ANSWER


def test_a_few_answers_a_write(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came at once is answered by a few writes: whoever asked first has not to wait for all."""
    writes: list[bytes] = []
    monkeypatch.setattr(peer.wire, "write", writes.append)

    peer.connection.data_received(b"".join(request(stream) for stream in range(1, 99, 2)))

    assert len(writes) == 17
    assert [written.count(b"hello") for written in writes] == [3] * 16 + [1]
    assert len(list(frames_in(b"".join(writes)))) == 49 * 3


def test_streams_are_independent(peer: Peer) -> None:
    """A request that waits holds up none that came later."""

    async def talk() -> tuple[list[Frame], list[Frame]]:
        first = peer.say(to("/waits", 1) + request(3))
        peer.echo.goes_on.set()
        await asyncio.gather(*peer.server._tasks)
        return first, peer.heard()

    at_once, later = run(talk())

    assert at_once == answer(3)
    assert later == answer(1, b"")


def test_what_was_reset_is_not_answered(peer: Peer) -> None:
    """A request that is reset while it waits gets no answer, and the connection goes on."""

    async def talk() -> list[Frame]:
        peer.say(to("/waits", 1) + frame(RST_STREAM, 0, 1, pack(">I", CANCEL)))
        peer.echo.goes_on.set()
        await asyncio.gather(*peer.server._tasks)
        return peer.heard()

    assert run(talk()) == []
    assert peer.say(request(3)) == answer(3)


def test_failures_of_ours_tell_nothing(peer: Peer) -> None:
    """What an application raises resets its stream, at once or later, and nothing of it is told."""

    async def talk() -> list[Frame]:
        heard = peer.say(to("/fails", 1) + to("/fails-later", 3))
        peer.echo.goes_on.set()
        await asyncio.gather(*peer.server._tasks)
        return [*heard, *peer.heard()]

    reset = pack(">I", INTERNAL_ERROR)
    assert run(talk()) == [Frame(RST_STREAM, 0, 1, reset), Frame(RST_STREAM, 0, 3, reset)]
    assert peer.say(request(5)) == answer(5)


def test_a_body_that_is_too_large_is_passed_on_cut(peer: Peer) -> None:
    """Of a body only so much is kept that the application sees that it is too large; the rest may all come."""
    piece = bytes(http2.MAX_FRAME)
    peer.say(frame(SETTINGS, 0, 0, setting(4, LAST)) + frame(WINDOW_UPDATE, 0, 0, pack(">I", 2**30)))
    heard = peer.say(frame(HEADERS, END_HEADERS, 1, BLOCK))
    for _ in range(8 * http2.WINDOW // len(piece) // 4):
        heard += peer.say(frame(DATA, 0, 1, piece))

    last = peer.say(frame(DATA, END_STREAM, 1, piece))

    assert {each.kind for each in heard} == {WINDOW_UPDATE}
    assert sum(len(each.payload) for each in last if each.kind == DATA) == http2.MAX_BODY + 1


def test_a_head_that_is_too_large_is_passed_on_cut(peer: Peer) -> None:
    """Of a head that is too large its beginning is read, so that it can be refused by an answer."""
    size = 16_000
    field = b"\x00\x01a\x7f" + bytes([size - 127 & 0x7F | 0x80, size - 127 >> 7]) + b"v" * size
    pieces = [frame(CONTINUATION, 0, 1, field) for _ in range(10)]

    heard = peer.say(frame(HEADERS, END_STREAM, 1, BLOCK) + b"".join(pieces) + frame(CONTINUATION, END_HEADERS, 1))

    assert heard == answer(1, b"/cut")


# --- windows ----------------------------------------------------------------------------------------------------------


def test_the_window_of_a_stream(peer: Peer) -> None:
    """An answer is sent as far as its stream's window goes, and on when there is more; other streams are not held."""
    peer.say(frame(SETTINGS, 0, 0, setting(4, 3)))

    first = peer.say(request())
    other = peer.say(request(3, b"me"))
    more = peer.say(frame(WINDOW_UPDATE, 0, 1, pack(">I", 1)))
    rest = peer.say(frame(SETTINGS, 0, 0, setting(4, 4)))

    assert first == [Frame(HEADERS, END_HEADERS, 1, b"\x88"), Frame(DATA, 0, 1, b"hel")]
    assert other == answer(3, b"me")
    assert more == [Frame(DATA, 0, 1, b"l")]
    assert rest == [Frame(DATA, 0, 1, b"o"), Frame(HEADERS, WHOLE, 1, b"\x89"), Frame(SETTINGS, ACK, 0, b"")]


def test_the_window_of_the_connection(peer: Peer) -> None:
    """All streams share the connection's window, and an answer is sent in frames that everybody takes."""
    body = bytes(1024 * 1024)
    peer.say(frame(SETTINGS, 0, 0, setting(4, LAST)))
    pieces = [frame(DATA, 0, 1, bytes(http2.MAX_FRAME)) for _ in range(len(body) // http2.MAX_FRAME)]

    heard = peer.say(frame(HEADERS, END_HEADERS, 1, BLOCK) + b"".join(pieces) + frame(DATA, END_STREAM, 1))
    waiting = peer.say(request(3))
    rest = peer.say(frame(WINDOW_UPDATE, 0, 0, pack(">I", 2**20)))

    assert sum(len(each.payload) for each in heard if each.kind == DATA) == 65_535
    assert waiting == answer(3)[:1]
    assert max(len(each.payload) for each in [*heard, *rest]) == http2.MAX_FRAME
    assert sum(len(each.payload) for each in rest if each.kind == DATA) == len(body) + 5 - 65_535
    assert [each.stream for each in rest if each.flags & END_STREAM] == [1, 3]


def test_a_window_below_nothing(peer: Peer) -> None:
    """A window that is made smaller than what was sent already has to grow above nothing first."""
    peer.say(frame(SETTINGS, 0, 0, setting(4, 3)))
    peer.say(request())

    peer.say(frame(SETTINGS, 0, 0, setting(4, 0)))
    nothing = peer.say(frame(WINDOW_UPDATE, 0, 1, pack(">I", 3)))
    rest = peer.say(frame(WINDOW_UPDATE, 0, 1, pack(">I", 2)))

    assert nothing == []
    assert rest[0] == Frame(DATA, 0, 1, b"lo")


def test_room_is_given_back(peer: Peer) -> None:
    """What was answered or reset makes room for as much to come, for as long as one likes."""
    body = bytes(http2.MAX_FRAME)
    peer.say(frame(WINDOW_UPDATE, 0, 0, pack(">I", 2**30)))
    given = 0
    for stream in range(1, 2 * 3 * http2.WINDOW // len(body), 4):
        unfinished = frame(HEADERS, END_HEADERS, stream + 2, BLOCK) + frame(DATA, 0, stream + 2, body)
        heard = peer.say(request(stream, body) + unfinished + frame(RST_STREAM, 0, stream + 2, bytes(4)))
        given += sum(int.from_bytes(each.payload, "big") for each in heard if each.kind == WINDOW_UPDATE)

    assert given >= 2 * http2.WINDOW
    assert not peer.wire.is_closed


def test_a_client_without_a_table(peer: Peer) -> None:
    """A client that wants no table of headers is told that there is none, once."""
    peer.say(frame(SETTINGS, 0, 0, setting(1, 0)))

    assert peer.say(request())[0].payload == b"\x20\x88"
    assert peer.say(request(3))[0].payload == b"\x88"


# --- what breaks the protocol -----------------------------------------------------------------------------------------

ENDS: Final[dict[str, tuple[bytes, int]]] = {
    "too large": (frame(DATA, 0, 1, bytes(http2.MAX_FRAME + 1)), FRAME_SIZE_ERROR),
    "far too large": (b"\xff\xff\xff" + bytes(6), FRAME_SIZE_ERROR),
    "data without a stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "data of no stream yet": (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "headers without a stream": (frame(HEADERS, WHOLE, 0, BLOCK), PROTOCOL_ERROR),
    "a server's stream": (frame(HEADERS, WHOLE, 2, BLOCK), PROTOCOL_ERROR),
    "headers that are all padding": (frame(HEADERS, WHOLE | PADDED, 1, b"\x04abc"), PROTOCOL_ERROR),
    "headers without padding": (frame(HEADERS, WHOLE | PADDED, 1), PROTOCOL_ERROR),
    "headers too short for a priority": (frame(HEADERS, WHOLE | PRIORITISED, 1, b"abc"), FRAME_SIZE_ERROR),
    "data that is all padding": (
        frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(DATA, PADDED, 1, b"\xff"), PROTOCOL_ERROR,
    ),
    "another frame in a block": (frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "another stream in a block": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL_ERROR,
    ),
    "continued without a beginning": (frame(CONTINUATION, END_HEADERS, 1, BLOCK), PROTOCOL_ERROR),
    "a block that is none": (frame(HEADERS, WHOLE, 1, b"\x80"), COMPRESSION_ERROR),
    "a priority of nothing": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "a reset of nothing": (frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "a reset of no stream yet": (frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a reset too short": (frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "settings of a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "settings cut off": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "settings acknowledged with words": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    "push that is neither": (frame(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL_ERROR),
    "too large a window to begin": (frame(SETTINGS, 0, 0, setting(4, 2**31)), FLOW_CONTROL_ERROR),
    "too small a frame": (frame(SETTINGS, 0, 0, setting(5, 1)), PROTOCOL_ERROR),
    "too large a frame": (frame(SETTINGS, 0, 0, setting(5, 2**24)), PROTOCOL_ERROR),
    "push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "a ping too short": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a ping of a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "a goodbye too short": (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a window of no stream yet": (frame(WINDOW_UPDATE, 0, 1, pack(">I", 1)), PROTOCOL_ERROR),
    "a window too short": (frame(WINDOW_UPDATE, 0, 0, b"abc"), FRAME_SIZE_ERROR),
    "a window that does not grow": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "a window too large": (frame(WINDOW_UPDATE, 0, 0, pack(">I", LAST)), FLOW_CONTROL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), ENDS.values(), ids=ENDS)
def test_what_breaks_a_connection(peer: Peer, data: bytes, code: int) -> None:
    """A connection whose protocol is broken is told so, closed, and heard no more."""
    heard = peer.say(data)

    assert code_in(heard) == (GOAWAY, code)
    assert peer.wire.is_closed
    assert peer.say(request(9)) == []


RESETS: Final[dict[str, tuple[bytes, int]]] = {
    "malformed": (to("/malformed"), PROTOCOL_ERROR),
    "trailers that do not end": (
        frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(HEADERS, END_HEADERS, 1, BLOCK), PROTOCOL_ERROR,
    ),
    "a window that does not grow": (
        frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL_ERROR,
    ),
    "a window too large": (
        frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(WINDOW_UPDATE, 0, 1, pack(">I", LAST)), FLOW_CONTROL_ERROR,
    ),
    "a priority too short": (frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(PRIORITY, 0, 1, b""), FRAME_SIZE_ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), RESETS.values(), ids=RESETS)
def test_what_breaks_a_stream(peer: Peer, data: bytes, code: int) -> None:
    """A stream whose protocol is broken is reset; what still comes of it is passed over, and others go on."""
    heard = peer.say(data)

    assert code_in(heard) == (RST_STREAM, code)
    assert peer.say(frame(DATA, END_STREAM, 1, b"late") + frame(HEADERS, WHOLE, 1, BLOCK) + request(3)) == answer(3)


def test_more_than_the_end(peer: Peer) -> None:
    """What comes of a request after its end resets it."""

    async def talk() -> list[Frame]:
        return peer.say(to("/waits") + frame(DATA, 0, 1, b"x") + to("/waits", 3) + frame(HEADERS, WHOLE, 3, BLOCK))

    closed = pack(">I", STREAM_CLOSED)
    assert run(talk()) == [Frame(RST_STREAM, 0, 1, closed), Frame(RST_STREAM, 0, 3, closed)]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"])
def test_other_protocols(data: bytes) -> None:
    """Who speaks something else is told at the first byte that differs, and let go."""
    peer = Peer()

    assert code_in(peer.say(data)) == (GOAWAY, PROTOCOL_ERROR)
    assert peer.wire.is_closed


@pytest.mark.parametrize("data", [request(), frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK)])
def test_settings_come_first(data: bytes) -> None:
    """A client that does not begin with its settings is let go."""
    peer = Peer()

    assert code_in(peer.say(http2.PREFACE + data)) == (GOAWAY, PROTOCOL_ERROR)


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))))
def test_any_frames(said: list[tuple[int, int, int, bytes]]) -> None:
    """Whatever frames come, nothing is raised, and what is written is frames."""
    peer = Peer()

    heard = peer.say(BEGIN + b"".join(frame(*each) for each in said))

    assert all(each.kind <= CONTINUATION for each in heard)
    assert peer.wire.is_closed == (bool(heard) and heard[-1].kind == GOAWAY)


# --- amounts ----------------------------------------------------------------------------------------------------------

USELESS: Final[dict[str, Callable[[int], bytes]]] = {
    "pings": lambda _: frame(PING, 0, 0, bytes(8)),
    "answers to pings": lambda _: frame(PING, ACK, 0, bytes(8)),
    "settings": lambda _: frame(SETTINGS),
    "acknowledgements": lambda _: frame(SETTINGS, ACK),
    "priorities": lambda _: frame(PRIORITY, 0, 1, bytes(5)),
    "windows": lambda _: frame(WINDOW_UPDATE, 0, 0, pack(">I", 1)),
    "unknown": lambda _: frame(200),
    "resets": lambda turn: (
        frame(HEADERS, END_HEADERS, 2 * turn + 3, BLOCK) + frame(RST_STREAM, 0, 2 * turn + 3, bytes(4))
    ),
    "malformed": lambda turn: to("/malformed", 2 * turn + 3),
    "empty": lambda _: frame(DATA, 0, 1),
    "small": lambda _: frame(DATA, 0, 1, b"x"),
    "late": lambda turn: frame(HEADERS, WHOLE, 1, BLOCK) if turn else request(1),
}


@pytest.mark.parametrize("kind", USELESS)
def test_floods(peer: Peer, kind: str) -> None:
    """Frames that ask for nothing end the connection when there are too many; a sweep forgives."""
    peer.say(frame(HEADERS, END_HEADERS, 1, BLOCK))
    make = USELESS[kind]
    before = b"".join(map(make, range(http2.MAX_USELESS - 10)))
    after = b"".join(map(make, range(http2.MAX_USELESS - 10, 2 * http2.MAX_USELESS)))

    peer.say(before)
    is_there = not peer.wire.is_closed
    peer.server.look_after()
    peer.say(after[: len(after) // 3])
    is_forgiven = not peer.wire.is_closed
    heard = peer.say(after[len(after) // 3 :])

    assert (is_there, is_forgiven) == (True, True)
    assert code_in(heard) == (GOAWAY, CALM)


def test_answers_outweigh_what_goes_along(peer: Peer) -> None:
    """Whoever asks may send some frames along with each request, as often as he likes."""
    along = 9 * frame(PING, ACK, 0, bytes(8))
    for stream in range(1, 2 * http2.MAX_USELESS // 4, 2):
        peer.say(request(stream, b"") + along)

    assert not peer.wire.is_closed


def test_a_block_without_end(peer: Peer) -> None:
    """A header block has a number of pieces at most, and a length."""
    many, long = Peer(), Peer()
    many.say(BEGIN)
    long.say(BEGIN)

    of_many = many.say(frame(HEADERS, 0, 1) + (http2.MAX_CONTINUATIONS + 1) * frame(CONTINUATION, 0, 1))
    piece = frame(CONTINUATION, 0, 1, bytes(http2.MAX_FRAME))
    of_long = long.say(frame(HEADERS, 0, 1) + (http2.MAX_BLOCK // http2.MAX_FRAME + 1) * piece)

    assert code_in(of_many) == code_in(of_long) == (GOAWAY, CALM)


def test_too_many_streams(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the most streams that may be open one more is refused, and those that are open go on."""
    monkeypatch.setattr(http2, "MAX_STREAMS", 3)

    heard = peer.say(b"".join(frame(HEADERS, END_HEADERS, stream, BLOCK) for stream in (1, 3, 5, 7)))

    assert heard == [Frame(RST_STREAM, 0, 7, pack(">I", REFUSED_STREAM))]
    assert peer.say(frame(DATA, END_STREAM, 1, b"hello")) == answer()


def test_bodies_that_do_not_end(peer: Peer) -> None:
    """Bodies that are not answered have no more room than the connection's window, and each that of its stream's."""
    piece = bytes(http2.MAX_FRAME)
    streams = range(1, 2 * http2.WINDOW // 2**20 + 3, 2)
    heads = b"".join(frame(HEADERS, END_HEADERS, stream, BLOCK) for stream in streams)
    data = b"".join(frame(DATA, 0, stream, piece) for stream in streams for _ in range(2**20 // len(piece)))

    heard = peer.say(heads + data)

    assert code_in(heard) == (GOAWAY, FLOW_CONTROL_ERROR)


def test_answers_that_nobody_takes(peer: Peer) -> None:
    """Answers for which a client has no room end the connection when they are too many."""
    peer.say(frame(SETTINGS, 0, 0, setting(4, 0)))
    body = bytes(http2.MAX_FRAME)
    for stream in range(1, 2 * http2.MAX_UNSENT // len(body), 2):
        peer.say(request(stream, body))
    is_there = not peer.wire.is_closed

    heard = peer.say(request(9999, body) + request(10_001, body))

    assert is_there
    assert code_in(heard) == (GOAWAY, CALM)


def test_looking_at_many_streams_costs(peer: Peer) -> None:
    """Frames that have all streams looked at count for more, the more there are."""
    peer.say(frame(SETTINGS, 0, 0, setting(4, 0)))
    peer.say(b"".join(request(stream) for stream in range(1, 6400, 2)))

    heard = peer.say(200 * frame(WINDOW_UPDATE, 0, 0, pack(">I", 1)))

    assert code_in(heard) == (GOAWAY, CALM)


def test_a_client_that_does_not_read(peer: Peer) -> None:
    """Nothing more is read from a client until it has read what it was answered; in the end it is cut off."""
    peer.connection.pause_writing()
    is_paused = not peer.wire.is_read
    peer.pass_time(http2.SLOW_S - 1)
    is_there = not peer.wire.is_aborted
    peer.connection.resume_writing()
    is_resumed = peer.wire.is_read
    peer.connection.pause_writing()
    peer.pass_time(http2.SLOW_S + 1)

    assert (is_paused, is_there, is_resumed) == (True, True, True)
    assert peer.wire.is_aborted


# --- time -------------------------------------------------------------------------------------------------------------


def test_idle_connections(peer: Peer) -> None:
    """A connection that was idle for long is told, and closed a sweep later; one that is used in between is not."""
    nothing = peer.pass_time(http2.IDLE_S - 1)
    told = peer.pass_time(2)
    late = peer.say(request())
    closed = peer.pass_time(http2.SWEEP_S)

    assert nothing == []
    assert told == [Frame(GOAWAY, 0, 0, pack(">II", LAST, NO_ERROR))]
    assert late == answer()
    assert closed == [Frame(GOAWAY, 0, 0, pack(">II", 1, NO_ERROR))]
    assert peer.wire.is_closed


@pytest.mark.parametrize("said", [b"", http2.PREFACE[:5], http2.PREFACE])
def test_those_that_do_not_greet(said: bytes) -> None:
    """Who does not begin is not waited for."""
    peer = Peer()
    peer.say(said)

    heard = peer.pass_time(http2.SLOW_S + 1)

    assert code_in(heard) == (GOAWAY, PROTOCOL_ERROR)


def test_a_slow_block(peer: Peer) -> None:
    """A header block that does not end in time ends the connection, however much of it comes."""
    peer.say(frame(HEADERS, 0, 1, BLOCK))
    peer.clock.now += http2.SLOW_S
    peer.say(frame(CONTINUATION, 0, 1))

    heard = peer.pass_time(1)

    assert code_in(heard) == (GOAWAY, CALM)


def test_a_slow_body(peer: Peer) -> None:
    """A body that does not come in time, and an answer that is not taken, reset their streams; others go on."""
    peer.say(frame(SETTINGS, 0, 0, setting(4, 0)))
    peer.say(frame(HEADERS, END_HEADERS, 1, BLOCK) + request(3))

    heard = peer.pass_time(http2.SLOW_S + 1)

    cancelled = pack(">I", CANCEL)
    assert heard == [Frame(RST_STREAM, 0, 1, cancelled), Frame(RST_STREAM, 0, 3, cancelled)]
    assert not peer.wire.is_closed


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_of_a_connection(peer: Peer) -> None:
    """A connection that ends says so twice: what is begun before the client hears it is answered, then it closes."""

    async def talk() -> list[list[Frame]]:
        peer.say(to("/waits", 1))
        peer.connection.retire()
        heard = [peer.heard(), peer.say(request(3))]
        peer.connection.finish()
        heard += [peer.heard(), peer.say(request(5))]
        peer.echo.goes_on.set()
        await asyncio.gather(*peer.server._tasks)
        return [*heard, peer.heard()]

    assert run(talk()) == [
        [Frame(GOAWAY, 0, 0, pack(">II", LAST, NO_ERROR))],
        answer(3),
        [Frame(GOAWAY, 0, 0, pack(">II", 3, NO_ERROR))],
        [Frame(RST_STREAM, 0, 5, pack(">I", REFUSED_STREAM))],
        answer(1, b""),
    ]
    assert peer.wire.is_closed


@pytest.mark.parametrize("last", [frame(DATA, END_STREAM, 1, b"hello"), frame(RST_STREAM, 0, 1, bytes(4))])
def test_the_last_stream_closes(peer: Peer, last: bytes) -> None:
    """A connection that ends waits for a request that is not whole, and closes when that is answered, or reset."""
    peer.say(frame(HEADERS, END_HEADERS, 1, BLOCK))
    peer.connection.finish()
    is_there = not peer.wire.is_closed

    peer.say(last)

    assert is_there
    assert peer.wire.is_closed


def test_a_client_that_goes_while_it_waits(peer: Peer) -> None:
    """Who is gone gets no answer, and nothing is left of him."""

    async def talk() -> None:
        peer.say(to("/waits"))
        peer.connection.connection_lost(None)
        peer.echo.goes_on.set()
        await asyncio.gather(*peer.server._tasks)

    run(talk())

    assert peer.heard() == []
    assert not peer.server.connections


def test_blocks_keep_in_step(peer: Peer) -> None:
    """The table of headers goes on over requests that are refused: later ones may refer to what they added."""
    added = b"\x82\x86\x44\x0a/malformed"
    peer.say(frame(HEADERS, WHOLE, 1, added))

    heard = peer.say(frame(HEADERS, WHOLE, 3, b"\x82\x86\xbe"))

    assert Decoder().decode(added).fields[-1] == (":path", "/malformed")
    assert code_in(heard) == (RST_STREAM, PROTOCOL_ERROR)
