"""The retention job: what is done with goes, step by step, each step a write of its own.

    old changes ──▶ what all share ──▶ deletions cut off ──▶ who is to be forgotten ──▶ links ──▶ each tenant ──▶ close

A run looks before it writes, so that a tenant in which nothing is due keeps its revision. It can be cut off anywhere,
and two may run at once: whatever is due is found again. The last write tells the platform's log what the run came to,
and its receipt is by which processes that decide no more are given up; whoever waits for it removes them (`settling`).

Counts alone are recorded: who is forgotten must not be named by the very write that forgets him.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from admin.retention.wire import Swept
from store.changes import SYSTEM_ACTOR, Writer
from store.database import Connection
from store.times import read_time
from store.tokens import Token
from store.writes import departures, personal_data, platform_groups, principals, retention, traces
from store.writes.departures import APPEARING_NS, written
from store.writes.retention import LIMIT, OF_TENANT, SHARED, Cutoffs
from store.writes.standing import GROUP, Pair

NAMES: Final = tuple(name for name in Swept.model_fields if name not in ("dry_run", "complete", "next"))


class _OverError(Exception):
    """The time is over."""


class Job:
    """One run.

    Args:
        cutoffs: what ended before them is due.
        actor: who runs it.
        is_over: says whether to stop, asked between two steps.
        limit: so many rows of a kind a write sweeps.
    """

    def __init__(
        self,
        writer: Writer,
        cutoffs: Cutoffs,
        *,
        actor: str = SYSTEM_ACTOR,
        is_over: Callable[[], bool] = lambda: False,
        limit: int = LIMIT,
    ) -> None:
        self._writer = writer
        self._database = writer.database
        self._cutoffs = cutoffs
        self._actor = actor
        self._is_over = is_over
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._next: str | None = None
        self.token: Token | None = None

    async def count(self, after: str = "") -> Swept:
        """Count what is due, as far as the time allows."""
        async with self._database.reading() as connection:
            self._counts.update(await retention.count_due(connection, SHARED, None, self._cutoffs))
            self._counts["departures"] = await departures.count_uncleared(connection)
            self._counts["forgotten"] = await departures.count_unforgotten(connection, self._cutoffs.deleted_users)
            self._counts["erasures"] = len(await self._open_erasures(connection))
            self._counts["links"] = await retention.count_links(connection, self._cutoffs)
            self._counts["changes"] = await retention.count_changes(connection, self._cutoffs.now)
            self._counts.update(await retention.count_silent(connection, self._cutoffs.now))
        async for tenant in platform_groups.all_tenants(self._database, after):
            if self._is_over():
                return self._said(is_dry=True, is_complete=False)
            self._counts.update(await self._due(tenant))
            self._next = tenant
        self._next = None
        return self._said(is_dry=True, is_complete=True)

    async def run(self, after: str = "") -> Swept:
        """Do what is due, until it is done or the time is over.

        Args:
            after: the last tenant that a run before this one looked through.
        """
        is_complete = True
        try:
            await self._remove_changes()
            await self._sweep_shared()
            await self._clear_departed()
            await self._finish_erasures()
            await self._forget_users()
            await self._sweep_links()
            await self._sweep_tenants(after)
        except _OverError:
            is_complete = False
        await self._close()
        return self._said(is_dry=False, is_complete=is_complete)

    async def _remove_changes(self) -> None:
        while True:
            gone = await retention.remove_changes(self._database, self._cutoffs.now)
            self._counts["changes"] += gone
            if gone < retention.CHANGES_LIMIT:
                return
            self._look()

    async def _sweep_shared(self) -> None:
        async with self._database.reading() as connection:
            due = await retention.count_due(connection, SHARED, None, self._cutoffs)
        while any(due.values()):
            async with self._writer.write(actor=self._actor) as write:
                swept = await retention.sweep(write, SHARED, self._cutoffs, limit=self._limit)
            self._counts.update(swept)
            due = self._more(swept)

    async def _clear_departed(self) -> None:
        """Note who was deleted, and remove what tenants have of him."""
        while noted := await self._unnoted():
            async with self._writer.write(actor=self._actor) as write:
                await departures.note(write, noted)
            self._look()
        last: Pair = ("", "")
        while True:
            async with self._database.reading() as connection:
                page = await departures.read_uncleared(connection, after=last, limit=self._limit)
            cleared = [who for who, since in page if await self._is_cleared(who, since)]
            if cleared:
                async with self._writer.write(actor=self._actor) as write:
                    await departures.mark_cleared(write, cleared)
            self._counts["departures"] += len(cleared)
            if len(page) < self._limit:
                return
            last = page[-1][0]

    async def _unnoted(self) -> list[Pair]:
        async with self._database.reading() as connection:
            return await departures.read_unnoted(connection, self._limit)

    async def _is_cleared(self, who: Pair, since: str) -> bool:
        """Remove what tenants have of one who was deleted; say whether nothing can appear any more."""
        self._look()
        if who[0] == GROUP:
            await platform_groups.sweep_group(self._writer, who[1], actor=self._actor)
        else:
            await principals.leave_everything(self._writer, written(who), actor=self._actor)
        return read_time(since) <= self._cutoffs.now - APPEARING_NS

    async def _finish_erasures(self) -> None:
        """Finish what was begun and cut off: the register says that somebody is to be forgotten."""
        while True:
            async with self._database.reading() as connection:
                page = await self._open_erasures(connection)
            for identity, ref in page:
                self._look()
                await self._finish_erasure(identity, ref)
            if len(page) < self._limit:
                return

    async def _finish_erasure(self, identity: str, ref: str | None) -> None:
        if ref is not None:
            await traces.leave_no_trace(self._writer, ref, actor=self._actor)
        async with self._writer.write(actor=self._actor) as write:
            if ref is not None:
                await personal_data.forget(write, ref)
            await personal_data.finish_erasure(write, identity, done_ok=True)
        self._counts["erasures"] += 1

    async def _open_erasures(self, connection: Connection) -> list[tuple[str, str | None]]:
        before = self._cutoffs.now - APPEARING_NS  # who asked may still be at it
        return await personal_data.read_open_erasures(connection, before, self._limit)

    async def _forget_users(self) -> None:
        while True:
            async with self._database.reading() as connection:
                page = await departures.read_unforgotten(connection, self._cutoffs.deleted_users, self._limit)
            for who in page:
                self._look()
                await traces.leave_no_trace(self._writer, written(who), actor=self._actor)
                async with self._writer.write(actor=self._actor) as write:
                    await personal_data.forget(write, written(who))
                self._counts["forgotten"] += 1
            if len(page) < self._limit:
                return

    async def _sweep_links(self) -> None:
        """Sweep links, from each tenant into each other."""
        while True:
            async with self._database.reading() as connection:
                sides = await retention.read_sides(connection, self._cutoffs, self._limit)
            for home, target in sides:
                self._look()
                async with self._writer.write(shared=True, others=[home, target], actor=self._actor) as write:
                    swept = await retention.sweep_links(write, home, target, self._cutoffs, limit=self._limit)
                self._counts["links"] += swept
            if not sides:
                return

    async def _sweep_tenants(self, after: str) -> None:
        self._next = after or None
        async for tenant in platform_groups.all_tenants(self._database, after):
            self._look()
            due = await self._due(tenant)
            while any(due.values()):
                async with self._writer.write(tenant=tenant, actor=self._actor) as write:
                    swept = await retention.sweep(write, OF_TENANT, self._cutoffs, limit=self._limit)
                self._counts.update(swept)
                due = self._more(swept)
            self._next = tenant
        self._next = None

    async def _due(self, tenant: str) -> dict[str, int]:
        async with self._database.reading(tenant) as connection:
            return await retention.count_due(connection, OF_TENANT, tenant, self._cutoffs)

    def _more(self, swept: dict[str, int]) -> dict[str, int]:
        """Say of what there may be more, after a write that swept as much as one sweeps."""
        full = {name: count for name, count in swept.items() if count >= self._limit}
        if full:
            self._look()
        return full

    def _look(self) -> None:
        if self._is_over():
            raise _OverError

    async def _close(self) -> None:
        """Tell the platform's log what the run came to, and give up processes that decide no more."""
        async with self._database.reading() as connection:
            self._counts.update(await retention.count_silent(connection, self._cutoffs.now))
        async with self._writer.write(actor=self._actor) as write:
            write.record("retention.run", **{name: count for name, count in self._counts.items() if count})
            write.want_receipt()
        self.token = write.token

    def _said(self, *, is_dry: bool, is_complete: bool) -> Swept:
        counts = {name: self._counts[name] for name in NAMES}
        return Swept(dry_run=is_dry, complete=is_complete, next=self._next, **counts)
