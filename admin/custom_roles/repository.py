"""Statements that read custom roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.paging import PageQuery
from admin.repository import Found, Order, paged
from store.tables import custom_roles

_C: Final = custom_roles.c
BY_NAME: Final = Order("custom-roles", (_C.name,))


async def read(connection: AsyncConnection, tenant: str, name: str) -> Found | None:
    """Read one that is there."""
    found = await connection.execute(select(custom_roles).where(_C.tenant_id == tenant, _C.name == name, ~_C.deleted))
    return found.one_or_none()


async def list_page(connection: AsyncConnection, tenant: str, page: PageQuery) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(custom_roles).where(_C.tenant_id == tenant, ~_C.deleted)
    return list((await connection.execute(paged(query, BY_NAME, page))).all())
