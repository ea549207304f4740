"""One tenant as one program sees it: who holds what (`Standing`), what lies where (`Target`), and what references
name.

All of it is derived from facts and remembered here, so that a decision costs a few look-ups: these are the memos of
`architecture.md`. They live exactly as long as the pair of program and facts that they were derived from; nothing in
them says what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from engine.facts import (
    ALWAYS,
    ANYONE,
    NEVER,
    FactSource,
    Grant,
    GroupFact,
    Link,
    MemberFact,
    PrincipalFact,
    TenantFact,
)
from engine.model import EVERYWHERE, SYSTEM, TypeInfo, Within
from engine.patterns import ceiling_cut
from engine.program import Asker, Program, RoleSet
from engine.values import Value

T = TypeVar("T")

MAX_CHAIN = 32
SYSTEM_PLACE = "system:system"
NO_ROLES: Final[Mapping[str, RoleSet]] = {}
#: Most memos of each kind in one tenant; past it they are dropped and begun anew.
MAX_MEMOS = 100_000


class _Anonymous:
    """The principal that has no name: equals nobody, himself neither, and is in no set."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return "anonymous"


ANONYMOUS: Final = _Anonymous()


class Thing:
    """Something that a path may stand on: its reference, id and attributes. Of what is not there all are absent."""

    __slots__ = ("attributes", "id", "ref", "type")

    def __init__(self, ref: str | None, identity: str | None, kind: str, attributes: Mapping[str, Value]) -> None:
        self.ref = ref
        self.id = identity
        self.type = kind
        self.attributes = attributes


NOTHING: Final = Thing(None, None, "", {})


class Target:
    """A resource and its chain: itself, its parent, …, its tenant.

    Attributes:
        problem: the code of the deny where the resource cannot be decided on: unknown, existing, broken, of another
            tenant.
        places: where roles count, itself first; a new resource is no place.
    """

    __slots__ = ("attributes", "chain", "id", "parent", "places", "problem", "ref", "space", "tenant", "type")

    def __init__(
        self, space: Space, chain: tuple[Thing, ...], problem: str | None = None, *, is_new: bool = False
    ) -> None:
        first = chain[0]
        self.space = space
        self.chain = chain
        self.problem = problem
        self.ref = first.ref
        self.id = first.id
        self.type = first.type
        self.attributes = first.attributes
        self.parent = chain[1] if len(chain) > 1 else NOTHING
        self.tenant = chain[-1] if chain[-1].type == space.tenant_type else NOTHING
        self.places: tuple[str, ...] = tuple(thing.ref for thing in chain[is_new:] if thing.ref is not None)

    @property
    def places_above(self) -> tuple[str, ...]:
        return tuple(thing.ref for thing in self.chain[1:] if thing.ref is not None)

    @property
    def tenant_places(self) -> tuple[str, ...]:
        return self.places[-1:]

    def nearest(self, kind: str) -> Thing:
        """The nearest thing of a type on the chain, the resource itself first."""
        for thing in self.chain:
            if thing.type == kind:
                return thing
        return NOTHING

    def lies_within(self, within: Within) -> bool:
        """Say whether all types of one of these sets are among the places."""
        found = {place.partition(":")[0] for place in self.places}
        return any(types <= found for types in within)

    def places_from(self, kind: str) -> tuple[str, ...] | None:
        """The places from the nearest thing of a type on up; None where there is none."""
        for index, thing in enumerate(self.chain):
            if thing.type == kind:
                return (
                    self.places
                    if index == 0
                    else tuple(above.ref for above in self.chain[index:] if above.ref is not None)
                )
        return None

    def with_attributes(self, sent: Mapping[str, Value]) -> Target:
        """The same target with attributes that came with the request; they win."""
        first = self.chain[0]
        own = Thing(first.ref, first.id, first.type, {**first.attributes, **sent})
        return Target(self.space, (own, *self.chain[1:]), self.problem)


