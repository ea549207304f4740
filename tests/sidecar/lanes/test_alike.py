"""The invariant `two_lanes_answer_alike`: whichever lane a request takes, and however it comes in, the answer is the
same, and so is what becomes of its connection."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.addresses import Address
from tests.sidecar.lanes.answers import Answer, Said, read_answers
from tests.sidecar.lanes.battery import BATTERY, Sent, asked, request
from tests.sidecar.lanes.conftest import Asking
from tests.sidecar.lanes.laws import bytewise, in_turn, joined, pieces
from tests.sidecar.lanes.wires import Lanes, Wire, connect, end, heard, running

FAST: Final = [sent for sent in BATTERY if sent.is_fast]
SLOW: Final = [sent for sent in BATTERY if not sent.is_fast]
SMALL: Final = 3000
EVERY: Final = pytest.mark.parametrize("sent", BATTERY, ids=lambda sent: sent.name)
on_lanes: Final = settings(
    deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@EVERY
def test_two_lanes_answer_alike(asking: Asking, sent: Sent) -> None:
    """Status line, headers, body, and whether the connection goes on are the same from both lanes; and the fast lane
    answers by itself what it is there for, and nothing else."""
    found = asking.run(fast(asking.lanes, sent.raw))

    assert found == (asking.alone[sent.name], sent.is_fast)


@EVERY
def test_two_lanes_read_alike(asking: Asking, sent: Sent) -> None:
    """What is decided is the same question of the same caller, to the last header."""
    asking.lanes.noted()

    asking.run(asking.lanes.ask_fast(sent.raw))
    read = asking.lanes.noted()
    asking.run(asking.lanes.ask_slow(sent.raw))

    assert read == asking.lanes.noted()


async def fast(lanes: Lanes, *sent: bytes) -> tuple[Said, bool]:
    wire = lanes.fast()
    for piece in sent:
        wire.feed(piece)
    said = await heard(wire)
    return said.alike(), wire.handed == 0


@EVERY
def test_byte_by_byte(asking: Asking, sent: Sent) -> None:
    """So they are where each byte comes alone."""
    said, _ = asking.run(fast(asking.lanes, *(bytewise(sent.raw) if len(sent.raw) < SMALL else [sent.raw])))

    assert said == asking.alone[sent.name]


def test_two_doors(short_lingering: None) -> None:
    """Where Envoy has a door of its own, both doors answer alike in both lanes, and neither what is the other's."""

    async def scene() -> None:
        async with running(envoy_http=Address("127.0.0.1", 0)) as lanes:
            for lane in lanes.service._lanes:
                for sent in BATTERY:
                    said = []
                    for wire in (Wire(lane.connection()), Wire(lane.slow())):
                        wire.feed(sent.raw)
                        said.append((await heard(wire)).alike())
                    assert said[0] == said[1], sent.name
            envoy, usual = [Wire(lane.connection()) for lane in lanes.service._lanes]
            for wire in (envoy, usual):
                wire.feed(request() + asked("/healthz", base=("Host: localhost",)))
            statuses = [[each.status for each in (await heard(wire)).answers] for wire in (envoy, usual)]

            assert statuses == [[404, 200], [200, 404]]

    uvloop.run(scene())


def test_split_at_every_byte(asking: Asking) -> None:
    """So they are wherever a request is cut in two: nothing before the last byte, then the answer."""

    async def differing() -> list[tuple[str, int]]:
        return [(sent.name, at) for sent in FAST for at in places(sent) if not await is_alike(asking, sent, at)]

    assert asking.run(differing()) == []


def places(sent: Sent) -> list[int]:
    """List where to cut: of what is large some of the head, and the last bytes."""
    size = len(sent.raw)
    return [at for at in range(1, size) if size < SMALL or (at % 50 == 0 and at < SMALL) or at > size - 3]


async def is_alike(asking: Asking, sent: Sent, at: int) -> bool:
    wire = asking.lanes.fast()
    wire.feed(sent.raw[:at])
    early = bytes(wire.written)
    wire.feed(sent.raw[at:])
    return (early, (await answers_at_once(wire))) == (b"", asking.alone[sent.name].answers)


async def answers_at_once(wire: Wire) -> tuple[Answer, ...]:
    """Return what is answered, which nearly always has been; and leave."""
    if wire.handed or not wire.written:
        return (await heard(wire)).alike().answers
    await end(wire)
    return tuple(each.alike() for each in read_answers(bytes(wire.written)))


def test_what_is_handed_over_split(asking: Asking) -> None:
    """So they are where what is not the fast lane's is cut."""

    async def differing() -> list[tuple[str, int]]:
        return [
            (sent.name, at)
            for number, sent in enumerate(SLOW)
            for at in range(1 + number % 9, min(len(sent.raw), SMALL // 10), 9)
            if (await fast(asking.lanes, sent.raw[:at], sent.raw[at:]))[0] != asking.alone[sent.name]
        ]

    assert asking.run(differing()) == []


def test_pipelined_pairs(asking: Asking) -> None:
    """Any two requests that the fast lane answers, sent at once, have both their answers, in their order."""

    async def differing() -> list[tuple[str, str]]:
        found = []
        for first, second in itertools.product([sent for sent in FAST if len(sent.raw) < SMALL][::2], repeat=2):
            wire = asking.lanes.fast()
            wire.feed(first.raw + second.raw)
            if (await heard(wire)).alike() != joined([asking.alone[first.name], asking.alone[second.name]]):
                found.append((first.name, second.name))
        return found

    assert asking.run(differing()) == []


@pytest.mark.property
@on_lanes
@given(
    sequence=st.lists(st.sampled_from(BATTERY), min_size=2, max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=6)
)
def test_mixed_on_one_connection(asking: Asking, sequence: list[Sent], cuts: list[int]) -> None:
    """Requests of any kind in any order on one connection, cut anywhere, are answered as each is by aiohttp alone, up
    to the first that ends the connection."""
    assert asking.run(in_turn(asking.lanes, asking.alone, sequence, cuts)) is None


#: Over real sockets: a sample of all kinds.
REAL: Final = [sent for sent in BATTERY if len(sent.raw) < SMALL][::6]


@pytest.mark.parametrize("sent", REAL, ids=lambda sent: sent.name)
def test_over_sockets(asking: Asking, sent: Sent) -> None:
    """Over real connections it is no different, whole or cut, with a request before it and one behind."""
    first = FAST[0]
    wanted = joined([asking.alone[each.name] for each in (first, sent, first)])

    async def said(*rest: bytes) -> Said:
        end = await connect(asking.lanes.port)
        end.send(first.raw)
        await end.heard(1)
        for piece in rest:
            end.send(piece)
            await asyncio.sleep(0)
        found = (await end.heard(len(wanted.answers), is_last=wanted.is_closed)).alike()
        await end.leave()
        return found

    whole = asking.run(said(sent.raw, first.raw))
    cut = asking.run(said(*pieces(sent.raw, range(7, len(sent.raw), 40)), first.raw))

    assert (whole, cut) == (wanted, wanted)
