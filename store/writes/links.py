"""Links: roles held over the wall, by members of one tenant in another (stream g).

A link is made in a write that locks both tenants, so that the holder's membership at home cannot change meanwhile; both
streams move with it, so that both audit logs have it, and name the other side. Either side may end it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id
from store.streams import GLOBAL, principal_key, stream_of
from store.tables import links, memberships
from store.times import write_start
from store.writes.periods import columns_of, said
from store.writes.rows import add, has, remove, where
from store.writes.standing import CUSTOM, Pair, place_of, principal_of, refuse_absent, want_principal


async def make(
    write: Write,
    ref: str,
    role: str,
    place: str,
    *,
    target: str,
    home: str | None = None,
    at_home: AsyncConnection | None = None,
    starts: int = ALWAYS,
    expires: int = NEVER,
) -> None:
    """Give a stored user or service of one tenant a role on a place in another.

    Whether the place is there is for callers to check: rows of the target are not seen here. If it is deleted, the link
    counts for nothing, for ever.

    Args:
        home: of which tenant; None: the write's own.
        at_home: a snapshot of the home, where the write is another tenant's; the write has locked the home, too.
    """
    home = home or write.owner
    if target == home:
        raise RefusedError("bad_place", "a link leads into another tenant: give the role itself")
    if role.startswith(CUSTOM):
        raise RefusedError("bad_role", "a role that a tenant made does not cross: only the policy's do")
    who = await want_principal(write, ref, stored=True)
    period = columns_of(starts, expires)
    key = _key(who, check_id(role, "a role"), place_of(place), home, target)
    if await has(write, links, where(links, **key, starts=period["starts"])):
        raise RefusedError("taken", f"`{ref}` has this link already: end it first")
    await add(write, links, **key, **period, **await _at_home(at_home or write.connection, home, who))
    details = {"role": role, "on": place, "home": home, "tenant": target}
    _note(write, "link.made", ref, details | said(starts, expires))


async def end(
    write: Write,
    ref: str,
    role: str,
    place: str,
    *,
    home: str,
    target: str,
    starts: int | None = None,
    missing_ok: bool = False,
) -> None:
    """End a link, in a write of one of its two tenants: for all times, or for those that begin at `starts`."""
    key: dict[str, str] = _key(principal_of(ref), role, place_of(place), home, target)
    if starts is not None:
        key["starts"] = write_start(starts)
    if not await remove(write, links, where(links, **key) & _is_of(write)):
        if missing_ok:
            return
        raise refuse_absent(f"link of `{ref}` from `{home}` to `{place}` in `{target}` as `{role}`")
    _note(write, "link.ended", ref, {"role": role, "on": place, "home": home, "tenant": target})


def _key(who: Pair, role: str, place: Pair, home: str, target: str) -> dict[str, str]:
    return {
        "type": who[0],
        "id": who[1],
        "home_id": home,
        "tenant_id": target,
        "place_type": place[0],
        "place_id": place[1],
        "role": role,
    }


def _is_of(write: Write) -> ColumnElement[bool]:
    """Name the links that begin or end in the write's tenant."""
    return (links.c.home_id == write.owner) | (links.c.tenant_id == write.owner)


async def _at_home(connection: AsyncConnection, home: str, who: Pair) -> dict[str, Any]:
    """Read what a link repeats of its holder's membership at home."""
    own = where(memberships, tenant_id=home, type=who[0], id=who[1])
    row = (await connection.execute(select(memberships).where(own))).one_or_none()
    if row is None:
        return {}
    return {"home_status": row.status, "home_starts": row.starts, "home_expires": row.expires}


def _note(write: Write, action: str, ref: str, details: dict[str, Any]) -> None:
    """Name what changed, and tell it; the streams of both tenants must move, though no fact in them does."""
    sides = stream_of(details["home"]), stream_of(details["tenant"])
    write.touch(GLOBAL, principal_key(ref))
    for stream in sides:
        write.touch(stream)
    write.record(action, GLOBAL, *sides, subject=ref, **details)
