"""Who asks: inside, outside, or holding something from elsewhere; the roles that he holds, and where they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine import model as m
from engine.facts import ANYONE, Belonging, Grant, Link, MemberFact, Membership, MemoryFacts, PrincipalFact
from engine.request import Request
from tests.reference.question import Question, id_of, kind_of


@dataclass(frozen=True, slots=True)
class Held:
    """A role that he who asks holds somewhere, and on what ground."""

    role: str
    place: str
    over: Literal["membership", "claim", "link", "system"]


class Standing(Question):
    """A question, and who asks it."""

    def __init__(self, model: m.Model, facts: MemoryFacts, request: Request, now: int) -> None:
        super().__init__(model, facts, request, now)
        self.held = self.everything_held()

    def counts(self, row: Grant | Link | Belonging) -> bool:
        return bool(row.starts <= self.now < row.expires)

    def membership_counts(self) -> bool:
        if not self.model.has_tenant:
            return self.asker is not None
        return self.membership is not None and self.membership.counts_at(self.now)

    @property
    def member(self) -> MemberFact | None:
        return self.facts.member(self.tenant, self.asker_type, id_of(self.asker)) if self.asker else None

    @property
    def membership(self) -> Membership | None:
        return self.member.membership if self.member else None

    @property
    def stored_asker(self) -> PrincipalFact | None:
        return self.facts.principal(self.asker_type, id_of(self.asker)) if self.asker else None

    def is_member(self) -> bool:
        return not self.is_foreign and self.membership_counts()

    def is_full_member(self) -> bool:
        return self.is_member() and not (self.membership and self.membership.status == "guest")

    def can_claim(self) -> bool:
        """Whether a claim counts: for the tenant that is named, where no membership that does not count beats it."""
        return self.in_tenant and not self.is_foreign and (self.is_member() or self.membership is None)

    def is_inside_by_claim(self) -> bool:
        return not self.is_member() and self.can_claim() and bool(self.claimed)

    def everything_held(self) -> list[Held]:
        """All roles that he holds at this instant, in this tenant or over all."""
        if self.asker is None:
            return []
        held = []
        if self.is_member():
            grants = list(self.member.grants or ()) if self.member else []
            for group in sorted(self.groups_of(self.asker)):
                grants.extend(self.facts.group_grants(self.tenant, group))
            if self.is_full_member():
                grants.extend(self.facts.group_grants(self.tenant, ANYONE))
            held += [Held(grant.role, grant.place, "membership") for grant in grants if self.counts(grant)]
        if self.can_claim():
            held += [Held(role, self.tenant_place, "claim") for role in self.claimed]
        if self.stored_asker:
            held += [Held(link.role, link.place, "link") for link in self.stored_asker.links if self.is_live(link)]
            if not self.is_foreign:
                held += [
                    Held(grant.role, grant.place, "system") for grant in self.stored_asker.system if self.counts(grant)
                ]
        return [each for each in held if self.is_role_of(each)]

    def is_role_of(self, held: Held) -> bool:
        """Whether such a role exists, and of the type of the place."""
        if held.role.startswith("custom."):
            custom = self.facts.custom_roles(self.tenant).get(held.role.removeprefix("custom."))
            return held.over == "membership" and custom is not None and custom.on == kind_of(held.place)
        role = self.model.roles.get(held.role)
        return role is not None and role.type == kind_of(held.place) and (role.crossing or held.over != "link")

    def is_live(self, link: Link) -> bool:
        home = self.facts.tenant(link.home)
        there = self.facts.member(link.home, self.asker_type, id_of(self.asker or ""))
        return (
            self.counts(link)
            and link.tenant == self.tenant
            and link.home != self.tenant
            and home is not None
            and home.status == "active"
            and there is not None
            and there.membership is not None
            and there.membership.status == "active"
            and there.membership.counts_at(self.now)
            and (self.membership is None or self.membership_counts())
        )

    def is_outside(self) -> bool:
        """A link counts where it is held: on a link of the chain, as far as there is one, and on the tenant."""
        if self.asker is None:
            return True
        places = self.places() if self.type.kind == "system" else [*self.places(), self.tenant_place]
        return not (
            self.is_member()
            or self.is_inside_by_claim()
            or any(held.over == "system" or (held.over == "link" and held.place in places) for held in self.held)
        )

    def groups_of(self, reference: str) -> set[str]:
        """The groups that a user, service or group is in at this instant, and all around those."""
        kind, identity = kind_of(reference), id_of(reference)
        direct: list[str] = []
        if kind == "group":
            group = self.facts.groups.get(identity)
            # Groups nest where they belong: those of a tenant in each other, those of the platform in each other.
            outer = [(name, self.facts.groups.get(name)) for name in (group.outer if group else ())]
            direct += [name for name, other in outer if other and group and other.tenant == group.tenant]
        else:
            member = self.facts.member(self.tenant, kind, identity)
            principal = self.facts.principal(kind, identity)
            for belongings in (member.groups if member else (), principal.groups if principal else ()):
                direct += [belonging.group for belonging in belongings if self.counts(belonging)]
        found = set(direct)
        for name in direct:
            found |= self.groups_of(f"group:{name}")
        return found

    def is_within(self, within: m.Within, places: list[str]) -> bool:
        types = {kind_of(place) for place in places}
        return any(alternative <= types for alternative in within)

    def satisfies(self, role: str, places: list[str], *, on: list[str], wide: bool) -> bool:
        """Whether he holds that role, or one that is it there, on one of the places `on` of a chain."""
        for held in self.held:
            if (
                held.place not in on
                or held.role.startswith("custom.")
                or (held.over in ("link", "system") and not wide)
            ):
                continue
            within = self.model.roles[held.role].satisfies.get(role)
            if within is not None and self.is_within(within, places):
                return True
        return False

    def conditions_of(self, held: Held) -> list[m.Conditions | None]:
        """The conditions of each `can` by which a role that is held lets him do this; None where it has none."""
        if held.role.startswith("custom."):
            custom = self.facts.custom_roles(self.tenant)[held.role.removeprefix("custom.")]
            is_given = self.action.code in self.model.custom.get(custom.on, ()) and any(
                matches(pattern, self.action, custom.on) for pattern in custom.can
            )
            return [None] if is_given else []
        return [
            can.conditions
            for can, within in self.model.roles[held.role].gives
            if self.action.code in can.actions and self.is_within(within, self.places())
        ]


def matches(pattern: str, action: m.Action, on: str) -> bool:
    """Match a pattern of a custom role: a colon is a point, a bare name an action of the type that the role is on."""
    segments = pattern.replace(":", ".").split(".")
    kind, name = action.type.split("."), action.name
    if segments == ["*"]:
        return True
    if len(segments) == 1:
        return segments == [name] and action.type == on
    if segments[0] == "*":
        return segments[1:] == [name]
    if segments[-1] == "*":
        return segments[:-1] == kind[: len(segments) - 1]
    return segments == [*kind, name]
