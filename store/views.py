"""Views: what one key says, as it is stored, whatever the policy.

A view is the unit of caching and of invalidation. It is frozen and policy-free: attributes are JSON text, to which
each policy gives types when it reads them (`typed`). None in place of a view says that nothing is stored under the key.

    shared (stream g)      principal:TYPE:ID → PrincipalView   group:NAME → GroupView     tenant:ID → status
                           callers → CallersView
    own (stream t:TENANT)  principal:TYPE:ID → MemberFact      group:NAME → GroupView
                           resource:TYPE:ID → ResourceView     tenant → ProfileView
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from engine.facts import ALWAYS, NEVER, Belonging, CustomRole, Grant, Link, MemberFact, Membership
from engine.model import Attribute
from engine.values import Value, WrongTypeError, convert


@dataclass(frozen=True, slots=True)
class PrincipalView:
    """What all tenants share of a user or service. `status` None: not stored, but something is said of his tokens.

    Attributes:
        blocked: ids of tokens that count no more. valid_after: tokens issued before it do not count.
    """

    status: str | None
    attributes: str = "{}"
    groups: tuple[Belonging, ...] = ()
    links: tuple[Link, ...] = ()
    system: tuple[Grant, ...] = ()
    blocked: tuple[str, ...] = ()
    valid_after: int = ALWAYS


@dataclass(frozen=True, slots=True)
class GroupView:
    """Of the platform, or of a tenant: the group itself (`attributes` None: no such group here) and the groups that it
    is in; in a tenant also what it holds there, None if that is too much to be listed."""

    attributes: str | None
    outer: tuple[str, ...] = ()
    grants: tuple[Grant, ...] | None = ()


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A row of a kept resource. `parent` None: the tenant."""

    parent: str | None
    attributes: str = "{}"
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class ProfileView:
    """What a tenant keeps of itself: attributes, and the roles that it made."""

    attributes: str = "{}"
    custom: tuple[CustomRole, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerFact:
    """One who may ask for decisions.

    Attributes:
        id: `key:` and the SHA-256 of his key in hex, or `certificate:` and a name in his certificate.
        tenants: in which he may ask; None: in all.
        rate: his own limits of requests; None: those of everybody.
    """

    id: str
    name: str
    tenants: tuple[str, ...] | None
    scopes: tuple[str, ...]
    rate: str | None = None
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class CallersView:
    """All who may ask for decisions, those included whose time is over. One view, so that who is not in it is known
    without a query; it is there even if nobody is."""

    callers: tuple[CallerFact, ...] = ()


View = PrincipalView | MemberFact | GroupView | ResourceView | ProfileView | CallersView | str
Views = dict[str, "View | None"]


@dataclass(slots=True)
class Wanted:
    """Keys to load: of all tenants, and of one tenant. `placed`: (holder, place) where a holder has too much."""

    shared: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    placed: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.shared or self.own or self.placed)

    def add(self, other: Wanted) -> None:
        """Want what another wants, too."""
        self.shared |= other.shared
        self.own |= other.own
        self.placed |= other.placed


def typed(declared: Mapping[str, Attribute], text: str, aliases: Mapping[str, str]) -> dict[str, Value]:
    """Read stored attributes as a policy's types say; what does not fit is absent, so what reads it fails."""
    if text == "{}" or not declared:
        return {}
    found: dict[str, Value] = {}
    for name, raw in json.loads(text).items():
        attribute = declared.get(name)
        if attribute is None or raw is None:
            continue
        try:
            found[name] = convert(attribute.type, raw, aliases, enumerated=False)
        except WrongTypeError:
            continue
    return found


# --- as JSON, for the cache that processes share ------------------------------------------------------


def dump(view: View | None) -> object:
    """Return a view as JSON values."""
    match view:
        case None | str():
            return view
        case PrincipalView():
            return [
                "principal",
                view.status,
                view.attributes,
                [_belonging(each) for each in view.groups],
                [_link(each) for each in view.links],
                [_grant(each) for each in view.system],
                list(view.blocked),
                view.valid_after,
            ]
        case MemberFact():
            membership = view.membership
            return [
                "member",
                [membership.status, membership.starts, membership.expires] if membership else None,
                [_belonging(each) for each in view.groups],
                None if view.grants is None else [_grant(each) for each in view.grants],
            ]
        case GroupView():
            grants = None if view.grants is None else [_grant(each) for each in view.grants]
            return ["group", view.attributes, list(view.outer), grants]
        case ResourceView():
            return ["resource", view.parent, view.attributes, view.deleted]
        case ProfileView():
            return ["profile", view.attributes, [[role.name, role.on, list(role.can)] for role in view.custom]]
        case CallersView():
            return ["callers", [_caller(each) for each in view.callers]]


def undump(said: Any) -> View | None:
    """Make a view of what `dump` gave.

    Raises:
        ValueError, TypeError, IndexError: it is something else.
    """
    if said is None or isinstance(said, str):
        return said
    match said[0]:
        case "principal":
            _, status, attributes, groups, links, system, blocked, valid_after = said
            return PrincipalView(
                status,
                attributes,
                tuple(_read_belonging(*each) for each in groups),
                tuple(_read_link(*each) for each in links),
                tuple(_read_grant(*each) for each in system),
                tuple(blocked),
                valid_after,
            )
        case "member":
            _, membership, groups, grants = said
            return MemberFact(
                Membership(*membership) if membership else None,
                tuple(_read_belonging(*each) for each in groups),
                None if grants is None else tuple(_read_grant(*each) for each in grants),
            )
        case "group":
            _, attributes, outer, grants = said
            listed = None if grants is None else tuple(_read_grant(*each) for each in grants)
            return GroupView(attributes, tuple(outer), listed)
        case "resource":
            return ResourceView(*said[1:])
        case "profile":
            return ProfileView(said[1], tuple(CustomRole(name, on, tuple(can)) for name, on, can in said[2]))
        case "callers":
            return CallersView(tuple(_read_caller(*each) for each in said[1]))
        case _:
            raise ValueError(f"no view: {said[0]}")


def _grant(grant: Grant) -> list[object]:
    return [grant.role, grant.place, grant.starts, grant.expires]


def _belonging(belonging: Belonging) -> list[object]:
    return [belonging.group, belonging.starts, belonging.expires]


def _link(link: Link) -> list[object]:
    home = link.membership
    known = [home.status, home.starts, home.expires] if home else None
    return [link.home, link.tenant, link.role, link.place, link.starts, link.expires, known]


def _caller(caller: CallerFact) -> list[object]:
    tenants = None if caller.tenants is None else list(caller.tenants)
    return [caller.id, caller.name, tenants, list(caller.scopes), caller.rate, caller.expires]


# The same few roles, places and groups are named by many views: one text of each is enough.


def _read_grant(role: str, place: str, starts: int, expires: int) -> Grant:
    return Grant(intern(role), intern(place), starts, expires)


def _read_belonging(group: str, starts: int, expires: int) -> Belonging:
    return Belonging(intern(group), starts, expires)


def _read_link(
    home: str, tenant: str, role: str, place: str, starts: int, expires: int, known: list[Any] | None
) -> Link:
    return Link(home, tenant, role, place, starts, expires, Membership(*known) if known else None)


def _read_caller(
    identity: str, name: str, tenants: list[str] | None, scopes: list[str], rate: str | None, expires: int
) -> CallerFact:
    return CallerFact(identity, name, None if tenants is None else tuple(tenants), tuple(scopes), rate, expires)
