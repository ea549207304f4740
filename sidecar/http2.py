"""As much of HTTP/2 as a server of small, quick calls needs (RFC 9113, prior knowledge, no TLS).

    bytes ──▶ frames ──▶ stream: header block, body ──▶ Application ──▶ Response ──▶ frames ──▶ bytes

Streams are independent: what the application answers at once is written in the same turn of the loop, a few answers in
one write, so that whoever asks goes on with the first while the last is made; what it has to wait for is written when
it comes, and holds up nothing else.

What is not spoken: push, priorities (passed over), informational responses, a table of headers in what is sent. Blocks
that are sent are the application's constants.

INVARIANT: who is well-behaved gets an answer. A connection is closed, or a stream reset, only for what breaks the
protocol or for amounts that no client in its right mind sends: whoever asks may take either for a reason to let
somebody through. So a body or a header block that is too large is passed on, cut, for the application to refuse, and
idle connections are told (GOAWAY) before they are closed.

Bounds, per connection: `MAX_STREAMS` open calls (clients are told `STREAMS`), `WINDOW` bytes of bodies that are not
answered, `MAX_BLOCK` of a header block in at most `MAX_CONTINUATIONS` pieces, `MAX_UNSENT` of answers for which the
client has no room, `MAX_USELESS` frames that ask for nothing. What is reset is not cancelled: it goes on for the moment
that it may take, counted where all work is (`gate`), so that resetting gains nobody room for more.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

from sidecar import addresses
from sidecar.hpack import MAX_KNOWN, MAX_KNOWN_SIZE, Block, Decoder, HpackError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Largest frame in either direction: nobody needs more than what everybody takes.
MAX_FRAME: Final = 16 * 1024
#: Streams at once that clients are told of, and that are taken: more may be on the wire before they have heard it.
STREAMS: Final = 1000
MAX_STREAMS: Final = 10_000
#: Most of a body that is kept; one byte more tells the application that there was more.
MAX_BODY: Final = 1024 * 1024 + 16
#: Bytes of bodies that may come before they are answered, on a stream and on a connection.
STREAM_WINDOW: Final = 2 * 1024 * 1024
WINDOW: Final = 16 * 1024 * 1024
#: Of a header block as it is written.
MAX_BLOCK: Final = 1024 * 1024
MAX_CONTINUATIONS: Final = 128
#: Bytes of answers for which the client has no room.
MAX_UNSENT: Final = 4 * 1024 * 1024
#: Frames that ask for nothing, between two sweeps, above those that go along with answers.
MAX_USELESS: Final = 20_000
USELESS_PER_ANSWER: Final = 10
#: Streams that may be looked at for the price of a frame.
LOOKED_AT: Final = 16
#: A piece of a body that is shorter, and not the last, asks for nothing.
SMALL: Final = 256
#: A connection that says nothing is kept for so long: Envoy keeps some for later.
IDLE_S: Final = 600.0
#: The preface, a header block or a body may take so long to come.
SLOW_S: Final = 10.0
#: How often is looked for both.
SWEEP_S: Final = 5.0
#: Between the word that no more is taken and the end of taking: what is on the wire is answered.
GRACE_S: Final = 0.25
BACKLOG: Final = 1024
#: So many pieces are written at once; an answer has five. Measured through Envoy (`bench.envoy`): all of a turn at once
#: makes a third fewer requests, since Envoy and this wait for each other; each by itself a tenth fewer.
PIECES: Final = 15

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
_NO_ERROR, _PROTOCOL_ERROR, _INTERNAL_ERROR, _FLOW_CONTROL_ERROR = range(4)
_STREAM_CLOSED, _FRAME_SIZE_ERROR, _REFUSED_STREAM, _CANCEL, _COMPRESSION_ERROR = range(5, 10)
_ENHANCE_YOUR_CALM: Final = 11
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = range(1, 6)
_LAST: Final = 2**31 - 1
#: Length, which has three bytes, kind, flags, stream.
_HEAD: Final = Struct(">BHBBI")
_SETTING: Final = Struct(">HI")
#: At the start of a block: the table of headers has no room any more. It had nothing in it.
_NO_TABLE: Final = b"\x20"

_log = logging.getLogger("bylaw.http2")
T = TypeVar("T")


class MalformedError(Exception):
    """A request is none, as the RFC has it; its stream is reset."""


class Response(NamedTuple):
    """An answer: header block, body and block of trailers; without trailers it is the header block alone."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""


