"""Polls of a process that has many tenants in use: how long they take, and how long nothing else happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from random import Random
from time import perf_counter
from typing import Final

from bench.quantiles import Times, table
from bench.scale_memory import writing
from bench.scale_questions import ask, policies
from bench.store_service import Decisions, Gaps
from bench.store_world import World
from store.changes import Writer
from store.writes import memberships

TENANTS: Final = 10_000
CHANGES: Final = 1_000
POLLS: Final = 20
ROUNDS: Final = 5
LANES: Final = 6
_CHANGED: Final = {
    f"{CHANGES:,} changes in as many tenants": range(CHANGES),
    f"{CHANGES:,} changes in one tenant": [0] * CHANGES,
}


async def polls(url: str, admin_url: str, world: World) -> AsyncIterator[str]:
    """Take tenants into use by a check in each, then poll: idle, after changes in many tenants, and in one."""
    async with Decisions(url, policies(), is_following=False) as decisions, writing(admin_url) as writer:
        await _use(decisions, world, min(TENANTS, world.tenants))
        polled = _Polled(decisions)
        for _ in range(POLLS):
            await polled.poll("idle")
        for round_ in range(ROUNDS):
            for name, tenants in _CHANGED.items():
                await _change(writer, world, [tenant % world.tenants for tenant in tenants], round_)
                await polled.poll(name)
                await _use(decisions, world, min(TENANTS, world.tenants))
        yield f"tenants in use: {len(decisions.keeper.cache.tenants):,}; held: {decisions.keeper.cache.counts()}"
        for line in ("", *table(polled.times.values()), "", *table(polled.stops.values())):
            yield line


class _Polled:
    """Polls, and the longest stop of the loop in each."""

    def __init__(self, decisions: Decisions) -> None:
        self.times: dict[str, Times] = {}
        self.stops: dict[str, Times] = {}
        self._decisions = decisions

    async def poll(self, name: str) -> None:
        async with Gaps() as gaps:
            began = perf_counter()
            await self._decisions.keeper.freshness.poll()
            taken_s = perf_counter() - began
        self.times.setdefault(name, Times(f"poll, {name}")).seconds.append(taken_s)
        self.stops.setdefault(name, Times(f"the loop stops, {name}")).seconds.append(gaps.longest_s)


async def _use(decisions: Decisions, world: World, count: int) -> None:
    """Have a check in each tenant that is not in use."""
    await decisions.keeper.freshness.poll()
    used = decisions.keeper.cache.tenants
    left = iter([number for number in range(count) if f"t{number}" not in used])
    chance = Random(11)

    async def lane() -> None:
        for tenant in left:
            await decisions.insist(ask(world, world.users_of(tenant)[1], chance))
            if tenant % 2_000 == 0:
                await decisions.keeper.freshness.poll()

    await asyncio.gather(*(lane() for _ in range(LANES)))


async def _change(writer: Writer, world: World, tenants: Iterable[int], round_: int) -> None:
    """Change one thing in each of these tenants."""
    for number, tenant in enumerate(tenants):
        users = world.users_of(tenant)
        async with writer.write(tenant=f"t{tenant}") as write:
            await memberships.put(write, f"user:u{users[(number + round_) % world.users]}")
