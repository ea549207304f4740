"""Users and services: what all tenants share of them (stream g)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import SYSTEM_ACTOR, Write, Writer
from store.database import Database
from store.errors import RefusedError
from store.streams import GLOBAL, principal_key
from store.tables import links, platform_members, presences, principals, system_assignments
from store.writes import departures, memberships
from store.writes.attributes import Attributes, canonical, names_of
from store.writes.removal import cut
from store.writes.rows import add, change, find, remove, where
from store.writes.standing import principal_of, refuse_absent, take_name

#: What a living one may be; `delete` makes the third status.
STATUSES: Final = ("active", "suspended")
#: What hangs on a principal in all tenants, and ends with him, beside his links.
_HELD: Final[Mapping[str, Table]] = {"groups": platform_members, "roles": system_assignments}


async def make(write: Write, ref: str, *, status: str = "active", attributes: Attributes | None = None) -> None:
    """Make a user or service, `"user:ann"`."""
    kind, identity = principal_of(ref)
    await take_name(write, kind, identity)
    row = {"status": _checked(status), "attributes": canonical(attributes)}
    await add(write, principals, type=kind, id=identity, **row)
    write.touch(GLOBAL, principal_key(ref))
    write.record("principal.made", GLOBAL, principal=ref, status=status, attributes=names_of(attributes))


async def is_stored(connection: AsyncConnection, ref: str) -> bool:
    """Say whether a principal is known here, and not to the identity provider alone."""
    kind, identity = principal_of(ref)
    own = where(principals, type=kind, id=identity)
    return (await connection.execute(select(principals.c.id).where(own))).first() is not None


async def set_status(write: Write, ref: str, status: str) -> None:
    """Suspend a principal, or let him in again."""
    who, was = await _living(write, ref)
    await change(write, principals, where(principals, **who), status=_checked(status))
    write.touch(GLOBAL, principal_key(ref))
    write.record("principal.status", GLOBAL, principal=ref, status=status, was=was)


async def set_attributes(write: Write, ref: str, attributes: Attributes) -> None:
    """Put these attributes in the place of all that the principal had."""
    who, _ = await _living(write, ref)
    await change(write, principals, where(principals, **who), attributes=canonical(attributes))
    write.touch(GLOBAL, principal_key(ref))
    write.record("principal.attributes", GLOBAL, principal=ref, attributes=names_of(attributes))


async def delete(write: Write, ref: str) -> None:
    """Delete a principal, for ever, with what he holds in all tenants; nobody reads his attributes again.

    The status alone denies him everywhere from here on. What he has in each tenant is removed by `leave_everything`.

    Raises:
        NeedsSharedError: he has links, and the tenants on both sides are not locked.
    """
    who, was = await _living(write, ref)
    gone = {"links": await cut(write, where(links, **who))}
    gone |= {name: len(await remove(write, table, where(table, **who))) for name, table in _HELD.items()}
    await change(write, principals, where(principals, **who), status="deleted", attributes=canonical(None))
    write.touch(GLOBAL, principal_key(ref))
    await departures.note(write, [principal_of(ref)])
    write.record("principal.deleted", GLOBAL, principal=ref, was=was, **gone)


async def leave_everything(writer: Writer, ref: str, *, actor: str = SYSTEM_ACTOR) -> int:
    """End what a principal has in each tenant, one write each; return in how many.

    Rows of a tenant are seen by writes of that tenant alone, so this cannot be one transaction. Of one who is deleted
    nothing depends on it: the rows are dead. Cut off in the middle, it is called again and goes on.
    """
    tenants = await tenants_of(writer.database, ref)

    async def leave(write: Write) -> None:
        await memberships.end(write, ref, missing_ok=True)

    for tenant in tenants:
        await writer.run(leave, tenant=tenant, actor=actor)
    return len(tenants)


async def tenants_of(database: Database, ref: str) -> list[str]:
    """List the tenants in which a principal has rows."""
    kind, identity = principal_of(ref)
    async with database.reading() as connection:
        found = await connection.execute(
            select(presences.c.tenant_id)
            .where(where(presences, type=kind, id=identity))
            .order_by(presences.c.tenant_id)
        )
        return list(found.scalars())


async def is_left_behind(connection: AsyncConnection, ref: str) -> bool:
    """Say whether a tenant has rows of a principal. Of one who is deleted: his deletion was cut off."""
    kind, identity = principal_of(ref)
    own = where(presences, type=kind, id=identity)
    return (await connection.execute(select(presences.c.id).where(own).limit(1))).first() is not None


async def _living(write: Write, ref: str) -> tuple[dict[str, str], str]:
    """Return the key of a principal who is stored, and not deleted, and his status."""
    kind, identity = principal_of(ref)
    row = await find(write, principals, type=kind, id=identity)
    if row is None:
        raise refuse_absent(f"{kind} `{identity}`")
    if row.status == "deleted":
        raise RefusedError("deleted", f"the {kind} `{identity}` is deleted, for ever")
    return {"type": kind, "id": identity}, row.status


def _checked(status: str) -> str:
    if status not in STATUSES:
        raise RefusedError("bad_status", f"a user or service is {' or '.join(STATUSES)}")
    return status
