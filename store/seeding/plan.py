"""Rows → a plan: what is not in the store as a file says it, in the order in which it goes in.

All of it is compared and refused before anything is written. What is deleted stays deleted; a name that something else
has, or had, is not given; a store with tenants takes no policy without them, nor the other way round.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import IMPLICIT_TENANT
from store.database import Database
from store.errors import RefusedError, UnfitError
from store.seeding.kinds import (
    ASSIGNMENTS,
    CUSTOM_ROLES,
    GROUPS,
    IMPLIED_MEMBERSHIPS,
    LINKS,
    MEMBERS,
    NESTINGS,
    PLATFORM_GROUPS,
    PLATFORM_MEMBERS,
    PLATFORM_NESTINGS,
    PRINCIPALS,
    PROFILES,
    RESOURCES,
    TENANTS,
    Key,
    Kind,
    Things,
    is_dead,
    read,
    taken,
)
from store.seeding.nesting import Edges, around, nesting_faults
from store.seeding.order import Batch, Item, in_batches
from store.seeding.rows import SHARED, Said, legible, listing, place_of
from store.streams import stream_of
from store.tables import custom_roles, revisions, tenants
from store.writes.custom_roles import MAX_ROLES
from store.writes.grouping import MAX_GROUPS
from store.writes.standing import CUSTOM, GROUP
from store.writes.standing import PRINCIPALS as PRINCIPAL_TYPES


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do.

    Attributes:
        added, changed: how many things, by what they are.
        unchanged: how many are there already as the file says.
        members: whom the file makes a member by implication, (user, tenant).
    """

    batches: tuple[Batch, ...]
    added: Mapping[str, int]
    changed: Mapping[str, int]
    unchanged: int
    members: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        return sum(batch.size for batch in self.batches)


#: Its kind, its tenant, its key: what `place_of` takes.
_Thing = tuple[Kind, str, Key]


@dataclass(slots=True)
class _Comparison:
    """What a comparison of file and store comes to.

    Attributes:
        new: tenants that are not there yet.
        fresh: names that are to be given, and to what.
    """

    said: Said
    new: set[str] = field(default_factory=set)
    items: dict[str, list[Item]] = field(default_factory=dict)
    fresh: dict[tuple[str, str], _Thing] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0

    def refuse(self, code: str, sentence: str) -> None:
        self.problems.append((code, sentence))

    def of(self, tenant: str, kind: Kind) -> Things:
        return self.said.get(tenant, {}).get(kind, {})


async def make_plan(database: Database, said: Said, *, has_tenant: bool) -> Plan:
    """Compare what a file says with what is stored.

    Args:
        has_tenant: whether the policy has tenants.

    Raises:
        RefusedError: something must not be as the file says; with every problem.
        UnfitError: the store is of another kind of policy.
    """
    comparison = _Comparison(said)
    async with database.reading() as connection:
        await _check_fit(connection, has_tenant=has_tenant)
        await _compare(connection, comparison, SHARED)
        await _check_names(connection, comparison)
        await _check_referred(connection, comparison)
    for tenant in said:
        if tenant != SHARED:
            async with database.reading(tenant) as connection:
                await _compare(connection, comparison, tenant)
                await _check_names(connection, comparison)
                await _check_places(connection, comparison, tenant)
                await _check_roles(connection, comparison, tenant)
    if comparison.problems:
        codes = {code for code, _ in comparison.problems}
        raise RefusedError(
            codes.pop() if len(codes) == 1 else "conflict", listing(sentence for _, sentence in comparison.problems)
        )
    batches = in_batches(comparison.items, comparison.new)
    added, changed = _counted(comparison.items)
    return Plan(tuple(batches), added, changed, comparison.unchanged, _made_members(comparison))


# --- what the store is ----------------------------------------------------------------------------------


async def _has_begun(connection: AsyncConnection, tenant: str) -> bool:
    found = await connection.execute(select(revisions.c.n).where(revisions.c.stream == stream_of(tenant)))
    return found.first() is not None


async def _check_fit(connection: AsyncConnection, *, has_tenant: bool) -> None:
    """Refuse a store whose facts are of the other kind of policies."""
    made = await connection.execute(select(tenants.c.id).limit(1))
    has_any = made.first() is not None
    if not has_tenant and has_any:
        raise UnfitError("has_tenants", "the policy has no `tenant`, but the store has tenants: take another store")
    if has_tenant and await _has_begun(connection, IMPLICIT_TENANT):
        named = await connection.execute(select(tenants.c.id).where(tenants.c.id == IMPLICIT_TENANT))
        if named.first() is None:
            raise UnfitError(
                "has_no_tenants",
                "the policy has a `tenant`, but the store's facts have none: take another store",
            )


