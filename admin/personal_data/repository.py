"""Statements that read what a tenant has of a user."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.tables import assignments, group_members, links, memberships


async def in_tenant(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> dict[str, Any]:
    """Read his membership, roles and groups; the connection is the tenant's."""
    m, a, g = memberships.c, assignments.c, group_members.c
    member = await connection.execute(
        select(m.status, m.starts, m.expires).where(m.tenant_id == tenant, m.type == kind, m.id == identity)
    )
    roles = await connection.execute(
        select(a.role, a.place_type, a.place_id, a.starts, a.expires).where(
            a.tenant_id == tenant, a.subject_type == kind, a.subject_id == identity
        )
    )
    groups = await connection.execute(
        select(g.group_id, g.starts, g.expires).where(g.tenant_id == tenant, g.type == kind, g.id == identity)
    )
    return {
        "tenant": tenant,
        "membership": next((dict(row._mapping) for row in member), None),
        "roles": [dict(row._mapping) for row in roles],
        "groups": [dict(row._mapping) for row in groups],
    }


async def crossing(connection: AsyncConnection, kind: str, identity: str) -> list[dict[str, Any]]:
    """Read his links into other tenants."""
    c = links.c
    found = await connection.execute(
        select(c.home_id, c.tenant_id, c.place_type, c.place_id, c.role, c.starts, c.expires).where(
            c.type == kind, c.id == identity
        )
    )
    return [dict(row._mapping) for row in found]
