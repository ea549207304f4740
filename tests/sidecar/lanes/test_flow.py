"""Time and room: what comes slowly, in part, too fast, or to nobody; and the end of the service in the middle of it."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvloop

from sidecar.fast_lane import MAX_AHEAD, Connection
from tests.sidecar.conftest import ANN
from tests.sidecar.lanes.answers import read_answers
from tests.sidecar.lanes.battery import ONE, STANDARD, asked, padded, request
from tests.sidecar.lanes.conftest import Asking
from tests.sidecar.lanes.wires import HIGH_WATER, PATIENCE_S, Lanes, Wire, connect, end, heard, running, settle

HEALTH: Final = request(b"", begin="GET /health HTTP/1.1", length=None)
KINDS: Final = {
    "short": request(ANN, "X-Request-ID: r-1"),
    "standard": request(STANDARD, begin=f"POST {ONE} HTTP/1.1"),
    "batch": request({**ANN, "evaluations": [{}, {}]}),
    "empty": request(b""),
    "Envoy": asked("/healthz"),
}
BOTH_LANES: Final = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "slow"])
Scene = Callable[[Lanes], Coroutine[Any, Any, None]]


def named(name: str, body: object = ANN) -> bytes:
    return request(body, f"X-Request-ID: {name}")


def names(wire: Wire) -> list[str | None]:
    """List the answers that were read, by the ids of their requests."""
    return [each.header("X-Request-ID") for each in read_answers(bytes(wire.written))]


def is_at_rest(lanes: Lanes) -> bool:
    """Say whether nobody is connected and nothing in flight."""
    return not lanes.lane.connections and lanes.lane.gate.traffic.count == 0


async def rest(lanes: Lanes) -> None:
    """Wait until nobody is connected, and nothing in flight."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_at_rest(lanes) or lanes.cold.waiting:  # noqa: ASYNC110  # the lanes tell nobody
            await asyncio.sleep(0)


