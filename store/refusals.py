"""What was refused: rows in chains of their own, beside those of what was done, which `audit` verifies alike.

A refusal changes no fact and moves no stream of facts. It is written when the request that it is about has ended, in a
transaction of its own, into the chain of the tenant that the request named, or of the platform if there is none of that
name: who makes up names fills nobody else's log. Whoever asked stands there behind his pseudonym.

The first statement moves the chain's head and so locks it, as that of a write does: rows are numbered in the order of
their commits. No write of facts takes this lock, so refusals hinder nobody who may do what he asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import SYSTEM_ACTOR, chained
from store.database import Database
from store.pseudonyms import persons_in, stand_ins
from store.streams import REFUSED, Position, refused_in
from store.tables import platform_refusals, refusal_heads, refusals, tenants
from store.times import write_time


class Refused(NamedTuple):
    """One thing that was refused.

    Args:
        action: what happened, `request.refused`.
        details: nothing of them is a person or a secret; they are stored as they are.
    """

    action: str
    details: Mapping[str, Any]


async def append(
    database: Database, tenant: str | None, said: Sequence[Refused], *, now: int, actor: str = SYSTEM_ACTOR
) -> None:
    """Write one row.

    Args:
        tenant: that the request named; None: none.
        now: when it was refused.
        actor: who was refused; nobody in particular, if nobody knows.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    async with database.changing(tenant) as connection:
        owner = tenant if tenant is not None and await _is_there(connection, tenant) else None
        stream = refused_in(owner)
        before = await _advance(connection, stream)
        names = await stand_ins(connection, persons_in(actor))
        who, at, n = names.get(actor, actor), write_time(now), before.n + 1
        entries = json.dumps([[each.action, each.details] for each in said], sort_keys=True, separators=(",", ":"))
        head = chained(before.head, stream, n, at, who, entries)
        row = {"n": n, "at": at, "actor": who, "entries": entries, "before": before.head, "hash": head}
        if owner is None:
            await connection.execute(insert(platform_refusals).values(stream=REFUSED, **row))
        else:
            await connection.execute(insert(refusals).values(tenant_id=owner, **row))
        await connection.execute(update(refusal_heads).where(refusal_heads.c.stream == stream).values(head=head))


async def _is_there(connection: AsyncConnection, tenant: str) -> bool:
    found = await connection.execute(select(tenants.c.id).where(tenants.c.id == tenant))
    return found.first() is not None


async def _advance(connection: AsyncConnection, stream: str) -> Position:
    """Move a chain on and lock it; return where it was. A chain begins with its first row."""
    await connection.execute(
        text("INSERT INTO refusal_heads (stream, n, head) VALUES (:stream, 0, '') ON CONFLICT DO NOTHING"),
        {"stream": stream},
    )
    moved = await connection.execute(
        update(refusal_heads)
        .where(refusal_heads.c.stream == stream)
        .values(n=refusal_heads.c.n + 1)
        .returning(refusal_heads.c.n, refusal_heads.c.head)
    )
    row = moved.one()
    return Position(row.n - 1, row.head)
