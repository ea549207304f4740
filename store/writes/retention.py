"""Retention: rows that are kept no longer than they are needed, and how long that is.

What is due is found by the condition of a *broom*, and swept some rows at a time, each time in a write of its own: so
no lock is held for long, and what is cut off in the middle goes on with the next run.

INVARIANT: nothing swept here changes a decision. What has ended counts for nothing from that instant on, whether or not
its row is there; and it is swept a day later at the soonest, so that no clock of another machine still shows a time at
which it counted. A membership that has ended stays: it may be prolonged, and the roles of its holder count again then.

The audit logs are not touched, and cannot be: the services have no right to change a row of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, exists, func, literal, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import KEEP_NS, Write
from store.database import Database
from store.settling import HOUR_NS, SILENT_NS
from store.streams import GLOBAL, principal_key, stream_of
from store.tables import (
    GIVEN_UP,
    OWNED,
    approvals,
    assignments,
    blocked_tokens,
    changes,
    circumstances,
    departures,
    group_members,
    idempotency_keys,
    invitation_tokens,
    invitations,
    links,
    platform_members,
    principals,
    retention_periods,
    settle,
    sidecars,
    system_assignments,
)
from store.times import write_time
from store.writes import idempotency
from store.writes.circumstances import APPROVAL, INVITATION
from store.writes.presence import depart
from store.writes.removal import strip
from store.writes.rows import change, remove

#: So many rows of a kind a write sweeps.
LIMIT: Final = 500
#: So many rows of the log of changes are removed at a time; no other write waits for that.
CHANGES_LIMIT: Final = 5000
DAY_NS: Final = 86_400 * 1_000_000_000
#: Days, as they are if nobody says otherwise.
DEFAULTS: Final[Mapping[str, int]] = {"invitations": 90, "approvals": 365, "expired": 1, "deleted_users": 2557}


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Instants: what ended before them is due.

    Attributes:
        expired: of assignments, places in groups and links.
        deleted_users: of who was deleted.
    """

    now: int
    invitations: int
    approvals: int
    expired: int
    deleted_users: int


