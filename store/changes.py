"""Writing: one transaction, one revision of each stream that it touches, one audit row each.

The first statement moves the counters, and the row lock that it takes is held until the commit: so revisions are numbered
in the order of their commits, without gaps, and what one write checks no other can change meanwhile. (A sequence gives
numbers in the order of asking; whoever reads by it skips what commits late.)

What a write touched is noted with `touch`, what it did with `record`; both are kept when the transaction ends, or nothing
is. The hash of a stream's last audit row is its *head*: it names the whole history of the stream, so that two
histories with the same number can be told apart.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.database import Database
from store.errors import RefusedError
from store.queries import notify, read_line
from store.streams import EVERYTHING, GLOBAL, POLICIES, in_lock_order, stream_of, tenant_of
from store.tables import audit_log, changes, platform_audit_log, revisions
from store.times import write_time
from store.tokens import Token, tenant_digest

Clock = Callable[[], int]

KEEP_REVISIONS: Final = 10_000
KEEP_NS: Final = 3600 * 1_000_000_000
#: More keys than these are one: everything.
MAX_KEYS: Final = 1000
#: How often old changes are looked for: at every so many revisions of a stream.
PRUNE_EVERY: Final = 64
#: Who writes when nobody in particular does.
SYSTEM_ACTOR: Final = "system:system"


class Position(NamedTuple):
    """How far a stream is: its number, and the head that tells its history."""

    n: int
    head: str


NOWHERE: Final = Position(0, "")


@dataclass(frozen=True, slots=True)
class _Entry:
    action: str
    detail: dict[str, Any]


class Write:
    """A write while it is under way. After its commit `token` names the state that it made."""

    def __init__(
        self, connection: AsyncConnection, tenant: str | None, before: dict[str, Position], *, actor: str, now: int
    ) -> None:
        self.connection = connection
        self.tenant = tenant
        self.now = now
        self.actor = actor
        self.token: Token | None = None
        self._before = before
        self._keys: dict[str, set[str]] = {stream: set() for stream in before}
        self._entries: list[_Entry] = []
        self._made: dict[str, Position] = {}

    @property
    def owner(self) -> str:
        """The tenant whose rows are written.

        Raises:
            RuntimeError: the write was begun without one.
        """
        if self.tenant is None:
            raise RuntimeError("this write has no tenant")
        return self.tenant

    def touch(self, stream: str, *keys: str) -> None:
        """Note what changed.

        Raises:
            RuntimeError: the stream was not locked at the beginning.
        """
        if stream not in self._keys:
            raise RuntimeError(f"stream {stream} was not locked when the write began")
        self._keys[stream].update(keys)

    def touch_own(self, *keys: str) -> None:
        """Note what changed in the write's own tenant."""
        self.touch(stream_of(self.owner), *keys)

    def record(self, action: str, **detail: Any) -> None:
        """Note what was done, for the audit log."""
        self._entries.append(_Entry(action, detail))

    async def begin_stream(self, tenant: str) -> None:
        """Make the stream of a tenant that this write makes."""
        await self.connection.execute(insert(revisions).values(stream=stream_of(tenant), n=0, head=""))

    async def finish(self) -> None:
        """Write the change log and the audit log. The last statements of the transaction."""
        at = write_time(self.now)
        entries = json.dumps([[e.action, e.detail] for e in self._entries], sort_keys=True, separators=(",", ":"))
        for stream, before in self._before.items():
            n = before.n + 1
            head = chained(before.head, stream, n, at, self.actor, entries)
            keys = self._keys[stream]
            listed = [EVERYTHING] if EVERYTHING in keys or len(keys) > MAX_KEYS else sorted(keys)
            row = {"n": n, "at": at, "before": before.head}
            await self.connection.execute(
                insert(changes).values(stream=stream, head=head, keys=json.dumps(listed), **row)
            )
            audited = {**row, "actor": self.actor, "entries": entries, "hash": head}
            owner = tenant_of(stream)
            if owner is None:
                await self.connection.execute(insert(platform_audit_log).values(stream=stream, **audited))
            else:
                await self.connection.execute(insert(audit_log).values(tenant_id=owner, **audited))
            await self.connection.execute(update(revisions).where(revisions.c.stream == stream).values(head=head))
            if n % PRUNE_EVERY == 0:
                await self._prune(stream, n)
        await notify(self.connection, list(self._before))
        self.token = await self._token()

    async def _prune(self, stream: str, n: int) -> None:
        old = (changes.c.at < write_time(self.now - KEEP_NS)) | (changes.c.n <= n - KEEP_REVISIONS)
        await self.connection.execute(delete(changes).where(changes.c.stream == stream, changes.c.n < n, old))

    async def _token(self) -> Token:
        """Name the state that this write makes."""
        wanted = [GLOBAL, POLICIES, *([stream_of(self.tenant)] if self.tenant is not None else [])]
        rows = await self.connection.execute(
            select(revisions.c.stream, revisions.c.n).where(revisions.c.stream.in_(wanted))
        )
        at = {row.stream: row.n for row in rows}
        line = await read_line(self.connection)
        if self.tenant is None:
            return Token(line, at.get(POLICIES, 0), at.get(GLOBAL, 0))
        digest = tenant_digest(self.tenant)
        return Token(line, at.get(POLICIES, 0), at.get(GLOBAL, 0), digest, at.get(stream_of(self.tenant), 0))


def chained(before: str, stream: str, n: int, at: str, actor: str, entries: str) -> str:
    """Compute the hash of an audit row: over the one before and all that it says."""
    said = json.dumps([before, stream, n, at, actor, entries], separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


@asynccontextmanager
async def writing(
    database: Database,
    *,
    tenant: str | None = None,
    shared: bool = False,
    others: Iterable[str] = (),
    actor: str = SYSTEM_ACTOR,
    clock: Clock = time.time_ns,
) -> AsyncIterator[Write]:
    """Open a write.

    Args:
        tenant: whose rows are written.
        shared: rows of all tenants are written, too: stream g moves.
        others: tenants whose streams move without that their rows are seen.
        actor: who does it, `"user:ann"`.

    Raises:
        RefusedError: there is no such tenant.
        UnavailableError: the database cannot be reached; whether the write was done is then unknown.
    """
    wanted = {stream_of(name) for name in others} | ({stream_of(tenant)} if tenant is not None else set())
    if shared or tenant is None:
        wanted.add(GLOBAL)
    async with database.changing(tenant) as connection:
        before = {stream: await _advance(connection, stream) for stream in in_lock_order(wanted)}
        write = Write(connection, tenant, before, actor=actor, now=clock())
        yield write
        await write.finish()


async def _advance(connection: AsyncConnection, stream: str) -> Position:
    """Move a stream on and lock it; return where it was."""
    moved = await connection.execute(
        update(revisions)
        .where(revisions.c.stream == stream)
        .values(n=revisions.c.n + 1)
        .returning(revisions.c.n, revisions.c.head)
    )
    row = moved.one_or_none()
    if row is None:
        raise RefusedError("unknown_tenant", f"there is no tenant `{tenant_of(stream)}`")
    return Position(row.n - 1, row.head)
