"""The fast lane: plain requests for decisions, answered without aiohttp, on the same port and connection.

aiohttp's handling of a request costs many times the decision. This protocol stands in front of it. It *recognises* a
request; it does not parse HTTP: a head counts as recognised if it is one of a closed, small set of shapes that have one
meaning only (`_HEAD`, `_KNOWN`), with a body of a stated length. Whatever else comes, from another path to an odd
header, is aiohttp's from its first byte: the connection is handed over with all that was read and not answered, and
stays there. So no request is ever seen by two parsers, and none begins anywhere but where the one before it ended.

    bytes ──▶ head recognised? ──yes──▶ body whole? ──yes──▶ gate ──▶ api ──▶ bytes
                    └─ no: aiohttp has the connection         └─ no: wait, no longer than `body_timeout_s`

A body is waited for only if its caller may ask, so that strangers take up no room: what will be refused anyway aiohttp
refuses at once, and reads the rest into nothing.

Both lanes share everything behind that: `gate`, `api`, and how a refusal looks. Requests that were sent one after the
other are answered in that order; while one waits for facts, the next is not begun.

`Heads` remembers heads that were recognised, by their bytes: clients send the same one again and again. What it holds:
the parsed head. Key: its exact bytes, and nothing else decides what it means. Bounded by `MAX_HEADS`, then begun anew;
heads with what changes with every request (`_FRESH`) are not kept. Example: the 150 bytes of a client's `POST /check`
with `Content-Length: 93`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple, cast

from sidecar.api import Endpoint
from sidecar.envoy import Asked, EnvoyCheck
from sidecar.errors import PublicError
from sidecar.exchange import REQUEST_ID, Call, Reply, names_in, refusal, taken_over
from sidecar.gate import MAX_IN_FLIGHT, Gate
from sidecar.handlers import envoy_http
from sidecar.strict_json import MAX_BODY

#: Longest head that is waited for; longer ones are aiohttp's to refuse.
MAX_HEAD: Final = 8192
#: Most headers that aiohttp takes.
MAX_FIELDS: Final = 128
#: Heads that are remembered.
MAX_HEADS: Final = 2048
#: A connection that says nothing, or does not end its head, is kept for so long.
IDLE_S: Final = 75.0
#: How often idle connections are looked for.
SWEEP_S: Final = 5.0
#: Bytes that are read ahead while a request waits; past it the connection is not read.
MAX_AHEAD: Final = 64 * 1024

_FIELDS: Final = rb"(?P<fields>(?:[A-Za-z][A-Za-z0-9-]*: ?[!-~]+(?: +[!-~]+)*\r\n)+)\r\n"
_HEAD: Final = re.compile(rb"POST (?P<path>/[a-z0-9/]*) HTTP/1\.1\r\n" + _FIELDS)
#: What Envoy asks may have any path, and any headers but those that say how the connection goes on, or that aiohttp
#: refuses; and any method but those by which the answer would end elsewhere: to HEAD it has no body.
_ENVOY: Final = re.compile(
    rb"(?P<method>GET|POST|PUT|PATCH|DELETE|OPTIONS) (?P<target>/envoy/[!-~]*) HTTP/1\.1\r\n" + _FIELDS
)
#: What varies of it, as Envoy writes it: name and value. In a head that is recognised each is a whole line, and any
#: other value of that spelling would be recognised as well.
_VARYING: Final = re.compile(
    rb"(?<=\r\n)(%b): ([!-~]+(?: +[!-~]+)*)(?=\r\n)" % "|".join(sorted(envoy_http.VARYING)).encode()
)
_FRAMING: Final = frozenset(
    """transfer-encoding expect upgrade te trailer keep-alive proxy-connection
    sec-websocket-key1""".split()  # noqa: SIM905  # as below
)
#: What may have come of its first line, and what behind one.
_FIRST_LINE: Final = re.compile(rb"[A-Z]{1,7}(?: (?:/[!-~]*(?: [HTP/.1]{0,8}\r?)?)?)?")
_LINES: Final = re.compile(rb"(?:[!-~][ -~]*\r\n)*(?:[!-~][ -~]*)?\r?")
_FIELD: Final = re.compile(r"([A-Za-z0-9-]+): ?([^\r]*)\r\n")
_LENGTH: Final = re.compile(r"[0-9]{1,6}")
#: Headers that stand there once, or aiohttp refuses them.
_ALONE: Final = frozenset(
    """host content-length connection content-type content-location content-range etag max-forwards server
    user-agent""".split()  # noqa: SIM905  # as below
)
#: Headers that may be there, beside those that begin with `x-`. They say nothing of where a request ends, what its
#: body is written in, or how the connection goes on.
_KNOWN: Final = frozenset(
    """host content-type content-length accept accept-encoding accept-language user-agent authorization bylaw-at-least
    cache-control pragma origin referer cookie dnt priority traceparent tracestate baggage b3 date from via forwarded
    sec-fetch-site sec-fetch-mode sec-fetch-dest connection""".split()  # noqa: SIM905  # a list of thirty would be thirty lines
)
_JSON: Final = frozenset(("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"))
#: Headers that differ from request to request.
_FRESH: Final = frozenset(("traceparent", "b3", "baggage", "date", "bylaw-at-least"))

_REASONS: Final = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 408: "Request Timeout",
    413: "Request Entity Too Large", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip

_log = logging.getLogger("bylaw.fast_lane")


class Head(NamedTuple):
    """A head that was recognised: of an endpoint, or of what Envoy asks."""

    length: int
    call: Call
    endpoint: Endpoint | None = None
    asked: Asked | None = None


class Heads:
    """Recognises heads.

    Args:
        endpoints: what is answered, by path. is_envoy: whether Envoy asks here, too.
        trusted_hops: how many hops of `x-forwarded-for` are believed there.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint], *, is_envoy: bool = False, trusted_hops: int = 0) -> None:
        self.is_envoy = is_envoy
        self._trusted_hops = trusted_hops
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._beginnings = tuple(b"POST %b HTTP/1.1\r\n" % path for path in self._endpoints)
        self._known: dict[tuple[bytes, str | None], Head] = {}
        self._shapes: dict[tuple[tuple[bytes, ...], *tuple[bytes, ...]], envoy_http.Shape] = {}

    def read(self, written: bytes, peer: str | None, certificates: tuple[str, ...]) -> Head | None:
        """Recognise a head; None: it is aiohttp's."""
        if self.is_envoy and not written.startswith(self._beginnings):
            return self._read_envoy(written, peer, certificates)
        if certificates:
            return self._recognise(written, peer, certificates)[0]
        key = (written, peer)
        found = self._known.get(key)
        if found is None:
            found, is_fresh = self._recognise(written, peer, certificates)
            if found is not None and not is_fresh:
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[key] = found
        return found

    def _recognise(self, written: bytes, peer: str | None, certificates: tuple[str, ...]) -> tuple[Head | None, bool]:
        match = _HEAD.fullmatch(written)
        endpoint = self._endpoints.get(match["path"]) if match else None
        if match is None or endpoint is None:
            return None, False
        listed = _FIELD.findall(match["fields"].decode("ascii"))
        fields = {name.lower(): value for name, value in listed}
        if len(fields) != len(listed) or len(listed) > MAX_FIELDS:
            return None, False
        if not all(name in _KNOWN or name.startswith("x-") for name in fields):
            return None, False
        if fields.get("connection", "keep-alive").lower() != "keep-alive":
            return None, False
        length = fields.get("content-length", "")
        if "host" not in fields or not _LENGTH.fullmatch(length) or fields.get("content-type", "").lower() not in _JSON:
            return None, False
        authorization = fields.get("authorization")
        call = Call(
            match["path"].decode(),
            peer,
            fields["host"],
            (authorization,) if authorization is not None else (),
            taken_over(fields.get("x-request-id")),
            fields.get("bylaw-at-least"),
            certificates,
            (fields["traceparent"], fields.get("tracestate", "")) if "traceparent" in fields else None,
        )
        is_fresh = "x-request-id" in fields or not _FRESH.isdisjoint(fields)
        return (Head(int(length), call, endpoint) if int(length) <= MAX_BODY else None), is_fresh

    def _read_envoy(self, written: bytes, peer: str | None, certificates: tuple[str, ...]) -> Head | None:
        parts = _VARYING.split(written)
        key, names = tuple(parts[::3]), parts[1::3]
        known = self._shapes.get((key, *names))
        values = zip(names, parts[2::3], strict=True)
        if known is not None:
            varying = [(name.decode("ascii"), value.decode("ascii")) for name, value in values]
        else:
            found = _recognise_envoy(written)
            if found is None:
                return None
            known, varying = found
            if len(varying) == len(names):  # else one is written in capitals, and stands in the key
                if len(self._shapes) >= MAX_HEADS:
                    self._shapes.clear()
                self._shapes[key, *names] = known
        asked, call = envoy_http.completed(known, varying, peer, self._trusted_hops, certificates)
        return Head(0, call, None, asked)

    def may_begin(self, written: bytes) -> bool:
        """Say whether what has come of a head may be the beginning of one that is recognised.

        What may not is handed over before it ends, since it may never: aiohttp refuses a bare LF where it stands.
        """
        first, mark, _ = written.partition(b"\n")
        if not mark:
            is_first = any(begin.startswith(written) for begin in self._beginnings)
            return is_first or (self.is_envoy and _FIRST_LINE.fullmatch(written) is not None)
        is_ours = written.startswith(self._beginnings) or (self.is_envoy and b" /envoy/" in first)
        return is_ours and _LINES.fullmatch(written, len(first) + 1) is not None


