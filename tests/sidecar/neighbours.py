"""A database in memory, what processes share in memory, and processes that follow the one and use the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from sidecar.freshness import Freshness
from sidecar.loader import Loader
from sidecar.second_level import HeadAt, Memory, SecondLevel, parse_cache_key
from sidecar.views import Cache, StreamViews
from store.answers import HISTORY, Change, Loaded, Moment, Polled
from store.errors import UnavailableError
from store.streams import GLOBAL, NOWHERE, POLICIES, Position, stream_of
from store.tokens import Line
from store.views import View, Views, Wanted

KEY = parse_cache_key("0123456789abcdef0123456789abcdef")
LINE = Line("a" * 32)
PATIENCE_S = 8.0

Slot = tuple[str, str]


class Base:
    """The database: streams that each write moves, and what was stored at each of their heads."""

    def __init__(self, line: Line = LINE, seed: int = 0) -> None:
        self.line = line
        self.changes: dict[str, list[Change]] = {GLOBAL: [], POLICIES: []}
        self.now: dict[str, dict[str, View]] = {GLOBAL: {}, POLICIES: {}}
        self.past: dict[str, dict[str, View]] = {"": {}}
        self.lost: list[list[Change]] = []
        self.polls = self.loads = 0
        self.is_down = False
        self._random = Random(seed)

    def write(self, tenant: str, key: str, view: View | None) -> None:
        """Change what stands under a key."""
        stream = stream_name(tenant)
        before = self.at(stream)
        head = hashlib.sha256(f"{before.head} {key} {self._random.random()}".encode()).hexdigest()
        self.changes.setdefault(stream, []).append(Change(before.n + 1, before.head, head, (key,)))
        stored = self.now.setdefault(stream, {})
        if view is None:
            stored.pop(key, None)
        else:
            stored[key] = view
        self.past[head] = dict(stored)

    def at(self, stream: str) -> Position:
        changes = self.changes.get(stream)
        return Position(changes[-1].n, changes[-1].head) if changes else NOWHERE

    def head_at(self, head: str, n: int) -> str | None:
        """Name the head that a history had at a revision, which it had before or at `head`."""
        line = {change.head: change for changes in self.ever() for change in changes}
        while head in line and line[head].n > n:
            head = line[head].before
        return head if (line[head].n if head in line else 0) == n else None

    def ever(self) -> list[list[Change]]:
        return [*self.changes.values(), *self.lost]

    def restore(self, kept: Mapping[str, int]) -> None:
        """Put the database back to where its streams were, without giving it another name."""
        self.lost += [list(changes) for changes in self.changes.values()]
        for stream, changes in self.changes.items():
            del changes[kept.get(stream, 0) :]
            self.now[stream] = dict(self.past[self.at(stream).head])

    async def poll(self, known: str) -> Polled:
        self.polls += 1
        if self.is_down:
            raise UnavailableError("gone")
        at, changes = {}, {}
        for stream, n, _ in json.loads(known):
            if stream in self.changes:
                at[stream] = self.at(stream)
                after = at[stream].n - HISTORY if n < 0 else n
                changes[stream] = [change for change in self.changes[stream] if change.n > after]
        return Polled(Moment(self.line), at, changes, {})

    @asynccontextmanager
    async def snapshot(self, tenant: str) -> AsyncIterator[Snapshot]:
        yield Snapshot(self, tenant)

    def read(self, tenant: str, wanted: Wanted) -> Loaded:
        self.loads += 1
        own = self.now.get(stream_of(tenant), {})
        streams = [GLOBAL, POLICIES, *([stream_of(tenant)] if stream_of(tenant) in self.changes else [])]
        return Loaded(
            Moment(self.line),
            {stream: self.at(stream) for stream in streams},
            {key: self.now[GLOBAL].get(key) for key in wanted.shared},
            {key: own.get(key) for key in wanted.own} if tenant else {},
        )


class Snapshot:
    """One state of the database; nobody writes while it is open."""

    def __init__(self, base: Base, tenant: str) -> None:
        self._base = base
        self._tenant = tenant

    async def load(self, wanted: Wanted) -> Loaded:
        return self._base.read(self._tenant, wanted)


class Slots:
    """The shared memory, as whoever may write there sees it.

    Attributes:
        ever: all that processes wrote, by key.
        gate: closed, writing takes for ever. takes: whether it succeeds.
    """

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.ever: dict[str, list[bytes]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.takes = True

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(0)
        return [self.held.get(key) for key in keys]

    async def put_many(self, entries: Mapping[str, bytes], ttl_s: int) -> bool:
        await self.gate.wait()
        if self.takes:
            self.held |= entries
            for key, raw in entries.items():
                self.ever.setdefault(key, []).append(raw)
        return self.takes


class Process:
    """One deciding process. Without `head_at` it knows all heads of the history that it follows."""

    def __init__(self, base: Base, memory: Memory, key: bytes = KEY, head_at: HeadAt | None = None) -> None:
        self.base = base
        self.cache = Cache()
        self.freshness = Freshness(
            base, self.cache, max_staleness_s=5, clock=lambda: 0.0, on_change=lambda tenants: None
        )
        known = head_at or (lambda stream, n: base.head_at(stream.at.head, n))
        self.second = SecondLevel(memory, self.cache, self.freshness, key, head_at=known)
        self.loader = Loader(base, self.cache, self.freshness, self.second)

    async def begin(self, *tenants: str) -> Process:
        await self.freshness.poll()
        for tenant in tenants:
            await self.freshness.activate(tenant)
        return self

    def put(self, tenant: str, wanted: Wanted) -> None:
        """Give what is stored now to the others."""
        self.second.put(tenant, self.base.read(tenant, wanted))

    async def written(self) -> None:
        """Wait until what was put is there."""
        if self.second._writing is not None:
            async with asyncio.timeout(PATIENCE_S):
                await self.second._writing

    async def get(self, tenant: str, *keys: str) -> bool:
        """Ask for own views; say whether all were taken."""
        async with asyncio.timeout(PATIENCE_S):
            return not await self.second.get(tenant, Wanted(own=set(keys)))

    def held(self, tenant: str) -> Views:
        return self.stream(tenant).views

    def stream(self, tenant: str) -> StreamViews:
        return self.cache.tenants[tenant] if tenant else self.cache.shared


def stream_name(tenant: str) -> str:
    return stream_of(tenant) if tenant else GLOBAL


def made(views: Mapping[Slot, View | None]) -> Base:
    """Make a database that holds views."""
    base = Base()
    for (tenant, key), view in views.items():
        base.write(tenant, key, view)
    return base


async def shared_by(base: Base, memory: Memory, *keys: str) -> None:
    """Have a process put what it loaded of acme."""
    first = await Process(base, memory).begin("acme")
    first.put("acme", Wanted(own=set(keys)))
    await first.written()
