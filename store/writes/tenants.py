"""Tenants: the row that all can see (its status, stream g), and the profile that is the tenant's own."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id
from store.streams import GLOBAL, TENANT, stream_of, tenant_key
from store.tables import tenant_profiles, tenants
from store.writes.attributes import Attributes, canonical, names_of
from store.writes.rows import add, change, find, where
from store.writes.standing import refuse_absent, take_name

STATUSES: Final = ("active", "suspended", "deleted")


async def make(write: Write, *, status: str = "active", attributes: Attributes | None = None) -> None:
    """Make the tenant of the write, which was begun with `making`."""
    name = check_id(write.owner, "a tenant's id")
    await take_name(write, "tenant", name)
    await write.begin_stream(name)
    await add(write, tenants, id=name, status=_checked(status))
    await add(write, tenant_profiles, tenant_id=name, attributes=canonical(attributes))
    write.touch(GLOBAL, tenant_key(name))
    write.touch_own(TENANT)
    write.record("tenant.made", GLOBAL, stream_of(name), tenant=name, status=status, attributes=names_of(attributes))


async def status_of(connection: AsyncConnection, tenant: str) -> str | None:
    """Say whether a tenant is active; None: there is none."""
    return (await connection.execute(select(tenants.c.status).where(tenants.c.id == tenant))).scalar_one_or_none()


async def set_status(write: Write, status: str) -> None:
    """Say whether the tenant is active. Deleted is for ever; nothing else is removed, since nobody gets in any more."""
    row = await find(write, tenants, id=write.owner)
    if row is None:
        raise refuse_absent(f"tenant `{write.owner}`")
    if row.status == "deleted":
        raise RefusedError("deleted", f"the tenant `{write.owner}` is deleted, for ever")
    write.touch(GLOBAL, tenant_key(write.owner))
    await change(write, tenants, where(tenants, id=write.owner), status=_checked(status))
    told = {"tenant": write.owner, "status": status, "was": row.status}
    write.record("tenant.status", GLOBAL, stream_of(write.owner), **told)


async def set_attributes(write: Write, attributes: Attributes) -> None:
    """Put these attributes in the place of all that the tenant had."""
    own = where(tenant_profiles, tenant_id=write.owner)
    if not await change(write, tenant_profiles, own, attributes=canonical(attributes)):
        raise refuse_absent(f"tenant `{write.owner}`")
    write.touch_own(TENANT)
    write.record("tenant.attributes", tenant=write.owner, attributes=names_of(attributes))


def _checked(status: str) -> str:
    if status not in STATUSES:
        raise RefusedError("bad_status", f"a tenant is {', '.join(STATUSES)}")
    return status
