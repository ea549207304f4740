"""Redis gone, wedged, emptied or rolled back: nothing rests on it, and all that is lost is time."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from store.redis_port import Redis as Port
from tests.databases import Redis, StoreUrls, run, sqlite_urls
from tests.freshness.services import (
    Pen,
    Sidecar,
    deafness,
    furnish,
    grant,
    house,
    revoke,
    sidecar,
    suspend,
    until,
)

pytestmark = pytest.mark.slow

KEY = "k" * 32
SLACK_S = 0.5


@pytest.fixture(params=("killed", "frozen"))
def outage(request: pytest.FixtureRequest, redis: Redis) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Each way in which Redis can be gone, and how it comes back."""
    yield (redis.kill, redis.start) if request.param == "killed" else (redis.freeze, redis.thaw)
    redis.thaw()


@contextmanager
def hinting(urls: StoreUrls, redis: Redis) -> Iterator[Pen]:
    """Open a furnished store for somebody who hints through Redis."""
    port = Port(redis.url)
    with house(urls, hint=port.publish) as pen:
        yield pen
        pen.run(port.close())


def second_level(urls: StoreUrls, redis: Redis) -> AbstractContextManager[Sidecar]:
    """Run a service that shares views, and seldom polls by itself."""
    return sidecar(urls.sidecar, max_staleness_s=60, redis_url=redis.url, cache_key=KEY)


def test_redis_gone(store_urls: StoreUrls, redis: Redis, outage: tuple[Callable[[], None], Callable[[], None]]) -> None:
    """Without Redis a write is applied by the next poll, what is held and what is not is answered as quickly as ever,
    and `/ready` is 200, degraded; once it is back hints hurry again."""
    begin, end = outage
    with (
        hinting(store_urls, redis) as pen,
        deafness(),
        sidecar(store_urls.sidecar, max_staleness_s=2, redis_url=redis.url, cache_key=KEY) as asked,
    ):
        until(lambda: asked.ready() == (200, "ready"))
        assert asked.word() == "allow"

        begin()
        until(lambda: asked.ready() == (200, "degraded"))
        cold = asked.ask("user:bob")
        pen.write(revoke())
        took_s = until(lambda: asked.word() == "default")
        token = pen.write(grant())
        reached = asked.since(token)
        end()
        until(lambda: asked.ready() == (200, "ready"))

        assert (cold.word, reached) == ("allow", "allow")
        assert cold.took_s < SLACK_S
        assert took_s < 2 / 4 + SLACK_S


def test_hints_over_redis_alone(store_urls: StoreUrls, redis: Redis) -> None:
    """Where the database hints at nothing Redis does, and again after it was started anew."""
    with (
        hinting(store_urls, redis) as pen,
        deafness(),
        sidecar(store_urls.sidecar, max_staleness_s=60, redis_url=redis.url) as asked,
    ):
        until(lambda: asked.ready() == (200, "ready"))
        assert asked.word() == "allow"

        pen.write(revoke())
        first_s = until(lambda: asked.word() == "default")
        redis.restart()
        pen.write(grant())  # its hint may be lost
        second_s = until(lambda: asked.word() == "allow")

        assert first_s < SLACK_S
        assert second_s < 4


def test_read_your_writes_through_the_second_level(store_urls: StoreUrls, redis: Redis) -> None:
    """Two sidecars that hold next to nothing themselves, and so take nearly all from what the other put into Redis,
    answer from each write on."""
    dice = random.Random(3)
    held = {"ann": True, "cat": False}
    with (
        house(store_urls) as pen,
        deafness(),
        second_level(store_urls, redis) as one,
        second_level(store_urls, redis) as other,
    ):
        for each in (one, other):
            each.keeper.cache.max_views = 2
        for _ in range(25):
            who = dice.choice(sorted(held))
            token = pen.write((revoke if held[who] else grant)(f"user:{who}"))
            held[who] = not held[who]
            for each in (one, other):
                heard = {name: each.since(token, who=f"user:{name}") == "allow" for name in held}

                assert heard == held

        assert min(_hits(one), _hits(other)) > 0


def _hits(asked: Sidecar) -> int:
    assert asked.keeper.second is not None
    return asked.keeper.second.hits


async def entries(redis: Redis) -> dict[str, bytes]:
    """Read all that stands in Redis."""
    port = Port(redis.url)
    names = [str(name, "ascii") for name in await port._client.keys("bylaw:*") if isinstance(name, bytes)]
    found = await port.get_many(names)
    await port.close()
    return {name: value for name, value in zip(names, found, strict=True) if value is not None}


async def put(redis: Redis, values: dict[str, bytes]) -> None:
    """Write entries over those that stand in Redis."""
    port = Port(redis.url)
    assert await port.put_many(values, 60)
    await port.close()


def test_a_redis_that_was_rolled_back(store_urls: StoreUrls, redis: Redis) -> None:
    """Entries from before later writes come back to Redis, as from a backup: nobody takes them, who was there nor who
    starts then."""
    with house(store_urls) as pen, second_level(store_urls, redis) as one:
        before = one.word("user:ann"), one.word("user:bob")
        until(lambda: len(run(entries(redis))) > 3)
        old = run(entries(redis))
        pen.write(suspend("user:bob"), tenant=None)
        token = pen.write(revoke("user:ann"))
        told = one.since(token), one.since(token, who="user:bob")

        run(put(redis, old))
        with second_level(store_urls, redis) as other:
            of_other = other.word("user:ann"), other.word("user:bob")
            one.keeper.cache.max_views = 2
            of_one = one.since(token), one.since(token, who="user:bob")

            assert before == ("allow", "allow")
            assert told == of_one == of_other == ("default", "principal_inactive")


def test_entries_of_a_lost_history(sqlite_template: Path, tmp_path: Path, redis: Redis) -> None:
    """After a restore nobody takes from Redis what was written of the history that is lost, though its numbers are
    reached again."""
    path, kept = tmp_path / "bylaw.db", tmp_path / "kept.db"
    shutil.copy(sqlite_template, path)
    urls = sqlite_urls(path)
    with Pen(urls.admin) as pen:
        furnish(pen)
    _pour(path, kept)
    with deafness(), second_level(urls, redis) as one:
        with Pen(urls.admin) as pen:
            token = pen.write(revoke("user:ann"), grant("user:cat"))
        lost = one.since(token), one.since(token, who="user:cat")
        until(lambda: len(run(entries(redis))) > 3)

        _pour(kept, path)
        with Pen(urls.admin) as pen:
            pen.write(grant("user:bob", "project.editor", "project:p2"))
        one.poll()
        with second_level(urls, redis) as other:
            said = [(each.word("user:ann"), each.word("user:cat")) for each in (other, one)]

        assert lost == ("default", "allow")
        assert said == [("allow", "default")] * 2


def _pour(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
