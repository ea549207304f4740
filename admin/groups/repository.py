"""Statements that read groups. `tenant` None: those of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, literal, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.groups.wire import GroupQuery
from admin.paging import PageQuery
from admin.repository import Found, Order, begins_with, paged
from store.tables import group_members, group_nestings, groups, platform_groups, platform_members, platform_nestings

GROUP: Final = "group"


def _of(tenant: str | None, own: Table, shared: Table) -> tuple[Table, ColumnElement[bool]]:
    return (shared, true()) if tenant is None else (own, own.c.tenant_id == tenant)


def by_name(tenant: str | None) -> Order:
    """How groups are ordered."""
    table, _ = _of(tenant, groups, platform_groups)
    return Order("groups", (table.c.id,))


async def read(connection: AsyncConnection, tenant: str | None, name: str) -> tuple[Found, list[str]] | None:
    """Read one that is there, and the groups in which it stands."""
    table, mine = _of(tenant, groups, platform_groups)
    row = (await connection.execute(select(table).where(mine, table.c.id == name, ~table.c.deleted))).one_or_none()
    if row is None:
        return None
    nestings, mine = _of(tenant, group_nestings, platform_nestings)
    outer = select(nestings.c.outer_id).where(mine, nestings.c.inner_id == name).order_by(nestings.c.outer_id)
    return row, list((await connection.execute(outer)).scalars())


async def list_page(connection: AsyncConnection, tenant: str | None, page: GroupQuery) -> Sequence[Found]:
    """Read a page of all."""
    table, mine = _of(tenant, groups, platform_groups)
    query = select(table.c.id).where(mine, ~table.c.deleted)
    if page.prefix is not None:
        query = query.where(begins_with(table.c.id, page.prefix))
    return list((await connection.execute(paged(query, by_name(tenant), page))).all())


async def list_members(
    connection: AsyncConnection, tenant: str | None, name: str, page: PageQuery
) -> tuple[Sequence[Found], Order]:
    """Read a page of who is in a group: principals, and groups that stand in it."""
    members, mine = _of(tenant, group_members, platform_members)
    nestings, nested = _of(tenant, group_nestings, platform_nestings)
    m: Any = members.c
    people = select(m.type, m.id, m.starts, m.expires).where(mine, m.group_id == name)
    inner = select(
        literal(GROUP).label("type"), nestings.c.inner_id.label("id"), literal("").label("starts"),
        literal(None).label("expires"),
    ).where(nested, nestings.c.outer_id == name)  # fmt: skip
    both = union_all(people, inner).subquery()
    order = Order(f"members of {name}", (both.c.type, both.c.id, both.c.starts))
    return list((await connection.execute(paged(select(both), order, page))).all()), order
