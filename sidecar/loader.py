"""Loading views that are not held: one snapshot, checked against what changed since, then kept.

    missing keys ──▶ second level ──▶ snapshot: load, look what is still missing, load ──▶ poll until that is applied
                                                                                      ──▶ keep what no change touched

Loads of one key that are wanted at one time are one flight; it ends after `FLIGHT_S`, with or without an answer. What a
flight brings in was read at a revision that is applied here and touched by no change since: a view from the past is
never kept.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

from engine.facts import IMPLICIT_TENANT, Grant
from sidecar.freshness import Freshness, Since, StaleError
from sidecar.histogram import Histogram
from sidecar.views import Cache, StreamViews
from store.answers import Loaded
from store.errors import StoreError
from store.facts import Held, Shelf
from store.streams import GLOBAL, NOWHERE, POLICIES, Position, stream_of, subject_key, tenant_key
from store.views import View, Views, Wanted

FLIGHT_S: Final = 1.0
#: Snapshots that are open at once; polls have connections of their own to take.
MAX_SNAPSHOTS: Final = 6
#: How often a load is tried where changes overtake it.
TRIES: Final = 3
#: How often a snapshot is asked for what the views before made visible: references, places.
DEPTH: Final = 8

#: Says what is still missing once these views are there.
More = Callable[[Shelf], Wanted]


class OpenSnapshot(Protocol):
    """One state of the facts, open for loads."""

    async def load(self, wanted: Wanted) -> Loaded: ...


class Snapshots(Protocol):
    """Where facts are loaded from."""

    def snapshot(self, tenant: str) -> AbstractAsyncContextManager[OpenSnapshot]: ...


class SecondLevel(Protocol):
    """Views that other processes loaded."""

    async def get(self, tenant: str, wanted: Wanted) -> Wanted: ...
    def put(self, tenant: str, loaded: Loaded) -> None: ...


@dataclass(slots=True)
class Gathered:
    """What one snapshot showed."""

    loaded: Loaded
    shared: Views
    own: Views
    placed: dict[tuple[str, str], tuple[Grant, ...]]

    def at(self, stream: str) -> Position:
        return self.loaded.at.get(stream, NOWHERE)


class Loader:
    """Loads for one process.

    Attributes:
        loads: snapshots that were read.
        took: what flights took, also those that came to nothing.
        span: told of who waits for a load, for as long as it takes; whoever traces puts his own here.
    """

    def __init__(
        self, snapshots: Snapshots, cache: Cache, freshness: Freshness, second: SecondLevel | None = None
    ) -> None:
        self._snapshots = snapshots
        self._cache = cache
        self._freshness = freshness
        self._second = second
        self._flights: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._open = asyncio.Semaphore(MAX_SNAPSHOTS)
        self.loads = 0
        self.took = Histogram()
        self.span: Callable[[str], AbstractContextManager[object]] = nullcontext

    async def load(self, tenant: str, wanted: Wanted, more: More) -> None:
        """Have views of a tenant, and of what all share, kept; those that changes overtake are left out.

        Raises:
            StaleError: the database does not answer in time.
        """
        flights = {flight for key in _keys(tenant, wanted) if (flight := self._flights.get(key)) is not None}
        rest = self._not_flying(tenant, wanted)
        if rest:
            flights.add(self._launch(tenant, rest, more))
        if not flights:
            return
        with self.span("load"):
            done, _ = await asyncio.wait(flights)
            for flight in done:
                if isinstance(error := flight.exception(), StoreError | TimeoutError):
                    raise StaleError from error
                if error is not None:
                    raise error

    def _not_flying(self, tenant: str, wanted: Wanted) -> Wanted:
        flights = self._flights
        return Wanted(
            {key for key in wanted.shared if ("", key) not in flights},
            {key for key in wanted.own if (tenant, key) not in flights},
            {pair for pair in wanted.placed if (tenant, _placed_key(pair)) not in flights},
        )

    def _launch(self, tenant: str, wanted: Wanted, more: More) -> asyncio.Task[None]:
        began = self._freshness.clock()
        flight = asyncio.create_task(self._fly(tenant, wanted, more))
        keys = _keys(tenant, wanted)
        self._flights.update(dict.fromkeys(keys, flight))
        flight.add_done_callback(lambda _: self._land(keys, flight, began))
        return flight

    def _land(self, keys: Iterable[tuple[str, str]], flight: asyncio.Task[None], began: float) -> None:
        self.took.add(self._freshness.clock() - began)
        for key in keys:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # seen here, should nobody wait any more

    async def _fly(self, tenant: str, wanted: Wanted, more: More) -> None:
        async with asyncio.timeout(FLIGHT_S):
            if self._second is not None and tenant_key(tenant) not in self._cache.shared.absent:
                if tenant:
                    await self._freshness.activate(tenant)
                wanted = await self._second.get(tenant, wanted)
            for _ in range(TRIES if wanted else 0):
                async with self._open:
                    since = self._freshness.since()
                    gathered = await gather(self._snapshots, tenant, wanted, more, self._cache)
                self.loads += 1
                if await self._keep(tenant, gathered, since):
                    if self._second is not None:
                        self._second.put(tenant, gathered.loaded)
                    return

    async def _keep(self, tenant: str, found: Gathered, since: Since) -> bool:
        """Keep what was found, as far as no change touched it; say whether all of it was kept."""
        await self._catch_up(tenant, found)
        if tenant and tenant not in self._cache.tenants and self._is_there(tenant, found):
            await self._take_into_use(tenant, found, since)
        # INVARIANT: no await from here on.
        if not self._is_applied(tenant, found):
            return False
        is_whole = self._cache.store(self._cache.shared, found.shared, found.at(GLOBAL).n)
        held = self._cache.tenants.get(tenant)
        if held is None:
            return is_whole and not self._is_there(tenant, found)
        own_n = found.at(stream_of(tenant)).n
        self._cache.store_placed(held, found.placed, own_n, subject_key)
        return self._cache.store(held, found.own, own_n) and is_whole

    async def _catch_up(self, tenant: str, found: Gathered) -> None:
        """Poll until what was read is applied here, and is of the history that is followed."""
        for _ in range(TRIES):
            if self._is_applied(tenant, found):
                return
            await self._freshness.poll()

    async def _take_into_use(self, tenant: str, found: Gathered, since: Since) -> None:
        """Take a tenant into use: where the load found it, if that may be; else by a poll."""
        shared = (found.loaded.moment.line, found.at(GLOBAL), found.at(POLICIES))
        is_apart = shared != (self._freshness.line, self._cache.shared.at, self._freshness.policies)
        if is_apart or not self._freshness.adopt(tenant, found.at(stream_of(tenant)), since):
            await self._freshness.activate(tenant)

    def _is_there(self, tenant: str, found: Gathered) -> bool:
        """Say whether there is such a tenant. The one of a policy without tenants is always there."""
        return stream_of(tenant) in found.loaded.at or tenant == IMPLICIT_TENANT

    def _is_applied(self, tenant: str, found: Gathered) -> bool:
        """Say whether what was read is of the history that is followed, and not ahead of what is applied.

        A number alone does not tell a history: of a database that was put back, it may be that of what was lost.
        """
        held = self._cache.tenants.get(tenant)
        return (
            found.loaded.moment.line == self._freshness.line
            and found.at(POLICIES).n <= self._freshness.policies.n
            and _has_passed(self._cache.shared, found.at(GLOBAL))
            and (held is None or _has_passed(held, found.at(stream_of(tenant))))
        )


def _has_passed(stream: StreamViews, at: Position) -> bool:
    """Say whether a stream was there: at this revision, with this head."""
    return stream.head_at(at.n) == at.head


async def gather(snapshots: Snapshots, tenant: str, wanted: Wanted, more: More, shelf: Shelf) -> Gathered:
    """Load in one snapshot, until nothing is missing.

    Args:
        more: says what is missing.
        shelf: what is held beside.
    """
    async with snapshots.snapshot(tenant) as snapshot:
        loaded = await snapshot.load(wanted)
        found = Gathered(loaded, loaded.shared, loaded.own, dict(loaded.placed))
        for _ in range(DEPTH):
            missing = more(_Overlay(tenant, found, shelf))
            if not missing:
                break
            next_found = await snapshot.load(missing)
            found.shared |= next_found.shared
            found.own |= next_found.own
            found.placed |= next_found.placed
    return found


class _Layer:
    """What was found of one stream, before what is held."""

    def __init__(self, found: Views, placed: Mapping[tuple[str, str], tuple[Grant, ...]], held: Held | None) -> None:
        known = {key: view for key, view in found.items() if view is not None}
        absent = {key: None for key, view in found.items() if view is None}
        self.views: Mapping[str, View | None] = ChainMap(known, held.views if held else {})  # type: ignore[arg-type]  # only read
        self.absent: Mapping[str, None] = ChainMap(absent, held.absent if held else {})  # type: ignore[arg-type]  # the same
        self.placed: Mapping[tuple[str, str], tuple[Grant, ...]] = ChainMap(placed, held.placed if held else {})  # type: ignore[arg-type]  # the same


class _Overlay:
    """A snapshot's views before those that are held: to see what is missing, never to decide on."""

    def __init__(self, tenant: str, found: Gathered, shelf: Shelf) -> None:
        self.shared = _Layer(found.shared, {}, shelf.shared)
        own = _Layer(found.own, found.placed, shelf.tenants.get(tenant))
        own_shelf: dict[str, Held] = {tenant: own} if tenant else {}
        self.tenants: Mapping[str, Held] = ChainMap(own_shelf, shelf.tenants)  # type: ignore[arg-type]  # only read


def _keys(tenant: str, wanted: Wanted) -> list[tuple[str, str]]:
    placed = [(tenant, _placed_key(pair)) for pair in wanted.placed]
    return [*(("", key) for key in wanted.shared), *((tenant, key) for key in wanted.own), *placed]


def _placed_key(pair: tuple[str, str]) -> str:
    return f"placed {pair[0]} {pair[1]}"
