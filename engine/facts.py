"""Facts: what is stored of tenants, principals, groups and resources, as the decision reads it.

Each record holds what one key says, and nothing derived: chains, group closures and merged roles are memos (`space`).
`Facts` answers from memory; a store answers the same questions from a database, so what decides never knows the
difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from engine.model import Model
from engine.values import MAX_TIME, MIN_TIME, Value

#: The one tenant of a policy without `tenant`.
IMPLICIT_TENANT = "tenant"
ALWAYS, NEVER = MIN_TIME - 1, MAX_TIME + 1
ANYONE = "anyone"

Attributes = Mapping[str, Value]
Status = Literal["active", "suspended", "deleted"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A role held on a place, `"type:id"`, from an instant until before another. `role` is `TYPE.NAME` or
    `custom.NAME`."""

    role: str
    place: str
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class Belonging:
    """A membership in a group, for a time."""

    group: str
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership in a tenant, for a time."""

    status: Literal["active", "guest", "suspended"]
    starts: int = ALWAYS
    expires: int = NEVER

    def counts_at(self, now: int) -> bool:
        return self.status != "suspended" and self.starts <= now < self.expires


@dataclass(frozen=True, slots=True)
class Link:
    """A role held over the wall: by a member of `home`, on a place in `tenant`.

    It carries the holder's membership at home, if any, so that a decision in one tenant looks at no facts of another.
    """

    home: str
    tenant: str
    role: str
    place: str
    starts: int = ALWAYS
    expires: int = NEVER
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class TenantFact:
    id: str
    status: Status
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrincipalFact:
    """What is known of a user or service in all tenants: status, attributes, groups of the platform, links, system
    roles."""

    type: str
    id: str
    status: Status
    attributes: Attributes = field(default_factory=dict)
    groups: tuple[Belonging, ...] = ()
    links: tuple[Link, ...] = ()
    system: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberFact:
    """What one tenant knows of a principal: membership if any, the tenant's groups he is in, what he holds himself:
    `grants` None says that it is too much to be listed, and is asked place by place (`FactSource.placed`)."""

    membership: Membership | None
    groups: tuple[Belonging, ...] = ()
    grants: tuple[Grant, ...] | None = ()


@dataclass(frozen=True, slots=True)
class GroupFact:
    """A group: of a tenant, or of the platform (`tenant` None), and the groups that it is in."""

    name: str
    tenant: str | None
    outer: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceFact:
    """A row of a kept resource. `parent` None: none is named, so it is the tenant where the type may lie there."""

    type: str
    id: str
    parent: str | None
    attributes: Attributes = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class CustomRole:
    """A role that a tenant made: the type it is held on, and its patterns as written."""

    name: str
    on: str
    can: tuple[str, ...]


class FactSource(Protocol):
    """What a decision asks. Answers at once, or raises what only its owner catches, to fetch what is missing and ask
    the whole question again; so nobody on the way may take an error for an answer.

    `tenant` is "" where no tenant is active: then only what all tenants share is there.
    """

    def revision_of(self, tenant: str) -> str:
        """Name the state of the facts that decisions in a tenant are made on."""
        ...

    def tenant(self, tenant: str) -> TenantFact | None: ...
    def principal(self, kind: str, identity: str) -> PrincipalFact | None: ...
    def member(self, tenant: str, kind: str, identity: str) -> MemberFact | None: ...

    def group(self, tenant: str, name: str) -> GroupFact | None:
        """A group of the tenant or of the platform."""
        ...

    def group_grants(self, tenant: str, name: str) -> tuple[Grant, ...] | None:
        """What a group, or `anyone`, holds in the tenant; None as in `MemberFact`."""
        ...

    def placed(self, tenant: str, holder: str, place: str) -> tuple[Grant, ...]:
        """What a principal (`"user:ann"`), a group (`"group:staff"`) or `anyone` holds on one place."""
        ...

    def resource(self, tenant: str, kind: str, identity: str) -> ResourceFact | None: ...
    def custom_roles(self, tenant: str) -> Mapping[str, CustomRole]: ...


class ListedFacts(FactSource, Protocol):
    """Facts that can be searched, too."""

    def candidates(self, tenant: str, kind: str) -> Iterable[str]:
        """Ids of all principals of a type with a membership in the tenant, or a link into it."""
        ...

    def instances(self, tenant: str, kind: str) -> Iterable[str]:
        """Ids of all live resources of a kept type in the tenant; of a principal type, of those with a membership
        there."""
        ...


def at_home(
    links: Iterable[Link], members: Mapping[tuple[str, str, str], MemberFact], who: tuple[str, str]
) -> tuple[Link, ...]:
    """Put into links what their holder's membership at home is."""
    homes = {link.home: members.get((link.home, *who)) for link in links}
    return tuple(replace(link, membership=home.membership if (home := homes[link.home]) else None) for link in links)


