"""Receipts: knowing that no process answers from before a write any more.

A write that asks for one leaves a row with the revisions that it made; each process that decides acknowledges it once
it has applied them. Who waits is told by `acks` when all registered processes have; by `bound` when the longest time
that any of them may go on without a poll is over: whoever has not applied the write by then answers `stale`.

A policy that is published may be one that a process refuses; it goes on with the one before, for as long as it was
never too old for an answer. Of a write of stream p time alone tells nothing, therefore: each process must have
acknowledged, or have been given up for as long as it may go on without a poll.

INVARIANT: a process registers before its first poll, and a poll tells it whether it is still registered; so whoever
holds facts from before the write is among those that are waited for.

A process that was not seen for long is given up: it is told so by its next poll, which it does not apply, but is waited
for all the same. Only who has waited as long as it may go on without a poll removes it. So no clock on a wall decides
whether a receipt is true, only how soon a process that died is forgotten.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.database import Database
from store.streams import POLICIES
from store.tables import GIVEN_UP, settle, settle_acks, sidecars
from store.times import write_time

#: Between two looks at who has acknowledged.
LOOK_S: Final = 0.01
HOUR_NS: Final = 3600 * 1_000_000_000
#: A process that has not been seen for so long is given up. If it lives, it registers anew.
SILENT_NS: Final = 120 * 1_000_000_000
#: Receipts whose waiting is remembered.
MAX_WAITING: Final = 10_000

By = Literal["acks", "bound"]


@dataclass(frozen=True, slots=True)
class Settled:
    """How far a receipt is.

    Attributes:
        by: why it is settled; None: it is not, yet.
        missing: how many processes have not acknowledged.
    """

    by: By | None
    missing: int

    @property
    def is_settled(self) -> bool:
        return self.by is not None


async def ask(connection: AsyncConnection, receipt: str, token: str, streams: Mapping[str, int], now: int) -> None:
    """Ask for a receipt, within the write itself.

    Args:
        streams: the revisions that it makes.
        now: nanoseconds since 1970.
    """
    await connection.execute(delete(settle).where(settle.c.at < write_time(now - HOUR_NS)))
    is_silent = (sidecars.c.seen < write_time(now - SILENT_NS)) & (sidecars.c.seen != GIVEN_UP)
    await connection.execute(update(sidecars).where(is_silent).values(seen=GIVEN_UP))
    await connection.execute(
        insert(settle).values(id=receipt, token=token, streams=json.dumps(streams), at=write_time(now))
    )


@dataclass(frozen=True, slots=True)
class _Missing:
    """A process that has not acknowledged."""

    name: str
    started: str
    bound_s: float
    is_given_up: bool


@dataclass(slots=True)
class _Wait:
    """Since when it is waited for a receipt, and since when processes are known to be given up."""

    since: float
    is_of_policies: bool
    given_up: dict[_Missing, float]


class Receipts:
    """Waits for receipts, for one process.

    The time is taken from when this process first looked, by a clock that nobody sets: later than the write, so never
    too short.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._waits: dict[str, _Wait] = {}

    async def settled(self, receipt: str, *, timeout_s: float) -> Settled:
        """Wait until a write that is committed is settled, or for a time.

        Raises:
            UnavailableError: the database does not answer.
        """
        deadline = self._clock() + timeout_s
        while True:
            missing = await self._missing(receipt)
            if not missing:
                return Settled("acks", 0)
            wait = await self._remember(receipt, missing)
            gone = {each for each in missing if self._clock() - wait.given_up.get(each, float("inf")) > each.bound_s}
            is_over = self._clock() - wait.since > max(each.bound_s for each in missing)
            if len(gone) == len(missing) or (is_over and not wait.is_of_policies):
                await self._remove(gone)
                return Settled("bound", len(missing))
            if self._clock() >= deadline:
                return Settled(None, len(missing))
            await asyncio.sleep(min(LOOK_S, timeout_s))

    async def find(self, token: str) -> str | None:
        """Return the receipt of the write that was answered with a token; None: nobody asked for one, or too long ago.

        Raises:
            UnavailableError: the database does not answer.
        """
        async with self._database.reading() as connection:
            found = await connection.execute(select(settle.c.id).where(settle.c.token == token).limit(1))
            return found.scalar_one_or_none()

    async def _remember(self, receipt: str, missing: list[_Missing]) -> _Wait:
        """Remember when it was looked first, and who was given up by when."""
        now = self._clock()
        if receipt not in self._waits:
            is_of_policies = await self._is_of_policies(receipt)
            if len(self._waits) >= MAX_WAITING:
                del self._waits[next(iter(self._waits))]
            self._waits.setdefault(receipt, _Wait(now, is_of_policies, {}))
        wait = self._waits[receipt]
        wait.given_up = {each: wait.given_up.get(each, now) for each in missing if each.is_given_up}
        return wait

    async def _is_of_policies(self, receipt: str) -> bool:
        async with self._database.reading() as connection:
            streams = await connection.scalar(select(settle.c.streams).where(settle.c.id == receipt))
            return streams is None or POLICIES in json.loads(streams)

    async def _missing(self, receipt: str) -> list[_Missing]:
        """List who has not acknowledged."""
        acks = select(settle_acks.c.sidecar_id).where(settle_acks.c.settle_id == receipt)
        async with self._database.reading() as connection:
            found = await connection.execute(select(sidecars).where(sidecars.c.id.not_in(acks)))
            return [
                _Missing(row.id, row.started, row.max_staleness_ms / 1000, row.seen == GIVEN_UP) for row in found.all()
            ]

    async def _remove(self, given_up: Iterable[_Missing]) -> None:
        """Remove processes that were given up for so long that they answer nothing any more."""
        for each in given_up:
            same = (sidecars.c.id == each.name) & (sidecars.c.started == each.started) & (sidecars.c.seen == GIVEN_UP)
            async with self._database.changing() as connection:
                await connection.execute(delete(sidecars).where(same))
