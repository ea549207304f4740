"""The feed of changes: what each revision of a stream touched, in order, from behind one that the reader knows.

The log of changes is kept for an hour, so that processes that decide can follow it; whoever else follows reads the same
rows. Between the first row that is given and the revision behind which it was asked nothing is missing: where something
would be, there is no answer, and the reader must read all anew. A row that is older counts as missing though it is
still there: rows name persons, and who was forgotten is to be forgotten in an hour, whether or not a job has run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.audit import head_of
from store.changes import KEEP_NS
from store.tables import changes
from store.times import write_time


@dataclass(frozen=True, slots=True)
class Change:
    """One revision. `keys` names the views that it touched; `*`: all of them."""

    n: int
    at: str
    keys: tuple[str, ...]


async def read_changes(
    connection: AsyncConnection, stream: str, *, after: int, limit: int, now: int
) -> tuple[tuple[Change, ...], bool] | None:
    """Read what came behind a revision; say, too, whether there is more. None: that is not known any more, or the
    stream has never been there.

    Args:
        connection: in a snapshot.
    """
    head = await head_of(connection, stream)
    if head is None or after > head.n:
        return None
    c = changes.c
    touched = c["keys"].label("touched")
    wanted = select(c.n, c.at, touched).where(c.stream == stream, c.n > after).order_by(c.n).limit(limit)
    rows = (await connection.execute(wanted)).all()
    if after < head.n and (not rows or rows[0].n != after + 1):
        return None
    if any(row.at < write_time(now - KEEP_NS) for row in rows):
        return None
    found = tuple(Change(row.n, row.at, tuple(json.loads(row.touched))) for row in rows)
    return found, after + len(found) < head.n
