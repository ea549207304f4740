"""What of the store decides when, driven by hand: each revision of stream p is asked for as whoever follows the store
does it, and the clock is ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from engine import BylawError
from engine.checker import digest_of
from engine.source import Source
from sidecar.policies import Policies
from store.errors import UnavailableError
from store.streams import NOWHERE, Position

GOOD: Final = "resource doc { actions read }\n"
BROKEN: Final = "resource doc { actions read\n"


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy that was uploaded."""

    sources: tuple[Source, ...]
    lock: bytes | None = None


class Shelf:
    """What is published, by revision, and how often policies were read."""

    def __init__(self) -> None:
        self.policies: dict[str, str] = {}
        self.decided: dict[Position, str | None] = {NOWHERE: None}
        self.at = NOWHERE
        self.reads = 0
        self.is_away = False

    async def newest(self) -> Position:
        return self.at

    async def decides(self, at: Position) -> str | None:
        if self.is_away:
            raise UnavailableError("it does not answer")
        return self.decided[at]

    async def read(self, identity: str) -> Kept | None:
        self.reads += 1
        return Kept((Source("a.bylaw", self.policies[identity]),))

    def publish(self, identity: str | None, text: str = GOOD, *, head: str = "") -> Position:
        """Let a policy decide from a new revision on."""
        self.at = Position(self.at.n + 1, head or f"head{self.at.n + 1}")
        self.decided[self.at] = identity
        if identity is not None:
            self.policies[identity] = text
        return self.at


class House:
    """Policies over a folder and a shelf, with a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.reports: list[str] = []
        self.shelf = Shelf()
        self.file = folder / "a.bylaw"
        self.policies = Policies(
            folder, None, report=self.reports.append, clock=lambda: self.now, settle_s=0.5, published=self.shelf
        )

    def decides(self, text: str) -> bool:
        """Say whether this policy does."""
        return self.policies.loaded.policy.digest == digest_of((Source("a.bylaw", text),))

    async def stand(self) -> None:
        """Let what lies in the folder stand still for long enough."""
        for _ in range(2):
            await self.policies.poll()
            self.now += 0.5

    async def take(self) -> bool:
        """Follow the store; say whether what is published decides now."""
        swap = await self.policies.prepare(self.shelf.at)
        if swap is not None:
            swap()
        return swap is not None


def drive(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(steps)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A folder's policy, loaded."""
    found = House(tmp_path)
    found.file.write_text(GOOD + "# the folder's\n", encoding="utf-8")
    drive(found.stand())
    return found


def test_gone_back_to_a_broken_folder(house: House) -> None:
    """Where nothing is published any more and the folder is broken, what was published goes on; the folder decides as
    soon as it is mended."""

    async def steps() -> None:
        house.shelf.publish("one", GOOD + "# one\n")
        assert await house.take()
        house.file.write_text(BROKEN, encoding="utf-8")
        await house.stand()
        house.shelf.publish(None)
        refused = [await house.take() for _ in range(3)]
        assert house.decides(GOOD + "# one\n")
        assert (refused, house.policies.refusals) == ([False] * 3, 1)
        assert house.policies.problem is not None
        house.file.write_text(GOOD + "# mended\n", encoding="utf-8")
        await house.stand()
        assert await house.take()

    drive(steps())
    assert house.decides(GOOD + "# mended\n")
    assert (house.policies.problem, house.policies.origin, house.policies.at) == (None, None, house.shelf.at)


def test_gone_back_to_a_folder_that_changes(house: House) -> None:
    """A folder that has not stood still for half a second does not decide yet: it may be half copied."""

    async def steps() -> None:
        house.shelf.publish("one")
        assert await house.take()
        await house.stand()
        house.file.write_text(GOOD + "# half\n", encoding="utf-8")
        house.shelf.publish(None)
        soon = await house.take()
        house.file.write_text(GOOD + "# whole\n", encoding="utf-8")
        again = await house.take()
        house.now += 0.5
        assert (soon, again, await house.take()) == (False, False, True)

    drive(steps())
    assert house.decides(GOOD + "# whole\n")


