"""A connection in memory, and a service whose two lanes can be asked alone.

`Wire` is as strict as uvloop's transport: after the end nothing may be written, and what is paused hears nothing.
`Lanes` holds a running service over the example studio. `fast` is the port as it is; `slow` is aiohttp's protocol by
itself, as clients would meet it if there were no fast lane: of the same service, so what differs is the lanes' doing.
`Cold` makes its answers wait.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar, cast

from sidecar.answering import Outcome
from sidecar.callers import Caller
from sidecar.decider import Asked, Decider
from sidecar.exchange import Call
from sidecar.fast_lane import FastLane
from sidecar.readings import Loaded
from sidecar.server import Service
from sidecar.settings import Settings
from tests.sidecar.conftest import studio_settings
from tests.sidecar.lanes.answers import Said, read_answers

T = TypeVar("T")
#: So many turns of the loop with nothing new, and nothing more is to come.
QUIET_TURNS: Final = 12
PATIENCE_S: Final = 10.0
#: As much as uvloop takes before it asks for a pause.
HIGH_WATER: Final = 64 * 1024


class Wire(asyncio.Transport):
    """The server's end of a connection.

    Args:
        protocol: who is to hear what comes.
        is_stuck: the other end reads nothing until `drain`.

    Attributes:
        written: what the other end has read. kept: what it has not.
        handed: how often the connection went to another protocol.
    """

    def __init__(
        self,
        protocol: asyncio.Protocol,
        *,
        peer: object = ("127.0.0.1", 1),
        certificate: dict[str, object] | None = None,
        is_stuck: bool = False,
    ) -> None:
        super().__init__({"peername": peer, "peercert": certificate})
        self.written = bytearray()
        self.kept = bytearray()
        self.handed = 0
        self.closed = asyncio.Event()
        self._protocol = protocol
        self._inbox: list[bytes] = []
        self._is_stuck = is_stuck
        self._is_reading = True
        self._is_closing = False
        self._is_paused = False
        protocol.connection_made(self)

    # --- the other end -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Send to the server. It hears it at once, or when it reads again."""
        self._inbox.append(data)
        self._deliver()

    def feed_end(self) -> None:
        """Send FIN."""
        if not self._is_closing and not self._protocol.eof_received():
            self.close()

    def drain(self) -> None:
        """Read all that is there, and from now on everything at once."""
        self._is_stuck = False
        self.written += self.kept
        self.kept.clear()
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()
        if self._is_closing:
            self.abort()

    def said(self) -> Said:
        return Said(read_answers(bytes(self.written)), self.closed.is_set())

    # --- what protocols ask for --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.closed.is_set():
            raise RuntimeError("unable to perform operation; the handler is closed")
        if not self._is_stuck:
            self.written += data
            return
        self.kept += data
        if len(self.kept) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.kept:
                self._lose(None)

    def abort(self) -> None:
        self._is_closing = True
        self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)
        self.handed += 1

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def _deliver(self) -> None:
        while self._inbox and self._is_reading and not self._is_closing:
            self._protocol.data_received(self._inbox.pop(0))

    def _lose(self, error: Exception | None) -> None:
        asyncio.get_running_loop().call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        if not self.closed.is_set():
            self._protocol.connection_lost(error)
            self.closed.set()


class Noted(NamedTuple):
    """What was decided: who asked what, and how it was read."""

    call: Call
    caller: Caller
    questions: list[object]


class Lanes:
    """One service, and ways into it."""

    def __init__(self, service: Served) -> None:
        self.service = service
        self.cold = service.cold
        self.lane: FastLane = service._lanes[-1]
        self.lane.gate.turn.most_s = math.inf  # tests of overload make it small
        self._noted: list[Noted] = []
        self._note = self.lane.gate.tellings.note
        self.lane.gate.tellings.note = self._noting  # type: ignore[method-assign]  # it listens in

    def _noting(self, outcomes: Iterable[Outcome], call: Call, caller: Caller) -> None:
        listed = list(outcomes)
        self._noted.append(Noted(call, caller, [described(each.question) for each in listed]))
        self._note(listed, call, caller)

    def noted(self) -> list[Noted]:
        """Take what was decided since the last time."""
        taken, self._noted = self._noted, []
        return taken

    @property
    def port(self) -> int:
        return self.service.address.port

    def fast(self, **settings: Any) -> Wire:
        """Connect as clients do."""
        return Wire(self.lane.connection(), **settings)

    def slow(self, **settings: Any) -> Wire:
        """Connect to aiohttp's lane alone."""
        return Wire(self.lane.slow(), **settings)

    async def leave(self) -> None:
        """Have everybody gone who a test left behind."""
        for each in list(self.lane.connections):
            each.abort()
        await asyncio.sleep(0)

    async def ask_fast(self, *pieces: bytes) -> Said:
        return await self._ask(self.fast(), pieces)

    async def ask_slow(self, *pieces: bytes) -> Said:
        return await self._ask(self.slow(), pieces)

    async def _ask(self, wire: Wire, pieces: Iterable[bytes]) -> Said:
        for piece in pieces:
            wire.feed(piece)
        return await heard(wire)