class Standing:
    """What one principal is and holds in one tenant, from `since` until before `until`.

    Attributes:
        inside: a member or guest, or let in by a claimed role. `anyone`: inside and no guest.
        held: roles by place, his own and those of his groups. `linked`: roles held over live links. `system`: roles
            on the system.
        groups: names of all groups that he is in, outer ones too, as conditions ask; `counts_in`: as rules do.
    """

    __slots__ = (
        "anyone",
        "attributes",
        "counts_in",
        "groups",
        "held",
        "id",
        "inside",
        "is_inactive",
        "is_stored",
        "kind",
        "linked",
        "plans",
        "ref",
        "since",
        "space",
        "system",
        "until",
    )

    def __init__(self, space: Space, kind: Asker, identity: str | None) -> None:
        self.space = space
        self.kind = kind
        self.id = identity
        self.ref: str | _Anonymous = ANONYMOUS if identity is None else f"{kind}:{identity}"
        self.plans = space.program.plans[kind]
        self.attributes: Mapping[str, Value] = {}
        self.is_stored = False
        self.is_inactive = False
        self.inside = False
        self.anyone = False
        self.held: Mapping[str, RoleSet] = NO_ROLES
        self.linked: Mapping[str, RoleSet] = NO_ROLES
        self.system: RoleSet | None = None
        self.groups: frozenset[str] = frozenset()
        self.counts_in: frozenset[str] = frozenset()
        self.since = ALWAYS
        self.until = NEVER + 1

    def holds(self, role: str, places: tuple[str, ...] | None, exact: bool, wide: bool) -> bool | None:
        """Say whether a role, or one that `is` it, is held on any of the places; None where the places are broken.

        Args:
            places: from the one that is asked about on up.
            exact: the first of them alone counts.
            wide: a link or a system role counts too.
        """
        if places is None:
            return None
        if exact:
            places = places[:1]
        for place in places:
            if place in self.held and _is_there(self.held[place], role, places):
                return True
            if wide and place in self.linked and _is_there(self.linked[place], role, places):
                return True
        return wide and self.system is not None and (not exact or not places) and _is_there(self.system, role, places)

    def is_outside(self, target: Target) -> bool:
        """Say whether he has no standing at all towards a target: not inside, no system role, no link held on its
        chain."""
        return not self.inside and self.system is None and not any(place in self.linked for place in target.places)

    def copy(self) -> Standing:
        """A standing with the same facts, to give it what a request alone brings."""
        other = Standing(self.space, self.kind, self.id)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other


def _is_there(roles: RoleSet, role: str, places: tuple[str, ...]) -> bool:
    """Say whether roles held somewhere above make a role on one of the places: one of an inner type is a role only
    inside it."""
    within = roles.satisfies.get(role)
    if within is None:
        return False
    if EVERYWHERE[0] in within:
        return True
    types = {place.partition(":")[0] for place in places}
    return any(inner <= types for inner in within)


