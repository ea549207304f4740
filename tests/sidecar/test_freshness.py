"""Freshness, poll by poll: what a tenant that a load took into use does to what is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.freshness import Freshness, NotAppliedError, StaleError
from sidecar.views import Cache
from store.answers import UNKNOWN, Moment, Polled
from store.streams import GLOBAL, POLICIES, Position
from store.tokens import Line, Token

LINE = Line("0" * 32)
BOUND_S = 5.0


class House:
    """A process with facts of two tenants, whose clock goes as is told, and a database that answers nothing."""

    def __init__(self) -> None:
        self.now = 100.0
        self.freshness = Freshness(
            self, Cache(), max_staleness_s=BOUND_S, clock=lambda: self.now, on_change=lambda _: None
        )
        self.poll_applied({GLOBAL: UNKNOWN, POLICIES: UNKNOWN}, sent=self.now)

    async def poll(self, known: str) -> Polled:
        raise NotImplementedError

    def poll_applied(self, asked: dict[str, Position], *, sent: float, g: int = 1, **tenants: int) -> None:
        at = {GLOBAL: place(g), POLICIES: place(1), **{f"t:{name}": place(n) for name, n in tenants.items()}}
        self.freshness.apply(Polled(Moment(LINE), at, {}, {}, is_registered=True), asked, sent)

    def asked(self) -> dict[str, Position]:
        """Say what a poll that is sent now asks for."""
        return self.freshness._positions()

    @property
    def in_use(self) -> dict[str, int]:
        return {tenant: held.at.n for tenant, held in self.freshness.cache.tenants.items()}


@pytest.fixture
def house() -> House:
    return House()


def place(n: int) -> Position:
    return Position(n, f"head{n}")


def test_facts_are_as_old_as_the_oldest_load(house: House) -> None:
    """Where a load takes a tenant into use, what is known is no younger than the clock before that load."""
    house.now = 101.0
    since = house.freshness.since()
    asked = house.asked()
    house.poll_applied(asked, sent=102.0)

    is_adopted = house.freshness.adopt("acme", place(3), since)

    assert (is_adopted, house.freshness.confirmed) == (True, 101.0)


def test_a_poll_that_did_not_ask_for_a_tenant(house: House) -> None:
    """A tenant that came into use while a poll was on its way stays, and what is known is no younger than its load; the
    next poll asks for it."""
    since = house.freshness.since()
    house.now = 101.0
    asked = house.asked()
    house.freshness.adopt("acme", place(3), since)

    house.poll_applied(asked, sent=101.0)
    first = house.freshness.confirmed
    house.poll_applied(house.asked(), sent=102.0)

    assert (house.in_use, first, house.freshness.confirmed) == ({"acme": 3}, 100.0, 102.0)


def test_a_poll_that_moves_what_all_share(house: House) -> None:
    """It goes out of use where such a poll moves what all tenants share, which may never have stood beside it."""
    asked = house.asked()
    house.freshness.adopt("acme", place(3), house.freshness.since())

    house.poll_applied(asked, sent=101.0, g=2)

    assert house.in_use == {}


@pytest.mark.parametrize(("found", "left"), [(3, {"acme": 3}), (4, {"acme": 4})])
def test_a_poll_that_asked_for_it_anew(house: House, found: int, left: dict[str, int]) -> None:
    """Where the poll asked for it, too, its answer counts; the views stay if it is where they are."""
    asked = house.asked() | {"t:acme": UNKNOWN}
    house.freshness.adopt("acme", place(3), house.freshness.since())
    house.freshness.cache.tenants["acme"].absent["resource:project:p1"] = None

    house.poll_applied(asked, sent=101.0, acme=found)

    assert house.in_use == left
    assert ("resource:project:p1" in house.freshness.cache.tenants["acme"].absent) is (found == 3)
    assert house.freshness.confirmed == 101.0


def test_no_older_state_comes_back(house: House) -> None:
    """A tenant that went out of use is not adopted from before what was shown of it, for as long as such a load could
    be answered from."""
    early = house.freshness.since()
    house.freshness.adopt("acme", place(3), early)
    house.poll_applied(house.asked(), sent=101.0, acme=4)
    house.freshness.cache.leave("acme")

    for sent in range(102, 111):
        is_adopted = house.freshness.adopt("acme", place(3), early)
        house.poll_applied(house.asked(), sent=sent)

        assert not is_adopted
    assert house.freshness.adopt("acme", place(4), early)


def test_nothing_is_remembered_for_ever(house: House) -> None:
    """What was shown of tenants that are no longer in use is forgotten when no load can be as old."""
    for number in range(100):
        house.freshness.adopt(f"t{number}", place(1), house.freshness.since())
        house.freshness.cache.leave(f"t{number}")
    for sent in range(101, 130):
        house.poll_applied(house.asked(), sent=sent)

    assert [house.freshness.cache.shown(f"t{number}") for number in range(100)] == [-1] * 100


# --- policies -------------------------------------------------------------------------------------------


class Street:
    """A process that takes what is published, if it can have it, and a database that shows what is told.

    Attributes:
        decides: of which revision the policy is that decides.
        can: whether the process can have what is published.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.can = True
        self.decides = 0
        self.asked: list[Position] = []
        self.shown = Polled(
            Moment(LINE), {GLOBAL: place(1), POLICIES: place(1)}, {}, {"mine": {POLICIES: 2}}, is_registered=True
        )
        self.freshness = Freshness(
            self,
            Cache(),
            max_staleness_s=BOUND_S,
            clock=lambda: self.now,
            on_change=lambda _: None,
            on_policies=self.prepare,
        )
        self.poll_now()

    async def poll(self, known: str) -> Polled:
        return self.shown

    async def prepare(self, at: Position) -> Callable[[], None] | None:
        self.asked.append(at)

        def swap() -> None:
            assert self.freshness.policies == at, "facts and policy begin to count together"
            self.decides = at.n

        return swap if self.can else None

    def poll_now(self, *, line: Line = LINE, **moved: Position) -> None:
        """Have the database show that streams moved, and poll."""
        self.shown = replace(self.shown, moment=Moment(line), at={**self.shown.at, **moved})
        asyncio.run(self.freshness.poll())

    @property
    def told(self) -> tuple[int, int]:
        """What a token names: which policy, and how far the facts are."""
        token = Token.parse(self.freshness.token(""))
        return token.p, token.g


