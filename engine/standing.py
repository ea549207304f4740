"""Who asks: what a principal is and holds in one tenant, and how that follows from the facts.

A `Standing` is good from one instant until before another: every time that was looked at to make it narrows that
span, so what expires is never looked for at a check, and counts to the nanosecond all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from engine.facts import ALWAYS, ANYONE, NEVER, Grant, Link, MemberFact, PrincipalFact
from engine.model import EVERYWHERE, SYSTEM
from engine.program import Asker, RoleSet
from engine.target import SYSTEM_PLACE, Target
from engine.values import Value

if TYPE_CHECKING:
    from engine.space import Space

NO_ROLES: Final[Mapping[str, RoleSet]] = {}


class Anonymous:
    """The principal that has no name: equals nobody, himself neither, and is in no set."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return "anonymous"


ANONYMOUS: Final = Anonymous()


class _Read:
    """What every decision reads of a standing. Slots of a base class come first and lie together, so that a decision
    touches one or two lines of the cache and not four: among many principals that is a third of its time."""

    __slots__ = ("held", "inside", "linked", "plans", "since", "tenant_roles", "until")


class Standing(_Read):
    """What one principal is and holds in one tenant, from `since` until before `until`.

    Attributes:
        inside: a member or guest, or let in by a claimed role. `anyone`: inside and no guest.
        held: roles by place, his own and those of his groups; `tenant_roles`: those on the tenant, which most are.
            `linked`: roles held over live links. `system`: roles
            on the system.
        is_partial: `held` is looked up place by place, at one instant: good for one question.
        groups: names of all groups that he is in, outer ones too, as conditions ask; `counts_in`: as rules do.
    """

    __slots__ = (
        "anyone",
        "attributes",
        "counts_in",
        "groups",
        "id",
        "is_inactive",
        "is_partial",
        "is_stored",
        "kind",
        "ref",
        "space",
        "system",
    )

    def __init__(self, space: Space, kind: Asker, identity: str | None) -> None:
        self.space = space
        self.kind = kind
        self.id = identity
        self.ref: str | Anonymous = ANONYMOUS if identity is None else f"{kind}:{identity}"
        self.plans = space.program.plans[kind]
        self.attributes: Mapping[str, Value] = {}
        self.is_stored = False
        self.is_inactive = False
        self.is_partial = False
        self.inside = False
        self.anyone = False
        self.held: Mapping[str, RoleSet] = NO_ROLES
        self.tenant_roles: RoleSet | None = None
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
        is_place = not exact or places == (SYSTEM_PLACE,)
        return wide and self.system is not None and is_place and _is_there(self.system, role, places)

    def is_outside(self, target: Target) -> bool:
        """Say whether he has no standing at all towards a target: not inside, no system role, no link held on its
        chain."""
        return not self.inside and self.system is None and not any(place in self.linked for place in target.places)

    def copy(self) -> Standing:
        """A standing with the same facts, to give it what a request alone brings."""
        other = Standing(self.space, self.kind, self.id)
        for name in (*_Read.__slots__, *self.__slots__):
            setattr(other, name, getattr(self, name))
        return other


class PlacesOnDemand(dict[str, RoleSet]):
    """Roles by place of one who, or whose groups, hold too much to be listed: each place is asked for when it is looked
    at. Good for one instant; the dict itself holds what was found so far."""

    def __init__(self, maker: StandingMaker, listed: dict[str, set[str]], holders: Iterable[str]) -> None:
        super().__init__()
        self._maker = maker
        self._listed = listed
        self._holders = tuple(holders)
        self._asked: set[str] = set()
        for place in listed:
            self.look_at(place)

    def look_at(self, place: str) -> None:
        if place in self._asked:
            return
        space = self._maker.space
        found: dict[str, set[str]] = {place: set(self._listed.get(place, ()))}
        for holder in self._holders:
            self._maker.collect(space.facts.placed(space.tenant_id, holder, place), found)
        self._asked.add(place)
        if found[place]:
            self[place] = space.role_set(found[place])

    def __contains__(self, place: object) -> bool:
        if isinstance(place, str):
            self.look_at(place)
        return super().__contains__(place)


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


class StandingMaker:
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
        many: list[str] = []
        if is_member:
            s.inside, s.anyone, s.counts_in = True, not is_guest, s.groups
            holders = {f"{s.kind}:{s.id}": member.grants if member is not None else ()}
            names = [*s.groups] if is_guest else [*s.groups, ANYONE]
            holders |= {
                name if name == ANYONE else f"group:{name}": space.facts.group_grants(space.tenant_id, name)
                for name in names
            }
            many = [holder for holder, grants in holders.items() if grants is None]
            for grants in holders.values():
                self.collect(grants or (), held)
        elif claims and membership is None and not is_foreign:
            s.inside = s.anyone = True
        if claims and s.inside:
            held.setdefault(space.tenant_place, set()).update(claims)
        if many:
            s.is_partial = True
            s.held = PlacesOnDemand(self, held, many)
        elif held:
            s.held = space.role_sets(held)
        if space.tenant_place in s.held:
            s.tenant_roles = s.held[space.tenant_place]

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
        space = self.space
        role = space.model.roles.get(link.role)
        if role is None or not role.crossing or role.type != link.place.partition(":")[0]:
            return False
        home = space.facts.tenant(link.home)
        membership = link.membership
        return (
            self.counts(link.starts, link.expires)
            and link.home != space.tenant_id  # a link is held from another tenant
            and home is not None
            and home.status == "active"
            and membership is not None
            and membership.status == "active"
            and self.counts(membership.starts, membership.expires)
        )
