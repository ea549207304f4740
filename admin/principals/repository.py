"""Statements that read users and services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.principals.wire import PrincipalQuery
from admin.repository import IS_DELETED, Found, Order, begins_with, order_of, paged
from store.tables import principals

ORDERS: Final[Mapping[str, Order]] = {"id": Order("principals", (principals.c.id,))}


async def read(connection: AsyncConnection, kind: str, identity: str) -> Found | None:
    """Read one."""
    found = await connection.execute(select(principals).where(principals.c.type == kind, principals.c.id == identity))
    return found.one_or_none()


async def list_page(connection: AsyncConnection, kind: str, page: PrincipalQuery) -> Sequence[Found]:
    """Read a page of all of a kind."""
    query = select(principals.c.id, principals.c.status).where(principals.c.type == kind)
    status = principals.c.status
    query = query.where(status != IS_DELETED if page.status is None else status == page.status)
    if page.prefix is not None:
        query = query.where(begins_with(principals.c.id, page.prefix))
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())