@pytest.fixture
def street() -> Street:
    return Street()


def test_a_policy_decides_with_its_revision(street: Street) -> None:
    """A policy begins to decide as the poll that found it is applied; tokens name it, and receipts are given."""
    before = street.decides, street.told, street.freshness.receipts
    street.poll_now(p=place(2), g=place(5))

    assert before == (1, (1, 1), set())
    assert (street.decides, street.told, street.freshness.receipts) == (2, (2, 5), {"mine"})


def test_a_policy_that_cannot_be_had(street: Street) -> None:
    """Facts go on without it; tokens name the policy that decides, who demands the other one is refused, and no receipt
    is given, until it can be had."""
    street.can = False
    street.poll_now(p=place(2), g=place(5))
    with pytest.raises(StaleError):
        asyncio.run(street.freshness.reach([Token(LINE, 2, 5)], []))
    refused = street.decides, street.told, street.freshness.receipts
    street.can = True
    street.poll_now()

    assert refused == (1, (1, 5), set())
    assert (street.decides, street.told, street.freshness.receipts) == (2, (2, 5), {"mine"})


def test_a_policy_that_decides_is_not_asked_for(street: Street) -> None:
    """What decides is made ready once, and not for polls that are not applied."""
    street.poll_now()
    street.shown = replace(street.shown, is_registered=False)
    with pytest.raises(NotAppliedError):
        street.poll_now(p=place(2))

    assert street.asked == [place(1)]


def test_nobody_comes_back_with_the_policy_before(street: Street) -> None:
    """Who was too old for any answer when he found that he cannot have what is published stays too old: somebody may
    have been told meanwhile that nobody answers by the policy before any more."""
    street.can = False
    street.now += BOUND_S + 0.1
    with pytest.raises(NotAppliedError):
        street.poll_now(p=place(2), g=place(5))
    is_fresh = street.freshness.is_fresh()
    street.can = True
    street.poll_now()

    assert not is_fresh
    assert street.freshness.is_fresh()
    assert street.told == (2, 5)


def test_a_number_of_a_lost_history_names_no_policy(street: Street) -> None:
    """After a restore to other publications the policy of before is none of those that numbers name now."""
    street.can = False
    street.poll_now(p=Position(1, "another"), line=Line("1" * 32))

    assert street.told == (0, 1)
    with pytest.raises(StaleError):
        asyncio.run(street.freshness.reach([Token(Line("1" * 32), 1, 1)], []))
