"""Rules of tenants. Nothing here commits: the handler opens the transaction, and asks whether it may."""

from __future__ import annotations

import json

from admin.errors import not_found
from admin.tenants import repository
from admin.tenants.wire import NewTenant, Tenant, TenantChange
from store.changes import Write
from store.database import Connection
from store.writes import tenants


async def read(connection: Connection, tenant: str) -> Tenant:
    """Read one.

    Raises:
        PublicError: there is none.
    """
    row = await repository.read(connection, tenant)
    if row is None:
        raise not_found(f"tenant `{tenant}`")
    return Tenant(id=row.id, status=row.status, attributes=json.loads(row.attributes))


async def make(write: Write, new: NewTenant) -> None:
    """Make the tenant of the write."""
    await tenants.make(write, status=new.status, attributes=new.attributes)


async def change(write: Write, wanted: TenantChange) -> None:
    """Change the tenant of the write."""
    if wanted.attributes is not None:
        await tenants.set_attributes(write, wanted.attributes)
    if wanted.status is not None:
        await tenants.set_status(write, wanted.status)


async def delete(write: Write) -> None:
    """Delete the tenant of the write, for ever. Its rows stay, and nobody gets in."""
    await tenants.set_status(write, "deleted")
