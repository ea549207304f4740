"""Statements that read assignments, of a tenant and of the platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.assignments.wire import AssignmentQuery, Named, SystemAssignmentQuery
from admin.repository import Found, Order, cut, order_of, paged, split
from store.tables import assignments, system_assignments

_C: Final = assignments.c
_KEY: Final = (_C.subject_type, _C.subject_id, _C.place_type, _C.place_id, _C.role, _C.starts)
ORDERS: Final[Mapping[str, Order]] = {
    "subject": Order("assignments", _KEY),
    "expires": Order("assignments by expires", (_C.expires, *_KEY), is_partial=True),
}
_S: Final = system_assignments.c
SYSTEM_ORDERS: Final[Mapping[str, Order]] = {
    "subject": Order("system-assignments", (_S.type, _S.id, _S.role, _S.starts))
}


async def list_page(connection: AsyncConnection, tenant: str, page: AssignmentQuery) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(assignments).where(_C.tenant_id == tenant)
    if page.subject is not None:
        kind, identity = split(page.subject)
        query = query.where(_C.subject_type == kind, _C.subject_id == identity)
    if page.on is not None:
        kind, identity = split(page.on)
        query = query.where(_C.place_type == kind, _C.place_id == identity)
    if page.role is not None:
        query = query.where(_C.role == page.role)
    query = cut(query, _C.subject_type, _C.subject_id, _C.expires, page)
    return list((await connection.execute(paged(query, order_of(ORDERS, page.order), page))).all())


async def list_system(connection: AsyncConnection, page: SystemAssignmentQuery) -> Sequence[Found]:
    """Read a page of those on `system`."""
    query = select(system_assignments)
    if page.subject is not None:
        kind, identity = split(page.subject)
        query = query.where(_S.type == kind, _S.id == identity)
    if page.role is not None:
        query = query.where(_S.role == page.role)
    return list((await connection.execute(paged(query, order_of(SYSTEM_ORDERS, page.sort), page))).all())


async def read(connection: AsyncConnection, tenant: str, named: Named) -> Found | None:
    """Read one."""
    (subject_type, subject_id), (place_type, place_id) = split(named.subject), split(named.on)
    found = await connection.execute(
        select(assignments).where(
            _C.tenant_id == tenant,
            _C.subject_type == subject_type,
            _C.subject_id == subject_id,
            _C.place_type == place_type,
            _C.place_id == place_id,
            _C.role == named.role,
            _C.starts == named.starts,
        )
    )
    return found.one_or_none()


async def read_system(connection: AsyncConnection, named: Named) -> Found | None:
    """Read one of those on `system`."""
    kind, identity = split(named.subject)
    found = await connection.execute(
        select(system_assignments).where(
            _S.type == kind, _S.id == identity, _S.role == named.role, _S.starts == named.starts
        )
    )
    return found.one_or_none()