class Application(Protocol[T]):
    """Answers requests."""

    def read(self, block: Block, peer: str | None) -> T:
        """Read the head of a request. It is read once, and used for all requests of its connection that are alike.

        Raises:
            MalformedError: it is none.
        """
        ...

    def answer(self, head: T, body: bytes) -> Response | Awaitable[Response]:
        """Answer a request. Of a body that is longer than `MAX_BODY` that many bytes and one are here."""
        ...


class _ConnectionError(Exception):
    """What breaks the protocol of a connection, by its code; `why` is told to the client."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class _StreamError(Exception):
    """What breaks the protocol of one stream, by its code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Stream(Generic[T]):
    """A call whose answer is not all written.

    Attributes:
        body: what has come of it and is kept. received: what it holds of the connection's window. room: of its own.
        window: how much more it may be sent. unsent: what is left of its answer's body; None: it has no answer yet.
        is_whole: whether all has come. began: when.
    """

    __slots__ = ("began", "body", "head", "is_whole", "received", "room", "trailers", "unsent", "window")

    def __init__(self, head: T, window: int, began: float) -> None:
        self.head = head
        self.body: bytes | bytearray = b""
        self.received = 0
        self.room = STREAM_WINDOW
        self.window = window
        self.unsent: bytes | None = None
        self.trailers = b""
        self.is_whole = False
        self.began = began


