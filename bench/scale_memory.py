"""What a process holds that has answered for 100,000 users, and how long it stands still when much of it goes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from secrets import token_hex
from time import perf_counter
from typing import Final

from bench.report import Goal
from bench.scale_questions import ask, policies
from bench.store_service import Decisions, Gaps, resident_mib
from bench.store_world import World
from store.changes import Writer
from store.database import Database
from store.writes import custom_roles, principals

PRINCIPALS: Final = 100_000
LANES: Final = 6
MOST_BYTES: Final = 4096


async def memory(url: str, admin_url: str, world: World) -> AsyncIterator[str]:
    """Answer one question for each of many users; then change what all tenants share, and drop everything."""
    count = min(PRINCIPALS, world.user_count)
    async with Decisions(url, policies(), is_following=False) as decisions:
        for line in [each async for each in _serve(decisions, world, count)]:
            yield line
        for line in [each async for each in _move(decisions, admin_url)]:
            yield line


async def _serve(decisions: Decisions, world: World, count: int) -> AsyncIterator[str]:
    chance, first = Random(5), world.user_count - min(world.user_count - 1, 500)
    for user in range(first, world.user_count):
        await decisions.insist(ask(world, user, chance))
    gc.collect()
    before_mib, began, collected = resident_mib(), perf_counter(), _Collections()
    async with Gaps() as gaps, collected:
        await _answer(decisions, world, count, chance)
    gc.collect()
    after_mib = resident_mib()
    grown = (after_mib - before_mib) * 2**20 / count
    yield f"{count:,} users with {world.roles} roles each, {perf_counter() - began:,.0f} s, {LANES} at a time"
    yield f"memory: {before_mib:.1f} MiB before, {after_mib:.1f} MiB after; held: {decisions.keeper.cache.counts()}"
    yield Goal("bytes per user", round(grown), MOST_BYTES, at_most=True).line()
    yield f"longest stop of the loop meanwhile: {gaps.longest_s * 1e3:,.0f} ms; {collected.said}"


async def _answer(decisions: Decisions, world: World, count: int, chance: Random) -> None:
    left = iter(range(count))

    async def lane() -> None:
        for user in left:
            await decisions.insist(ask(world, user, chance))
            if user % 5_000 == 0:  # well before facts are too old to answer from
                await decisions.keeper.freshness.poll()

    await asyncio.gather(*(lane() for _ in range(LANES)))


class _Collections:
    """Notes the longest pass of Python's own collector of garbage, which stops everything."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._total_s = 0.0
        self._began = 0.0

    async def __aenter__(self) -> None:
        gc.callbacks.append(self._note)

    async def __aexit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
            return
        taken_s = perf_counter() - self._began
        self._longest_s = max(self._longest_s, taken_s)
        self._total_s += taken_s

    @property
    def said(self) -> str:
        return f"collecting garbage: {self._longest_s * 1e3:,.0f} ms at most, {self._total_s:.1f} s in all"


# --- much goes at once --------------------------------------------------------------------------------


@asynccontextmanager
async def writing(admin_url: str) -> AsyncIterator[Writer]:
    """Open the store as the admin service does."""
    database = Database(admin_url)
    try:
        yield Writer(database)
    finally:
        await database.close()


async def _move(decisions: Decisions, admin_url: str) -> AsyncIterator[str]:
    async with writing(admin_url) as writer:
        yield await _stop("a user changes", decisions, lambda: _change_user(writer))
        yield await _stop("a tenant's roles change", decisions, lambda: _change_roles(writer))
    cache = decisions.keeper.cache
    async with Gaps() as gaps:
        cache.begin_anew(cache.shared.at, cache.shared.at.n)
    yield f"all views are dropped: the loop stops for {gaps.longest_s * 1e3:,.0f} ms"


async def _stop(name: str, decisions: Decisions, change: Callable[[], Awaitable[None]]) -> str:
    """Change something, poll, and say how long the loop stood still."""
    await change()
    async with Gaps() as gaps:
        await decisions.keeper.freshness.poll()
    return f"{name}: the loop stops for {gaps.longest_s * 1e3:,.0f} ms"


async def _change_user(writer: Writer) -> None:
    async with writer.write(shared=True) as write:
        await principals.set_attributes(write, "user:u0", {"clearance": 1, "department": "bookings"})


async def _change_roles(writer: Writer) -> None:
    async with writer.write(tenant="t0") as write:
        await custom_roles.make(write, f"bench_{token_hex(8)}", "organization", ["task.read"])