def _recognise_envoy(written: bytes) -> tuple[envoy_http.Shape, list[tuple[str, str]]] | None:
    """Recognise what Envoy asks: the request, and its headers that vary."""
    match = _ENVOY.fullmatch(written)
    if match is None:
        return None
    listed = [(name.lower(), value) for name, value in _FIELD.findall(match["fields"].decode("ascii"))]
    fields = dict(listed)
    if len(listed) > MAX_FIELDS or not _FRAMING.isdisjoint(fields):
        return None
    names = [name for name, _ in listed] if len(fields) != len(listed) else ()
    if any(names.count(name) > 1 for name in _ALONE if names):
        return None
    if "host" not in fields or fields.get("content-length", "0") != "0":
        return None
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    shape = envoy_http.shape_of(match["method"].decode(), match["target"].decode(), listed)
    return shape, [(name, value) for name, value in listed if name in envoy_http.VARYING]


class Connection(asyncio.Protocol):
    """One connection, for as long as all that comes over it is recognised."""

    __slots__ = (
        "_ahead", "_certificates", "_head", "_is_reading", "_is_waiting", "_lane", "_peer", "_seen", "_task", "_timer",
        "_transport",
    )  # fmt: skip

    def __init__(self, lane: FastLane) -> None:
        self._lane = lane
        self._transport = cast(asyncio.Transport, None)
        self._ahead: bytes | bytearray = b""
        self._head: tuple[Head, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer: str | None = None
        self._certificates: tuple[str, ...] = ()
        self._is_reading = True
        self._is_waiting = False
        self._seen = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple | list) and peer else None
        self._certificates = names_in(transport.get_extra_info("peercert"))
        self._seen = time.monotonic()
        self._lane.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._leave()
        self._ahead = b""

    def eof_received(self) -> None:
        """Close, as aiohttp does: half a request gets no answer."""

    def pause_writing(self) -> None:
        """Answer no more until what was answered is read."""
        self._is_waiting = True
        self._stop_reading()

    def resume_writing(self) -> None:
        self._is_waiting = False
        if self._task is None:
            self._go_on()

    # --- reading -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._ahead += data
        if self._task is None and not self._is_waiting:
            self._go_on()
        elif len(self._ahead) > MAX_AHEAD:
            self._stop_reading()

    def _go_on(self) -> None:
        """Answer all that is there, as far as it is whole and waits for nothing."""
        while self._ahead and self._task is None and not self._is_waiting:
            taken = self._head or self._next_head(bytes(self._ahead))
            if taken is None:
                break
            head, begins = taken
            ends = begins + head.length
            if len(self._ahead) < ends:
                self._await_body(taken)
                break
            if self._head is not None:
                self._end_body()
            body, self._ahead = bytes(self._ahead[begins:ends]), bytes(self._ahead[ends:])
            self._answer(head, body)
        if not self._is_reading and self._task is None and not self._is_waiting:
            self._is_reading = True
            self._transport.resume_reading()

    def _next_head(self, ahead: bytes) -> tuple[Head, int] | None:
        """Find the next head, and where it ends; None: there is none yet, or the connection is handed over."""
        heads = self._lane.heads
        ends = ahead.find(b"\r\n\r\n") + 4
        if ends < 4:
            if len(ahead) > MAX_HEAD or not heads.may_begin(ahead):
                self._hand_over()
            return None
        head = heads.read(ahead[:ends], self._peer, self._certificates) if ends <= MAX_HEAD else None
        if head is None:
            self._hand_over()
            return None
        return head, ends

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def _hand_over(self) -> None:
        """Give the connection to aiohttp, with all that is not answered."""
        transport, ahead = self._transport, bytes(self._ahead)
        self._leave()
        self._ahead = b""
        if not self._is_reading:
            self._is_reading = True
            transport.resume_reading()
        handler = self._lane.slow()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(ahead)

    # --- a body that is not whole ------------------------------------------------------------------

    def _await_body(self, taken: tuple[Head, int]) -> None:
        if self._head is not None:
            return
        if not self._may_wait(taken[0].call):
            self._hand_over()
            return
        self._head = taken
        self._ahead = bytearray(self._ahead)  # it grows in place: a body may come byte by byte
        self._lane.gate.traffic.count += 1  # it is in flight from its head on
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._lane.body_timeout_s, self._refuse_slow_body, taken[0].call)

    def _may_wait(self, call: Call) -> bool:
        """Say whether a request will be let in once its body is there, as far as that is known now."""
        gate = self._lane.gate
        try:
            gate.callers.admit(call)
        except PublicError:
            return False
        return gate.traffic.count < MAX_IN_FLIGHT

    def _end_body(self) -> None:
        self._head = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lane.gate.traffic.end()

    def _refuse_slow_body(self, call: Call) -> None:
        self._end_body()
        error = PublicError(408, "body_timeout", f"the body was not complete within {self._lane.body_timeout_s:g} s")
        self._lane.gate.tellings.refuse(error)
        self._write(refusal(error, call.request_id), call.request_id)

    # --- answering ---------------------------------------------------------------------------------

    def _answer(self, head: Head, body: bytes) -> None:
        request_id = head.call.request_id
        try:
            found = self._ask(head, body)
        except Exception as error:  # the one place: nothing else may leave
            found = self._lane.gate.refuse(error, request_id)
        if head.asked is not None:
            request_id = None  # Envoy finds it in the body
        if isinstance(found, Reply):
            self._write(found, request_id)
        else:
            self._wait_for(found, request_id)

    def _ask(self, head: Head, body: bytes) -> Reply | Awaitable[Reply]:
        lane, call, endpoint = self._lane, head.call, head.endpoint
        if endpoint is not None:
            caller = lane.gate.admit(call)
            return endpoint(call, caller, body) if caller is not None else self._admitted(endpoint, call, body)
        if lane.envoy is None or head.asked is None:
            raise RuntimeError("a head of nothing was recognised")
        return envoy_http.respond(lane.envoy, head.asked, call)

    async def _admitted(self, endpoint: Endpoint, call: Call, body: bytes) -> Reply:
        caller = await self._lane.gate.admitted(call)
        found = endpoint(call, caller, body)
        return found if isinstance(found, Reply) else await found

    def _wait_for(self, found: Awaitable[Reply], request_id: str | None) -> None:
        self._lane.gate.traffic.count += 1
        self._task = asyncio.get_running_loop().create_task(self._answer_later(found, request_id))

    async def _answer_later(self, found: Awaitable[Reply], request_id: str | None) -> None:
        gate = self._lane.gate
        try:
            reply = await found
        except Exception as error:  # the one place: nothing else may leave
            reply = gate.refuse(error, request_id)
        finally:
            self._task = None
            gate.traffic.end()
        if not self._transport.is_closing():  # if it is, nobody is there to read it
            self._write(reply, request_id)
            self._go_on()

    def _write(self, reply: Reply, request_id: str | None) -> None:
        lane = self._lane
        self._seen = time.monotonic()
        is_last = reply.is_last or lane.gate.traffic.is_stopping
        if reply.status == 200 and request_id is None and not is_last and not reply.headers:
            self._transport.write(b"%b%d\r\nDate: %b\r\n\r\n%b" % (_OK, len(reply.body), lane.date(), reply.body))
            return
        own = (REQUEST_ID, request_id)
        fields = reply.headers if request_id is None or own in reply.headers else (*reply.headers, own)
        listed = "".join([f"{name}: {value}\r\n" for name, value in fields])
        begin = (
            f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}\r\nContent-Type: application/json\r\n"
            f"Server: bylaw\r\n{listed}Content-Length: {len(reply.body)}\r\nDate: {lane.date().decode()}\r\n"
        )
        end = "Connection: close\r\n\r\n" if is_last else "\r\n"
        self._transport.write((begin + end).encode("latin-1") + reply.body)
        if is_last:
            self._ahead = b""
            self._transport.close()

    # --- the end -----------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Be one of the lane's connections no more."""
        self._lane.connections.discard(self)
        if self._head is not None:
            self._end_body()

    def close_if_idle(self, before: float) -> None:
        """Close a connection that has had no answer since; at once, if it does not read what it had."""
        if self._task is None and self._head is None and self._seen < before:
            if self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def close(self) -> None:
        """Close as soon as what is being answered is."""
        if self._task is None and self._head is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: bylaw\r\nContent-Length: "


