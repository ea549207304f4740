"""Groups, wherever they belong: what `groups` (a tenant's) and `platform_groups` (of all tenants) have in common.

Groups nest where they belong, in any shape without a cycle. Both kinds have one name space, so a name means one group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CTE, ColumnElement, Table, func, literal, select, tuple_

from engine.facts import ANYONE
from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id
from store.streams import GLOBAL, group_key, principal_key, stream_of
from store.tables import group_members, group_nestings, groups, platform_groups, platform_members, platform_nestings
from store.writes.attributes import Attributes, canonical, names_of
from store.writes.periods import end, put, said
from store.writes.presence import arrive, depart
from store.writes.rows import add, change, count, find, has, remove, where
from store.writes.standing import GROUP, Pair, principal_of, refuse_absent, take_name, want_principal

#: How many groups may stand one in the other, the first and the last counted.
MAX_DEPTH: Final = 32
#: In how many groups of one kind a principal may be, those around them counted.
MAX_GROUPS: Final = 1000
_BACK: Final = {"outer_id": "inner_id", "inner_id": "outer_id"}


@dataclass(frozen=True, slots=True)
class Kind:
    """Whose groups: their tables, and what an audit row calls them."""

    word: str
    groups: Table
    nestings: Table
    members: Table
    is_owned: bool

    def own(self, write: Write) -> dict[str, str]:
        return {"tenant_id": write.owner} if self.is_owned else {}

    def row(self, write: Write, table: Table, **values: object) -> ColumnElement[bool]:
        """Name rows of these groups."""
        return where(table, **self.own(write), **values)

    def stream(self, write: Write) -> str:
        return stream_of(write.owner) if self.is_owned else GLOBAL

    def touch(self, write: Write, *keys: str) -> None:
        write.touch(self.stream(write), *keys)

    def record(self, write: Write, what: str, **detail: Any) -> None:
        write.record(f"{self.word}.{what}", self.stream(write), **detail)


OWN: Final = Kind("group", groups, group_nestings, group_members, True)
PLATFORM: Final = Kind("platform_group", platform_groups, platform_nestings, platform_members, False)


async def make(kind: Kind, write: Write, name: str, attributes: Attributes | None) -> None:
    if check_id(name, "a group's name") == ANYONE:
        raise RefusedError("bad_id", "`anyone` means everyone inside: choose another name for the group")
    await take_name(write, GROUP, name)
    await add(write, kind.groups, **kind.own(write), id=name, attributes=canonical(attributes))
    kind.touch(write, group_key(name))
    kind.record(write, "made", group=name, attributes=names_of(attributes))


async def set_attributes(kind: Kind, write: Write, name: str, attributes: Attributes) -> None:
    await want(kind, write, name)
    await change(write, kind.groups, kind.row(write, kind.groups, id=name), attributes=canonical(attributes))
    kind.touch(write, group_key(name))
    kind.record(write, "attributes", group=name, attributes=names_of(attributes))


async def delete(kind: Kind, write: Write, name: str) -> None:
    """Delete a group, take it out of others and others out of it, and send its members away."""
    await want(kind, write, name)
    await change(write, kind.groups, kind.row(write, kind.groups, id=name), deleted=True)
    await remove(write, kind.nestings, kind.row(write, kind.nestings, inner_id=name))
    inner = await remove(write, kind.nestings, kind.row(write, kind.nestings, outer_id=name), "inner_id")
    rows = await remove(write, kind.members, kind.row(write, kind.members, group_id=name), "type", "id")
    members: set[Pair] = {(row.type, row.id) for row in rows}
    if kind.is_owned:
        await depart(write, members)
    kind.touch(write, group_key(name), *(group_key(row.inner_id) for row in inner))
    kind.touch(write, *(principal_key(f"{who[0]}:{who[1]}") for who in members))
    kind.record(write, "deleted", group=name, members=len(members))


# --- nesting ------------------------------------------------------------------------------------------


async def nest(kind: Kind, write: Write, inner: str, outer: str) -> None:
    """Make all members of one group members of another."""
    for name in (inner, outer):
        await want(kind, write, name)
    if await has(write, kind.nestings, kind.row(write, kind.nestings, inner_id=inner, outer_id=outer)):
        raise RefusedError("taken", f"`{inner}` is in `{outer}` already")
    await _check_nesting(kind, write, inner, outer)
    await add(write, kind.nestings, **kind.own(write), inner_id=inner, outer_id=outer)
    within = _reach(kind, write, inner, "inner_id", "within")
    await _check_counts(kind, write, kind.members.c.group_id.in_(select(within.c.id)))
    kind.touch(write, group_key(inner))
    kind.record(write, "nested", group=inner, into=outer)


async def unnest(kind: Kind, write: Write, inner: str, outer: str, *, missing_ok: bool) -> None:
    nesting = kind.row(write, kind.nestings, inner_id=inner, outer_id=outer)
    if not await remove(write, kind.nestings, nesting):
        return _absent(f"group `{inner}` in `{outer}`", missing_ok)
    kind.touch(write, group_key(inner))
    kind.record(write, "unnested", group=inner, out_of=outer)


async def _check_nesting(kind: Kind, write: Write, inner: str, outer: str) -> None:
    """Refuse what would lie in itself, or deeper than anybody follows.

    INVARIANT: every write that nests holds the stream's lock, so what is read here stands until the commit.
    """
    above = _reach(kind, write, outer, "outer_id", "above")
    if inner == outer or await _holds(write, above, inner):
        raise RefusedError("cycle", f"`{outer}` is in `{inner}`: a group cannot lie in itself")
    below = _reach(kind, write, inner, "inner_id", "below")
    if await _deepest(write, above) + await _deepest(write, below) > MAX_DEPTH:
        raise RefusedError("too_deep", f"groups nest at most {MAX_DEPTH} deep")


def _reach(kind: Kind, write: Write, name: str, towards: str, called: str) -> CTE:
    """Select a group and those around it (`outer_id`) or in it (`inner_id`), with each depth at which they are met."""
    own = kind.row(write, kind.groups, id=name)
    reach = select(kind.groups.c.id, literal(1).label("depth")).where(own).cte(called, recursive=True)
    steps = kind.nestings
    onwards = select(steps.c[towards], reach.c.depth + 1).where(
        kind.row(write, steps), steps.c[_BACK[towards]] == reach.c.id, reach.c.depth < MAX_DEPTH
    )
    return reach.union(onwards)


async def _holds(write: Write, reach: CTE, name: str) -> bool:
    found = await write.connection.execute(select(reach.c.id).where(reach.c.id == name).limit(1))
    return found.first() is not None


async def _deepest(write: Write, reach: CTE) -> int:
    return int((await write.connection.execute(select(func.max(reach.c.depth)))).scalar_one())


# --- members ------------------------------------------------------------------------------------------


async def add_member(kind: Kind, write: Write, name: str, ref: str, *, starts: int, expires: int, beside: bool) -> None:
    """Put a principal into a group. In a group of the platform he must be stored."""
    await want(kind, write, name)
    who = await want_principal(write, ref, stored=not kind.is_owned)
    await put(write, kind.members, _belonging(kind, write, name, who), starts, expires, beside=beside)
    await _check_counts(kind, write, (kind.members.c.type == who[0]) & (kind.members.c.id == who[1]))
    if kind.is_owned:
        await arrive(write, who)
    kind.touch(write, principal_key(ref))
    kind.record(write, "member_added", group=name, principal=ref, **said(starts, expires))


async def remove_member(kind: Kind, write: Write, name: str, ref: str, *, starts: int | None, missing_ok: bool) -> None:
    who = principal_of(ref)
    if not await end(write, kind.members, _belonging(kind, write, name, who), starts):
        return _absent(f"member `{ref}` in group `{name}`", missing_ok)
    if kind.is_owned:
        await depart(write, [who])
    kind.touch(write, principal_key(ref))
    kind.record(write, "member_removed", group=name, principal=ref)


def _belonging(kind: Kind, write: Write, name: str, who: Pair) -> dict[str, str]:
    return {**kind.own(write), "type": who[0], "id": who[1], "group_id": name}


async def _check_counts(kind: Kind, write: Write, whose: ColumnElement[bool]) -> None:
    """Refuse more groups of anybody than a decision is to look at.

    Where there are not so many groups at all nobody need be looked at, and of a large group everybody would have to.
    """
    if await count(write, kind.groups, kind.row(write, kind.groups, deleted=False)) <= MAX_GROUPS:
        return
    reach = _belongings(kind, write, whose)
    crowded = select(reach.c.type).group_by(reach.c.type, reach.c.id).having(func.count() > MAX_GROUPS).limit(1)
    if (await write.connection.execute(crowded)).first() is not None:
        raise RefusedError("too_many", f"a principal is in at most {MAX_GROUPS} groups, those around them counted")


def _belongings(kind: Kind, write: Write, whose: ColumnElement[bool]) -> CTE:
    """Select the groups that principals are in, with those around: whoever has a row of members that is meant."""
    rows = kind.members
    meant = select(rows.c.type, rows.c.id).where(kind.row(write, rows), whose)
    own = select(rows.c.type, rows.c.id, rows.c.group_id).where(
        kind.row(write, rows), tuple_(rows.c.type, rows.c.id).in_(meant)
    )
    reach = own.cte("belongings", recursive=True)
    steps = kind.nestings
    return reach.union(
        select(reach.c.type, reach.c.id, steps.c.outer_id).where(
            kind.row(write, steps), steps.c.inner_id == reach.c.group_id
        )
    )


# --- what is there ------------------------------------------------------------------------------------


async def want(kind: Kind, write: Write, name: str) -> None:
    """Refuse a group that is not there, or no longer."""
    if await find(write, kind.groups, **kind.own(write), id=name, deleted=False) is None:
        raise refuse_absent(f"group `{name}`")


def _absent(what: str, missing_ok: bool) -> None:
    if not missing_ok:
        raise refuse_absent(what)
