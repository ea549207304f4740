"""Traces: where a user stands in what tenants keep of who asked, invited and was given what (stream t).

Who leaves a tenant leaves them there: it is to be told who asked for an approval, though he is gone. Who is forgotten
is not: his pseudonym takes the place of his reference, in rows that are read, as it stands in the audit log already. So
both say the same, and once the pseudonym stands for nobody (`pseudonyms.erase`) neither can be joined with his name.
What still waits and names him is taken back: nobody is left to whom it could be given, or by whose right.

Attributes are not touched. That a resource's `owner` is a certain user is a fact, which its tenant may change and which
decides.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Row, Table, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import SYSTEM_ACTOR, Write, Writer
from store.pseudonyms import stand_ins, veiled
from store.tables import approvals, assignments, invitations, links
from store.times import write_time
from store.writes import approvals as approving
from store.writes import invitations as inviting
from store.writes import platform_groups, principals
from store.writes.removal import clear
from store.writes.rows import change, where
from store.writes.standing import principal_of

#: Columns that hold a reference, and those that hold JSON with references in it.
_REFS: Final = {
    approvals: (approvals.c.requested_by, approvals.c.decided_by),
    invitations: (invitations.c.invited_by, invitations.c.accepted_by),
}
_JSON: Final = {approvals: approvals.c.change, invitations: invitations.c.roles}


async def leave_no_trace(writer: Writer, ref: str, *, actor: str = SYSTEM_ACTOR) -> int:
    """End what a deleted user has in each tenant, and name him nowhere there, one write each; return in how many.

    Cut off in the middle, it is called again and goes on.
    """
    await principals.leave_everything(writer, ref, actor=actor)
    named = 0

    async def work(write: Write) -> None:
        await veil(write, ref)

    async for tenant in platform_groups.all_tenants(writer.database):
        async with writer.database.reading(tenant) as connection:
            if not await is_named(connection, tenant, ref):
                continue
        await writer.run(work, tenant=tenant, actor=actor)
        named += 1
    return named


async def is_named(connection: AsyncConnection, tenant: str, ref: str) -> bool:
    """Say whether a tenant's rows name a user, or something is held on him; the connection is of that tenant."""
    kind, identity = principal_of(ref)
    on = {"tenant_id": tenant, "place_type": kind, "place_id": identity}
    conditions = [_names(table, tenant, ref) for table in _REFS]
    conditions += [where(table, **on) for table in (assignments, links)]
    tables = (*_REFS, assignments, links)
    found = [exists(select(table.c.tenant_id).where(each)) for table, each in zip(tables, conditions, strict=True)]
    return bool((await connection.execute(select(or_(*found)))).scalar_one())


async def rows_naming(connection: AsyncConnection, table: Table, tenant: str, ref: str) -> list[Row[Any]]:
    """Read the rows of a tenant's approvals or invitations that name a user; the connection is of that tenant."""
    rows = await connection.execute(select(table).where(_names(table, tenant, ref)).order_by(table.c.id))
    return list(rows.all())


async def veil(write: Write, ref: str) -> None:
    """Put a user's pseudonym in the place of his reference in the write's tenant, and take back what waits.

    Raises:
        NeedsSharedError: links end on him, and the tenants on both sides are not locked.
    """
    await clear(write, principal_of(ref))
    for row in await rows_naming(write.connection, approvals, write.owner, ref):
        if row.outcome is None and row.expires > write_time(write.now):
            await approving.withdraw(write, row.id)
    for row in await rows_naming(write.connection, invitations, write.owner, ref):
        if row.accepted_at is None and row.withdrawn_at is None:
            await inviting.withdraw(write, row.id)
    names = await stand_ins(write.connection, [ref])
    counts = {table.name: 0 for table in _REFS}
    for table in _REFS:
        for row in await rows_naming(write.connection, table, write.owner, ref):
            own = where(table, tenant_id=write.owner, id=row.id)
            counts[table.name] += await change(write, table, own, **_veiled(table, row, ref, names[ref]))
    write.record("traces.veiled", **counts)


def _names(table: Table, tenant: str, ref: str) -> ColumnElement[bool]:
    """Say of a row of a tenant whether it names a user."""
    kind, identity = principal_of(ref)
    found: list[ColumnElement[bool]] = [column == ref for column in _REFS[table]]
    found.append(_holds(_JSON[table], json.dumps(ref, ensure_ascii=False)))
    for prefix in _pairs(table):
        found.append((table.c[f"{prefix}_type"] == kind) & (table.c[f"{prefix}_id"] == identity))
    return where(table, tenant_id=tenant) & or_(*found)


def _holds(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Say whether a text stands somewhere in a column; to the letter, which LIKE is not on SQLite."""
    return func.replace(column, text, "") != column


def _pairs(table: Table) -> tuple[str, ...]:
    """Name the references that stand in two columns each."""
    return ("subject", "place") if table is approvals else ()


def _veiled(table: Table, row: Row[Any], ref: str, stand_in: str) -> dict[str, str]:
    """Write the columns of a row that name a user as they are to be."""
    names = {ref: stand_in}
    found = {column.name: stand_in for column in _REFS[table] if row._mapping[column.name] == ref}
    written = json.loads(row._mapping[_JSON[table].name])
    found[_JSON[table].name] = json.dumps(veiled(written, names), sort_keys=True, ensure_ascii=False)
    for prefix in _pairs(table):
        if f"{row._mapping[f'{prefix}_type']}:{row._mapping[f'{prefix}_id']}" == ref:
            found[f"{prefix}_id"] = principal_of(stand_in)[1]
    return found
