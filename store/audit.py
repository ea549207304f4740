"""The audit logs as evidence: each row holds the hash of the one before, and the stream's head is that of the last.

Whoever changes, adds or removes a row must change all that follow it, and the head, which is in every token that was
given out since and in what the processes that decide remember.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import chained
from store.streams import NOWHERE, Position, tenant_of
from store.tables import audit_log, platform_audit_log, revisions

PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold: at which revision, and why."""

    n: int
    why: str


async def verify_chain(connection: AsyncConnection, stream: str) -> Break | None:
    """Compute the chain of a stream again; return where it breaks first, None if it is whole.

    Args:
        connection: in a snapshot, of the stream's tenant if it has one: no other sees the rows.
    """
    at = NOWHERE
    async for row in _rows(connection, stream):
        fault = _fault(at, stream, row)
        if fault is not None:
            return fault
        at = Position(row.n, row.hash)
    return await _at_the_end(connection, stream, at)


def _fault(at: Position, stream: str, row: Row[Any]) -> Break | None:
    """Say what is wrong with a row that follows what stands at a position."""
    if row.n != at.n + 1:
        return Break(at.n + 1, "the row is missing")
    if row.before != at.head:
        return Break(row.n, "it does not follow the row before")
    if row.hash != chained(row.before, stream, row.n, row.at, row.actor, row.entries):
        return Break(row.n, "the row was changed")
    return None


async def _at_the_end(connection: AsyncConnection, stream: str, at: Position) -> Break | None:
    found = await connection.execute(select(revisions.c.n, revisions.c.head).where(revisions.c.stream == stream))
    row = found.one_or_none()
    known = Position(row.n, row.head) if row is not None else NOWHERE
    if known.n > at.n:
        return Break(at.n + 1, "the row is missing")
    if known != at:
        return Break(at.n, "the stream has another head")
    return None


async def _rows(connection: AsyncConnection, stream: str) -> AsyncIterator[Row[Any]]:
    """Read the rows of a stream in order, page by page."""
    owner = tenant_of(stream)
    table = platform_audit_log if owner is None else audit_log
    whose = table.c.stream == stream if owner is None else table.c.tenant_id == owner
    last = -(2**63)
    while True:
        found = await connection.execute(select(table).where(whose, table.c.n > last).order_by(table.c.n).limit(PAGE))
        page = found.all()
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        last = page[-1].n