# --- comparing ------------------------------------------------------------------------------------------


async def _compare(connection: AsyncConnection, comparison: _Comparison, tenant: str) -> None:
    """Compare the things of a tenant, or what all share, kind by kind."""
    items = comparison.items[tenant] = []
    is_new = tenant != SHARED and not await _has_begun(connection, tenant)
    if is_new:
        comparison.new.add(tenant)
    for kind, things in comparison.said.get(tenant, {}).items():
        keys = [key[: len(kind.by)] for key in things] if kind.by else things
        stored = {} if is_new else await read(connection, kind, keys, tenant)
        for key, rows in things.items():
            _compare_one(comparison, tenant, Item(kind, key, rows, stored.get(key)))
        if kind in (MEMBERS, PLATFORM_MEMBERS):
            await _check_belongings(connection, comparison, tenant, kind, stored)
    nestings = PLATFORM_NESTINGS if tenant == SHARED else NESTINGS
    if any(item.kind is nestings for item in items):
        edges = await _edges(connection, comparison, tenant)
        for code, name, sentence in nesting_faults(edges):
            comparison.refuse(code, f"groups.{legible(name)}: {sentence}")


def _compare_one(comparison: _Comparison, tenant: str, item: Item) -> None:
    if item.before is None:
        if item.kind.name is not None:
            comparison.fresh[item.kind.name(item.key)] = item.kind, tenant, item.key
        comparison.items[tenant].append(item)
    elif is_dead(item.kind, item.before):
        # Where the file says so too, the row is left as it is: attributes of the dead do not come back either.
        comparison.unchanged += 1
        if not is_dead(item.kind, item.rows):
            place = place_of(item.kind, tenant, item.key)
            comparison.refuse("deleted", f"{place}: it was deleted, for ever: {_CURES.get(item.kind, _CURE)}")
    elif item.before == item.rows or item.kind.is_modest:
        comparison.unchanged += 1
    else:
        comparison.items[tenant].append(item)


_CURE: Final = "take it out of the file, or choose another name"
_MAY_BE_DELETED: Final = "take it out of the file, or say `status: deleted`"
_CURES: Final = {TENANTS: _MAY_BE_DELETED, PRINCIPALS: _MAY_BE_DELETED, RESOURCES: _MAY_BE_DELETED}


async def _check_names(connection: AsyncConnection, comparison: _Comparison) -> None:
    """Refuse names that are, or were, those of other things: of a group in another tenant, say.

    In the snapshot of the comparison, so that what is made at this moment is not taken for something else.
    """
    for name in sorted(await taken(connection, comparison.fresh)):
        place = place_of(*comparison.fresh[name])
        comparison.refuse("taken", f"{place}: this {name[0]} id is given elsewhere, or was once: choose another")
    comparison.fresh.clear()


# --- what is referred to without being in the file ------------------------------------------------------


async def _check_referred(connection: AsyncConnection, comparison: _Comparison) -> None:
    """Refuse to give anything to principals who are deleted."""
    known = comparison.of(SHARED, PRINCIPALS)
    absent: dict[Key, _Thing] = {}
    for tenant in comparison.said:
        for kind in (ASSIGNMENTS, MEMBERS):
            keys = comparison.of(tenant, kind)
            absent |= {
                key[:2]: (kind, tenant, key) for key in keys if key[0] in PRINCIPAL_TYPES and key[:2] not in known
            }
    _refuse_dead(comparison, await read(connection, PRINCIPALS, absent, SHARED), absent, PRINCIPALS)


async def _check_places(connection: AsyncConnection, comparison: _Comparison, tenant: str) -> None:
    """Refuse roles on resources and groups that are deleted."""
    named: dict[Key, _Thing] = {
        key[4:6]: (LINKS, SHARED, key) for key in comparison.of(SHARED, LINKS) if key[3] == tenant
    }
    named |= {key[2:4]: (ASSIGNMENTS, tenant, key) for key in comparison.of(tenant, ASSIGNMENTS)}
    groups = {key[1:]: thing for key, thing in named.items() if key[0] == GROUP}
    for kind, places in ((RESOURCES, named), (GROUPS, groups), (PLATFORM_GROUPS, groups)):
        known = comparison.of(tenant if kind.is_owned else SHARED, kind)
        absent = {key: thing for key, thing in places.items() if key not in known}
        _refuse_dead(comparison, await read(connection, kind, absent, tenant), absent, kind)


