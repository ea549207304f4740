"""One tenant as one program sees it: who holds what (`Standing`), what lies where (`Target`), and what references
name.

All of it is derived from facts and remembered here, so that a decision costs a few look-ups: these are the memos of
`architecture.md`. They live exactly as long as the pair of program and facts that they were derived from; nothing in
them says what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from engine.facts import (
    FactSource,
    GroupFact,
    TenantFact,
)
from engine.model import SYSTEM, TypeInfo
from engine.patterns import ceiling_cut
from engine.program import Asker, Program, RoleSet
from engine.standing import Anonymous, Standing, StandingMaker
from engine.target import NOTHING, Target, Thing
from engine.values import Value

T = TypeVar("T")

MAX_CHAIN = 32
#: Sets with roles of the tenant's own that are remembered; as `program.MAX_ROLE_SETS`, of one tenant.
MAX_OWN_ROLE_SETS = 500


class Tally:
    """How many memos there are in all spaces that share it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Space:
    """One tenant under one program and one state of the facts. `tenant` None: no tenant is active (questions on the
    system alone). `revision` names that state, in words of whoever keeps the facts."""

    def __init__(
        self, program: Program, facts: FactSource, tenant: TenantFact | None, tally: Tally | None = None
    ) -> None:
        self.program = program
        self.tally = tally or Tally()
        self.facts = facts
        self.fact = tenant
        self.model = program.model
        self.types = program.model.types
        self.tenant_id = tenant.id if tenant is not None else ""
        self.revision = facts.revision_of(self.tenant_id)
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
            if len(self.own_role_sets) >= MAX_OWN_ROLE_SETS:
                self.own_role_sets.clear()
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
        if ((made.is_stored and not made.is_inactive) or identity is None) and not made.is_partial:
            self.remember(self.standings, key, made)
        return made

    def remember(self, memos: dict[str, T], key: str, value: T) -> None:
        self.tally.count += 1
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
            StandingMaker(self, standing, now).make(claims, is_foreign=is_foreign)
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
            group = self.facts.group(self.tenant_id, identity)
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
        while len(things) + 2 <= MAX_CHAIN:  # the tenant and the system are links, too
            if parent is None or parent == self.tenant_place:
                if self.tenant_type not in info.parents:
                    break
                return Target(self, (*things, self.tenant_thing), is_new=is_new)
            kind, _, identity = parent.partition(":")
            if kind not in info.parents or kind == self.tenant_type:
                break
            row = self.facts.resource(self.tenant_id, kind, identity)
            if row is None or row.deleted:
                break
            things.append(Thing(parent, identity, kind, row.attributes))
            info, parent = self.types[kind], row.parent
        return Target(self, (*things, self.tenant_thing), "broken_chain", is_new=is_new)

    # --- references --------------------------------------------------------------------------------

    def follow(self, ref: str | Anonymous | None, s: Standing, t: Target) -> Thing:
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
        return self.facts.group(self.tenant_id, name)

    def live(self, ref: str | Anonymous | None, s: Standing, t: Target) -> str | Anonymous | None:
        """A reference, if it names something; else None."""
        return ref if ref is None or ref in (s.ref, t.ref) or self.follow(ref, s, t) is not NOTHING else None

    def whole(self, refs: frozenset[str] | None, s: Standing, t: Target) -> frozenset[str] | None:
        """A set of references, if all of them name something; else None."""
        # A list and no generator: where facts are fetched when they are first missed, all are missed at once.
        found = [self.live(ref, s, t) for ref in refs or ()]
        return refs if None not in found else None

    def in_group(self, member: str | Anonymous | None, group: str | None, s: Standing, now: int) -> bool | None:
        """Say whether a principal, or a group, is in a group, however deep."""
        if member is None or group is None:
            return None
        return group.partition(":")[2] in self.groups_of(member, s, now)

    def in_groups(
        self, member: str | Anonymous | None, groups: frozenset[str] | None, s: Standing, now: int
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

    def groups_of(self, member: str | Anonymous, s: Standing, now: int) -> frozenset[str]:
        if not isinstance(member, str):
            return frozenset()
        if member == s.ref:
            return s.groups
        kind, _, identity = member.partition(":")
        if kind == "group":
            return self.outer_groups([identity]) - {identity}
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
        """Groups and all that they are in. Groups nest where they belong: one of a tenant makes nobody a member of the
        platform's."""
        found: set[str] = set()
        pending = [group for name in names if (group := self.group(name)) is not None]
        while pending:
            group = pending.pop()
            if group.name not in found:
                found.add(group.name)
                outer = [self.group(name) for name in group.outer]
                pending.extend(other for other in outer if other is not None and other.tenant == group.tenant)
        return frozenset(found)

    def holds_on(self, s: Standing, role: str, ref: str | None, exact: bool, wide: bool, t: Target) -> bool | None:
        """`principal is ROLE on` what a reference names; None where it is broken."""
        if ref is None:
            return None
        if ref == t.ref:
            return s.holds(role, t.own_place if exact else t.places, exact, wide)
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
