"""Statements on one table, by the values of its columns."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Table,
    Text,
    and_,
    column,
    delete,
    func,
    insert,
    select,
    text,
    true,
    update,
)

from store.changes import Write
from store.queries import dialect_of


def where(table: FromClause, **values: object) -> ColumnElement[bool]:
    """Name rows by what stands in their columns; None is what is absent."""
    return and_(true(), *(table.c[name] == value for name, value in values.items()))


async def find(write: Write, table: Table, **values: object) -> Row[Any] | None:
    """Read the one row that has these values."""
    found = await write.connection.execute(select(table).where(where(table, **values)))
    return found.one_or_none()


async def has(write: Write, table: Table, condition: ColumnElement[bool]) -> bool:
    found = await write.connection.execute(select(table).where(condition).limit(1))
    return found.first() is not None


async def count(write: Write, table: Table, condition: ColumnElement[bool]) -> int:
    found = await write.connection.execute(select(func.count()).select_from(table).where(condition))
    return int(found.scalar_one())


async def add(write: Write, table: Table, **values: object) -> None:
    await write.connection.execute(insert(table).values(**values))


async def change(write: Write, table: Table, condition: ColumnElement[bool], **values: object) -> int:
    """Change rows; return how many."""
    changed = await write.connection.execute(update(table).where(condition).values(**values))
    return changed.rowcount


async def remove(write: Write, table: Table, condition: ColumnElement[bool], *columns: str) -> list[Any]:
    """Remove rows; return these columns of them."""
    wanted = [table.c[name] for name in columns] or list(table.primary_key.columns)
    removed = await write.connection.execute(delete(table).where(condition).returning(*wanted))
    return list(removed.all())


def listed(write: Write, pairs: Collection[tuple[str, str]]) -> FromClause:
    """Make a table of pairs, `type` and `id`: one parameter, however many there are."""
    made = text(dialect_of(write.connection).table("pairs", "type", "id")).bindparams(pairs=json.dumps(sorted(pairs)))
    return made.columns(column("type", Text()), column("id", Text())).subquery()
