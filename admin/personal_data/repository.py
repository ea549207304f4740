"""Statements that read what is stored of a user, beside what is encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found
from store.tables import (
    assignments,
    blocked_tokens,
    group_members,
    links,
    memberships,
    platform_members,
    pseudonyms,
    system_assignments,
    token_horizons,
)

Rows = Sequence[Found]


async def platform_groups(connection: AsyncConnection, kind: str, identity: str) -> Rows:
    """Read in which groups of the platform he is."""
    return await _read(connection, platform_members, _is(platform_members, kind, identity))


async def system_roles(connection: AsyncConnection, kind: str, identity: str) -> Rows:
    """Read what he holds on the system."""
    return await _read(connection, system_assignments, _is(system_assignments, kind, identity))


async def crossing(connection: AsyncConnection, kind: str, identity: str) -> Rows:
    """Read his links into other tenants."""
    return await _read(connection, links, _is(links, kind, identity))


async def blocks(connection: AsyncConnection, kind: str, identity: str) -> Rows:
    """Read which of his tokens are blocked."""
    return await _read(connection, blocked_tokens, _is(blocked_tokens, kind, identity))


async def valid_after(connection: AsyncConnection, kind: str, identity: str) -> str | None:
    """Read since when his tokens count; None: always."""
    found = await _read(connection, token_horizons, _is(token_horizons, kind, identity))
    return found[0].valid_after if found else None


async def is_named(connection: AsyncConnection, ref: str) -> bool:
    """Say whether a pseudonym stands for him."""
    found = await connection.execute(select(pseudonyms.c.pseudonym).where(pseudonyms.c.ref == ref))
    return found.first() is not None


async def membership(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> Found | None:
    """Read as what he is in a tenant; the connection is the tenant's, as for those below."""
    own = _is(memberships, kind, identity) & (memberships.c.tenant_id == tenant)
    found = await _read(connection, memberships, own)
    return found[0] if found else None


async def groups(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> Rows:
    """Read in which groups of a tenant he is."""
    own = _is(group_members, kind, identity) & (group_members.c.tenant_id == tenant)
    return await _read(connection, group_members, own)


async def roles(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> Rows:
    """Read what he holds in a tenant."""
    c = assignments.c
    own = (c.tenant_id == tenant) & (c.subject_type == kind) & (c.subject_id == identity)
    return await _read(connection, assignments, own)


def _is(table: Table, kind: str, identity: str) -> ColumnElement[bool]:
    return (table.c.type == kind) & (table.c.id == identity)


async def _read(connection: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> Rows:
    query: Any = select(table).where(condition).order_by(*table.primary_key.columns)
    return list((await connection.execute(query)).all())
