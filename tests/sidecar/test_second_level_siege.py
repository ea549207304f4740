"""The invariant of the second level: who may do anything to entries, and does not know the key, changes no fact."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from sidecar.second_level import HeadAt
from sidecar.views import StreamViews
from store.tokens import Line
from store.views import GroupView, Wanted
from tests.databases import run
from tests.sidecar.neighbours import Base, Process, Slots

ANN, BOB, STAFF = "principal:user:ann", "principal:user:bob", "group:staff"


class Adversary:
    """May do with entries what he likes, and does not know the key."""

    def __init__(self, memory: Slots, random: Random) -> None:
        self._memory = memory
        self._random = random

    def act(self) -> None:
        if self._memory.ever:
            self._random.choice([self._replay, self._replay, self._swap, self._remove, self._tamper])()

    def _any(self) -> bytes:
        return self._random.choice(self._memory.ever[self._key()])

    def _key(self) -> str:
        return self._random.choice(list(self._memory.ever))

    def _replay(self) -> None:
        key = self._key()
        self._memory.held[key] = self._random.choice(self._memory.ever[key])

    def _swap(self) -> None:
        self._memory.held[self._key()] = self._any()

    def _remove(self) -> None:
        self._memory.held.pop(self._key(), None)

    def _tamper(self) -> None:
        raw = bytearray(self._any())
        raw[self._random.randrange(len(raw))] ^= 1 << self._random.randrange(8)
        self._memory.held[self._key()] = bytes(raw)


class Siege:
    """A database that is written to and put back, processes that follow it, an adversary in between."""

    TENANTS = ("", "acme", "globex")
    KEYS = (ANN, BOB, STAFF)

    def __init__(self, seed: int, head_at: HeadAt | None) -> None:
        self.random = Random(seed)
        self.base, self.memory = Base(seed=seed), Slots()
        self.head_at = head_at
        self.processes: list[Process] = []
        self.hits = 0
        for tenant in self.TENANTS:
            self._write(tenant)

    async def run(self) -> None:
        adversary = Adversary(self.memory, self.random)
        for _ in range(60):
            match self.random.randrange(12):
                case 0 | 1 | 2:
                    self._write(self.random.choice(self.TENANTS))
                case 3:
                    self.processes.append(await Process(self.base, self.memory, head_at=self.head_at).begin())
                case 4:
                    if self.random.random() < 0.3:
                        self._restore()
                case 5:
                    await asyncio.gather(*(process.freshness.poll() for process in self.processes))
                case 6 | 7 | 8:
                    adversary.act()
                case _ if self.processes:
                    await self._load(self.random.choice(self.processes))
                case _:
                    pass

    def _write(self, tenant: str) -> None:
        view = GroupView(f'{{"mark": {self.random.random()}}}')
        self.base.write(tenant, self.random.choice(self.KEYS), self.random.choice([view, view, None]))

    def _restore(self) -> None:
        self.base.restore(
            {stream: self.random.randint(1, at) for stream in self.base.changes if (at := self._n(stream))}
        )
        if self.random.random() < 0.3:  # as it ought to be done
            self.base.line = Line(f"{self.random.getrandbits(128):032x}")

    def _n(self, stream: str) -> int:
        return self.base.at(stream).n

    async def _load(self, process: Process) -> None:
        """Take from the second level what it has, load the rest after a poll, as a process does, and look."""
        tenant = self.random.choice(self.TENANTS)
        if tenant:
            await process.freshness.activate(tenant)
        keys = {key for key in self.KEYS if self.random.random() < 0.7}
        wanted = Wanted(own=keys) if tenant else Wanted(shared=keys)
        rest = await process.second.get(tenant, wanted)
        self.look(process)
        if rest:
            await process.freshness.poll()
            if tenant:
                await process.freshness.activate(tenant)
            process.put(tenant, rest)
            await process.written()

    def look(self, process: Process) -> None:
        """What came out of Redis is what the database said at the revision that is applied."""
        for tenant in process.cache.tenants.keys() | {""}:
            stored = self.base.past[process.stream(tenant).at.head]
            held = process.held(tenant)
            assert held == {key: stored.get(key) for key in held}
            self.hits += len(held)


@pytest.mark.property
@pytest.mark.parametrize("head_at", [None, StreamViews.head_at], ids=["all heads", "some heads"])
@pytest.mark.parametrize("seed", range(40))
def test_no_entry_changes_a_fact(seed: int, head_at: HeadAt | None) -> None:
    """Whoever writes, deletes, replays, swaps and rolls back entries without the key never makes a process hold what
    the database did not say."""
    siege = Siege(seed, head_at)

    run(siege.run())


@pytest.mark.property
def test_the_siege_is_no_idle_one() -> None:
    """Entries are taken in the test above, and old ones, misplaced ones, forged ones and lost ones are offered."""
    refused: set[str] = set()
    hits = 0

    for seed in range(40):
        siege = Siege(seed, None)
        run(siege.run())
        hits += siege.hits
        refused |= {reason for process in siege.processes for reason in process.second.refused}

    assert hits > 100
    assert refused >= {"mac", "place", "line", "old", "history"}