def test_what_is_refused_is_read_once(house: House) -> None:
    """A published policy that cannot be taken is told of once, and read anew when somebody says to look again."""

    async def steps() -> None:
        house.shelf.publish("one", BROKEN)
        assert [await house.take() for _ in range(5)] == [False] * 5
        assert (house.shelf.reads, house.policies.refusals, len(house.reports)) == (1, 1, 1)
        house.policies.look_again()
        await house.take()

    drive(steps())
    assert house.shelf.reads == 2
    assert house.decides(GOOD + "# the folder's\n")


def test_what_decides_is_published_again(house: House) -> None:
    """After one that was refused the one that decides may be published again: nothing is wrong then."""

    async def steps() -> None:
        house.shelf.publish("one")
        await house.take()
        house.shelf.publish("two", BROKEN)
        await house.take()
        house.shelf.publish("one")
        assert await house.take()

    drive(steps())
    assert (house.shelf.reads, house.policies.problem) == (2, None)


def test_an_upload_reads_no_policy(house: House) -> None:
    """A revision that changes nothing of what decides costs no reading of it."""

    async def steps() -> None:
        for _ in range(3):
            house.shelf.publish("one")
            assert await house.take()

    drive(steps())
    assert (house.shelf.reads, house.policies.at) == (1, house.shelf.at)


def test_a_number_of_another_history(house: House) -> None:
    """A store that was put back may come to the same number with another policy: that one is taken."""

    async def steps() -> None:
        house.shelf.publish("one", GOOD + "# one\n")
        await house.policies.catch_up()
        house.shelf.at = NOWHERE
        house.shelf.publish("other", GOOD + "# other\n", head="another")
        await house.policies.catch_up()

    drive(steps())
    assert house.decides(GOOD + "# other\n")


def test_a_store_that_is_away_refuses_nothing(house: House) -> None:
    """Where the store does not answer nothing is refused for good."""

    async def steps() -> None:
        house.shelf.publish("one")
        house.shelf.is_away = True
        with pytest.raises(UnavailableError):
            await house.take()
        house.shelf.is_away = False
        assert await house.take()

    drive(steps())
    assert house.policies.problem is None


def test_a_folder_that_breaks_while_something_is_published(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a folder is nobody's business once something is published, also if it was being loaded."""
    own = Policies._load

    async def slow(policies: Policies, reading: Any) -> Any:
        if "published" not in reading.digest:
            house.shelf.publish("one")
            await house.take()
        return await own(policies, reading)

    async def steps() -> None:
        house.file.write_text(BROKEN, encoding="utf-8")
        monkeypatch.setattr(Policies, "_load", slow)
        await house.stand()

    drive(steps())
    assert (house.policies.origin, house.policies.problem) == ("one", None)


def test_who_waits_no_longer_leaves_the_work(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading goes on if whoever asked for it is gone, and the next who asks does not begin it anew."""
    own, begun = Policies._load, 0

    async def slow(policies: Policies, reading: Any) -> Any:
        nonlocal begun
        begun += 1
        started.set()
        await going_on.wait()
        return await own(policies, reading)

    async def steps() -> None:
        monkeypatch.setattr(Policies, "_load", slow)
        house.shelf.publish("one")
        first = asyncio.create_task(house.policies.catch_up())
        await started.wait()
        first.cancel()
        second = asyncio.create_task(house.policies.catch_up())
        await asyncio.sleep(0)
        going_on.set()
        await second

    started, going_on = asyncio.Event(), asyncio.Event()
    drive(steps())
    assert (begun, house.policies.at) == (1, house.shelf.at)


def test_a_process_that_cannot_have_it_does_not_start(tmp_path: Path) -> None:
    """Who begins with something published that he cannot load says so, and does not begin with his folder's."""
    house = House(tmp_path)
    house.file.write_text(GOOD, encoding="utf-8")

    async def steps() -> None:
        house.shelf.publish("one", BROKEN)
        await house.policies.catch_up()
        with pytest.raises(BylawError, match="what is published in the store is not loaded"):
            await house.policies.start()

    drive(steps())