class Connection(asyncio.Protocol, Generic[T]):
    """One connection. What is written is gathered in `_out` and sent by `_flush`."""

    __slots__ = (
        "_ahead", "_block", "_client_window", "_decoder", "_heads", "_is_done", "_is_ending", "_is_greeted", "_is_open",
        "_is_retired", "_last", "_made", "_out", "_paused", "_peer", "_prefix", "_released", "_room", "_seen",
        "_server", "_streams", "_transport", "_unsent", "_useless", "_window",
    )  # fmt: skip

    def __init__(self, server: Server[T]) -> None:
        self._server = server
        self._transport = cast(asyncio.Transport, None)
        self._peer: str | None = None
        self._made = self._seen = server.clock()
        self._paused: float | None = None
        # What has come.
        self._ahead = b""
        self._decoder = Decoder()
        self._heads: dict[Block, T] = {}
        self._block: _Begun | None = None
        self._streams: dict[int, _Stream[T]] = {}
        self._last = 0
        self._room = WINDOW
        self._released = 0
        self._useless = 0
        # What is sent.
        self._out: list[bytes] = []
        self._prefix = b""
        self._window = self._client_window = 65_535
        self._unsent = 0
        # How far it is.
        self._is_open = self._is_greeted = False
        self._is_retired = self._is_ending = self._is_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple | list) and peer else None
        self._server.connections.add(self)
        self._transport.write(_GREETING)

    def connection_lost(self, _: Exception | None) -> None:
        self._is_done = True
        self._streams.clear()
        self._ahead = b""
        self._server.lost(self)

    def pause_writing(self) -> None:
        """Take nothing more until what was answered is read."""
        self._paused = self._server.clock()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = None
        if not self._is_done:
            self._transport.resume_reading()

    # --- frames in -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_done:
            return
        self._seen = self._server.clock()
        ahead = self._ahead + data if self._ahead else data
        try:
            self._ahead = ahead[self._take(ahead) :]
        except _ConnectionError as error:
            self._fail(error)
        self._flush()
        self._close_if_over()

    def _take(self, ahead: bytes) -> int:
        """Take all frames that are whole; return where they end."""
        at = 0
        if not self._is_open:
            if not PREFACE.startswith(ahead[: len(PREFACE)]):
                raise _ConnectionError(_PROTOCOL_ERROR, "this is HTTP/2 alone, by prior knowledge")
            if len(ahead) < len(PREFACE):
                return 0
            self._is_open, at = True, len(PREFACE)
        while len(ahead) - at >= _HEAD.size:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(ahead, at)
            if high or low > MAX_FRAME:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "a frame is too large")
            ends = at + _HEAD.size + low
            if ends > len(ahead):
                break
            self._take_frame(kind, flags, stream_id & _LAST, ahead[at + _HEAD.size : ends])
            at = ends
        return at

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        try:
            if self._block is not None:
                self._continuation(kind, flags, stream_id, payload)
            elif kind == _DATA and self._is_greeted:
                self._data(flags, stream_id, payload)
            elif kind == _HEADERS and self._is_greeted:
                self._headers(flags, stream_id, payload)
            else:
                self._control(kind, flags, stream_id, payload)
        except _StreamError as error:
            self._reset(stream_id, error.code)

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take a frame that asks for nothing."""
        self._count_useless()
        if not self._is_greeted and (kind != _SETTINGS or flags & _ACK):
            raise _ConnectionError(_PROTOCOL_ERROR, "the first frame is no SETTINGS")
        if kind in (_SETTINGS, _PING, _GOAWAY):
            if stream_id:
                raise _ConnectionError(_PROTOCOL_ERROR, "a frame of the connection names a stream")
            if kind == _SETTINGS:
                self._settings(flags, payload)
            elif kind == _PING:
                self._ping(flags, payload)
            elif len(payload) < 8:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "GOAWAY is too short")
        elif kind == _WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == _RST_STREAM:
            self._rst_stream(stream_id, payload)
        elif kind == _PRIORITY:
            if not stream_id:
                raise _ConnectionError(_PROTOCOL_ERROR, "PRIORITY names no stream")
            if len(payload) != 5:
                raise _StreamError(_FRAME_SIZE_ERROR)
        elif kind in (_PUSH_PROMISE, _CONTINUATION):
            raise _ConnectionError(_PROTOCOL_ERROR, "a frame comes where none of its kind may")

    def _count_useless(self, times: int = 1) -> None:
        self._useless += times
        if self._useless > MAX_USELESS:
            raise _ConnectionError(_ENHANCE_YOUR_CALM, "too many frames ask for nothing")

    # --- requests ------------------------------------------------------------------------------------------------

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id % 2:
            raise _ConnectionError(_PROTOCOL_ERROR, "a client's stream has an odd number")
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _PRIORITISED:
            if len(payload) < 5:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "HEADERS are too short")
            payload = payload[5:]
        is_last = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._head(stream_id, payload, is_last=is_last)
        else:
            self._block = _Begun(stream_id, is_last, bytearray(payload), self._seen)

    def _continuation(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        begun = self._block
        if begun is None or kind != _CONTINUATION or stream_id != begun.stream_id:
            raise _ConnectionError(_PROTOCOL_ERROR, "a header block is not continued")
        begun.pieces += 1
        begun.written += payload
        if begun.pieces > MAX_CONTINUATIONS or len(begun.written) > MAX_BLOCK:
            raise _ConnectionError(_ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & _END_HEADERS:
            self._block = None
            self._head(stream_id, bytes(begun.written), is_last=begun.is_last)

    def _head(self, stream_id: int, written: bytes, *, is_last: bool) -> None:
        """Begin a stream, or end it by trailers, which say nothing here."""
        try:
            block = self._decoder.decode(written)
        except HpackError as error:
            raise _ConnectionError(_COMPRESSION_ERROR, str(error)) from error
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id <= self._last:  # it was reset, and this was on its way
                self._count_useless()
                return
            self._last = stream_id
            stream = self._begin(stream_id, self._read(block, is_small=len(written) <= MAX_KNOWN_SIZE))
        elif stream.is_whole:
            raise _StreamError(_STREAM_CLOSED)
        elif not is_last:
            raise _StreamError(_PROTOCOL_ERROR)
        if is_last:
            self._ask(stream_id, stream)

    def _read(self, block: Block, *, is_small: bool) -> T:
        """Read a head, once for all that are alike."""
        head = self._heads.get(block)
        if head is None:
            try:
                head = self._server.application.read(block, self._peer)
            except MalformedError as error:
                raise _StreamError(_PROTOCOL_ERROR) from error
            if is_small:
                if len(self._heads) >= MAX_KNOWN:
                    self._heads.clear()
                self._heads[block] = head
        return head

    def _begin(self, stream_id: int, head: T) -> _Stream[T]:
        if self._is_ending or len(self._streams) >= MAX_STREAMS:
            raise _StreamError(_REFUSED_STREAM)
        stream = self._streams[stream_id] = _Stream(head, self._client_window, self._seen)
        return stream

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise _ConnectionError(_FLOW_CONTROL_ERROR, "the window of the connection is overrun")
        if size < SMALL and not flags & _END_STREAM:
            self._count_useless()
        stream = self._streams.get(stream_id)
        if stream is None:
            if not stream_id or stream_id > self._last:
                raise _ConnectionError(_PROTOCOL_ERROR, "DATA of a stream that never began")
            self._count_useless()
            self._release(size)  # it was reset, and this was on its way
            return
        stream.received += size
        if stream.is_whole:
            raise _StreamError(_STREAM_CLOSED)
        stream.room -= size
        if stream.room < 0:
            raise _StreamError(_FLOW_CONTROL_ERROR)
        self._keep(stream_id, stream, _unpadded(payload) if flags & _PADDED else payload)
        if flags & _END_STREAM:
            self._ask(stream_id, stream)

    def _keep(self, stream_id: int, stream: _Stream[T], piece: bytes) -> None:
        """Keep a piece of a body; what is too much is let go, and more may come of it."""
        if not stream.body:
            stream.body = piece
            return
        over = len(stream.body) + len(piece) - MAX_BODY - 1
        if isinstance(stream.body, bytes):
            stream.body = bytearray(stream.body)
        stream.body += piece[: len(piece) - over] if over > 0 else piece
        if over > 0:
            stream.room += over
            stream.received -= over
            self._release(over)
            self._out.append(_frame(_WINDOW_UPDATE, 0, stream_id, over.to_bytes(4, "big")))

    def _release(self, size: int) -> None:
        """Make room for as much to come."""
        self._released += size
        if self._released >= WINDOW // 2:
            self._out.append(_frame(_WINDOW_UPDATE, 0, 0, self._released.to_bytes(4, "big")))
            self._room += self._released
            self._released = 0

    # --- answers -------------------------------------------------------------------------------------------------

    def _ask(self, stream_id: int, stream: _Stream[T]) -> None:
        stream.is_whole = True
        body, stream.body = bytes(stream.body), b""
        self._release(stream.received)
        stream.received = 0
        try:
            found = self._server.application.answer(stream.head, body)
        except Exception as error:  # the one place: nothing else may leave
            _log.error("a call failed", exc_info=error)
            raise _StreamError(_INTERNAL_ERROR) from error
        if isinstance(found, Response):
            self._respond(stream_id, stream, found)
        else:
            self._server.run(self._answer_later(stream_id, stream, found))

    async def _answer_later(self, stream_id: int, stream: _Stream[T], found: Awaitable[Response]) -> None:
        try:
            response = await found
        except Exception as error:  # the same, of what had to wait
            _log.error("a call failed", exc_info=error)
            response = None
        if self._streams.get(stream_id) is not stream:
            return  # it was reset, or nobody is there any more
        try:
            if response is None:
                self._reset(stream_id, _INTERNAL_ERROR)
            else:
                self._respond(stream_id, stream, response)
        except _ConnectionError as error:
            self._fail(error)
        self._flush()
        self._close_if_over()

    def _respond(self, stream_id: int, stream: _Stream[T], response: Response) -> None:
        head, body, trailers = response
        if self._prefix:
            head, self._prefix = self._prefix + head, b""
        self._useless = max(0, self._useless - USELESS_PER_ANSWER)
        if not trailers:
            del self._streams[stream_id]
            self._out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream_id, head))
            return
        self._out.append(_frame(_HEADERS, _END_HEADERS, stream_id, head))
        size = len(body)
        if 0 < size <= min(self._window, stream.window, MAX_FRAME):  # nearly always
            self._window -= size
            del self._streams[stream_id]
            last = _HEAD.pack(0, len(trailers), _HEADERS, _END_HEADERS | _END_STREAM, stream_id)
            self._out += (_HEAD.pack(0, size, _DATA, 0, stream_id), body, last, trailers)
            if len(self._out) >= PIECES:
                self._flush()
            return
        stream.unsent, stream.trailers = body, trailers
        self._unsent += len(body)
        self._send(stream_id, stream)
        if self._unsent > MAX_UNSENT:
            raise _ConnectionError(_ENHANCE_YOUR_CALM, "there is no room for answers")

    def _send(self, stream_id: int, stream: _Stream[T]) -> None:
        """Send as much of an answer as there is room for."""
        unsent = stream.unsent
        if unsent is None:
            return
        while unsent:
            size = min(len(unsent), MAX_FRAME, self._window, stream.window)
            if size <= 0:
                stream.unsent = unsent
                return
            self._out.append(_frame(_DATA, 0, stream_id, unsent[:size]))
            unsent = unsent[size:]
            self._window -= size
            self._unsent -= size
            stream.window -= size
        del self._streams[stream_id]
        self._out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream_id, stream.trailers))

    def _send_all(self) -> None:
        if self._unsent:
            self._count_useless(len(self._streams) // LOOKED_AT)
            for stream_id, stream in list(self._streams.items()):
                self._send(stream_id, stream)

    def _reset(self, stream_id: int, code: int) -> None:
        """Refuse a stream. What still comes of it is passed over."""
        self._forget(stream_id)
        self._count_useless()
        self._out.append(_frame(_RST_STREAM, 0, stream_id, code.to_bytes(4, "big")))

    def _forget(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._release(stream.received)
            self._unsent -= len(stream.unsent or b"")

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # --- what the client says of the connection ------------------------------------------------------------------

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            if payload:
                raise _ConnectionError(_FRAME_SIZE_ERROR, "an acknowledgement says something")
            return
        if len(payload) % 6:
            raise _ConnectionError(_FRAME_SIZE_ERROR, "SETTINGS are cut off")
        self._is_greeted = True
        for name, value in dict(_SETTING.iter_unpack(payload)).items():  # of those that stand twice the last counts
            if name == _INITIAL_WINDOW_SIZE:
                self._resize(value)
            elif name == _HEADER_TABLE_SIZE:
                self._prefix = _NO_TABLE  # if it became smaller, that must be said
            elif name == _MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24:
                raise _ConnectionError(_PROTOCOL_ERROR, "frames cannot have that size")
            elif name == _ENABLE_PUSH and value > 1:
                raise _ConnectionError(_PROTOCOL_ERROR, "push is on or off")
        self._out.append(_frame(_SETTINGS, _ACK, 0))

    def _resize(self, window: int) -> None:
        """Change the window that streams begin with, and those of all that have begun."""
        if window > _LAST:
            raise _ConnectionError(_FLOW_CONTROL_ERROR, "a window is too large")
        self._count_useless(len(self._streams) // LOOKED_AT)
        change, self._client_window = window - self._client_window, window
        for stream in self._streams.values():
            stream.window += change
            if stream.window > _LAST:
                raise _ConnectionError(_FLOW_CONTROL_ERROR, "a window is too large")
        self._send_all()

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise _ConnectionError(_FRAME_SIZE_ERROR, "PING has eight bytes")
        if not flags & _ACK:
            self._out.append(_frame(_PING, _ACK, 0, payload))

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _ConnectionError(_FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        more = int.from_bytes(payload, "big") & _LAST
        if not stream_id:
            self._window += more
            if not more or self._window > _LAST:
                raise _ConnectionError(_FLOW_CONTROL_ERROR if more else _PROTOCOL_ERROR, "a window is none")
            self._send_all()
            return
        self._must_have_begun(stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.window += more
            if not more or stream.window > _LAST:
                raise _StreamError(_FLOW_CONTROL_ERROR if more else _PROTOCOL_ERROR)
            self._send(stream_id, stream)

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _ConnectionError(_FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        self._must_have_begun(stream_id)
        self._forget(stream_id)

    def _must_have_begun(self, stream_id: int) -> None:
        if not stream_id or stream_id > self._last:
            raise _ConnectionError(_PROTOCOL_ERROR, "a frame of a stream that never began")

    # --- the end -------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Tell the client to begin nothing more here. What it had begun before it hears of this is answered."""
        if not self._is_retired and not self._is_done:
            self._is_retired = True
            self._out.append(_goaway(_LAST, _NO_ERROR))
            self._flush()

    def finish(self) -> None:
        """Begin nothing more, and close once all that was begun is answered."""
        if not self._is_ending and not self._is_done:
            self._is_ending = True
            self._out.append(_goaway(self._last, _NO_ERROR))
            self._flush()
            self._close_if_over()

    def _close_if_over(self) -> None:
        if self._is_ending and not self._streams and not self._is_done:
            self._close()

    def _fail(self, error: _ConnectionError) -> None:
        self._out.append(_goaway(self._last, error.code, error.why))
        self._flush()
        self._streams.clear()
        self._close()

    def _close(self) -> None:
        self._is_done = True
        self._ahead = b""
        self._seen = self._server.clock()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def look_after(self, now: float) -> None:
        """Close what is idle, and end what is slow."""
        self._useless = 0
        slow = now - SLOW_S
        if self._is_done or self._paused is not None:
            if (self._seen if self._paused is None else self._paused) < slow:
                self._transport.abort()  # it does not read
            return
        if self._made < slow and not self._is_greeted:
            self._fail(_ConnectionError(_PROTOCOL_ERROR, "nothing was said"))
        elif self._block is not None and self._block.began < slow:
            self._fail(_ConnectionError(_ENHANCE_YOUR_CALM, "a header block does not end"))
        elif not self._streams and self._is_retired:
            self.finish()
        elif not self._streams and self._seen < now - IDLE_S:
            self.retire()
        self._end_slow(slow)
        self._flush()

    def _end_slow(self, slow: float) -> None:
        """Reset streams whose body does not come, or whose answer is not taken."""
        is_slow = [
            each
            for each, stream in self._streams.items()
            if stream.began < slow and (not stream.is_whole or stream.unsent is not None)
        ]
        for each in is_slow:
            self._forget(each)
            self._out.append(_frame(_RST_STREAM, 0, each, _CANCEL.to_bytes(4, "big")))


