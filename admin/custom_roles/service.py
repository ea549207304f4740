"""Rules of custom roles. Nothing here commits."""

from __future__ import annotations

import json

from admin.custom_roles import repository
from admin.custom_roles.wire import CustomRole
from admin.errors import not_found
from admin.repository import Found
from store.database import Connection


def shown(row: Found) -> CustomRole:
    """Show a row."""
    return CustomRole(id=row.name, name=row.name, on=row.place_type, can=json.loads(row.can))


async def read(connection: Connection, tenant: str, name: str) -> CustomRole:
    """Read one.

    Raises:
        PublicError: there is none.
    """
    row = await repository.read(connection, tenant, name)
    if row is None:
        raise not_found(f"role `custom.{name}`")
    return shown(row)