class FastLane:
    """Makes connections, and ends them.

    Args:
        endpoints: what is answered, by path.
        slow: makes the protocol of aiohttp's server.
        body_timeout_s: how long a body may take to come in.
        envoy: answers what Envoy asks; None: not here.
        trusted_hops: how many hops of `x-forwarded-for` are believed there.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        gate: Gate,
        slow: Callable[[], asyncio.Protocol],
        body_timeout_s: float,
        envoy: EnvoyCheck | None = None,
        trusted_hops: int = 0,
    ) -> None:
        self.gate = gate
        self.envoy = envoy
        self.slow = slow
        self.body_timeout_s = body_timeout_s
        self.heads = Heads(endpoints, is_envoy=envoy is not None, trusted_hops=trusted_hops)
        self.connections: set[Connection] = set()
        self._date = b""
        self._date_s = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def connection(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return Connection(self)

    def date(self) -> bytes:
        """Return what the header `Date` says, made once a second."""
        now = int(time.time())
        if now != self._date_s:
            self._date_s, self._date = now, formatdate(now, usegmt=True).encode()
        return self._date

    def _sweep(self) -> None:
        """Close connections that were idle for too long."""
        before = time.monotonic() - IDLE_S
        for each in list(self.connections):
            each.close_if_idle(before)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if self.connections else None

    def close(self) -> None:
        """Close what is idle."""
        for each in list(self.connections):
            each.close()

    def end(self) -> None:
        """Close everything, whatever is under way."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for each in list(self.connections):
            each.abort()