Due = Callable[[Cutoffs], ColumnElement[bool]]
Sweep = Callable[[Write, ColumnElement[bool]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Broom:
    """One kind of rows that go: what is due of a table, and how it is swept."""

    name: str
    table: Table
    due: Due
    sweep: Sweep

    @property
    def is_owned(self) -> bool:
        return self.table in OWNED


# --- how long -----------------------------------------------------------------------------------------


async def read_periods(connection: AsyncConnection) -> dict[str, int]:
    """Read how many days each thing is kept."""
    rows = await connection.execute(select(retention_periods.c.name, retention_periods.c.days))
    return {**DEFAULTS, **{row.name: row.days for row in rows if row.name in DEFAULTS}}


async def put_periods(write: Write, days: Mapping[str, int]) -> None:
    """Say how many days each thing is kept."""
    await write.connection.execute(
        text(
            "INSERT INTO retention_periods (name, days) VALUES (:name, :days) "
            "ON CONFLICT (name) DO UPDATE SET days = excluded.days"
        ),
        [{"name": name, "days": each} for name, each in sorted(days.items())],
    )
    write.record("retention.periods", GLOBAL, **days)


def cutoffs_of(days: Mapping[str, int], now: int) -> Cutoffs:
    """Say before which instants what ended is due."""
    return Cutoffs(now=now, **{name: now - days[name] * DAY_NS for name in DEFAULTS})


# --- rows of one tenant, and of all -------------------------------------------------------------------


async def count_due(
    connection: AsyncConnection, brooms: Sequence[Broom], tenant: str | None, cutoffs: Cutoffs
) -> dict[str, int]:
    """Count what is due, in one statement; the connection is of that tenant."""
    counts = [
        select(func.count()).select_from(each.table).where(_due(each, tenant, cutoffs)).scalar_subquery()
        for each in brooms
    ]
    row = (await connection.execute(select(*counts))).one()
    return {each.name: found for each, found in zip(brooms, row, strict=True)}


async def sweep(write: Write, brooms: Sequence[Broom], cutoffs: Cutoffs, *, limit: int = LIMIT) -> dict[str, int]:
    """Sweep what is due, at most `limit` rows of each kind; return how many. Call again while one of them is that."""
    swept = {}
    for each in brooms:
        key = tuple(each.table.primary_key.columns)
        some = select(*key).where(_due(each, write.owner if each.is_owned else None, cutoffs)).limit(limit)
        swept[each.name] = await each.sweep(write, tuple_(*key).in_(some))
    write.record("retention.swept", **{name: count for name, count in swept.items() if count})
    return swept


def _due(broom: Broom, tenant: str | None, cutoffs: Cutoffs) -> ColumnElement[bool]:
    due = broom.due(cutoffs)
    return (broom.table.c.tenant_id == tenant) & due if broom.is_owned else due


async def _forget_addresses(write: Write, which: ColumnElement[bool]) -> int:
    return await change(write, invitations, which, email=None, email_index=None)


async def _remove_invitations(write: Write, which: ColumnElement[bool]) -> int:
    gone = await remove(write, invitations, which, "digest")
    digests = invitation_tokens.c.digest.in_([row.digest for row in gone])
    await remove(write, invitation_tokens, digests & (invitation_tokens.c.tenant_id == write.owner))
    return len(gone)


async def _leave_groups(write: Write, which: ColumnElement[bool]) -> int:
    gone = await remove(write, group_members, which, "type", "id")
    who = {(row.type, row.id) for row in gone}
    write.touch_own(*(principal_key(f"{kind}:{identity}") for kind, identity in who))
    await depart(write, who)
    return len(gone)


def _removing(table: Table) -> Sweep:
    async def sweep(write: Write, which: ColumnElement[bool]) -> int:
        return len(await remove(write, table, which))

    return sweep


def _removing_of_principals(table: Table) -> Sweep:
    async def sweep(write: Write, which: ColumnElement[bool]) -> int:
        gone = await remove(write, table, which, "type", "id")
        write.touch(GLOBAL, *(principal_key(f"{row.type}:{row.id}") for row in gone))
        return len(gone)

    return sweep


async def _forget_answers(write: Write, _: ColumnElement[bool]) -> int:
    return await idempotency.prune(write, limit=LIMIT)


def _has_address(cutoffs: Cutoffs) -> ColumnElement[bool]:
    c = invitations.c
    return or_(c.email.is_not(None), c.email_index.is_not(None)) & (c.expires <= write_time(cutoffs.now))


def _is_judged_no_more(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Of how something was asked for: it is open no more, or who asked is deleted, so that it comes to nothing."""
    c, a, i, now = circumstances.c, approvals.c, invitations.c, write_time(cutoffs.now)
    asked = select(a.id).where(
        a.tenant_id == c.tenant_id, a.id == c.id, a.outcome.is_(None), a.expires > now, ~_is_gone(a.requested_by)
    )
    invited = select(i.id).where(
        i.tenant_id == c.tenant_id, i.id == c.id, i.accepted_at.is_(None), i.withdrawn_at.is_(None), i.expires > now,
        ~_is_gone(i.invited_by),
    )  # fmt: skip
    return or_((c.kind == APPROVAL) & ~exists(asked), (c.kind == INVITATION) & ~exists(invited))


def _is_gone(ref: ColumnElement[str]) -> ColumnElement[bool]:
    """Say of a user that he is deleted; those who ever were are few."""
    d, p = departures.c, principals.c
    is_deleted = exists(select(p.id).where(p.type == d.type, p.id == d.id, p.status == "deleted"))
    return ref.in_(select(d.type + literal(":") + d.id).where(is_deleted))


def _ended(table: Table, *ends: str) -> Callable[[int], ColumnElement[bool]]:
    """Say of a row whether the first of its ends that is there came before an instant."""
    columns = [table.c[name] for name in ends]
    ended = columns[0] if len(columns) == 1 else func.coalesce(*columns)
    return lambda before: ended <= write_time(before)


def _is_old_invitation(cutoffs: Cutoffs) -> ColumnElement[bool]:
    return _ended(invitations, "accepted_at", "withdrawn_at", "expires")(cutoffs.invitations)


def _is_old_approval(cutoffs: Cutoffs) -> ColumnElement[bool]:
    return _ended(approvals, "decided_at", "expires")(cutoffs.approvals)


def _is_expired(table: Table) -> Due:
    return lambda cutoffs: _ended(table, "expires")(cutoffs.expired)


def _is_old_block(cutoffs: Cutoffs) -> ColumnElement[bool]:
    return _ended(blocked_tokens, "until")(cutoffs.expired)


def _is_old_answer(cutoffs: Cutoffs) -> ColumnElement[bool]:
    return idempotency_keys.c.made <= write_time(cutoffs.now - idempotency.KEEP_NS)


#: Of each tenant.
OF_TENANT: Final = (
    Broom("addresses", invitations, _has_address, _forget_addresses),
    Broom("circumstances", circumstances, _is_judged_no_more, _removing(circumstances)),
    Broom("invitations", invitations, _is_old_invitation, _remove_invitations),
    Broom("approvals", approvals, _is_old_approval, _removing(approvals)),
    Broom("assignments", assignments, _is_expired(assignments), strip),
    Broom("group_places", group_members, _is_expired(group_members), _leave_groups),
)
#: Of what all tenants share.
SHARED: Final = (
    Broom("answers", idempotency_keys, _is_old_answer, _forget_answers),
    Broom(
        "system_roles",
        system_assignments,
        _is_expired(system_assignments),
        _removing_of_principals(system_assignments),
    ),
    Broom(
        "platform_places",
        platform_members,
        _is_expired(platform_members),
        _removing_of_principals(platform_members),
    ),
    Broom("blocked_tokens", blocked_tokens, _is_old_block, _removing_of_principals(blocked_tokens)),
)


# --- links, which are of two tenants ------------------------------------------------------------------


async def read_sides(connection: AsyncConnection, cutoffs: Cutoffs, limit: int) -> list[tuple[str, str]]:
    """List between which tenants links have ended: pairs of a home and where it leads."""
    c = links.c
    sides = select(c.home_id, c.tenant_id).where(_is_expired(links)(cutoffs)).distinct()
    return [(row[0], row[1]) for row in await connection.execute(sides.order_by(c.home_id, c.tenant_id).limit(limit))]


async def count_links(connection: AsyncConnection, cutoffs: Cutoffs) -> int:
    """Count links that have ended."""
    found = await connection.execute(select(func.count()).select_from(links).where(_is_expired(links)(cutoffs)))
    return int(found.scalar_one())


async def sweep_links(write: Write, home: str, target: str, cutoffs: Cutoffs, *, limit: int = LIMIT) -> int:
    """Sweep links that have ended, from one tenant into another, in a write that locks both; return how many."""
    key = tuple(links.primary_key.columns)
    due = (links.c.home_id == home) & (links.c.tenant_id == target) & _is_expired(links)(cutoffs)
    gone = await remove(write, links, tuple_(*key).in_(select(*key).where(due).limit(limit)), "type", "id")
    write.touch(GLOBAL, *(principal_key(f"{row.type}:{row.id}") for row in gone))
    sides = stream_of(home), stream_of(target)
    for stream in sides:
        write.touch(stream)
    write.record("retention.swept", GLOBAL, *sides, links=len(gone), home=home, tenant=target)
    return len(gone)


# --- the log of changes -------------------------------------------------------------------------------


async def count_changes(connection: AsyncConnection, now: int) -> int:
    """Count rows of the log of changes that nobody follows any more."""
    found = await connection.execute(select(func.count()).select_from(changes).where(_is_old_change(now)))
    return int(found.scalar_one())


async def remove_changes(database: Database, now: int, *, limit: int = CHANGES_LIMIT) -> int:
    """Remove such rows, of all streams; return how many. Call again while it is `limit`.

    Rows name persons, and a stream in which nothing happens would keep its last ones for ever. They are no facts: it is
    no write, and moves no stream. Who follows and has seen none of them for so long sees a gap, and reads anew. Rows
    that a write removes just now are passed over, so that neither waits for the other.
    """
    key = (changes.c.stream, changes.c.n)
    some = select(*key).where(_is_old_change(now)).limit(limit).with_for_update(skip_locked=True)
    async with database.changing() as connection:
        return (await connection.execute(delete(changes).where(tuple_(*key).in_(some)))).rowcount


def _is_old_change(now: int) -> ColumnElement[bool]:
    return changes.c.at < write_time(now - KEEP_NS)


# --- processes, and who waited for them ---------------------------------------------------------------


async def count_silent(connection: AsyncConnection, now: int) -> dict[str, int]:
    """Count processes that decide no more, and receipts that nobody asks for any more. A write with a receipt gives up
    the former and removes the latter; who waits for it removes the former (`settling`)."""
    is_silent = or_(sidecars.c.seen == GIVEN_UP, sidecars.c.seen < write_time(now - SILENT_NS))
    silent = select(func.count()).select_from(sidecars).where(is_silent).scalar_subquery()
    old = select(func.count()).select_from(settle).where(settle.c.at < write_time(now - HOUR_NS)).scalar_subquery()
    row: Any = (await connection.execute(select(silent, old))).one()
    return {"processes": row[0], "receipts": row[1]}