class OtherEnd(asyncio.Protocol):
    """A client at a real socket, which loses nothing of what came before a reset."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._said = bytearray()
        self._is_gone = False
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._said += data
        self._came.set()

    def connection_lost(self, _: Exception | None) -> None:
        self._is_gone = True
        self._came.set()

    def send(self, data: bytes) -> None:
        if not self._is_gone:
            self.transport.write(data)

    async def heard(self, count: int, *, is_last: bool = False) -> Said:
        """Wait for so many answers, and for the end of the connection where it is to end; else leave it open."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._is_gone and (is_last or _count(self._said, count) < count):
                self._came.clear()
                await self._came.wait()
        return Said(read_answers(bytes(self._said)), self._is_gone)

    async def leave(self) -> None:
        """Close."""
        self.transport.close()
        await self.heard(0, is_last=True)


async def connect(port: int, **settings: Any) -> OtherEnd:
    """Connect to a real port."""
    _, end = await asyncio.get_running_loop().create_connection(OtherEnd, "127.0.0.1", port, **settings)
    return end


def _count(said: bytearray, wanted: int) -> int:
    """Count the answers that are whole, if they may be as many as are wanted."""
    if said.count(b"HTTP/1.") < wanted:
        return 0
    try:
        return len(read_answers(bytes(said)))
    except ValueError:
        return 0


def described(question: object) -> object:
    """Say all that a question says, but for its instant."""
    names = sorted(name for each in type(question).__mro__ for name in getattr(each, "__slots__", ()) if name != "now")
    return [(name, getattr(question, name)) for name in names]


async def settle(wire: Wire) -> None:
    """Wait until no more is to come over a connection."""
    seen, quiet = (-1, False), 0
    while quiet < QUIET_TURNS:
        await asyncio.sleep(0)
        now = (len(wire.written) + len(wire.kept), wire.closed.is_set())
        quiet = quiet + 1 if now == seen else 0
        seen = now


async def heard(wire: Wire) -> Said:
    """Wait for all that comes over a connection, and leave. What says that it is the last one must be."""
    await settle(wire)
    said = wire.said()
    if said.answers and said.answers[-1].header("Connection") == "close":
        async with asyncio.timeout(PATIENCE_S):
            await wire.closed.wait()
        said = wire.said()
    await end(wire)
    return said


async def end(wire: Wire) -> None:
    """Be gone."""
    wire.abort()
    async with asyncio.timeout(PATIENCE_S):
        await wire.closed.wait()


class Cold(Decider):
    """A decider that has to load something first, while `is_cold`: then answers wait until `loaded` is set.

    Attributes:
        waiting: how many wait. fault: what is raised in place of an answer.
    """

    def __init__(self, inner: Decider) -> None:
        self.inner = inner
        self.is_cold = False
        self.loaded = asyncio.Event()
        self.waiting = 0
        self.fault: Exception | None = None
        self._missed = 0

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        if self.is_cold:
            self._missed += 1
            return None
        if self.fault is not None:
            raise self.fault
        return self.inner.at_once(attempt)

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked], at_least: str | None) -> T:
        if self._missed:
            self._missed -= 1
            self.waiting += 1
            try:
                await self.loaded.wait()
            finally:
                self.waiting -= 1
        if self.fault is not None:
            raise self.fault
        return await self.inner.answer(attempt, asked, at_least)


class Served(Service):
    """The service, with a decider that can be made cold."""

    def __init__(self, settings: Settings) -> None:
        self._is_stopped = False
        super().__init__(settings, report=lambda _: None)

    async def stop(self) -> None:
        """Stop, once: a test may have done so before."""
        if not self._is_stopped:
            self._is_stopped = True
            await super().stop()

    def _make_decider(self) -> Decider:
        self.cold = Cold(super()._make_decider())
        return self.cold


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Lanes]:
    """Run a service on this loop until the block ends."""
    service = Served(studio_settings(**settings))
    await service.start()
    try:
        yield Lanes(service)
    finally:
        await service.stop()
