"""Cold and warm checks over a large world: statements, times, and the user who holds a million roles."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from random import Random
from time import perf_counter
from typing import Final

from bench.quantiles import Times, table
from bench.report import Goal
from bench.scale_questions import again, ask, expected, policies
from bench.store_service import Decisions, Statements, is_allowed, resident_mib
from bench.store_world import BIG, WHALE, World
from engine import Request
from sidecar.freshness import StaleError

SAMPLE: Final = 2_000
WARM_UP: Final = 200
MOST_STATEMENTS: Final = 4


class WrongAnswerError(AssertionError):
    """An answer over the store is not the one of the engine over the same facts in memory."""


async def checks(url: str, world: World) -> AsyncIterator[str]:
    """Check for users picked by chance, in tenants picked by chance: one after the other, then 16 at a time."""
    await _compare(url, world)
    lanes: list[Times] = []
    for lane_count in (1, 16):
        async with Decisions(url, policies()) as decisions:
            asked = _Asked(world, Random(lane_count))
            counted = _Counted(decisions)
            await counted.run("", asked.warm_up(), max(8, lane_count))  # connections, and the plans of statements
            for name, questions in asked.lists():
                counts, times = await counted.run(f"{name}, {lane_count} at a time", questions, lane_count)
                lanes.append(times)
                yield _distribution(times.name, counts)
                yield _goal(times.name, counts)
            polls = decisions.keeper.freshness.epoch
            yield f"{counted.stale} answers were `stale`, {lane_count} at a time; {polls} polls"
    for line in ("", *table(lanes)):
        yield line


class _Asked:
    """Questions by how much of what they take is held: of nothing, of the tenant, of all."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world = world
        self._chance = chance
        picked = chance.sample(range(world.tenants), min(world.tenants, SAMPLE + WARM_UP))
        self._first = min(WARM_UP, len(picked) // 2)
        self._tenants = picked

    def warm_up(self) -> list[Request]:
        return [self._ask(tenant, 0) for tenant in self._tenants[: self._first]]

    def lists(self) -> Iterator[tuple[str, list[Request]]]:
        tenants = self._tenants[self._first :]
        first, second = ([self._ask(tenant, place) for tenant in tenants] for place in (0, 1))
        yield "cold tenant", first
        yield "cold user, warm tenant", second
        yield "warm", [again(question) for question in (*first, *second)]

    def _ask(self, tenant: int, place: int) -> Request:
        """Ask for one user of the first half of a tenant's users, or of the second."""
        half = self._world.users // 2
        users = self._world.users_of(tenant)
        return ask(self._world, users[place * half + self._chance.randrange(max(1, half))], self._chance)


class _Counted:
    """Checks, and counts the statements and the time of each."""

    def __init__(self, decisions: Decisions) -> None:
        self.stale = 0
        self._decisions = decisions
        self._statements = Statements(decisions.keeper.database)

    async def run(self, name: str, questions: Sequence[Request], lanes: int) -> tuple[Counter[tuple[str, ...]], Times]:
        """Ask all questions, so many at a time."""
        counts, times, left = Counter[tuple[str, ...]](), Times(name), iter(questions)

        async def lane() -> None:
            for question in left:
                with self._statements.noted() as noted:
                    began = perf_counter()
                    await self._check(question)
                    times.seconds.append(perf_counter() - began)
                counts[tuple(noted)] += 1

        await asyncio.gather(*(lane() for _ in range(lanes)))
        return counts, times

    async def _check(self, question: Request) -> None:
        try:
            await self._decisions.check(question)
        except StaleError:
            self.stale += 1


def _distribution(name: str, counts: Counter[tuple[str, ...]]) -> str:
    by_number = Counter[int]()
    for statements, count in counts.items():
        by_number[len(statements)] += count
    said = ", ".join(f"{number} in {count:,}" for number, count in sorted(by_number.items()))
    return f"{name}: statements {said} (most often: {' + '.join(counts.most_common(1)[0][0]) or 'none'})"


def _goal(name: str, counts: Counter[tuple[str, ...]]) -> str:
    bound = 0 if name.startswith("warm") else MOST_STATEMENTS
    return Goal(f"statements, {name}, at most", max(map(len, counts)), bound, at_most=True).line()


async def _compare(url: str, world: World) -> None:
    """Ask of a few tenants what the engine answers over the same facts in memory.

    Raises:
        WrongAnswerError: one answer differs.
    """
    chance = Random(7)
    async with Decisions(url, policies()) as decisions:
        for tenant in chance.sample(range(world.tenants), min(5, world.tenants)):
            users = world.users_of(tenant)
            questions = [ask(world, users[chance.randrange(world.users)], chance) for _ in range(40)]
            for question, right in zip(questions, expected(world, tenant, questions), strict=True):
                answered = await decisions.check(question)
                if is_allowed(answered) is not right:
                    raise WrongAnswerError(f"{question} is answered by {answered}")


# --- who holds a million roles ------------------------------------------------------------------------


async def whale(url: str, world: World) -> AsyncIterator[str]:
    """Check for the user who holds more roles than are ever listed, on places picked by chance."""
    if not world.whale:
        yield "the world has no whale: python -m bench.generate --whale N"
        return
    chance = Random(3)
    async with Decisions(url, policies()) as decisions:
        counted, cache = _Counted(decisions), decisions.keeper.cache
        await counted.run("", [ask(world, chance.randrange(world.user_count), chance) for _ in range(WARM_UP)], 8)
        before_mib, cold = resident_mib(), Times("nothing of him held")
        for number in _places(world, chance, 100):
            cache.leave(BIG)
            _, times = await counted.run("", [_of_whale(number)], 1)
            cold.seconds += times.seconds
        counts, other = await counted.run("another place", list(map(_of_whale, _places(world, chance, 500))), 1)
        _, warm = await counted.run("warm", [_of_whale(1) for _ in range(5_000)], 1)
        yield f"the user holds {world.whale:,} roles in one tenant"
        yield _distribution("another place", counts)
        yield _goal("another place", counts)
        yield f"{counted.stale} answers were `stale`"
        yield f"memory: {before_mib:.1f} MiB before, {resident_mib():.1f} MiB after; held: {cache.counts()}"
        for line in ("", *table([cold, other, warm])):
            yield line


def _places(world: World, chance: Random, count: int) -> Iterator[int]:
    return islice((chance.randrange(world.whale) for _ in iter(int, 1)), count)


def _of_whale(number: int) -> Request:
    return Request(tenant=BIG, subject=f"user:{WHALE}", action="project.read", resource=f"project:b{number}")
