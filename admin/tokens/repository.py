"""Statements that read which tokens are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found, Order, paged, split
from admin.tokens.wire import BlockQuery
from store.tables import blocked_tokens, token_horizons
from store.times import write_time

_C: Final = blocked_tokens.c
BY_TOKEN: Final = Order("blocked-tokens", (_C.type, _C.id, _C.jti))


async def list_page(connection: AsyncConnection, page: BlockQuery, *, now: int) -> Sequence[Found]:
    """Read a page of the blocks whose token's own end has not come."""
    query = select(blocked_tokens).where(_C.until > write_time(now))
    if page.subject is not None:
        kind, identity = split(page.subject)
        query = query.where(_C.type == kind, _C.id == identity)
    return list((await connection.execute(paged(query, BY_TOKEN, page))).all())


async def horizon(connection: AsyncConnection, kind: str, identity: str) -> str | None:
    """Read from when on somebody's tokens count; None: whenever they were issued."""
    c = token_horizons.c
    found: str | None = await connection.scalar(select(c.valid_after).where(c.type == kind, c.id == identity))
    return found
