"""Rules of who learns in which tenants somebody is. Nothing here commits."""

from __future__ import annotations

from admin.actors import Key
from admin.endpoint import Ask
from admin.errors import forbidden
from admin.memberships import repository as memberships
from admin.principals import repository as principals
from admin.principals import service as known
from admin.repository import Found
from admin.tenancies.wire import Tenancy
from admin.wire import shown_time
from store.database import Connection
from store.times import read_end, read_start


async def let_in(ask: Ask, connection: Connection, kind: str, identity: str) -> None:
    """Refuse an end user who asks about another, or who may do nothing himself any more.

    Raises:
        PublicError: he does; or a key asks about nobody who is known.
    """
    if isinstance(ask.actor, Key):
        await known.read(connection, kind, identity)
        return
    if ask.actor.ref != f"{kind}:{identity}":
        raise forbidden("in which tenants another is takes a key with the scope `facts`; you may ask about yourself")
    row = await principals.read(connection, kind, identity)
    if row is not None and row.status != "active":
        raise forbidden("whoever is suspended or deleted may ask nothing", "principal_inactive")


async def read(connection: Connection, tenant: Found, kind: str, identity: str) -> Tenancy | None:
    """Read a membership, on a connection of its tenant; None: somebody has a role or a place in a group there, which
    count for nothing without one."""
    row = await memberships.read(connection, tenant.tenant_id, kind, identity)
    if row is None:
        return None
    return Tenancy(
        tenant=tenant.tenant_id,
        tenant_status=tenant.status,
        status=row.status,
        starts=shown_time(read_start(row.starts)),
        expires=shown_time(read_end(row.expires)),
    )
