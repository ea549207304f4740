"""Ciphertexts: where they stand, which are under another key than the current one, and how one is put in their place.

They are opaque here: by their beginning alone, `v1.ID.`, it is seen by which key they are encrypted. One is replaced
only where it still stands as it was read: who wrote meanwhile has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Table, and_, func, not_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.tables import circumstances, idempotency_keys, invitations, personal_data
from store.writes.rows import change

_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Cells:
    """A column of ciphertexts.

    Attributes:
        is_owned: of one tenant's rows.
        beginning: what else stands there, written without keys, does not begin so and is left alone; "": nothing is.
    """

    table: Table
    column: str
    is_owned: bool
    beginning: str = ""

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The key of a row, without the tenant."""
        return tuple(column for column in self.table.primary_key.columns if column.name != "tenant_id")


class Cell(NamedTuple):
    """One value: the key of its row, without the tenant, and what stands there."""

    key: tuple[str, ...]
    stored: str


#: An answer that was kept without keys has its headers beside it, and is forgotten within a day.
ALL: Final = (
    Cells(personal_data, "value", is_owned=False),
    Cells(idempotency_keys, "body", is_owned=False, beginning="v1."),
    Cells(invitations, "email", is_owned=True),
    Cells(circumstances, "said", is_owned=True),
)


async def read_page(
    connection: AsyncConnection, cells: Cells, tenant: str | None, head: str, *, after: Sequence[str] = (), limit: int
) -> list[Cell]:
    """List values that do not begin with a head, by key, from behind one; the connection is of that tenant."""
    column = cells.table.c[cells.column]
    wanted = _own(cells, tenant) & column.is_not(None) & not_(_begins(column, head))
    if cells.beginning:
        wanted &= _begins(column, cells.beginning)
    if after:
        wanted &= tuple_(*cells.key) > tuple(after)
    rows = await connection.execute(select(*cells.key, column).where(wanted).order_by(*cells.key).limit(limit))
    return [Cell(tuple(row[:-1]), row[-1]) for row in rows]


async def replace(write: Write, cells: Cells, cell: Cell, anew: str) -> bool:
    """Put a value in the place of one that still stands there; say whether it did."""
    same = and_(*(column == part for column, part in zip(cells.key, cell.key, strict=True)))
    same &= _own(cells, write.tenant) & (cells.table.c[cells.column] == cell.stored)
    return bool(await change(write, cells.table, same, **{cells.column: anew}))


async def count(connection: AsyncConnection, cells: Cells, tenant: str | None, heads: Sequence[str]) -> list[int]:
    """Count how many values begin with each head; the connection is of that tenant."""
    column = cells.table.c[cells.column]
    counts = [func.count().filter(_begins(column, head)) for head in heads]
    row = (await connection.execute(select(*counts).select_from(cells.table).where(_own(cells, tenant)))).one()
    return [int(found) for found in row]


def _own(cells: Cells, tenant: str | None) -> ColumnElement[bool]:
    """Name the rows of a tenant, or all that are none's."""
    if cells.is_owned:
        return cells.table.c.tenant_id == tenant
    return cells.table.c[cells.column].is_not(None)


def _begins(column: ColumnElement[Any], head: str) -> ColumnElement[bool]:
    """Say of a text whether it begins so: texts compare by byte."""
    return and_(column >= head, column < head + _LAST)
