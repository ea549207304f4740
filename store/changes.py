"""Writing: one transaction, one revision of each stream that it touches, one audit row each.

The first statement moves the counters, and the row lock that it takes is held until the commit: so revisions are
numbered in the order of their commits, without gaps, and what one write checks no other can change meanwhile. (A
sequence gives numbers in the order of asking; whoever reads by it skips what commits late.)

What a write touched is noted with `touch`, what it did with `record`; both are kept when the transaction ends, or
nothing is. Both name streams: a write that moves those of two tenants tells each what concerns it, and nothing of what
is the other's; a stream that moves only so that it is locked gets a row without entries. The hash of a stream's last
audit row is its *head*: it names the whole history of the stream, so that two histories with the same number can be
told apart.

A `Writer` opens writes, and hints at what moved once they are committed. Who reads polls anyway: a hint that is lost or
late costs time, never truth.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from store.database import Database
from store.errors import RefusedError
from store.ids import new_id
from store.pseudonyms import persons_in, stand_ins, veiled
from store.queries import notify, read_line
from store.settling import ask
from store.streams import EVERYTHING, GLOBAL, NOWHERE, POLICIES, Position, in_lock_order, stream_of, tenant_of
from store.tables import audit_log, changes, platform_audit_log, revisions
from store.times import write_time
from store.tokens import Token, tenant_digest

_log = logging.getLogger("bylaw.store")

Clock = Callable[[], int]
#: Tells other processes, outside the database, which streams moved.
Hint = Callable[[list[str]], Awaitable[None]]

KEEP_REVISIONS: Final = 10_000
KEEP_NS: Final = 3600 * 1_000_000_000
#: More keys than these are one: everything.
MAX_KEYS: Final = 1000
#: How often old changes are looked for: at every so many revisions of a stream.
PRUNE_EVERY: Final = 64
#: Who writes when nobody in particular does.
SYSTEM_ACTOR: Final = "system:system"
#: So often a write is begun again because it turned out to concern more tenants.
SHARING_TRIES: Final = 8
#: So long a write that is committed waits for its hint.
HINT_TIMEOUT_S: Final = 0.25


class NeedsSharedError(RefusedError):
    """The write turned out to change what all tenants share, and had not locked it: begin it again with `shared`.

    Args:
        others: tenants that it concerns, too, whose logs are to tell of it.
    """

    def __init__(self, others: Iterable[str] = ()) -> None:
        super().__init__("needs_shared", "this changes what all tenants share: write again with `shared`")
        self.others = frozenset(others)


@dataclass(frozen=True, slots=True)
class _Entry:
    action: str
    streams: frozenset[str]
    detail: dict[str, Any]


class Write:
    """A write while it is under way. After its commit `token` names the state that it made."""

    def __init__(
        self,
        connection: AsyncConnection,
        tenant: str | None,
        before: dict[str, Position],
        *,
        actor: str,
        now: int,
        request: str | None = None,
    ) -> None:
        self.connection = connection
        self.tenant = tenant
        self.now = now
        self.actor = actor
        self._asked = {} if request is None else {"request": request}
        self.token: Token | None = None
        self._before = before
        self._keys: dict[str, set[str]] = {stream: set() for stream in before}
        self._entries: list[_Entry] = []
        self._receipt: str | None = None

    @property
    def owner(self) -> str:
        """The tenant whose rows are written.

        Raises:
            RuntimeError: the write was begun without one.
        """
        if self.tenant is None:
            raise RuntimeError("this write has no tenant")
        return self.tenant

    @property
    def streams(self) -> list[str]:
        """The streams that move."""
        return list(self._before)

    def want_shared(self, others: Iterable[str] = ()) -> None:
        """Demand that what all tenants share is locked.

        Args:
            others: tenants that it concerns, too, whose logs are to tell of it: their streams must be locked as well.

        Raises:
            NeedsSharedError: something of it is not.
        """
        named = frozenset(others)
        if not self._before.keys() >= {GLOBAL, *map(stream_of, named)}:
            raise NeedsSharedError(named)

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

    def want_receipt(self) -> str:
        """Ask to be told when no process answers from before this write any more: return the receipt's name, for
        `settling.Receipts`."""
        if self._receipt is None:
            self._receipt = new_id()
        return self._receipt

    def record(self, action: str, /, *streams: str, **detail: Any) -> None:
        """Note what was done, for the audit log; `"user:ann"`, wherever it stands, is put behind a pseudonym.

        Args:
            streams: whose logs tell it; none: that of the write's own tenant, or of all if it has none.

        Raises:
            RuntimeError: a stream was not locked at the beginning.
        """
        told = frozenset(streams) or {GLOBAL if self.tenant is None else stream_of(self.tenant)}
        missing = sorted(told - self._keys.keys())
        if missing:
            raise RuntimeError(f"stream {missing[0]} was not locked when the write began")
        self._entries.append(_Entry(action, frozenset(told), detail))

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """Do a part of the write that, if it fails, is undone by itself: its rows, and what was noted of them."""
        keys, entries = {stream: set(known) for stream, known in self._keys.items()}, list(self._entries)
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            self._keys, self._entries = keys, entries
            raise

    async def begin_stream(self, tenant: str) -> None:
        """Begin the stream of a tenant that this write makes: the write is its first revision."""
        stream = stream_of(tenant)
        await self.connection.execute(insert(revisions).values(stream=stream, n=1, head=""))
        self._before[stream] = NOWHERE
        self._keys[stream] = set()

    async def finish(self) -> None:
        """Write the change log and the audit log. The last statements of the transaction."""
        at = write_time(self.now)
        actor, said = await self._said()
        for stream, before in self._before.items():
            n, entries = before.n + 1, said[stream]
            head = chained(before.head, stream, n, at, actor, entries)
            keys = self._keys[stream]
            listed = [EVERYTHING] if EVERYTHING in keys or len(keys) > MAX_KEYS else sorted(keys)
            row = {"n": n, "at": at, "before": before.head}
            await self.connection.execute(
                insert(changes).values(stream=stream, head=head, keys=json.dumps(listed), **row)
            )
            audited = {**row, "actor": actor, "entries": entries, "hash": head}
            owner = tenant_of(stream)
            if owner is None:
                await self.connection.execute(insert(platform_audit_log).values(stream=stream, **audited))
            else:
                await self.connection.execute(insert(audit_log).values(tenant_id=owner, **audited))
            await self.connection.execute(update(revisions).where(revisions.c.stream == stream).values(head=head))
            if n % PRUNE_EVERY == 0:
                await self._prune(stream, n)
        await notify(self.connection, list(self._before))
        self.token = await self.next_token()
        if self._receipt is not None:
            made = {stream: before.n + 1 for stream, before in self._before.items()}
            await ask(self.connection, self._receipt, str(self.token), made, self.now)

    async def _said(self) -> tuple[str, dict[str, str]]:
        """Write down who did what, for each stream what its log tells, without the names of persons."""
        details = [entry.detail for entry in self._entries]
        names = await stand_ins(self.connection, persons_in([self.actor, details]))
        said = {
            stream: [
                [entry.action, self._asked | veiled(entry.detail, names)]
                for entry in self._entries
                if stream in entry.streams
            ]
            for stream in self._before
        }
        written = {
            stream: json.dumps(entries, sort_keys=True, separators=(",", ":")) for stream, entries in said.items()
        }
        return names.get(self.actor, self.actor), written

    async def _prune(self, stream: str, n: int) -> None:
        old = (changes.c.at < write_time(self.now - KEEP_NS)) | (changes.c.n <= n - KEEP_REVISIONS)
        await self.connection.execute(delete(changes).where(changes.c.stream == stream, changes.c.n < n, old))

    async def next_token(self) -> Token:
        """Name the state that this write makes, as `token` will; for who must know it before the commit."""
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
    making: bool = False,
    publishing: bool = False,
    actor: str = SYSTEM_ACTOR,
    clock: Clock = time.time_ns,
    request: str | None = None,
) -> AsyncIterator[Write]:
    """Open a write.

    Args:
        tenant: whose rows are written.
        shared: rows of all tenants are written, too: stream g moves.
        others: tenants whose streams move without that their rows are seen.
        making: the tenant is not there yet, and is made by this write (`Write.begin_stream`).
        publishing: stream p moves, in the place of g.
        actor: who does it, `"user:ann"`.
        request: the id of the request that it is for, which the audit log tells.

    Raises:
        RefusedError: there is no such tenant.
        UnavailableError: the database cannot be reached; whether the write was done is then unknown.
    """
    wanted = {stream_of(name) for name in others}
    if tenant is not None and not making:
        wanted.add(stream_of(tenant))
    if publishing:
        wanted.add(POLICIES)
    if shared or making or (tenant is None and not publishing):
        wanted.add(GLOBAL)
    async with database.changing(tenant) as connection:
        before = {stream: await _advance(connection, stream) for stream in in_lock_order(wanted)}
        write = Write(connection, tenant, before, actor=actor, now=clock(), request=request)
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


class Writer:
    """Opens writes to one database, and hints at what moved.

    Args:
        hint: called with the streams after each commit. What goes wrong there is logged, and the write stands.
        request: the id of the request that its writes are for; None: of none.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock = time.time_ns,
        hint: Hint | None = None,
        request: str | None = None,
    ) -> None:
        self.database = database
        self._clock = clock
        self._hint = hint
        self._request = request
        self._hints: set[asyncio.Task[None]] = set()

    def for_request(self, request: str | None) -> Writer:
        """Make one that writes alike, and whose writes tell in the audit log for which request they were done."""
        return Writer(self.database, clock=self._clock, hint=self._hint, request=request)

    @asynccontextmanager
    async def write(
        self,
        *,
        tenant: str | None = None,
        shared: bool = False,
        others: Iterable[str] = (),
        making: bool = False,
        publishing: bool = False,
        actor: str = SYSTEM_ACTOR,
    ) -> AsyncIterator[Write]:
        """Open a write, as `writing` does; once it is committed, `token` is set and the hint is on its way.

        Raises:
            RefusedError: the facts do not allow it.
            UnavailableError: as there.
        """
        with refusing_clearly():
            async with writing(
                self.database,
                tenant=tenant,
                shared=shared,
                others=others,
                making=making,
                publishing=publishing,
                actor=actor,
                clock=self._clock,
                request=self._request,
            ) as write:
                yield write
        if self._hint is not None:
            await self._tell(self._hint, write.streams)

    async def run(
        self,
        work: Callable[[Write], Awaitable[object]],
        *,
        tenant: str,
        shared: bool = False,
        others: Iterable[str] = (),
        actor: str = SYSTEM_ACTOR,
    ) -> Write:
        """Do work in a write; begin the write again, shared, if it turns out that it must be, with the tenants that it
        concerns."""
        named = set(others)
        for _ in range(SHARING_TRIES):
            try:
                async with self.write(tenant=tenant, shared=shared, others=named, actor=actor) as write:
                    await work(write)
                return write
            except NeedsSharedError as error:
                shared, named = True, named | error.others
        async with self.write(tenant=tenant, shared=shared, others=named, actor=actor) as write:
            await work(write)
        return write

    async def _tell(self, hint: Hint, streams: list[str]) -> None:
        """Give a hint a moment to be sent, and leave it alone then."""
        task = asyncio.create_task(_send(hint, streams))
        self._hints.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._hints.discard)
        _, late = await asyncio.wait({task}, timeout=HINT_TIMEOUT_S)
        if late:
            _log.warning("the hint of a write takes too long, and is given up")
            task.cancel()


async def _send(hint: Hint, streams: list[str]) -> None:
    try:
        await hint(streams)
    except Exception:
        _log.warning("the hint of a write could not be sent", exc_info=True)


@contextmanager
def refusing_clearly() -> Iterator[None]:
    """Turn what a constraint or a column refuses into a refusal. It is for the checks before to say so in better
    words: what comes here is a mistake of ours, and stays in the log."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        _log.exception("the database refused what the checks let through")
        raise RefusedError("conflict", "this contradicts what is stored") from error