class _Begun:
    """A header block that goes on."""

    __slots__ = ("began", "is_last", "pieces", "stream_id", "written")

    def __init__(self, stream_id: int, is_last: bool, written: bytearray, began: float) -> None:
        self.stream_id = stream_id
        self.is_last = is_last
        self.written = written
        self.began = began
        self.pieces = 0


def _unpadded(payload: bytes) -> bytes:
    """Take padding off."""
    if not payload or payload[0] >= len(payload):
        raise _ConnectionError(_PROTOCOL_ERROR, "there is more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(0, len(payload), kind, flags, stream_id) + payload


def _goaway(last: int, code: int, why: str = "") -> bytes:
    return _frame(_GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + why.encode())


#: What each client is told first.
_GREETING: Final = _frame(
    _SETTINGS,
    0,
    0,
    _SETTING.pack(_MAX_CONCURRENT_STREAMS, STREAMS) + _SETTING.pack(_INITIAL_WINDOW_SIZE, STREAM_WINDOW),
) + _frame(_WINDOW_UPDATE, 0, 0, (WINDOW - 65_535).to_bytes(4, "big"))


class Server(Generic[T]):
    """Makes connections, looks after them, and ends them.

    Args:
        clock: seconds.
    """

    def __init__(self, application: Application[T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.application = application
        self.clock = clock
        self.connections: set[Connection[T]] = set()
        self._doors: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    async def listen(self, doors: Sequence[socket.socket]) -> None:
        """Listen at sockets that are bound.

        Raises:
            OSError: somebody else listens there.
        """
        loop = asyncio.get_running_loop()
        for door in doors:
            self._servers.append(await loop.create_server(self.connection, sock=door, backlog=BACKLOG))
            self._doors.append(door)

    def connection(self) -> Connection[T]:
        """Make a connection, for a transport."""
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return Connection(self)

    def lost(self, connection: Connection[T]) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Go on with an answer that has to wait."""
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look_after(self) -> None:
        """Close what is idle, and end what is slow."""
        now = self.clock()
        for each in list(self.connections):
            each.look_after(now)

    def _sweep(self) -> None:
        self.look_after()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if self.connections else None

    async def stop(self, drain_s: float) -> None:
        """Listen no more, answer what is under way and on the wire, and close."""
        loop = asyncio.get_running_loop()
        waiting = [each for door in self._doors for each in addresses.end_listening(door)]
        for server in self._servers:
            server.close()
        for each in waiting:
            with suppress(OSError):  # it is gone again
                await loop.connect_accepted_socket(self.connection, each)
        for connection in list(self.connections):
            connection.retire()
        if self.connections:
            await asyncio.sleep(GRACE_S)
        for connection in list(self.connections):
            connection.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self.connections:
                    self._emptied.clear()
                    await self._emptied.wait()
        self.end()

    def end(self) -> None:
        """Close everything, whatever is under way."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for each in list(self.connections):
            each.abort()