@dataclass(frozen=True)
class MemoryFacts:
    """All facts, in memory. `revision` names this state of them."""

    model: Model
    tenants: Mapping[str, TenantFact]
    principals: Mapping[tuple[str, str], PrincipalFact]
    members: Mapping[tuple[str, str, str], MemberFact]
    groups: Mapping[str, GroupFact]
    granted: Mapping[tuple[str, str], tuple[Grant, ...]]
    resources: Mapping[tuple[str, str, str], ResourceFact]
    custom: Mapping[str, Mapping[str, CustomRole]]
    revision: str = ""

    def revision_of(self, tenant: str) -> str:
        return self.revision

    def tenant(self, tenant: str) -> TenantFact | None:
        return self.tenants.get(tenant)

    def principal(self, kind: str, identity: str) -> PrincipalFact | None:
        return self.principals.get((kind, identity))

    def member(self, tenant: str, kind: str, identity: str) -> MemberFact | None:
        return self.members.get((tenant, kind, identity))

    def group(self, tenant: str, name: str) -> GroupFact | None:
        found = self.groups.get(name)
        return found if found is not None and found.tenant in (None, tenant) else None

    def group_grants(self, tenant: str, name: str) -> tuple[Grant, ...]:
        return self.granted.get((tenant, name), ())

    def placed(self, tenant: str, holder: str, place: str) -> tuple[Grant, ...]:
        kind, _, identity = holder.partition(":")
        if kind in ("group", ANYONE):
            return tuple(grant for grant in self.group_grants(tenant, identity or ANYONE) if grant.place == place)
        member = self.member(tenant, kind, identity)
        grants = member.grants if member is not None else None
        return tuple(grant for grant in grants or () if grant.place == place)

    def resource(self, tenant: str, kind: str, identity: str) -> ResourceFact | None:
        return self.resources.get((tenant, kind, identity))

    def custom_roles(self, tenant: str) -> Mapping[str, CustomRole]:
        return self.custom.get(tenant, {})

    def candidates(self, tenant: str, kind: str) -> Iterable[str]:
        if not self.model.has_tenant:
            return [identity for known, identity in self.principals if known == kind]
        members = {identity for home, known, identity in self.members if home == tenant and known == kind}
        linked = {
            fact.id
            for fact in self.principals.values()
            if fact.type == kind and any(link.tenant == tenant for link in fact.links)
        }
        return members | linked

    def instances(self, tenant: str, kind: str) -> Iterable[str]:
        if kind == "group":
            home = tenant if self.model.has_tenant else None
            return [name for name, fact in self.groups.items() if fact.tenant == home]
        if self.model.types[kind].kind == "principal":
            if not self.model.has_tenant:
                return [identity for known, identity in self.principals if known == kind]
            return [
                identity
                for (home, known, identity), fact in self.members.items()
                if home == tenant and known == kind and fact.membership is not None
            ]
        return [identity for home, known, identity in self.resources if home == tenant and known == kind]