@asynccontextmanager
async def faults() -> AsyncIterator[list[str]]:
    """Collect what the loop complains of until the block ends: exceptions that nobody caught."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, said: found.append(f"{said['message']}: {said.get('exception')!r}"))
    yield found
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)


@asynccontextmanager
async def cold(lanes: Lanes) -> AsyncIterator[None]:
    """Have whoever asks now wait until `loaded` is set, or the block ends."""
    lanes.cold.is_cold = True
    lanes.cold.loaded.clear()
    try:
        yield
    finally:
        lanes.cold.is_cold, lanes.cold.fault = False, None
        lanes.cold.loaded.set()


# --- cut off ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Wire.feed_end, Wire.abort], ids=["FIN", "RST"])
@pytest.mark.parametrize("raw", KINDS.values(), ids=KINDS)
def test_cut_off_at_every_byte(asking: Asking, raw: bytes, leave: Callable[[Wire], None]) -> None:
    """A request that ends with its connection, wherever, has no answer and leaves nothing behind."""

    async def scene() -> None:
        wires = [asking.lanes.fast() for _ in range(len(raw))]
        for at, wire in enumerate(wires):
            wire.feed(raw[:at])
            leave(wire)
        await asyncio.sleep(0)

        assert all(wire.closed.is_set() and not wire.written and not wire.handed for wire in wires)
        assert is_at_rest(asking.lanes)

    asking.run(scene())


def test_a_client_that_says_no_more_is_answered(asking: Asking) -> None:
    """A client may close its half of the connection behind its last request."""

    async def scene() -> None:
        client = await connect(asking.lanes.port)
        client.send(named("a") + named("b"))
        client.transport.write_eof()
        said = await client.heard(2, is_last=True)

        assert [each.header("X-Request-ID") for each in said.answers] == ["a", "b"]

    asking.run(scene())


def test_a_reset_in_the_middle_of_everything(asking: Asking) -> None:
    """A client that sends a thousand requests and resets its connection harms nobody, and nothing is left of it."""

    async def scene() -> None:
        async with faults() as found:
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", asking.lanes.port))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(named("x") * 1000 + named("y")[:-3])
                client.close()
            assert (await asking.lanes.ask_fast(named("a"))).answers[0].status == 200
            await rest(asking.lanes)

        assert found == []

    asking.run(scene())


# --- slow -------------------------------------------------------------------------------------------------------------


def test_a_slow_body_is_408_in_both_lanes(short_lingering: None) -> None:
    """A body that does not come in time has the same answer from both lanes, which is the last; it is counted, and no
    longer in flight."""

    async def scene() -> None:
        async with running(body_timeout_s=0.05) as lanes:
            sent = named("slow")[:-1]
            fast, slow = lanes.fast(), lanes.slow()
            for wire in (fast, slow):
                wire.feed(sent)
                await settle(wire)
            is_counted = lanes.lane.gate.traffic.count == 2
            await asyncio.gather(fast.closed.wait(), slow.closed.wait())

            assert fast.said().alike() == slow.said().alike()
            assert [each.status for each in fast.said().answers] == [408]
            assert (is_counted, fast.handed) == (True, 0)
            assert lanes.lane.gate.tellings.refusals[408, "body_timeout"] == 2
            assert is_at_rest(lanes)

    uvloop.run(scene())


@BOTH_LANES
def test_a_stranger_is_refused_before_his_body(asking: Asking, is_fast: bool) -> None:
    """Who may not ask is told so at once, and takes up no room for a body that he never sends."""

    async def scene() -> None:
        wire = asking.lanes.fast() if is_fast else asking.lanes.slow()
        wire.feed(request(padded(100_000), base=("Host: evil.example", "Content-Type: application/json"))[:-1])
        await settle(wire)

        assert [each.status for each in read_answers(bytes(wire.written))] == [403]
        assert asking.lanes.lane.gate.traffic.count == 0
        await end(wire)

    asking.run(scene())


def test_a_body_byte_by_byte_costs_what_its_bytes_cost(asking: Asking) -> None:
    """A body of four times the size, a byte at a time, takes about four times the work, not sixteen times."""

    def cost_s(size: int) -> float:
        raw = request(padded(size))
        wire = asking.lanes.fast()
        began = time.process_time()
        for at in range(len(raw)):
            wire.get_protocol().data_received(raw[at : at + 1])  # type: ignore[attr-defined]  # it is the lane's
        took_s = time.process_time() - began
        assert read_answers(bytes(wire.written))[0].status == 200
        wire.abort()
        return took_s

    async def scene() -> None:
        small, large = (min(cost_s(size) for _ in range(3)) for size in (1 << 16, 1 << 18))

        assert large < 8 * small

    asking.run(scene())


# --- a client that does not read --------------------------------------------------------------------------------------


def test_who_does_not_read_is_not_read(asking: Asking) -> None:
    """A client that reads no answers is not listened to: what is kept for it is bounded, others are answered, and
    when it reads it has all its answers, in order."""

    async def scene() -> None:
        wire = asking.lanes.fast(is_stuck=True)
        sent = 0
        while wire.is_reading():
            wire.feed(b"".join(named(str(sent + number)) for number in range(50)))
            sent += 50
        kept, ahead = len(wire.kept), len(wire.get_protocol()._ahead)  # type: ignore[attr-defined]  # it is the lane's
        other = await asking.lanes.ask_fast(named("other"))
        wire.feed(named(str(sent)))
        wire.drain()
        await settle(wire)

        assert kept < HIGH_WATER + 1000
        assert ahead < 50 * 250
        assert other.answers[0].status == 200
        assert names(wire) == [str(number) for number in range(sent + 1)]
        await end(wire)

    asking.run(scene())


def test_over_sockets_too(asking: Asking) -> None:
    """So it is over a real connection, for as much as the kernel takes."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.connect(("127.0.0.1", asking.lanes.port))
            client.setblocking(False)
            stream, sent, refusals = named("x") * 500, 0, 0
            while refusals < 5:  # the first are no more than the server's turn
                try:
                    sent += client.send(stream[sent % len(stream) :])
                    refusals = 0
                except BlockingIOError:
                    refusals += 1
                    assert (await asking.lanes.ask_fast(named("other"))).answers[0].status == 200
            said = bytearray(await loop.sock_recv(client, 1 << 20))
            size = len(said[: said.index(b"HTTP/1.1", 1)])  # all are of one size
            while len(said) < sent // len(named("x")) * size:
                said += await loop.sock_recv(client, 1 << 20)

        assert {each.status for each in read_answers(bytes(said))} == {200}
        assert len(said) == sent // len(named("x")) * size

    asking.run(scene())


