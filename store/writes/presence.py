"""In which tenants a principal has rows: what to look through when he leaves everything, and nothing else.

INVARIANT: `presences` names (principal, tenant) exactly if he has a membership there, is in one of its groups, or holds
a role in it himself. Only writes of that tenant change its rows, and they wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Table, exists, select, text, tuple_

from store.changes import Write
from store.tables import assignments, group_members, memberships, presences
from store.writes.rows import listed, remove
from store.writes.standing import PRINCIPALS, Pair


async def arrive(write: Write, who: Pair) -> None:
    """Note that a principal has a row in the write's tenant; groups and `anyone` are not noted."""
    kind, identity = who
    if kind in PRINCIPALS:
        await write.connection.execute(
            text("INSERT INTO presences (type, id, tenant_id) VALUES (:type, :id, :tenant) ON CONFLICT DO NOTHING"),
            {"type": kind, "id": identity, "tenant": write.owner},
        )


async def depart(write: Write, subjects: Iterable[Pair]) -> None:
    """Note of those who lost a row in the write's tenant whether it was their last."""
    gone = {who for who in subjects if who[0] in PRINCIPALS}
    if not gone:
        return
    asked = listed(write, gone)
    rows = (_row_in(write, memberships), _row_in(write, group_members), _row_in(write, assignments, "subject_"))
    await remove(
        write,
        presences,
        (presences.c.tenant_id == write.owner)
        & tuple_(presences.c.type, presences.c.id).in_(select(asked.c.type, asked.c.id))
        & ~rows[0]
        & ~rows[1]
        & ~rows[2],
    )


def _row_in(write: Write, table: Table, prefix: str = "") -> ColumnElement[bool]:
    """Say of a presence whether its principal has a row in a table."""
    kind, identity = table.c[f"{prefix}type"], table.c[f"{prefix}id"]
    return exists(
        select(table.c.tenant_id)
        .where(table.c.tenant_id == write.owner, kind == presences.c.type, identity == presences.c.id)
        .correlate(presences)
    )