async def _check_roles(connection: AsyncConnection, comparison: _Comparison, tenant: str) -> None:
    """Refuse roles of a tenant that are deleted, and more of them than a tenant may have."""
    known = comparison.of(tenant, CUSTOM_ROLES)
    keys = [key for key in comparison.of(tenant, ASSIGNMENTS) if key[4].startswith(CUSTOM)]
    named: dict[Key, _Thing] = {(key[4].removeprefix(CUSTOM),): (ASSIGNMENTS, tenant, key) for key in keys}
    absent = {key: thing for key, thing in named.items() if key not in known}
    _refuse_dead(comparison, await read(connection, CUSTOM_ROLES, absent, tenant), absent, CUSTOM_ROLES)
    new = [item for item in comparison.items[tenant] if item.kind is CUSTOM_ROLES and item.before is None]
    if new:
        living = select(custom_roles.c.name).where(custom_roles.c.tenant_id == tenant, ~custom_roles.c.deleted)
        stored = len((await connection.execute(living.limit(MAX_ROLES + 1))).all())
        if stored + len(new) > MAX_ROLES:
            comparison.refuse("too_many", f"custom_roles: `{tenant}` would have more than {MAX_ROLES} roles of its own")


def _refuse_dead(comparison: _Comparison, stored: Things, named: Mapping[Key, _Thing], kind: Kind) -> None:
    for key, rows in stored.items():
        if is_dead(kind, rows):
            name = legible(":".join(key))
            comparison.refuse(
                "deleted", f"{place_of(*named[key])}: `{name}` was deleted, for ever: take out what names it"
            )


# --- groups ---------------------------------------------------------------------------------------------


async def _edges(connection: AsyncConnection, comparison: _Comparison, tenant: str) -> Edges:
    """Collect how groups nest: what is stored, and what the file adds to it."""
    kind = PLATFORM_NESTINGS if tenant == SHARED else NESTINGS
    table = kind.table
    stored = select(table.c.inner_id, table.c.outer_id)
    if tenant != SHARED:
        stored = stored.where(table.c.tenant_id == tenant)
    edges: defaultdict[str, set[str]] = defaultdict(set)
    for inner, outer in chain(await connection.execute(stored), comparison.of(tenant, kind)):
        edges[inner].add(outer)
    return edges


async def _check_belongings(
    connection: AsyncConnection, comparison: _Comparison, tenant: str, kind: Kind, stored: Things
) -> None:
    """Refuse to put a principal into more groups than a decision is to look at."""
    new = {item.key[:2] for item in comparison.items[tenant] if item.kind is kind and item.before is None}
    if not new:
        return
    edges = await _edges(connection, comparison, tenant)
    groups: defaultdict[Key, set[str]] = defaultdict(set)
    for key in chain(stored, comparison.of(tenant, kind)):
        groups[key[:2]].add(key[2])
    for who in sorted(new):
        if len(around(edges, groups[who])) > MAX_GROUPS:
            comparison.refuse(
                "too_many",
                f"{who[0]}s.{legible(who[1])}: would be in more than {MAX_GROUPS} groups, those around counted",
            )


# --- what is told ---------------------------------------------------------------------------------------


def _counted(items: Mapping[str, list[Item]]) -> tuple[Counter[str], Counter[str]]:
    """Count things by what they are. A tenant's status and its attributes are one."""
    said: dict[tuple[str, str, Key], bool] = {}
    for tenant, theirs in items.items():
        for item in theirs:
            where = SHARED if item.kind is PROFILES else tenant
            thing = item.kind.word, where, item.key
            said[thing] = said.get(thing, True) and item.before is None
    words = [(f"{key[0]}s" if word == PRINCIPALS.word else word, is_new) for (word, _, key), is_new in said.items()]
    return Counter(word for word, is_new in words if is_new), Counter(word for word, is_new in words if not is_new)


def _made_members(comparison: _Comparison) -> tuple[tuple[str, str], ...]:
    made = [
        (f"{item.key[0]}:{item.key[1]}", tenant)
        for tenant, items in comparison.items.items()
        for item in items
        if item.kind is IMPLIED_MEMBERSHIPS
    ]
    return tuple(sorted(made))
