"""Departures: who and what was deleted, and is not yet gone from everywhere (stream g).

Who is deleted counts for nothing from then on, but what hangs on him in each tenant is removed by later writes, and
what is known of a person is kept for a time. So it is noted, in the write that deletes, and every further step is:

    note ──▶ cleared: no tenant has rows of him any more ──▶ forgotten, of a user: nothing says any more who it was

INVARIANT: nobody is cleared sooner than an hour after he was deleted. A write that did not see the deletion may leave a
row in a tenant until it ends, and no write lasts as long.

Who is cleared and forgotten keeps his row, without times: each is that of a write, whose row in the audit log has it,
too, and names his pseudonym.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, exists, func, literal, or_, select, text, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.tables import departures, platform_groups, principals, pseudonyms
from store.times import write_time
from store.writes.rows import change, where
from store.writes.standing import GROUP, Pair

USER: Final = "user"
#: In the place of a time that is not to be known any more.
_ONCE: Final = ""
#: So long after a deletion rows may still appear.
APPEARING_NS: Final = 3600 * 1_000_000_000
_NOTE: Final = text("""
    INSERT INTO departures (type, id, deleted_at) VALUES (:type, :id, :at) ON CONFLICT (type, id) DO NOTHING
""")


async def note(write: Write, who: Iterable[Pair]) -> None:
    """Note who is deleted, as of now; who is noted already stays so."""
    rows = [{"type": kind, "id": identity, "at": write_time(write.now)} for kind, identity in who]
    if rows:
        await write.connection.execute(_NOTE, rows)


async def mark_cleared(write: Write, who: Iterable[Pair]) -> None:
    """Note that no tenant has rows of these any more."""
    meant = tuple_(departures.c.type, departures.c.id).in_(list(who))
    await change(write, departures, meant & departures.c.cleared_at.is_(None), cleared_at=write_time(write.now))
    await _blur(write, meant)


async def mark_forgotten(write: Write, who: Pair) -> None:
    """Note that nothing says any more who it was."""
    meant = where(departures, type=who[0], id=who[1])
    await change(write, departures, meant, forgotten_at=_ONCE)
    await _blur(write, meant)


async def _blur(write: Write, meant: ColumnElement[bool]) -> None:
    """Take the times of those away of whom nothing is to be done any more."""
    is_done = departures.c.cleared_at.is_not(None) & departures.c.forgotten_at.is_not(None)
    await change(write, departures, meant & is_done, deleted_at=_ONCE, cleared_at=_ONCE)


# --- what is to be done ---------------------------------------------------------------------------------


async def read_unnoted(connection: AsyncConnection, limit: int) -> list[Pair]:
    """List who is deleted and was not noted: by a seed, or before departures were noted at all."""
    p, g = principals.c, platform_groups.c
    found = union_all(
        select(p.type, p.id).where(p.status == "deleted", ~_is_noted(p.type, p.id)),
        select(literal(GROUP), g.id).where(g.deleted, ~_is_noted(literal(GROUP), g.id)),
    )
    return [(row[0], row[1]) for row in await connection.execute(found.limit(limit))]


async def read_uncleared(connection: AsyncConnection, *, after: Pair = ("", ""), limit: int) -> list[tuple[Pair, str]]:
    """List whose rows may be in tenants, and since when he is deleted, from behind one of them."""
    c = departures.c
    page = select(c.type, c.id, c.deleted_at).where(_is_uncleared(), tuple_(c.type, c.id) > after)
    rows = await connection.execute(page.order_by(c.type, c.id).limit(limit))
    return [((row.type, row.id), row.deleted_at) for row in rows]


async def count_uncleared(connection: AsyncConnection) -> int:
    """Count whose rows may be in tenants."""
    return await _count(connection, select(func.count()).select_from(departures).where(_is_uncleared()))


async def read_unforgotten(connection: AsyncConnection, before: int, limit: int) -> list[Pair]:
    """List users of whom it is to be forgotten who they were: deleted before an instant, or forgotten once, and named
    again by a later write."""
    c = departures.c
    rows = await connection.execute(select(c.type, c.id).where(_is_unforgotten(before)).order_by(c.id).limit(limit))
    return [(row.type, row.id) for row in rows]


async def count_unforgotten(connection: AsyncConnection, before: int) -> int:
    """Count them."""
    return await _count(connection, select(func.count()).select_from(departures).where(_is_unforgotten(before)))


def _is_uncleared() -> ColumnElement[bool]:
    """Who was deleted and lives again, since a facts file said so, is left alone."""
    c, p, g = departures.c, principals.c, platform_groups.c
    is_deleted = exists(select(p.id).where(p.type == c.type, p.id == c.id, p.status == "deleted"))
    is_gone = exists(select(g.id).where(literal(GROUP) == c.type, g.id == c.id, g.deleted))
    return c.cleared_at.is_(None) & or_(is_deleted, is_gone)


def _is_unforgotten(before: int) -> ColumnElement[bool]:
    c, p = departures.c, principals.c
    is_deleted = exists(select(p.id).where(p.type == c.type, p.id == c.id, p.status == "deleted"))
    is_named = exists(select(pseudonyms.c.ref).where(pseudonyms.c.ref == literal(f"{USER}:") + c.id))
    is_due = c.forgotten_at.is_(None) & (c.deleted_at <= write_time(before))
    is_back = c.forgotten_at.is_not(None) & is_named
    return (c.type == USER) & c.cleared_at.is_not(None) & is_deleted & or_(is_due, is_back)


def _is_noted(kind: ColumnElement[str], identity: ColumnElement[str]) -> ColumnElement[bool]:
    return exists(select(departures.c.id).where(departures.c.type == kind, departures.c.id == identity))


async def _count(connection: AsyncConnection, query: Select[int]) -> int:
    return int((await connection.execute(query)).scalar_one())


def written(who: Sequence[str]) -> str:
    """Write one as references are written."""
    return f"{who[0]}:{who[1]}"
