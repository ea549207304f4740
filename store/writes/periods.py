"""The times in which something counts.

Where a thing may count for several periods (an assignment, a place in a group), the beginning is part of the row's key.
To say it again replaces all periods that were said before, so that nobody keeps what a later word was to cut short;
`beside` adds one instead.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table

from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.errors import RefusedError
from store.times import write_end, write_start
from store.writes.rows import add, remove, where


def columns_of(starts: int, expires: int) -> dict[str, Any]:
    """Write a period into its two columns.

    Raises:
        RefusedError: it has no instant in it.
    """
    if max(starts, ALWAYS) >= min(expires, NEVER):
        raise RefusedError("bad_times", "it would end before it begins")
    return {"starts": write_start(starts), "expires": write_end(expires)}


async def put(write: Write, table: Table, thing: dict[str, str], starts: int, expires: int, *, beside: bool) -> None:
    """Say in which times a thing counts.

    Args:
        beside: keep what was said of it for times that begin otherwise.
    """
    period = columns_of(starts, expires)
    replaced = {**thing, "starts": period["starts"]} if beside else thing
    await remove(write, table, where(table, **replaced))
    await add(write, table, **thing, **period)


async def end(write: Write, table: Table, thing: dict[str, str], starts: int | None) -> bool:
    """Take a thing away, for all times or for those that begin at an instant; say whether it was there."""
    which: dict[str, str] = thing if starts is None else {**thing, "starts": write_start(starts)}
    return bool(await remove(write, table, where(table, **which)))


def said(starts: int, expires: int) -> dict[str, str | None]:
    """Return what an audit row says of a period."""
    period = columns_of(starts, expires)
    return {name: value for name, value in period.items() if value}
