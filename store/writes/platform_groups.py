"""Groups of the platform, which no tenant can make, and who is in them (stream g)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import ALWAYS, NEVER
from store.changes import SYSTEM_ACTOR, Write, Writer
from store.database import Database
from store.tables import assignments, tenants
from store.tables import platform_groups as table
from store.writes import departures, grouping
from store.writes.attributes import Attributes
from store.writes.grouping import PLATFORM
from store.writes.removal import strip
from store.writes.rows import where
from store.writes.standing import GROUP

_PAGE: Final = 1000


async def is_one(connection: AsyncConnection, ref: str) -> bool:
    """Say whether a subject is a group of the platform."""
    kind, _, name = ref.partition(":")
    own = where(table, id=name, deleted=False)
    return kind == GROUP and (await connection.execute(select(table.c.id).where(own))).first() is not None


async def make(write: Write, name: str, *, attributes: Attributes | None = None) -> None:
    """Make a group. Its name is given once, in all tenants and the platform."""
    await grouping.make(PLATFORM, write, name, attributes)


async def set_attributes(write: Write, name: str, attributes: Attributes) -> None:
    """Put these attributes in the place of all that the group had."""
    await grouping.set_attributes(PLATFORM, write, name, attributes)


async def delete(write: Write, name: str) -> None:
    """Delete a group, for ever. What it holds in tenants is dead with it, and removed by `sweep_group`."""
    await grouping.delete(PLATFORM, write, name)
    await departures.note(write, [(GROUP, name)])


async def nest(write: Write, inner: str, outer: str) -> None:
    """Put a group into another of the platform."""
    await grouping.nest(PLATFORM, write, inner, outer)


async def unnest(write: Write, inner: str, outer: str, *, missing_ok: bool = False) -> None:
    """Take a group out of another."""
    await grouping.unnest(PLATFORM, write, inner, outer, missing_ok=missing_ok)


async def add_member(
    write: Write, name: str, ref: str, *, starts: int = ALWAYS, expires: int = NEVER, beside: bool = False
) -> None:
    """Put a user or service into a group; `beside` as in `periods`."""
    await grouping.add_member(PLATFORM, write, name, ref, starts=starts, expires=expires, beside=beside)


async def remove_member(
    write: Write, name: str, ref: str, *, starts: int | None = None, missing_ok: bool = False
) -> None:
    """Take a principal out of a group: for all times, or for those that begin at `starts`."""
    await grouping.remove_member(PLATFORM, write, name, ref, starts=starts, missing_ok=missing_ok)


async def sweep_group(writer: Writer, name: str, *, actor: str = SYSTEM_ACTOR) -> int:
    """Remove what a deleted group holds in each tenant, one write each where there is something; return in how many.

    Rows of a tenant are seen by writes of that tenant alone, so this cannot be part of the deletion, and need not be:
    a group that is deleted has no members, its name never comes back, and what it holds counts for nobody. Cut off in
    the middle, it is called again and goes on.
    """
    swept = 0
    async for tenant in all_tenants(writer.database):
        if not await _holds(writer.database, tenant, name):
            continue
        async with writer.write(tenant=tenant, actor=actor) as write:
            roles = await strip(write, where(assignments, subject_type=GROUP, subject_id=name))
            write.record("platform_group.swept", group=name, roles=roles)
        swept += 1
    return swept


async def all_tenants(database: Database, after: str = "") -> AsyncIterator[str]:
    """List all tenants that there ever were, from behind one of them."""
    last = after
    while True:
        async with database.reading() as connection:
            page = select(tenants.c.id).where(tenants.c.id > last).order_by(tenants.c.id).limit(_PAGE)
            found = list((await connection.execute(page)).scalars())
        for tenant in found:
            yield tenant
        if len(found) < _PAGE:
            return
        last = found[-1]


async def _holds(database: Database, tenant: str, name: str) -> bool:
    held = where(assignments, tenant_id=tenant, subject_type=GROUP, subject_id=name)
    async with database.reading(tenant) as connection:
        found = await connection.execute(select(assignments.c.role).where(held).limit(1))
        return found.first() is not None
