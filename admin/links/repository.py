"""Statements that read links into a tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.links.wire import LinkQuery
from admin.repository import Found, Order, cut, order_of, paged, split
from store.tables import links

_C: Final = links.c
_KEY: Final = (_C.type, _C.id, _C.home_id, _C.place_type, _C.place_id, _C.role, _C.starts)
ORDERS: Final[Mapping[str, Order]] = {
    "subject": Order("links", _KEY),
    "expires": Order("links by expires", (_C.expires, *_KEY), is_partial=True),
}


async def list_page(connection: AsyncConnection, tenant: str, page: LinkQuery) -> Sequence[Found]:
    """Read a page of those that end in a tenant."""
    query = select(links).where(_C.tenant_id == tenant)
    if page.subject is not None:
        kind, identity = split(page.subject)
        query = query.where(_C.type == kind, _C.id == identity)
    if page.home is not None:
        query = query.where(_C.home_id == page.home)
    if page.role is not None:
        query = query.where(_C.role == page.role)
    if page.on is not None:
        kind, identity = split(page.on)
        query = query.where(_C.place_type == kind, _C.place_id == identity)
    query = cut(query, _C.type, _C.id, _C.expires, page)
    return list((await connection.execute(paged(query, order_of(ORDERS, page.order), page))).all())
