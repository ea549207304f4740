"""Statements that read which roles of its own a tenant has."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.repository import Found
from store.tables import custom_roles


async def list_names(connection: AsyncConnection, tenant: str) -> Sequence[Found]:
    """Read the names of a tenant's, at most a thousand, and on what they are held."""
    table = custom_roles.c
    query = select(table.name, table.place_type).where(table.tenant_id == tenant, ~table.deleted).order_by(table.name)
    return list((await connection.execute(query)).all())