class Space:
    """One tenant under one program and one state of the facts. `tenant` None: no tenant is active (questions on the
    system alone)."""

    def __init__(self, program: Program, facts: FactSource, tenant: TenantFact | None) -> None:
        self.program = program
        self.facts = facts
        self.fact = tenant
        self.model = program.model
        self.types = program.model.types
        self.tenant_id = tenant.id if tenant is not None else ""
        self.tenant_type = program.model.tenant
        self.tenant_place = f"{self.tenant_type}:{self.tenant_id}"
        attributes = tenant.attributes if tenant is not None else {}
        self.tenant_thing = Thing(self.tenant_place, self.tenant_id, self.tenant_type, attributes)
        self.standings: dict[str, Standing] = {}
        self.targets: dict[str, Target] = {}
        self.things: dict[str, Thing] = {}
        self.own_role_sets: dict[tuple[str, ...], RoleSet] = {}
        self._custom: dict[str, tuple[str, frozenset[str]]] | None = None

    # --- roles -------------------------------------------------------------------------------------

    @property
    def custom(self) -> dict[str, tuple[str, frozenset[str]]]:
        """The tenant's own roles: the type they are held on, and the actions that they give, cut to the policy's
        line."""
        if self._custom is None:
            roles = self.facts.custom_roles(self.tenant_id)
            self._custom = {
                f"custom.{name}": (role.on, ceiling_cut(self.model, role.on, role.can)) for name, role in roles.items()
            }
        return self._custom

    def role_set(self, names: Iterable[str]) -> RoleSet:
        ordered = tuple(sorted(set(names)))
        custom = {name: self.custom[name][1] for name in ordered if name.startswith("custom.")}
        if not custom:
            return self.program.role_set(ordered)
        found = self.own_role_sets.get(ordered)
        if found is None:
            found = self.own_role_sets[ordered] = RoleSet(self.program, ordered, custom)
        return found

    def is_role_of(self, role: str, kind: str) -> bool:
        """Say whether a role is one that is held on places of a type."""
        known = self.model.roles.get(role)
        if known is not None:
            return known.type == kind
        custom = self.custom.get(role)
        return custom is not None and custom[0] == kind

    def role_sets(self, held: Mapping[str, set[str]]) -> dict[str, RoleSet]:
        return {place: self.role_set(names) for place, names in held.items()}

    # --- standings ---------------------------------------------------------------------------------

    def standing(self, kind: Asker, identity: str | None, now: int) -> Standing:
        """What a principal is and holds here at an instant, remembered for as long as no time passes that matters."""
        key = f"{kind}:{identity}" if identity is not None else "anonymous"
        known = self.standings.get(key)
        if known is not None and known.since <= now < known.until:
            return known
        made = self.make_standing(kind, identity, now)
        if (made.is_stored and not made.is_inactive) or identity is None:
            self.remember(self.standings, key, made)
        return made

    def remember(self, memos: dict[str, T], key: str, value: T) -> None:
        if len(memos) >= MAX_MEMOS:
            memos.clear()
        memos[key] = value

    def make_standing(
        self, kind: Asker, identity: str | None, now: int, *, claims: tuple[str, ...] = (), is_foreign: bool = False
    ) -> Standing:
        """Work out a standing from the facts.

        Args:
            claims: full names of the claimed roles.
            is_foreign: the bearer's token is of another tenant: he is here at most the holder of a link.
        """
        standing = Standing(self, kind, identity)
        if identity is not None:
            _StandingMaker(self, standing, now).make(claims, is_foreign=is_foreign)
        return standing

    # --- targets -----------------------------------------------------------------------------------

    def target(self, kind: str, identity: str) -> Target:
        """A stored resource and its chain."""
        key = f"{kind}:{identity}"
        known = self.targets.get(key)
        if known is None:
            known = self.make_target(self.types[kind], identity, key)
            if known.problem is None:
                self.remember(self.targets, key, known)
        return known

    def make_target(self, info: TypeInfo, identity: str, ref: str) -> Target:
        own = Thing(ref, identity, info.name, {})
        if info.kind == "system":
            return Target(self, (own,), None if identity == SYSTEM else "unknown_resource")
        if info.kind == "tenant":
            return (
                Target(self, (self.tenant_thing,)) if identity == self.tenant_id else Target(self, (own,), "boundary")
            )
        if info.kind == "principal":
            attributes = self.attributes_of_member(info.name, identity)
            if attributes is None:
                return Target(self, (Thing(None, None, info.name, {}), self.tenant_thing), "unknown_resource")
            return Target(self, (Thing(ref, identity, info.name, attributes), self.tenant_thing))
        row = self.facts.resource(self.tenant_id, info.name, identity)
        if row is None or row.deleted:
            return Target(self, (Thing(None, None, info.name, {}), self.tenant_thing), "unknown_resource")
        return self.chain(Thing(ref, identity, info.name, row.attributes), info, row.parent)

    def attributes_of_member(self, kind: str, identity: str) -> Mapping[str, Value] | None:
        """The attributes of a principal as a resource: he is one where he has a membership, in whatever state."""
        if kind == "group":
            group = self.facts.group(identity)
            home = self.tenant_id if self.model.has_tenant else None
            return group.attributes if group is not None and group.tenant == home else None
        fact = self.facts.principal(kind, identity)
        if fact is None or fact.status == "deleted":
            return None
        member = self.facts.member(self.tenant_id, kind, identity)
        if self.model.has_tenant and (member is None or member.membership is None):
            return None
        return fact.attributes

    def chain(self, first: Thing, info: TypeInfo, parent: str | None, *, is_new: bool = False) -> Target:
        """Climb from a resource to its tenant. What cannot be climbed is a `broken_chain`."""
        things = [first]
        while True:
            if parent is None or parent == self.tenant_place:
                if self.tenant_type not in info.parents or len(things) + 2 > MAX_CHAIN:
                    return Target(self, (*things, self.tenant_thing), "broken_chain", is_new=is_new)
                return Target(self, (*things, self.tenant_thing), is_new=is_new)
            kind, _, identity = parent.partition(":")
            row = (
                self.facts.resource(self.tenant_id, kind, identity)
                if kind in info.parents and kind != self.tenant_type
                else None
            )
            if row is None or row.deleted or len(things) + 2 >= MAX_CHAIN:
                return Target(self, (*things, self.tenant_thing), "broken_chain", is_new=is_new)
            things.append(Thing(parent, identity, kind, row.attributes))
            info, parent = self.types[kind], row.parent

    # --- references --------------------------------------------------------------------------------

    def follow(self, ref: str | _Anonymous | None, s: Standing, t: Target) -> Thing:
        """What a reference names, with its stored attributes; NOTHING where it is broken."""
        if not isinstance(ref, str):
            return NOTHING
        known = self.things.get(ref)
        if known is not None:
            return known
        thing = self.look_up(ref)
        if thing is not NOTHING:
            self.remember(self.things, ref, thing)
        elif ref in (s.ref, t.ref):
            # He who asks and what is asked of are there, stored or not; but what is sent of them is not read through
            # a reference.
            kind, _, identity = ref.partition(":")
            return Thing(ref, identity, kind, {})
        return thing

    def look_up(self, ref: str) -> Thing:
        kind, _, identity = ref.partition(":")
        info = self.types[kind]
        if info.kind == "principal":
            if kind == "group":
                group = self.group(identity)
                return Thing(ref, identity, kind, group.attributes) if group is not None else NOTHING
            fact = self.facts.principal(kind, identity)
            return (
                Thing(ref, identity, kind, fact.attributes)
                if fact is not None and fact.status != "deleted"
                else NOTHING
            )
        if info.external:
            return Thing(ref, identity, kind, {})
        target = self.target(kind, identity)
        return target.chain[0] if target.problem is None else NOTHING

    def group(self, name: str) -> GroupFact | None:
        """A group of this tenant or of the platform."""
        group = self.facts.group(name)
        return group if group is not None and group.tenant in (None, self.tenant_id) else None

    def live(self, ref: str | _Anonymous | None, s: Standing, t: Target) -> str | _Anonymous | None:
        """A reference, if it names something; else None."""
        return ref if ref is None or ref in (s.ref, t.ref) or self.follow(ref, s, t) is not NOTHING else None

    def whole(self, refs: frozenset[str] | None, s: Standing, t: Target) -> frozenset[str] | None:
        """A set of references, if all of them name something; else None."""
        return refs if refs is not None and all(self.live(ref, s, t) is not None for ref in refs) else None

    def in_group(self, member: str | _Anonymous | None, group: str | None, s: Standing, now: int) -> bool | None:
        """Say whether a principal, or a group, is in a group, however deep."""
        if member is None or group is None:
            return None
        return group.partition(":")[2] in self.groups_of(member, s, now)

    def in_groups(
        self, member: str | _Anonymous | None, groups: frozenset[str] | None, s: Standing, now: int
    ) -> bool | None:
        """Say whether he is in any of several groups, or the group is one of them: an `or`, so a broken one fails
        only where no other holds."""
        if member is None or groups is None:
            return None
        mine = self.groups_of(member, s, now)
        is_broken = False
        for ref in groups:
            name = ref.partition(":")[2]
            if self.group(name) is None:
                is_broken = True
            elif name in mine or ref == member:
                return True
        return None if is_broken else False

    def groups_of(self, member: str | _Anonymous, s: Standing, now: int) -> frozenset[str]:
        if not isinstance(member, str):
            return frozenset()
        if member == s.ref:
            return s.groups
        kind, _, identity = member.partition(":")
        if kind == "group":
            group = self.group(identity)
            return self.outer_groups(group.outer if group is not None else ())
        return self.outer_groups(
            belonging for belonging, starts, expires in self.belongings(kind, identity) if starts <= now < expires
        )

    def belongings(self, kind: str, identity: str) -> list[tuple[str, int, int]]:
        """The groups that a principal is in directly, those of the platform and of this tenant, with their times."""
        fact = self.facts.principal(kind, identity)
        member = self.facts.member(self.tenant_id, kind, identity)
        direct = (*(fact.groups if fact is not None else ()), *(member.groups if member is not None else ()))
        return [(belonging.group, belonging.starts, belonging.expires) for belonging in direct]

    def outer_groups(self, names: Iterable[str]) -> frozenset[str]:
        """Groups and all that they are in, of this tenant and of the platform."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            group = self.group(name) if name not in found else None
            if group is not None:
                found.add(name)
                pending.extend(group.outer)
        return frozenset(found)

    def holds_on(self, s: Standing, role: str, ref: str | None, exact: bool, wide: bool, t: Target) -> bool | None:
        """`principal is ROLE on` what a reference names; None where it is broken."""
        if ref is None:
            return None
        if ref == t.ref:
            return s.holds(role, t.places, exact, wide)
        kind, _, identity = ref.partition(":")
        if self.types[kind].external or self.types[kind].kind == "principal":
            return None  # where an external thing lies only a request on it says
        target = self.target(kind, identity)
        return s.holds(role, target.places, exact, wide) if target.problem is None else None

    def holds_on_any(
        self, s: Standing, role: str, refs: frozenset[str] | None, exact: bool, wide: bool, t: Target
    ) -> bool | None:
        """`principal is ROLE on` any of a set: an `or` over them."""
        if refs is None:
            return None
        answers = [self.holds_on(s, role, ref, exact, wide, t) for ref in refs]
        return True if True in answers else None if None in answers else False


class _StandingMaker:
    """Works one standing out. Every time that is looked at narrows the span for which the result stands."""

    def __init__(self, space: Space, standing: Standing, now: int) -> None:
        self.space = space
        self.standing = standing
        self.now = now

    def counts(self, starts: int, expires: int) -> bool:
        """Say whether something with these times counts now, and note when that changes."""
        s, now = self.standing, self.now
        for edge in (starts, expires):
            if edge <= now:
                s.since = max(s.since, edge)
            else:
                s.until = min(s.until, edge)
        return starts <= now < expires

    def make(self, claims: tuple[str, ...], *, is_foreign: bool) -> None:
        s, space = self.standing, self.space
        kind, identity = s.kind, s.id or ""
        fact = space.facts.principal(kind, identity)
        member = space.facts.member(space.tenant_id, kind, identity) if space.fact is not None else None
        if fact is not None:
            s.is_stored = True
            s.is_inactive = fact.status != "active"
            s.attributes = fact.attributes
        self.join_groups(fact, member)
        if is_foreign:
            claims = ()
        is_member = self.is_member(member) and not is_foreign
        if space.fact is not None and not s.is_inactive:
            self.enter(member, claims, is_member=is_member, is_foreign=is_foreign)
            self.hold_links(fact, member)
        if fact is not None and not is_foreign:
            names = [
                grant.role
                for grant in fact.system
                if self.counts(grant.starts, grant.expires) and space.is_role_of(grant.role, SYSTEM)
            ]
            s.system = space.role_set(names) if names else None

    def join_groups(self, fact: PrincipalFact | None, member: MemberFact | None) -> None:
        direct = (*(fact.groups if fact is not None else ()), *(member.groups if member is not None else ()))
        if direct:
            self.standing.groups = self.space.outer_groups(
                [b.group for b in direct if self.counts(b.starts, b.expires)]
            )

    def is_member(self, member: MemberFact | None) -> bool:
        if not self.space.model.has_tenant:
            return True
        membership = member.membership if member is not None else None
        return (
            membership is not None
            and self.counts(membership.starts, membership.expires)
            and membership.status != "suspended"
        )

    def enter(self, member: MemberFact | None, claims: tuple[str, ...], *, is_member: bool, is_foreign: bool) -> None:
        """Settle whether he is inside, and what he holds there."""
        s, space = self.standing, self.space
        membership = member.membership if member is not None else None
        is_guest = membership is not None and membership.status == "guest"
        held: dict[str, set[str]] = {}
        if is_member:
            s.inside, s.anyone, s.counts_in = True, not is_guest, s.groups
            self.collect(member.grants if member is not None else (), held)
            for group in s.groups:
                self.collect(space.facts.group_grants(space.tenant_id, group), held)
            if not is_guest:
                self.collect(space.facts.group_grants(space.tenant_id, ANYONE), held)
        elif claims and membership is None and not is_foreign:
            s.inside = s.anyone = True
        if claims and s.inside:
            held.setdefault(space.tenant_place, set()).update(claims)
        if held:
            s.held = space.role_sets(held)

    def collect(self, grants: Iterable[Grant], held: dict[str, set[str]]) -> None:
        for grant in grants:
            kind = grant.place.partition(":")[0]
            if self.counts(grant.starts, grant.expires) and self.space.is_role_of(grant.role, kind):
                held.setdefault(grant.place, set()).add(grant.role)

    def hold_links(self, fact: PrincipalFact | None, member: MemberFact | None) -> None:
        """Roles over live links. A membership here that does not count kills them all."""
        links = [link for link in fact.links if link.tenant == self.space.tenant_id] if fact is not None else []
        if not links or (member is not None and member.membership is not None and not self.is_member(member)):
            return
        held: dict[str, set[str]] = {}
        for link in links:
            if self.is_live(link):
                held.setdefault(link.place, set()).add(link.role)
        self.standing.linked = self.space.role_sets(held)

    def is_live(self, link: Link) -> bool:
        space, s = self.space, self.standing
        role = space.model.roles.get(link.role)
        if role is None or not role.crossing or role.type != link.place.partition(":")[0]:
            return False
        home = space.facts.tenant(link.home)
        member = space.facts.member(link.home, s.kind, s.id or "")
        membership = member.membership if member is not None else None
        return (
            self.counts(link.starts, link.expires)
            and home is not None
            and home.status == "active"
            and membership is not None
            and membership.status == "active"
            and self.counts(membership.starts, membership.expires)
        )
