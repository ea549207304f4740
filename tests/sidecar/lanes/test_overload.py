"""Too much at once, in both lanes: who is refused, what he is told, what is counted, and that it passes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from sidecar.callers import PLAIN_SCOPES, Caller, Callers
from sidecar.errors import PublicError
from sidecar.exchange import Call
from sidecar.gate import MAX_IN_FLIGHT, Turn
from sidecar.limits import Leases, Limiter
from tests.sidecar.conftest import ANN
from tests.sidecar.lanes.answers import Answer, read_answers
from tests.sidecar.lanes.battery import BATTERY, asked, request
from tests.sidecar.lanes.conftest import Asking
from tests.sidecar.lanes.wires import Lanes, connect, end, settle

BOTH_LANES: Final = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "slow"])
CHECK: Final = request(ANN, "X-Request-ID: r-1")
NAMELESS: Final = request()
HEALTH: Final = request(b"", begin="GET /health HTTP/1.1", length=None)
READY: Final = request(b"", begin="GET /ready HTTP/1.1", length=None)


@contextmanager
def turns_of(asking: Asking, count: int) -> Iterator[None]:
    """Have a turn of the loop answer so many requests and no more, however fast they are."""
    gate = asking.lanes.lane.gate
    usual, gate.turn = gate.turn, Turn(most_s=-1.0, count=count)
    yield
    gate.turn = usual


async def at_once(lanes: Lanes, sent: list[bytes], *, is_fast: bool) -> list[Answer]:
    """Send requests in one turn of the loop, each over a connection of its own; return their answers."""
    wires = [lanes.fast() if is_fast else lanes.slow() for _ in sent]
    for wire, raw in zip(wires, sent, strict=True):
        wire.feed(raw)
    for wire in wires:
        await settle(wire)
    found = [read_answers(bytes(wire.written))[0] for wire in wires]
    for wire in wires:
        await end(wire)
    return found


@BOTH_LANES
def test_a_full_turn_refuses(asking: Asking, is_fast: bool) -> None:
    """Who comes late in a full turn is told to come again, under his own id or one that is made, and it is counted; the
    next turn answers him."""
    refusals = asking.lanes.lane.gate.tellings.refusals
    before = refusals[503, "overloaded"]

    with turns_of(asking, 2):
        *first, named, nameless = asking.run(at_once(asking.lanes, [NAMELESS, CHECK, CHECK, NAMELESS], is_fast=is_fast))
        later = asking.run(at_once(asking.lanes, [CHECK], is_fast=is_fast))

    assert [each.status for each in (*first, *later)] == [200, 200, 200]
    assert [(each.status, each.header("Retry-After")) for each in (named, nameless)] == [(503, "1")] * 2
    assert named.header("X-Request-ID") == "r-1"
    assert len(nameless.header("X-Request-ID") or "") == 32
    assert refusals[503, "overloaded"] == before + 2


def test_refusals_are_alike(asking: Asking) -> None:
    """Both lanes refuse in the same words, and neither closes the connection."""
    with turns_of(asking, 1):
        fast, slow = [asking.run(at_once(asking.lanes, [CHECK, CHECK], is_fast=is_fast)) for is_fast in (True, False)]

    assert [each.alike() for each in fast] == [each.alike() for each in slow]
    assert fast[1].header("Connection") is None


@BOTH_LANES
def test_who_watches_is_never_refused(asking: Asking, is_fast: bool) -> None:
    """In the fullest turn, and with all that may be in flight, health and readiness are told."""
    traffic = asking.lanes.lane.gate.traffic

    with turns_of(asking, 0):
        full = asking.run(at_once(asking.lanes, [CHECK, CHECK, HEALTH, READY], is_fast=is_fast))
    traffic.count += MAX_IN_FLIGHT + 1
    many = asking.run(at_once(asking.lanes, [CHECK, HEALTH, READY], is_fast=is_fast))
    traffic.count -= MAX_IN_FLIGHT + 1
    after = asking.run(at_once(asking.lanes, [CHECK, HEALTH, READY], is_fast=is_fast))

    assert [each.status for each in full] == [200, 503, 200, 200]
    assert [each.status for each in many] == [503, 200, 200]
    assert [each.status for each in after] == [200, 200, 200]


@BOTH_LANES
def test_envoy_is_refused_by_a_deny(asking: Asking, is_fast: bool) -> None:
    """Envoy takes 5xx for an error, which may let a request through: overload is a 403 to it."""
    with turns_of(asking, 1):
        found = asking.run(at_once(asking.lanes, [asked("/healthz"), asked("/healthz")], is_fast=is_fast))

    assert [each.status for each in found] == [200, 403]


def test_one_connection_takes_no_more_than_its_turn(asking: Asking) -> None:
    """A thousand requests at once over one connection are all answered, most by a refusal, and who comes in the next
    turn by a decision."""

    async def scene() -> None:
        wire = asking.lanes.fast()
        wire.feed(CHECK * 1000)
        await settle(wire)
        statuses = Counter(each.status for each in read_answers(bytes(wire.written)))
        (other,) = await at_once(asking.lanes, [CHECK], is_fast=True)

        assert statuses == {200: 32, 503: 968}
        assert other.status == 200
        await end(wire)

    with turns_of(asking, 32):
        asking.run(scene())


def test_a_flood_starves_nobody(asking: Asking) -> None:
    """While a client floods the service, another, whose requests come one by one, and who watches it are answered."""

    async def scene() -> None:
        flood, quiet, watching = [await connect(asking.lanes.port) for _ in range(3)]
        statuses: Counter[int] = Counter()
        for number in range(1, 21):
            flood.send(CHECK * 200)
            quiet.send(CHECK)
            watching.send(HEALTH)
            statuses[(await quiet.heard(number)).answers[-1].status] += 1
            assert (await watching.heard(number)).answers[-1].status == 200
        answers = (await flood.heard(4000)).answers
        for each in (flood, quiet, watching):
            await each.leave()

        assert {each.status for each in answers} <= {200, 503}
        assert len(answers) == 4000
        assert sum(statuses.values()) == 20

    with turns_of(asking, 32):
        asking.run(scene())


def test_both_lanes_count_alike(asking: Asking) -> None:
    """Whatever is asked, decisions and refusals are counted the same, whichever lane answers."""
    tellings = asking.lanes.lane.gate.tellings

    def counted(is_fast: bool) -> list[tuple[Counter[tuple[str, bool, str]], Counter[tuple[int, str]]]]:
        found = []
        ask = asking.lanes.ask_fast if is_fast else asking.lanes.ask_slow
        for sent in BATTERY:
            decisions, refusals = Counter(tellings.decisions), Counter(tellings.refusals)
            asking.run(ask(sent.raw))
            found.append((tellings.decisions - decisions, tellings.refusals - refusals))
        return found

    assert counted(True) == counted(False)


# --- limits, and who asks ---------------------------------------------------------------------------------------------


class Always:
    """Leases whatever is wanted, after a moment."""

    async def lease(self, key: str, *, wanted: int, limit: int, window_ms: int) -> tuple[int, int] | None:
        await asyncio.sleep(0)
        return wanted, window_ms


@BOTH_LANES
@pytest.mark.parametrize(("shared", "statuses"), [(None, [200, 429, 429]), (Always(), [200, 200, 200])])
def test_limits_hold(asking: Asking, shared: Leases | None, statuses: list[int], is_fast: bool) -> None:
    """A caller who asks too much is told so, with his request id and when to come again; where it takes a moment to
    know whether it is too much, the answer waits for it, and so do those behind."""
    gate = asking.lanes.lane.gate
    ask = asking.lanes.ask_fast if is_fast else asking.lanes.ask_slow

    gate.limits = Limiter("1/1d", shared, clock=lambda: 0.0)
    found = asking.run(ask(CHECK * 3)).answers
    gate.limits = None

    assert [each.status for each in found] == statuses
    assert {each.header("X-Request-ID") for each in found} == {"r-1"}
    assert {each.header("Retry-After") for each in found if each.status == 429} <= {"86400"}


class Late:
    """Knows callers by a key, once that has been waited for."""

    def __init__(self, usual: Callers) -> None:
        self.probing = usual.probing
        self.is_known = False

    def admit(self, call: Call) -> Caller | None:
        if not self.is_known:
            return None
        if call.authorization != ("Bearer good",):
            raise PublicError(401, "unauthenticated", "no key", headers={"WWW-Authenticate": "Bearer"})
        return Caller(PLAIN_SCOPES, name="good")

    async def known(self) -> None:
        await asyncio.sleep(0)
        self.is_known = True


def test_callers_are_waited_for(asking: Asking) -> None:
    """Where it is not known at once who may ask, both lanes wait for it and answer alike, if the body is late, too."""
    gate = asking.lanes.lane.gate
    usual = gate.callers
    good, bad = (request(ANN, f"Authorization: Bearer {key}") for key in ("good", "bad"))

    def said(is_fast: bool, *pieces: bytes) -> list[Answer]:
        gate.callers = Late(usual)
        ask = asking.lanes.ask_fast if is_fast else asking.lanes.ask_slow
        return [each.alike() for each in asking.run(ask(*pieces)).answers]

    whole = [said(is_fast, good + bad + good) for is_fast in (True, False)]
    cut = [said(is_fast, good[:-1], good[-1:] + bad[:-1], bad[-1:] + good) for is_fast in (True, False)]
    gate.callers = usual

    assert [each.status for each in whole[0]] == [200, 401, 200]
    assert whole[0] == whole[1] == cut[0] == cut[1]
