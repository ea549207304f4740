"""Statements that read links into a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.paging import PageQuery
from admin.repository import Found, Order, paged
from store.tables import links

_C: Final = links.c
BY_KEY: Final = Order("links", (_C.type, _C.id, _C.home_id, _C.place_type, _C.place_id, _C.role, _C.starts))


async def list_page(connection: AsyncConnection, tenant: str, page: PageQuery) -> Sequence[Found]:
    """Read a page of those that end in a tenant."""
    query = select(links).where(_C.tenant_id == tenant)
    return list((await connection.execute(paged(query, BY_KEY, page))).all())
