"""Statements that read memberships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.memberships.wire import MembershipQuery
from admin.repository import Found, Order, paged
from store.tables import memberships

BY_SUBJECT: Final = Order("memberships", (memberships.c.type, memberships.c.id))


async def read(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> Found | None:
    """Read one."""
    c = memberships.c
    found = await connection.execute(select(memberships).where(c.tenant_id == tenant, c.type == kind, c.id == identity))
    return found.one_or_none()


async def list_page(connection: AsyncConnection, tenant: str, page: MembershipQuery) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(memberships).where(memberships.c.tenant_id == tenant)
    if page.status is not None:
        query = query.where(memberships.c.status == page.status)
    if page.type is not None:
        query = query.where(memberships.c.type == page.type)
    return list((await connection.execute(paged(query, BY_SUBJECT, page))).all())
