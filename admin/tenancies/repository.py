"""Statements that read in which tenants somebody has anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found, Order, paged
from admin.tenancies.wire import TenancyQuery
from store.tables import presences, tenants

_C: Final = presences.c
BY_TENANT: Final = Order("tenancies", (_C.tenant_id,))


async def list_page(connection: AsyncConnection, kind: str, identity: str, page: TenancyQuery) -> Sequence[Found]:
    """Read a page of the tenants in which a principal has rows, but for those that are deleted."""
    query = (
        select(_C.tenant_id, tenants.c.status)
        .join(tenants, tenants.c.id == _C.tenant_id)
        .where(_C.type == kind, _C.id == identity, tenants.c.status != "deleted")
    )
    return list((await connection.execute(paged(query, BY_TENANT, page))).all())
