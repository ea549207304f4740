"""Receipts: who is waited for, for how long, and who is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import select, update

from store.answers import UNKNOWN, known_text
from store.changes import Writer
from store.database import Database
from store.reading import Reader
from store.settling import SILENT_NS, Receipts, Settled
from store.tables import sidecars
from store.writes import principals
from tests.databases import StoreUrls

BOUND_S = 10.0


@dataclass
class House:
    """A store with two processes that decide, and who writes; time goes on as `pass_s` says."""

    database: Database
    now: float = 100.0
    ahead_ns: int = 0
    people: int = 0
    readers: dict[str, Reader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writer = Writer(self.database, clock=lambda: time.time_ns() + self.ahead_ns)
        self.receipts = Receipts(self.database, clock=self.clock)

    def clock(self) -> float:
        return self.now

    async def join(self, name: str) -> None:
        self.readers[name] = Reader(self.database, name)
        await self.readers[name].register(int(BOUND_S * 1000))

    async def write(self) -> str:
        self.people += 1
        async with self.writer.write() as write:
            await principals.make(write, f"user:p{self.people}")
            return write.want_receipt()

    async def acknowledge(self, name: str) -> bool:
        """Poll, and acknowledge what is waited for; say whether the process may."""
        polled = await self.readers[name].poll(known_text({"g": UNKNOWN}))
        if polled.is_registered:
            await self.readers[name].acknowledge(polled.waiting)
        return polled.is_registered

    async def look(self, receipt: str) -> Settled:
        return await self.receipts.settled(receipt, timeout_s=0)

    async def known(self) -> set[str]:
        async with self.database.reading() as connection:
            return set((await connection.execute(select(sidecars.c.id))).scalars())


def in_house(url: str, story: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        house = House(Database(url))
        try:
            for name in ("one", "two"):
                await house.join(name)
            await story(house)
        finally:
            await house.database.close()

    asyncio.run(run())


def test_all_have_acknowledged(store_urls: StoreUrls) -> None:
    """A write is settled by acks once every process that is registered has given its own, and not before."""

    async def story(house: House) -> None:
        receipt = await house.write()

        found = [await house.look(receipt)]
        for name in ("one", "two"):
            await house.acknowledge(name)
            found.append(await house.look(receipt))

        assert found == [Settled(None, 2), Settled(None, 1), Settled("acks", 0)]

    in_house(store_urls.admin, story)


def test_the_bound_is_over(store_urls: StoreUrls) -> None:
    """It is settled by the bound as soon as who waits has waited for longer than it, whatever the clock on the wall
    says."""

    async def story(house: House) -> None:
        receipt = await house.write()
        await house.acknowledge("one")

        found = [await house.look(receipt)]
        house.ahead_ns = 365 * 86400 * 10**9
        house.now += BOUND_S
        found.append(await house.look(receipt))
        house.now += 0.001
        found.append(await house.look(receipt))

        assert found == [Settled(None, 1), Settled(None, 1), Settled("bound", 1)]

    in_house(store_urls.admin, story)


def test_time_alone_settles_no_publication(store_urls: StoreUrls) -> None:
    """A process may refuse what is published and go on with the policy before: a write of stream p is settled once
    each has acknowledged, or has been given up for longer than its bound."""

    async def story(house: House) -> None:
        async with house.writer.write(publishing=True) as write:
            receipt = write.want_receipt()
        await house.acknowledge("one")
        found = [await house.look(receipt)]
        house.now += 10 * BOUND_S
        found.append(await house.look(receipt))

        house.ahead_ns = SILENT_NS + 10**9
        await house.write()  # gives up who was silent
        found.append(await house.look(receipt))
        house.now += BOUND_S + 1
        found.append(await house.look(receipt))

        assert found == [Settled(None, 1)] * 3 + [Settled("bound", 1)]
        assert "two" not in await house.known()

    in_house(store_urls.admin, story)


def test_one_that_was_silent(store_urls: StoreUrls) -> None:
    """A process that was not seen for long is told so by its next poll, is waited for until its bound is over, and is
    forgotten then."""

    async def story(house: House) -> None:
        house.ahead_ns = SILENT_NS + 10**9
        receipt = await house.write()
        may = await house.acknowledge("one")

        soon = await house.look(receipt)
        before = await house.known()
        house.now += BOUND_S + 1
        late = await house.look(receipt)
        after = await house.known()
        house.ahead_ns = 0
        next_one = await house.look(await house.write())

        assert not may
        assert (soon, late, next_one) == (Settled(None, 2), Settled("bound", 2), Settled("acks", 0))
        assert (before, after) == ({"one", "two"}, set())

    in_house(store_urls.admin, story)


def test_one_that_was_silent_and_lives(store_urls: StoreUrls) -> None:
    """One that was given up by mistake registers anew, and is neither forgotten nor left out then."""

    async def story(house: House) -> None:
        house.ahead_ns = SILENT_NS + 10**9
        receipt = await house.write()
        first = await house.look(receipt)
        house.ahead_ns = 0
        for name in ("one", "two"):
            await house.join(name)

        house.now += BOUND_S + 1
        late = await house.look(receipt)
        mays = [await house.acknowledge(name) for name in ("one", "two")]

        assert (first, late, mays) == (Settled(None, 2), Settled("bound", 2), [True, True])
        assert await house.known() == {"one", "two"}

    in_house(store_urls.admin, story)


def test_one_that_is_given_up_while_somebody_waits(store_urls: StoreUrls) -> None:
    """One that is given up only after the wait began may answer from before for longer than the wait: it stays until
    somebody has waited for it in full."""

    async def story(house: House) -> None:
        receipt = await house.write()
        first = await house.look(receipt)
        house.now += BOUND_S + 1
        async with house.database.changing() as connection:
            await connection.execute(update(sidecars).values(seen=""))

        late = await house.look(receipt)

        assert (first, late) == (Settled(None, 2), Settled("bound", 2))
        assert await house.known() == {"one", "two"}

    in_house(store_urls.admin, story)
