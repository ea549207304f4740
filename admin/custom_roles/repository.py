"""Statements that read custom roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.custom_roles.wire import CustomRoleQuery
from admin.repository import Found, Order, begins_with, order_of, paged
from store.tables import custom_roles

_C: Final = custom_roles.c
ORDERS: Final[Mapping[str, Order]] = {"name": Order("custom-roles", (_C.name,))}


async def read(connection: AsyncConnection, tenant: str, name: str) -> Found | None:
    """Read one that is there."""
    found = await connection.execute(select(custom_roles).where(_C.tenant_id == tenant, _C.name == name, ~_C.deleted))
    return found.one_or_none()


async def list_page(connection: AsyncConnection, tenant: str, page: CustomRoleQuery) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(custom_roles).where(_C.tenant_id == tenant, ~_C.deleted)
    if page.on is not None:
        query = query.where(_C.place_type == page.on)
    if page.prefix is not None:
        query = query.where(begins_with(_C.name, page.prefix))
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())
