"""Statements that read resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found, Order, order_of, paged, ref_begins_with, split
from admin.resources.wire import ResourceQuery
from store.tables import resources

_C: Final = resources.c
ORDERS: Final[Mapping[str, Order]] = {"id": Order("resources", (_C.type, _C.id))}
Pair = tuple[str, str]


async def read(connection: AsyncConnection, tenant: str, ref: str) -> Found | None:
    """Read one, a deleted one too."""
    kind, _, identity = ref.partition(":")
    found = await connection.execute(
        select(resources).where(_C.tenant_id == tenant, _C.type == kind, _C.id == identity)
    )
    return found.one_or_none()


async def list_page(
    connection: AsyncConnection, tenant: str, page: ResourceQuery, *, at_top: bool = False
) -> Sequence[Found]:
    """Read a page of a tenant's live ones.

    Args:
        at_top: those that lie in the tenant itself, whatever parent the page names.
    """
    query = select(resources).where(_C.tenant_id == tenant, ~_C.deleted)
    if page.type is not None:
        query = query.where(_C.type == page.type)
    if page.prefix is not None:
        query = query.where(ref_begins_with(_C.type, _C.id, page.prefix))
    if at_top:
        query = query.where(_C.parent_type.is_(None), _C.parent_id.is_(None))
    elif page.parent is not None:
        kind, identity = split(page.parent)
        query = query.where(_C.parent_type == kind, _C.parent_id == identity)
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())


async def list_children(
    connection: AsyncConnection, tenant: str, refs: Sequence[Pair], limit: int
) -> list[tuple[Pair, Pair]]:
    """Read what lies in these: pairs of parent and child."""
    pair = _C.parent_type, _C.parent_id, _C.type, _C.id
    own = _C.tenant_id == tenant, ~_C.deleted, tuple_(*pair[:2]).in_(refs)
    found = await connection.execute(select(*pair).where(*own).order_by(*pair).limit(limit))
    return [((row[0], row[1]), (row[2], row[3])) for row in found]
