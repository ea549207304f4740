"""Statements that read keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.api_keys.wire import KeyQuery
from admin.repository import Found, Order, order_of, paged
from store.tables import api_keys

_C: Final = api_keys.c
ORDERS: Final[Mapping[str, Order]] = {"made": Order("api-keys", (_C.id,))}


async def list_page(connection: AsyncConnection, page: KeyQuery) -> Sequence[Found]:
    """Read a page of all."""
    query = select(api_keys)
    if page.revoked is not None:
        query = query.where(_C.revoked_at.is_not(None) if page.revoked else _C.revoked_at.is_(None))
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())