@pytest.mark.parametrize("cut", [20, -5], ids=["head", "body"])
def test_half_a_request_behind_a_pause(asking: Asking, cut: int) -> None:
    """Where the client reads again, the rest of a request that began before the pause is read, too."""

    async def scene() -> None:
        wire = asking.lanes.fast(is_stuck=True)
        wire.feed(named("x") * 300 + named("last")[:cut])
        is_paused = not wire.is_reading()
        wire.drain()
        wire.feed(named("last")[cut:])
        await settle(wire)

        assert is_paused
        assert names(wire) == ["x"] * 300 + ["last"]
        await end(wire)

    asking.run(scene())


# --- in flight --------------------------------------------------------------------------------------------------------


def test_order_is_kept(asking: Asking) -> None:
    """While a request waits for facts nothing behind it is begun, in whatever lane; then all are answered in order."""

    async def scene() -> None:
        wire = asking.lanes.fast()
        async with cold(asking.lanes):
            wire.feed(named("a") + named("b") + named("c", b"{"))
            wire.feed(HEALTH)
            wire.feed(named("d"))
            asking.lanes.cold.is_cold = False
            await settle(wire)
            early = bytes(wire.written), asking.lanes.cold.waiting, asking.lanes.lane.gate.traffic.count
        await settle(wire)

        assert early == (b"", 1, 1)
        assert names(wire) == ["a", "b", "c", None, "d"]
        await end(wire)

    asking.run(scene())


@pytest.mark.parametrize("cut", [-50_000, -5], ids=["far from its end", "near its end"])
def test_what_is_read_ahead_is_bounded(asking: Asking, cut: int) -> None:
    """Behind a request that waits only so much is read; when it is answered, the rest is read, and answered."""

    async def scene() -> None:
        large = named("large", padded(150_000))
        wire = asking.lanes.fast()
        async with cold(asking.lanes):
            wire.feed(named("a"))
            asking.lanes.cold.is_cold = False
            for at in range(0, len(large) + cut, 1000):
                wire.feed(large[at : min(at + 1000, len(large) + cut)])
            ahead = len(wire.get_protocol()._ahead)  # type: ignore[attr-defined]  # it is the lane's
        await settle(wire)
        wire.feed(large[cut:])
        await settle(wire)

        assert ahead <= MAX_AHEAD + 1000
        assert names(wire) == ["a", "large"]
        await end(wire)

    asking.run(scene())


@BOTH_LANES
@pytest.mark.parametrize("leave", [Wire.feed_end, Wire.abort], ids=["FIN", "RST"])
def test_a_client_that_leaves_in_flight(asking: Asking, leave: Callable[[Wire], None], is_fast: bool) -> None:
    """Where nobody is left to answer, nothing is answered, nothing complained of, and nothing stays in flight."""

    async def scene() -> None:
        async with faults() as found:
            wire = asking.lanes.fast() if is_fast else asking.lanes.slow()
            async with cold(asking.lanes):
                wire.feed(named("a") + named("b"))
                await settle(wire)
                leave(wire)
                await settle(wire)
            await rest(asking.lanes)

        assert (found, bytes(wire.written)) == ([], b"")

    asking.run(scene())


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
def test_a_fault_of_ours_is_500_in_both_lanes(asking: Asking, is_cold: bool) -> None:
    """What nobody foresaw ends in the same answer in both lanes, and the connection goes on."""

    async def scene() -> None:
        async with cold(asking.lanes):
            asking.lanes.cold.is_cold, asking.lanes.cold.fault = is_cold, KeyError("secret")
            asking.lanes.cold.loaded.set()
            fast, slow = [(await ask(named("a") + named("b"))).alike() for ask in both(asking.lanes)]

        assert [(each.status, each.header("X-Request-ID")) for each in fast.answers] == [(500, "a"), (500, "b")]
        assert fast == slow
        assert not fast.is_closed
        assert "secret" not in str(fast)

    asking.run(scene())


