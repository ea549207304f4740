"""Facts → rows: what a facts file says, as things of `kinds`, by tenant.

Facts come checked against their policy; what only the store demands is checked here: ids that may be stored, parents
that are there, attributes that a database can hold. All problems come at once, each with its place in the file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from engine.errors import FactsError
from engine.facts import ANYONE, Grant, MemberFact, MemoryFacts, PrincipalFact, ResourceFact
from engine.model import SYSTEM, Attribute
from engine.values import Value, show
from store.errors import RefusedError
from store.ids import check_id
from store.seeding.kinds import (
    ASSIGNMENTS,
    CUSTOM_ROLES,
    GROUPS,
    IMPLIED_MEMBERSHIPS,
    LINKS,
    MEMBERS,
    MEMBERSHIPS,
    NESTINGS,
    PLATFORM_GROUPS,
    PLATFORM_MEMBERS,
    PLATFORM_NESTINGS,
    PRINCIPALS,
    PROFILES,
    RESOURCES,
    SYSTEM_ASSIGNMENTS,
    TENANTS,
    Key,
    Kind,
    Row,
    Rows,
    Things,
    in_order,
)
from store.times import write_end, write_start
from store.writes.attributes import canonical
from store.writes.resources import MAX_DEPTH
from store.writes.standing import GROUP

#: In place of a tenant: what all tenants share.
SHARED: Final = ""
#: By tenant, what is said of each kind; resources after those that they lie in.
Said = Mapping[str, Mapping[Kind, Things]]
#: A membership that a file only implies: of whom, in which tenant.
Implied = tuple[str, str]
#: More problems than these are only counted.
MAX_PROBLEMS: Final = 50
_MAX_SHOWN: Final = 60
_ResourceKey = tuple[str, str, str]


def rows_of(facts: MemoryFacts, implied: Iterable[Implied] = (), *, name: str = "facts") -> Said:
    """Say what facts are as rows.

    Args:
        implied: users' memberships that stand nowhere in the file.
        name: what errors call the file.

    Raises:
        FactsError: they cannot be stored; with every problem.
    """
    rows = _Rows(facts, frozenset(implied))
    rows.collect()
    if rows.problems:
        raise FactsError("bad_facts", listing(f"{name}: {problem}" for problem in rows.problems))
    return rows.said


def listing(problems: Iterable[str]) -> str:
    """Write problems one a line, as many as anybody reads."""
    found = list(problems)
    more = [f"… and {len(found) - MAX_PROBLEMS} more"] if len(found) > MAX_PROBLEMS else []
    return "\n".join([*found[:MAX_PROBLEMS], *more])


def place_of(kind: Kind, tenant: str, key: Key) -> str:
    """Say where a thing stands in a facts file."""
    match kind.table.name:
        case "tenants" | "tenant_profiles":
            found = f"tenants.{key[0]}"
        case "principals":
            found = f"{key[0]}s.{key[1]}"
        case "groups" | "platform_groups":
            found = f"groups.{key[0]}"
        case "group_nestings" | "platform_nestings":
            found = f"groups.{key[0]}.in"
        case "group_members" | "platform_members":
            found = f"groups.{key[2]}.members.{key[0]}:{key[1]}"
        case "resources":
            found = f"resources.{tenant}/{key[0]}:{key[1]}"
        case "memberships":
            found = f"{key[0]}s.{key[1]}.members.{tenant}"
        case "custom_roles":
            found = f"custom_roles.{key[0]}"
        case "links":
            found = f"links.{key[6]} of {key[0]}:{key[1]} on {key[4]}:{key[5]}"
        case "system_assignments":
            found = f"assignments.{key[2]} of {key[0]}:{key[1]} on {SYSTEM}"
        case _:
            found = f"assignments.{key[4]} of {':'.join(dict.fromkeys(key[:2]))} on {key[2]}:{key[3]}"
    return legible(found)


def legible(text: str) -> str:
    """Make a name that somebody chose fit to be shown: not too long, and nothing in it that does not show."""
    plain = text
    if not text.isprintable():
        plain = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return plain if len(plain) <= 3 * _MAX_SHOWN else f"{plain[:_MAX_SHOWN]}…{plain[-_MAX_SHOWN:]}"


class _Rows:
    """Collects rows. Problems are noted, and the rest goes on."""

    def __init__(self, facts: MemoryFacts, implied: frozenset[Implied]) -> None:
        self.facts = facts
        self.types = facts.model.types
        self.implied = implied
        self.said: defaultdict[str, dict[Kind, Things]] = defaultdict(dict)
        self.problems: list[str] = []
        self._faults: dict[tuple[str, bool], str | None] = {}

    def collect(self) -> None:
        self.tenants()
        for (kind, identity), principal in self.facts.principals.items():
            self.principal(kind, identity, principal)
        self.groups()
        self.resources()
        self.custom_roles()
        for (tenant, kind, identity), member in self.facts.members.items():
            self.member(tenant, (kind, identity), member)
        for (tenant, holder), grants in self.facts.granted.items():
            self.grants(tenant, (ANYONE, ANYONE) if holder == ANYONE else (GROUP, holder), grants)

    # --- one row after the other -------------------------------------------------------------------

    def put(self, kind: Kind, tenant: str, key: Key, *values: str | None) -> None:
        """Say a thing. What is timed may be said several times: of periods that begin alike the longest counts."""
        for each in dict.fromkeys(key):
            self.check(kind, tenant, key, each)
        things = self.said[tenant].setdefault(kind, {})
        things[key] = _together(things[key], values) if kind.is_timed and key in things else (values,)

    def check(self, kind: Kind, tenant: str, key: Key, identity: str) -> None:
        spaces = kind in (RESOURCES, ASSIGNMENTS, LINKS)
        if (identity, spaces) not in self._faults:
            self._faults[identity, spaces] = _fault_of(identity, spaces=spaces)
        fault = self._faults[identity, spaces]
        if fault is not None:
            self.problem(kind, tenant, key, fault)

    def problem(self, kind: Kind, tenant: str, key: Key, sentence: str) -> None:
        self.problems.append(f"{place_of(kind, tenant, key)}: {sentence}")

    def attributes(self, kind: Kind, tenant: str, key: Key, type_name: str, values: Mapping[str, Value]) -> str:
        declared: Mapping[str, Attribute] = self.types[type_name].attributes
        try:
            return canonical({name: show(value, declared[name].type) for name, value in values.items()})
        except RefusedError as error:
            self.problem(kind, tenant, key, error.message)
            return ""

    # --- sections ----------------------------------------------------------------------------------

    def tenants(self) -> None:
        if not self.facts.model.has_tenant:
            return
        for tenant, fact in self.facts.tenants.items():
            self.put(TENANTS, SHARED, (tenant,), fact.status)
            text = self.attributes(PROFILES, tenant, (tenant,), self.facts.model.tenant, fact.attributes)
            self.put(PROFILES, tenant, (tenant,), text)

    def principal(self, kind: str, identity: str, fact: PrincipalFact) -> None:
        key = kind, identity
        self.put(PRINCIPALS, SHARED, key, fact.status, self.attributes(PRINCIPALS, SHARED, key, kind, fact.attributes))
        for group in fact.groups:
            self.put(PLATFORM_MEMBERS, SHARED, (*key, group.group), *_period(group.starts, group.expires))
        for grant in fact.system:
            self.put(SYSTEM_ASSIGNMENTS, SHARED, (*key, grant.role), *_period(grant.starts, grant.expires))
        for link in fact.links:
            held = (*key, link.home, link.tenant, *_split(link.place), link.role)
            self.put(LINKS, SHARED, held, *_period(link.starts, link.expires))

    def groups(self) -> None:
        for name, fact in self.facts.groups.items():
            scope = SHARED if fact.tenant is None else fact.tenant
            groups, nestings = (PLATFORM_GROUPS, PLATFORM_NESTINGS) if fact.tenant is None else (GROUPS, NESTINGS)
            self.put(groups, scope, (name,), self.attributes(groups, scope, (name,), GROUP, fact.attributes), "0")
            for outer in fact.outer:
                self.put(nestings, scope, (name, outer))

    def custom_roles(self) -> None:
        for tenant, roles in self.facts.custom.items():
            for name, role in roles.items():
                for pattern in role.can:
                    self.check(CUSTOM_ROLES, tenant, (name,), pattern)
                can = json.dumps(list(role.can), separators=(",", ":"), ensure_ascii=False)
                self.put(CUSTOM_ROLES, tenant, (name,), role.on, can, "0")

    def member(self, tenant: str, who: tuple[str, str], fact: MemberFact) -> None:
        if fact.membership is not None:
            is_implied = who[0] == "user" and (who[1], tenant) in self.implied
            kind = IMPLIED_MEMBERSHIPS if is_implied else MEMBERSHIPS
            period = _period(fact.membership.starts, fact.membership.expires)
            self.put(kind, tenant, who, fact.membership.status, *period)
        for group in fact.groups:
            self.put(MEMBERS, tenant, (*who, group.group), *_period(group.starts, group.expires))
        self.grants(tenant, who, fact.grants or ())

    def grants(self, tenant: str, who: tuple[str, str], grants: Iterable[Grant]) -> None:
        for grant in grants:
            held = (*who, *_split(grant.place), grant.role)
            self.put(ASSIGNMENTS, tenant, held, *_period(grant.starts, grant.expires))

    # --- resources: a tree -------------------------------------------------------------------------

    def resources(self) -> None:
        """Say resources, each after the one that it lies in."""
        depths: dict[_ResourceKey, int] = {}
        for key in self.facts.resources:
            self.measure(key, depths)
        for tenant, kind, identity in sorted(depths, key=lambda key: depths[key]):
            fact = self.facts.resources[tenant, kind, identity]
            parent = self.parent(tenant, fact) or (None, None)
            text = self.attributes(RESOURCES, tenant, (kind, identity), kind, fact.attributes)
            self.put(RESOURCES, tenant, (kind, identity), *parent, text, str(int(fact.deleted)))

    def parent(self, tenant: str, fact: ResourceFact) -> tuple[str, str] | None:
        """Name the resource in which one lies; None: the tenant."""
        kind, identity = _split(fact.parent) if fact.parent is not None else (self.facts.model.tenant, tenant)
        return None if (kind, identity) == (self.facts.model.tenant, tenant) else (kind, identity)

    def measure(self, key: _ResourceKey, depths: dict[_ResourceKey, int]) -> None:
        """Find how deep a resource lies, and all that it lies in."""
        path: dict[_ResourceKey, None] = {}
        here: _ResourceKey | None = key
        while here is not None and here not in depths and here not in path:
            path[here] = None
            here = self.above(here)
        if here in path:
            self.problem(RESOURCES, key[0], here[1:], "the resource lies in itself")
        depth = depths.get(here, 0) if here is not None else 0
        for each in reversed(path):
            depth += 1
            depths[each] = depth
            if depth == MAX_DEPTH + 1:
                self.problem(RESOURCES, each[0], each[1:], f"resources lie at most {MAX_DEPTH} deep in each other")

    def above(self, key: _ResourceKey) -> _ResourceKey | None:
        """Find the row in which a resource lies; None: it lies in the tenant."""
        tenant = key[0]
        parent = self.parent(tenant, self.facts.resources[key])
        if parent is None:
            return None
        if (tenant, *parent) not in self.facts.resources:
            self.problem(RESOURCES, tenant, key[1:], f"its parent `{legible(':'.join(parent))}` is not in the file")
            return None
        return tenant, *parent


def _split(reference: str) -> tuple[str, str]:
    kind, _, identity = reference.partition(":")
    return kind, identity


def _period(starts: int, expires: int) -> tuple[str, str | None]:
    return write_start(starts), write_end(expires)


def _together(rows: Rows, row: Row) -> Rows:
    """Add a period to those of a thing; of two that begin alike the longer counts."""
    starts, expires = row
    alike = [end for begins, end in rows if begins == starts]
    ends = [end for end in (*alike, expires) if end is not None]
    longest = max(ends) if len(ends) > len(alike) else None  # texts of one width sort as times do; None has no end
    return in_order([*(each for each in rows if each[0] != starts), (starts, longest)])


def _fault_of(identity: str, *, spaces: bool) -> str | None:
    try:
        check_id(identity, f"`{legible(identity)}`", spaces=spaces)
    except RefusedError as error:
        return error.message
    return None
