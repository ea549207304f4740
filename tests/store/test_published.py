"""What is published, read by revision; and that nobody publishes while a write rests on what was published before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine import Policy
from engine.source import Source
from store.changes import Write, Writer
from store.database import Database
from store.errors import UnavailableError
from store.published import Published, position, publication_at
from store.streams import NOWHERE, Position
from store.writes import policies, principals
from tests.databases import StoreUrls

SOURCE = Source("a.bylaw", "resource doc { actions read }\n")


def in_store(url: str, story: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())


async def keep(write: Write) -> str:
    return await policies.upload(write, [SOURCE], None, digest=Policy.of((SOURCE,)).digest)


async def publish(database: Database, policy: str | None = None) -> Position:
    """Publish a policy, or none; return where stream p is then."""
    async with Writer(database).write(publishing=True) as write:
        now = await publication_at(write.connection)
        await policies.publish(write, policy, after=now.n)
    return await Published(database).newest()


async def upload(database: Database) -> tuple[str, Position]:
    async with Writer(database).write(publishing=True) as write:
        made = await keep(write)
    return made, await Published(database).newest()


def test_each_revision_has_its_policy(store_urls: StoreUrls) -> None:
    """What decides at a revision is what was published last by then, whatever was published since."""

    async def story(database: Database) -> None:
        first, uploaded = await upload(database)
        published = await publish(database, first)
        second, between = await upload(database)
        withdrawn = await publish(database, None)
        await publish(database, second)

        read = Published(database)
        found = [await read.decides(each) for each in (NOWHERE, uploaded, published, between, withdrawn)]
        kept = await read.read(first)

        assert found == [None, None, first, first, None]
        assert kept is not None
        assert kept.sources == (SOURCE,)

    in_store(store_urls.admin, story)


def test_a_number_tells_no_history(store_urls: StoreUrls) -> None:
    """A revision of a history that was lost has no policy here, though there is one of the same number."""

    async def story(database: Database) -> None:
        policy, before = await upload(database)
        last = await publish(database, policy)

        for lost in (Position(last.n, "lost"), Position(before.n, "lost"), Position(last.n + 1, "lost")):
            with pytest.raises(UnavailableError):
                await Published(database).decides(lost)

    in_store(store_urls.admin, story)


def test_nobody_publishes_in_the_middle_of_a_write(store_urls: StoreUrls) -> None:
    """Who publishes waits for writes that rest on what was published before."""

    async def story(database: Database) -> None:
        policy, _ = await upload(database)
        async with Writer(database).write() as write:
            await principals.make(write, "user:ann")
            before = await position(write.connection, is_held=True)
            publishing = asyncio.create_task(publish(database, policy))
            done, _ = await asyncio.wait({publishing}, timeout=0.3)
            during = await position(write.connection)
        after = await publishing

        assert done == set()
        assert before == during
        assert after.n == before.n + 1

    in_store(store_urls.admin, story)