def both(lanes: Lanes) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return lanes.ask_fast, lanes.ask_slow


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_graceful_stop_in_the_middle_of_everything(short_lingering: None) -> None:
    """On the way out what was begun is answered, as the last on its connection; what was not begun is not, and idle
    connections are closed."""

    async def scene() -> None:
        async with running() as lanes, faults() as found:
            idle, late, half_head, half_body, waiting, elsewhere = wires = [lanes.fast() for _ in range(6)]
            for wire in (idle, late):
                wire.feed(named("before"))
            half_head.feed(named("a")[:30])
            half_body.feed(named("b")[:-1])
            elsewhere.feed(HEALTH)
            await settle(elsewhere)
            lanes.cold.is_cold = True
            waiting.feed(named("c") + named("never"))
            elsewhere.feed(named("d"))
            await settle(elsewhere)
            in_flight = lanes.lane.gate.traffic.count
            lanes.cold.is_cold = False

            stopping = asyncio.create_task(lanes.service.stop())
            await asyncio.sleep(0)
            late.feed(named("e"))
            half_body.feed(named("b")[-1:])
            lanes.cold.loaded.set()
            await stopping

            assert in_flight == 3
            assert [names(wire) for wire in wires] == [["before"], ["before", "e"], [], ["b"], ["c"], [None, "d"]]
            last = [wire.said().answers[-1] for wire in (late, half_body, waiting, elsewhere)]
            assert [(each.status, each.header("Connection")) for each in last] == [(200, "close")] * 4
            assert all(wire.closed.is_set() for wire in wires)
            assert (is_at_rest(lanes), found) == (True, [])

    uvloop.run(scene())


def test_a_stop_does_not_wait_for_ever(short_lingering: None) -> None:
    """What is not done in time is cut off, in both lanes, and leaves nothing behind."""

    async def scene() -> None:
        async with running(drain_s=0.01) as lanes, faults() as found:
            half_body, waiting, elsewhere = wires = [lanes.fast(), lanes.fast(), lanes.slow()]
            lanes.cold.is_cold = True
            half_body.feed(named("b")[:-1])
            waiting.feed(named("c"))
            elsewhere.feed(named("d"))
            await settle(elsewhere)

            await lanes.service.stop()
            lanes.cold.loaded.set()
            await asyncio.gather(*(wire.closed.wait() for wire in wires))
            await rest(lanes)

            assert [bytes(wire.written) for wire in wires] == [b""] * 3
            assert (is_at_rest(lanes), found) == (True, [])

    uvloop.run(scene())


# --- idle connections -------------------------------------------------------------------------------------------------


def swept(wire: Wire, before: float) -> None:
    """Have a connection closed if it has been idle since."""
    connection = wire.get_protocol()
    assert isinstance(connection, Connection)
    connection.close_if_idle(before)


def test_idle_connections_are_closed(asking: Asking) -> None:
    """Who says nothing, or never ends a head, is left; who waits for an answer, or sends a body, is not."""

    async def scene() -> None:
        silent, half_head, half_body, waiting = wires = [asking.lanes.fast() for _ in range(4)]
        half_head.feed(named("a")[:40])
        half_body.feed(named("a")[:-1])
        async with cold(asking.lanes):
            waiting.feed(named("a"))
            for wire in wires:
                swept(wire, time.monotonic() + 1)
            await asyncio.sleep(0)
            closed = [wire.closed.is_set() for wire in wires]
        for wire in (half_body, waiting):
            await end(wire)

        assert closed == [True, True, False, False]
        assert (await heard(silent)).answers == (await heard(half_head)).answers == ()

    asking.run(scene())


def test_who_was_just_answered_is_not_idle(asking: Asking) -> None:
    """Half a request behind an answer does not make its connection older than the answer."""

    async def scene() -> None:
        wire = asking.lanes.fast()
        before = time.monotonic()
        wire.feed(named("a") + named("b")[:30])
        swept(wire, before)
        await asyncio.sleep(0)

        assert not wire.closed.is_set()
        await end(wire)

    asking.run(scene())


def test_who_never_reads_is_cut_off(asking: Asking) -> None:
    """A client that has not read its answers for as long as an idle one is kept is cut off, or its connection would
    stay for ever."""

    async def scene() -> None:
        wires = [asking.lanes.fast(is_stuck=True) for _ in range(2)]
        for wire, count in zip(wires, (1, 500), strict=True):
            wire.feed(named("a") * count)
            swept(wire, time.monotonic() + 1)
        await asyncio.sleep(0)

        assert [wire.closed.is_set() for wire in wires] == [True, True]
        assert is_at_rest(asking.lanes)

    asking.run(scene())
