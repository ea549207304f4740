"""Statements that read groups. `tenant` None: those of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, exists, literal, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.groups.wire import GroupQuery, MemberQuery
from admin.repository import Found, Order, begins_with, order_of, paged, split
from store.tables import group_members, group_nestings, groups, platform_groups, platform_members, platform_nestings

GROUP: Final = "group"


def _of(tenant: str | None, own: Table, shared: Table) -> tuple[Table, ColumnElement[bool]]:
    return (shared, true()) if tenant is None else (own, own.c.tenant_id == tenant)


def order_by(tenant: str | None, sort: str) -> Order:
    """How groups are ordered."""
    table, _ = _of(tenant, groups, platform_groups)
    return order_of({"id": Order("groups", (table.c.id,))}, sort)


async def read(connection: AsyncConnection, tenant: str | None, name: str) -> tuple[Found, list[str]] | None:
    """Read one that is there, and the groups in which it stands."""
    table, mine = _of(tenant, groups, platform_groups)
    row = (await connection.execute(select(table).where(mine, table.c.id == name, ~table.c.deleted))).one_or_none()
    if row is None:
        return None
    nestings, mine = _of(tenant, group_nestings, platform_nestings)
    outer = select(nestings.c.outer_id).where(mine, nestings.c.inner_id == name).order_by(nestings.c.outer_id)
    return row, list((await connection.execute(outer)).scalars())


async def is_deleted(connection: AsyncConnection, name: str) -> bool:
    """Say whether there was a group of the platform of this name."""
    own = select(platform_groups.c.id).where(platform_groups.c.id == name, platform_groups.c.deleted)
    return (await connection.execute(own)).first() is not None


async def list_page(connection: AsyncConnection, tenant: str | None, page: GroupQuery) -> Sequence[Found]:
    """Read a page of all."""
    table, mine = _of(tenant, groups, platform_groups)
    query = select(table.c.id).where(mine, ~table.c.deleted)
    if page.prefix is not None:
        query = query.where(begins_with(table.c.id, page.prefix))
    if page.member is not None:
        query = query.where(table.c.id.in_(_groups_of(tenant, page.member)))
    nestings, nested = _of(tenant, group_nestings, platform_nestings)
    n = nestings.c
    if page.inside is not None:
        query = query.where(table.c.id.in_(select(n.inner_id).where(nested, n.outer_id == page.inside)))
    if page.view == "tree" and page.prefix is page.member is page.inside is None:
        query = query.where(~exists(select(n.outer_id).where(nested, n.inner_id == table.c.id)))
    return list((await connection.execute(paged(query, order_by(tenant, page.sort), page))).all())


def _groups_of(tenant: str | None, ref: str) -> Select[Any]:
    """Select the groups in which somebody is himself."""
    kind, identity = split(ref)
    if kind == GROUP:
        nestings, mine = _of(tenant, group_nestings, platform_nestings)
        return select(nestings.c.outer_id).where(mine, nestings.c.inner_id == identity)
    members, mine = _of(tenant, group_members, platform_members)
    return select(members.c.group_id).where(mine, members.c.type == kind, members.c.id == identity)


async def list_nested(
    connection: AsyncConnection, tenant: str | None, names: Sequence[str], limit: int
) -> list[tuple[str, str]]:
    """Read which groups stand in these: pairs of outer and inner."""
    nestings, mine = _of(tenant, group_nestings, platform_nestings)
    pair = nestings.c.outer_id, nestings.c.inner_id
    found = await connection.execute(select(*pair).where(mine, pair[0].in_(names)).order_by(*pair).limit(limit))
    return [(row.outer_id, row.inner_id) for row in found]


async def list_members(
    connection: AsyncConnection, tenant: str | None, name: str, page: MemberQuery
) -> tuple[Sequence[Found], Order]:
    """Read a page of who is in a group: principals, and groups that stand in it.

    They are two lists of one order, of each of which a page is read: for both in one no index has the order.
    """
    members, mine = _of(tenant, group_members, platform_members)
    nestings, nested = _of(tenant, group_nestings, platform_nestings)
    m, n = members.c, nestings.c
    people = (m.type, m.id, m.starts)
    groups_in = (literal(GROUP).label("type"), n.inner_id.label("id"), literal("").label("starts"))
    order = _members_by(name, people, page.sort)
    rows: list[Found] = []
    if page.type in (None, GROUP):
        inner = select(*groups_in, literal(None).label("expires")).where(nested, n.outer_id == name)
        rows += (await connection.execute(paged(inner, _members_by(name, groups_in, page.sort), page))).all()
    if page.type != GROUP:
        query = select(*people, m.expires).where(mine, m.group_id == name)
        query = query if page.type is None else query.where(m.type == page.type)
        rows += (await connection.execute(paged(query, order, page))).all()
    rows.sort(key=lambda row: (row.type, row.id, row.starts), reverse=order.is_descending)
    return rows[: page.limit + 1], order


def _members_by(name: str, columns: tuple[ColumnElement[Any], ...], sort: str) -> Order:
    return order_of({"subject": Order(f"members of {name}", columns)}, sort)
