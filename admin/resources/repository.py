"""Statements that read resources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found, Order, paged
from admin.resources.wire import ResourceQuery
from store.tables import resources

_C: Final = resources.c
BY_REF: Final = Order("resources", (_C.type, _C.id))


async def read(connection: AsyncConnection, tenant: str, ref: str) -> Found | None:
    """Read one, a deleted one too."""
    kind, _, identity = ref.partition(":")
    found = await connection.execute(
        select(resources).where(_C.tenant_id == tenant, _C.type == kind, _C.id == identity)
    )
    return found.one_or_none()


async def list_page(connection: AsyncConnection, tenant: str, page: ResourceQuery) -> Sequence[Found]:
    """Read a page of a tenant's live ones."""
    query = select(resources).where(_C.tenant_id == tenant, ~_C.deleted)
    if page.type is not None:
        query = query.where(_C.type == page.type)
    if page.parent is not None:
        kind, _, identity = page.parent.partition(":")
        query = query.where(_C.parent_type == kind, _C.parent_id == identity)
    return list((await connection.execute(paged(query, BY_REF, page))).all())
