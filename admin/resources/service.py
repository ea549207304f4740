"""Rules of resources. Nothing here commits."""

from __future__ import annotations

import json

from admin.errors import not_found
from admin.repository import Found
from admin.resources import repository
from admin.resources.wire import Resource
from store.database import Connection


def shown(row: Found) -> Resource:
    """Show a row."""
    parent = f"{row.parent_type}:{row.parent_id}" if row.parent_type is not None else None
    return Resource(
        id=f"{row.type}:{row.id}", parent=parent, attributes=json.loads(row.attributes or "{}"), deleted=row.deleted
    )


async def read(connection: Connection, tenant: str, ref: str) -> Resource:
    """Read one that is there.

    Raises:
        PublicError: it is not.
    """
    row = await repository.read(connection, tenant, ref)
    if row is None or row.deleted:
        raise not_found(f"resource `{ref}`")
    return shown(row)
