"""What goes when that on which it hangs goes: assignments, and links from elsewhere."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from store.changes import Write
from store.streams import GLOBAL, principal_key, stream_of, subject_key
from store.tables import assignments, links
from store.writes.presence import depart
from store.writes.rows import remove, where
from store.writes.standing import Pair


def written(who: Pair) -> str:
    """Write a subject as references are written."""
    kind, identity = who
    return kind if kind == identity == "anyone" else f"{kind}:{identity}"


async def strip(write: Write, condition: ColumnElement[bool]) -> int:
    """Remove assignments of the write's tenant; return how many."""
    rows = await remove(
        write, assignments, (assignments.c.tenant_id == write.owner) & condition, "subject_type", "subject_id"
    )
    subjects: set[Pair] = {(row.subject_type, row.subject_id) for row in rows}
    write.touch_own(*(subject_key(written(who)) for who in subjects))
    await depart(write, subjects)
    return len(rows)


async def cut(write: Write, condition: ColumnElement[bool]) -> int:
    """Remove links; return how many. Of each both sides have it in their logs.

    Raises:
        NeedsSharedError: there are some, and what all tenants share, or one of their sides, is not locked.
    """
    there = (await write.connection.execute(select(links).where(condition))).all()
    if not there:
        return 0
    write.want_shared({side for row in there for side in (row.home_id, row.tenant_id)})
    await remove(write, links, condition)
    for row in there:
        ref, sides = written((row.type, row.id)), (stream_of(row.home_id), stream_of(row.tenant_id))
        details = {"role": row.role, "on": written((row.place_type, row.place_id))}
        write.touch(GLOBAL, principal_key(ref))
        write.record("link.cut", GLOBAL, *sides, subject=ref, home=row.home_id, tenant=row.tenant_id, **details)
    return len(there)


async def clear(write: Write, place: Pair) -> None:
    """Remove what is held on one place in the write's tenant."""
    on = {"place_type": place[0], "place_id": place[1]}
    await strip(write, where(assignments, **on))
    await cut(write, where(links, tenant_id=write.owner, **on))
