"""Receipts: knowing that no process answers from before a write any more.

A write that asks for one leaves a row with the revisions that it made; each process that decides acknowledges it once
it has applied them. Who waits is told by `acks` when all registered processes have; by `bound` when the longest time
that any of them may go on without a poll is over: whoever has not applied the write by then answers `stale`.

INVARIANT: a process registers before its first poll, and a poll tells it whether it is still registered; so whoever
holds facts from before the write is among those that are waited for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.database import Database
from store.tables import settle, settle_acks, sidecars
from store.times import write_time

#: Between two looks at who has acknowledged.
LOOK_S: Final = 0.01
HOUR_NS: Final = 3600 * 1_000_000_000
#: A process that has not been heard of for so long is gone. If it is not, its next poll tells it to register anew.
GONE_NS: Final = 24 * HOUR_NS
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
    await connection.execute(delete(sidecars).where(sidecars.c.seen < write_time(now - GONE_NS)))
    await connection.execute(
        insert(settle).values(id=receipt, token=token, streams=json.dumps(streams), at=write_time(now))
    )


class Receipts:
    """Waits for receipts, for one process.

    The time is taken from when this process first looked, by a clock that nobody sets: later than the write, so never
    too short.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._since: dict[str, float] = {}

    async def settled(self, receipt: str, *, timeout_s: float) -> Settled:
        """Wait until a write that is committed is settled, or for a time.

        Raises:
            UnavailableError: the database does not answer.
        """
        since = self._first_seen(receipt)
        deadline = self._clock() + timeout_s
        while True:
            missing, bound_s = await self._look(receipt)
            if missing == 0:
                return Settled("acks", 0)
            if self._clock() - since > bound_s:
                return Settled("bound", missing)
            if self._clock() >= deadline:
                return Settled(None, missing)
            await asyncio.sleep(min(LOOK_S, timeout_s))

    def _first_seen(self, receipt: str) -> float:
        if len(self._since) >= MAX_WAITING:
            del self._since[next(iter(self._since))]
        return self._since.setdefault(receipt, self._clock())

    async def _look(self, receipt: str) -> tuple[int, float]:
        """Count who has not acknowledged, and say how long any of them may answer without a poll."""
        acks = select(settle_acks.c.sidecar_id).where(settle_acks.c.settle_id == receipt)
        statement = select(func.count(), func.max(sidecars.c.max_staleness_ms)).where(sidecars.c.id.not_in(acks))
        async with self._database.reading() as connection:
            missing, bound_ms = (await connection.execute(statement)).one()
        return missing, (bound_ms or 0) / 1000
