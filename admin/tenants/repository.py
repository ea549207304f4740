"""Statements that read tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import IS_DELETED, Found, Order, begins_with, order_of, paged
from admin.tenants.wire import TenantQuery
from store.tables import tenant_profiles, tenants

ORDERS: Final[Mapping[str, Order]] = {"id": Order("tenants", (tenants.c.id,))}


async def read(connection: AsyncConnection, tenant: str) -> Found | None:
    """Read one, with what is its own; the connection is the tenant's."""
    found = await connection.execute(
        select(tenants.c.id, tenants.c.status, tenant_profiles.c.attributes)
        .join(tenant_profiles, tenant_profiles.c.tenant_id == tenants.c.id)
        .where(tenants.c.id == tenant)
    )
    return found.one_or_none()


async def list_page(connection: AsyncConnection, page: TenantQuery) -> Sequence[Found]:
    """Read a page of all."""
    query = select(tenants.c.id, tenants.c.status)
    status = tenants.c.status
    query = query.where(status != IS_DELETED if page.status is None else status == page.status)
    if page.prefix is not None:
        query = query.where(begins_with(tenants.c.id, page.prefix))
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())
