"""Memberships: who is in a tenant, as what, and in which times.

A link lets its holder in elsewhere for as long as he is a member at home, and a decision there must not look into his
home: so the link repeats the membership, and whoever changes the one changes the other, in the same transaction. Links
are shared by all tenants (stream g), memberships are not, and the tenant into which a link leads is to read in its own
log what became of it. What a write must lock is therefore known only once it looks: `NeedsSharedError` says so, and who
writes begins again with that.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.errors import RefusedError
from store.streams import GLOBAL, principal_key, stream_of
from store.tables import assignments, group_members, links
from store.tables import memberships as table
from store.writes.periods import columns_of, said
from store.writes.presence import arrive, depart
from store.writes.removal import clear, cut, strip
from store.writes.rows import add, change, remove, where
from store.writes.standing import Pair, principal_of, refuse_absent, want_principal

STATUSES: Final = ("active", "guest", "suspended")


async def put(write: Write, ref: str, status: str = "active", *, starts: int = ALWAYS, expires: int = NEVER) -> None:
    """Make a principal a member, or say anew as what he is one, and when.

    Raises:
        NeedsSharedError: he has links from here, and the tenants into which they lead are not locked.
    """
    if status not in STATUSES:
        raise RefusedError("bad_status", f"a member is {', '.join(STATUSES)}")
    who = await want_principal(write, ref)
    row = {"status": status, **columns_of(starts, expires)}
    await _tell_links(write, who, row)
    before = await remove(write, table, _of(write, who), "status")
    await add(write, table, tenant_id=write.owner, type=who[0], id=who[1], **row)
    await arrive(write, who)
    write.touch_own(principal_key(ref))
    was = {"was": before[0].status} if before else {}
    write.record("membership.put", principal=ref, tenant=write.owner, status=status, **was, **said(starts, expires))


async def is_there(connection: AsyncConnection, tenant: str, ref: str) -> bool:
    """Say whether a principal has a membership in a tenant, whatever its status and times."""
    kind, identity = principal_of(ref)
    own = where(table, tenant_id=tenant, type=kind, id=identity)
    return (await connection.execute(select(table.c.id).where(own))).first() is not None


async def end(write: Write, ref: str, *, missing_ok: bool = False) -> None:
    """End a membership with all that hangs on it: roles held here by the principal and on him, places in groups, and
    links into other tenants that he has as a member of this one. Should he come back, he comes back with nothing.

    Args:
        missing_ok: where he is no member, remove what he has here all the same.

    Raises:
        NeedsSharedError: as above.
    """
    who = principal_of(ref)
    before = await remove(write, table, _of(write, who), "status")
    if not before and not missing_ok:
        raise refuse_absent(f"membership of `{ref}` in `{write.owner}`")
    crossing = await cut(write, where(links, home_id=write.owner, type=who[0], id=who[1]))
    belonging = where(group_members, tenant_id=write.owner, type=who[0], id=who[1])
    groups = len(await remove(write, group_members, belonging))
    roles = await strip(write, where(assignments, subject_type=who[0], subject_id=who[1]))
    await clear(write, who)
    await depart(write, [who])
    write.touch_own(principal_key(ref))
    gone = {"groups": groups, "roles": roles, "links": crossing}
    was = {"was": before[0].status} if before else {}
    write.record("membership.ended", principal=ref, tenant=write.owner, **was, **gone)


def _of(write: Write, who: Pair) -> Any:
    return where(table, tenant_id=write.owner, type=who[0], id=who[1])


async def _tell_links(write: Write, who: Pair, row: dict[str, Any]) -> None:
    """Repeat a membership in the links that hang on it."""
    own = where(links, home_id=write.owner, type=who[0], id=who[1])
    targets = frozenset(await write.connection.scalars(select(links.c.tenant_id).where(own).distinct()))
    if not targets:
        return
    write.want_shared(targets)
    await change(write, links, own, **{f"home_{name}": value for name, value in row.items()})
    ref = f"{who[0]}:{who[1]}"
    write.touch(GLOBAL, principal_key(ref))
    told = {"principal": ref, "home": write.owner, "status": row["status"]}
    write.record("link.membership", GLOBAL, *map(stream_of, targets), **told)
