"""Statements that read memberships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.memberships.wire import MembershipQuery
from admin.repository import Found, Order, cut, order_of, paged
from store.tables import memberships

_C: Final = memberships.c
ORDERS: Final[Mapping[str, Order]] = {
    "subject": Order("memberships", (_C.type, _C.id)),
    "expires": Order("memberships by expires", (_C.expires, _C.type, _C.id), is_partial=True),
}


async def read(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> Found | None:
    """Read one."""
    own = _C.tenant_id == tenant, _C.type == kind, _C.id == identity
    return (await connection.execute(select(memberships).where(*own))).one_or_none()


async def list_page(connection: AsyncConnection, tenant: str, page: MembershipQuery) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(memberships).where(_C.tenant_id == tenant)
    if page.status is not None:
        query = query.where(_C.status == page.status)
    if page.type is not None:
        query = query.where(_C.type == page.type)
    query = cut(query, _C.type, _C.id, _C.expires, page)
    return list((await connection.execute(paged(query, order_of(ORDERS, page.order), page))).all())
