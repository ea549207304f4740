"""Fixtures of a `test` block → facts.

Names in one test differ, so a name alone says which thing is meant; it is the thing's id too. Attributes may be left
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from engine import nodes
from engine.diagnostics import Diagnostic
from engine.facts import (
    ALWAYS,
    IMPLICIT_TENANT,
    NEVER,
    Belonging,
    CustomRole,
    Grant,
    GroupFact,
    Link,
    MemberFact,
    Membership,
    MemoryFacts,
    PrincipalFact,
    ResourceFact,
    Status,
    TenantFact,
    at_home,
)
from engine.model import SYSTEM, Attribute, Model
from engine.source import Span
from engine.spelling import nearest
from engine.values import Type, Value, WrongTypeError, convert, parse_time

Json = Any


class FixtureError(Exception):
    """A test that cannot be set up, or asked: a mistake in the test, at a place."""

    def __init__(self, code: str, message: str, span: Span, fix: str | None = None) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code, message, span, f"did you mean `{fix}`?" if fix else None, fix)


@dataclass(slots=True)
class Named:
    """What a name of a test stands for. `tenant` is where it lies; of an external thing `properties` come with every
    request."""

    type: str
    tenant: str | None
    ref: str
    properties: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class _Member:
    membership: Membership | None = None
    groups: list[Belonging] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)


class World:
    """The fixtures of one test: what its names mean, and the facts."""

    def __init__(self, model: Model, statements: Sequence[nodes.FixtureNode | nodes.ExpectationNode]) -> None:
        self.model = model
        self.names: dict[str, Named] = {}
        self.tenants: dict[str, TenantFact] = (
            {} if model.has_tenant else {IMPLICIT_TENANT: TenantFact(IMPLICIT_TENANT, "active")}
        )
        self.principals: dict[tuple[str, str], PrincipalFact] = {}
        self.members: dict[tuple[str, str, str], _Member] = {}
        self.groups: dict[str, GroupFact] = {}
        self.granted: dict[tuple[str, str], list[Grant]] = {}
        self.resources: dict[tuple[str, str, str], ResourceFact] = {}
        self.custom: dict[str, dict[str, CustomRole]] = {}
        self.parents: dict[str, nodes.Name | None] = {}
        fixtures = [
            s
            for s in statements
            if not isinstance(
                s, nodes.AskNode | nodes.RouteAskNode | nodes.ResourceSearchNode | nodes.SubjectSearchNode
            )
        ]
        for fixture in sorted(fixtures, key=self.is_no_tenant):  # what is of a tenant may stand before it
            self.declare(fixture)
        for fixture in fixtures:
            if isinstance(fixture, nodes.ThingFixture):
                self.names[fixture.name.parts[0]].tenant = self.tenant_above(fixture)
        for fixture in fixtures:
            self.fill(fixture)

    def is_no_tenant(self, fixture: nodes.FixtureNode) -> bool:
        return not isinstance(fixture, nodes.ThingFixture) or fixture.type.text not in (self.model.tenant, "tenant")

    def facts(self, _: Model) -> MemoryFacts:
        members = {key: MemberFact(m.membership, tuple(m.groups), tuple(m.grants)) for key, m in self.members.items()}
        granted = {key: tuple(grants) for key, grants in self.granted.items()}
        principals = {
            key: replace(fact, links=at_home(fact.links, members, key)) for key, fact in self.principals.items()
        }
        return MemoryFacts(
            self.model,
            self.tenants,
            principals,
            members,
            self.groups,
            granted,
            self.resources,
            self.custom,
            "test",
        )

    # --- names -------------------------------------------------------------------------------------

    def declare(self, fixture: nodes.FixtureNode) -> None:
        kind: str
        tenant: str | None
        match fixture:
            case nodes.LinkFixture() | nodes.CustomFixture():
                return
            case nodes.ThingFixture():
                kind = self.type_of(fixture)
                tenant = fixture.name.parts[0] if kind == self.model.tenant else None
            case nodes.GroupFixture():
                kind, tenant = "group", self.tenant_name(fixture.tenant) if fixture.tenant is not None else None
                tenant = tenant if self.model.has_tenant else IMPLICIT_TENANT
            case nodes.PrincipalFixture():
                kind, tenant = fixture.type, None
            case _:
                assert_never(fixture)
        name = fixture.name.parts[0]
        if name in self.names:
            raise FixtureError("E0201", f"two fixtures are called `{name}`", fixture.name.span)
        self.names[name] = Named(kind, tenant, f"{kind}:{name}")
        if isinstance(fixture, nodes.ThingFixture):
            self.parents[name] = fixture.parent
        if kind == self.model.tenant and isinstance(fixture, nodes.ThingFixture):
            self.tenants[name] = TenantFact(name, "suspended" if fixture.suspended else "active")

    def type_of(self, fixture: nodes.ThingFixture) -> str:
        written = self.model.tenant if fixture.type.text == "tenant" else fixture.type.text
        info = self.model.types.get(written)
        if (
            info is None
            or info.kind not in ("tenant", "resource")
            or (info.kind == "tenant" and not self.model.has_tenant)
        ):
            known = [name for name, known in self.model.types.items() if known.kind in ("tenant", "resource")]
            raise FixtureError(
                "E0200",
                f"unknown type `{written}`",
                fixture.type.span,
                nearest(written, [*known, "user", "service", "group"]),
            )
        if fixture.suspended and info.kind != "tenant":
            raise FixtureError("E0500", "a tenant alone is suspended, or a user or service", fixture.name.span)
        if info.kind == "tenant" and fixture.parent is not None:
            raise FixtureError("E0500", "a tenant lies in nothing", fixture.parent.span)
        return written

    def named(self, name: nodes.Name, what: str = "fixture") -> Named:
        found = self.names.get(name.parts[0])
        if found is None:
            raise FixtureError(
                "E0200",
                f"no {what} is called `{name.parts[0]}` in this test",
                name.span,
                nearest(name.parts[0], self.names),
            )
        return found

    def tenant_name(self, name: nodes.Name) -> str:
        text = name.parts[0]
        if text not in self.tenants or not self.model.has_tenant:
            if text == "tenant" and not name.quoted:
                return self.only_tenant(name.span)
            raise FixtureError(
                "E0200", f"no tenant is called `{text}` in this test", name.span, nearest(text, self.tenants)
            )
        return text

    def only_tenant(self, span: Span) -> str:
        """The tenant that is meant where none is named: the only one."""
        if len(self.tenants) != 1:
            raise FixtureError("E0500", "this test has not one tenant alone, so a tenant has to be named", span)
        return next(iter(self.tenants))

    def tenant_above(self, fixture: nodes.ThingFixture) -> str:
        """The tenant that a fixture lies in: by its parents, or the only one."""
        if self.names[fixture.name.parts[0]].type == self.model.tenant:
            return fixture.name.parts[0]
        parent = fixture.parent
        seen: set[str] = set()
        while parent is not None and (parent.quoted or parent.text != "tenant" or "tenant" in self.names):
            above = self.named(parent)
            if above.tenant is not None:
                return above.tenant
            if parent.text in seen:
                raise FixtureError("E0204", f"`{fixture.name.text}` lies in itself", fixture.span)
            seen.add(parent.text)
            parent = self.parents.get(parent.parts[0])
        return self.only_tenant(fixture.name.span)

    # --- facts -------------------------------------------------------------------------------------

    def fill(self, fixture: nodes.FixtureNode) -> None:
        match fixture:
            case nodes.ThingFixture():
                self.fill_thing(fixture)
            case nodes.GroupFixture():
                self.fill_group(fixture)
            case nodes.PrincipalFixture():
                self.fill_principal(fixture)
            case nodes.LinkFixture():
                self.fill_link(fixture)
            case nodes.CustomFixture():
                self.fill_custom(fixture)

    def fill_thing(self, fixture: nodes.ThingFixture) -> None:
        named = self.names[fixture.name.parts[0]]
        info = self.model.types[named.type]
        if info.kind == "tenant":
            attributes = self.attributes(info.attributes, fixture.attributes)
            self.tenants[fixture.name.parts[0]] = TenantFact(
                fixture.name.parts[0], self.tenants[fixture.name.parts[0]].status, attributes
            )
            return
        parent = self.place(fixture.parent)[1] if fixture.parent is not None else None
        if info.external:
            named.properties = {name.text: self.json(value) for name, value in fixture.attributes}
            self.attributes(info.attributes, fixture.attributes)  # refuses what does not fit
            if parent is not None:
                named.properties["parent"] = parent
            return
        if parent is not None and parent.partition(":")[0] not in info.parents and fixture.parent is not None:
            raise FixtureError(
                "E0401", f"`{info.name}` does not lie in `{parent.partition(':')[0]}`", fixture.parent.span
            )
        attributes = self.attributes(info.attributes, fixture.attributes)
        key = (named.tenant or "", named.type, fixture.name.parts[0])
        self.resources[key] = ResourceFact(named.type, fixture.name.parts[0], parent, attributes)

    def attributes(self, declared: Mapping[str, Attribute], given: nodes.Values) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name, value in given:
            attribute = declared.get(name.text)
            if attribute is None:
                raise FixtureError(
                    "E0301", f"there is no attribute `{name.text}`", name.span, nearest(name.text, declared)
                )
            if name.text in found:
                raise FixtureError("E0201", f"attribute `{name.text}` stands here twice", name.span)
            try:
                found[name.text] = convert(attribute.type, self.json(value, attribute.type), {}, enumerated=True)
            except WrongTypeError as error:
                raise FixtureError("E0300", f"`{name.text}`: {error}", value.span) from error
        return found

    def json(self, value: nodes.ValueNode, kind: Type | None = None) -> Json:
        """A value as JSON has it. A fixture's name is a reference to it; so is a string where a reference is asked
        for."""
        match value:
            case nodes.ListValue(items):
                element = kind.element if kind is not None else None
                return [self.json(item, element) for item in items]
            case nodes.NameValue(name):
                if name.quoted and name.parts[0] not in self.names:
                    return name.parts[0]
                return self.named(name).ref
            case nodes.Literal_(kind="string", value=text):
                known = self.names.get(str(text)) if kind is not None and kind.kind == "ref" else None
                return known.ref if known is not None else text
            case nodes.Literal_(value=plain):
                return plain

    def fill_group(self, fixture: nodes.GroupFixture) -> None:
        name = fixture.name.parts[0]
        tenant = self.names[name].tenant if fixture.tenant is not None and self.model.has_tenant else None
        outer = tuple(self.group_name(group) for group in fixture.groups)
        for group in fixture.groups:
            if self.home_of_group(group) != tenant:
                raise FixtureError(
                    "E0500", "groups nest where they belong: in a tenant, or on the platform", group.span
                )
        attributes = self.attributes(self.model.types["group"].attributes, fixture.attributes)
        self.groups[name] = GroupFact(name, tenant, outer, attributes)
        for held in fixture.held:
            home, grant = self.grant(held)
            if not home or tenant not in (None, home):
                raise FixtureError("E0500", f"group `{name}` cannot hold a role there", held.span)
            self.granted.setdefault((home, name), []).append(grant)

    def group_name(self, name: nodes.Name) -> str:
        found = self.named(name, "group")
        if found.type != "group":
            raise FixtureError("E0500", f"`{name.parts[0]}` is no group", name.span)
        return name.parts[0]

    def member(self, tenant: str, kind: str, identity: str) -> _Member:
        return self.members.setdefault((tenant, kind, identity), _Member())

    def fill_principal(self, fixture: nodes.PrincipalFixture) -> None:
        kind, identity = fixture.type, fixture.name.parts[0]
        statuses: tuple[tuple[Literal["active", "guest"], tuple[nodes.Name, ...]], ...] = (
            ("active", fixture.member_of),
            ("guest", fixture.guest_of),
        )
        for status, tenants in statuses:
            for tenant in tenants:
                self.member(self.tenant_name(tenant), kind, identity).membership = Membership(status)
        platform: list[Belonging] = []
        for group in fixture.groups:
            home = self.home_of_group(group)
            (platform if home is None else self.member(home, kind, identity).groups).append(
                Belonging(self.group_name(group))
            )
        system: list[Grant] = []
        for held in fixture.held:
            home, grant = self.grant(held)
            if not home:
                system.append(grant)
                continue
            member = self.member(home, kind, identity)
            member.grants.append(grant)
            if member.membership is None and self.model.has_tenant:
                member.membership = Membership("active")
        attributes = self.attributes(self.model.types[kind].attributes, fixture.attributes)
        status_of: Status = "suspended" if fixture.suspended else "active"
        self.principals[kind, identity] = PrincipalFact(
            kind, identity, status_of, attributes, tuple(platform), self.links_of(kind, identity), tuple(system)
        )

    def links_of(self, kind: str, identity: str) -> tuple[Link, ...]:
        known = self.principals.get((kind, identity))
        return known.links if known is not None else ()

    def home_of_group(self, name: nodes.Name) -> str | None:
        self.group_name(name)
        return self.names[name.parts[0]].tenant if self.model.has_tenant else None

    def fill_link(self, fixture: nodes.LinkFixture) -> None:
        named = self.named(fixture.name)
        if named.type not in ("user", "service"):
            raise FixtureError("E0500", f"`{fixture.name.text}` is no user or service", fixture.name.span)
        home = self.tenant_name(fixture.home)
        links = []
        for held in fixture.held:
            tenant, grant = self.grant(held)
            links.append(Link(home, tenant, grant.role, grant.place, grant.starts, grant.expires))
        key = (named.type, fixture.name.parts[0])
        known = self.principals.get(key) or PrincipalFact(*key, "active")
        self.principals[key] = PrincipalFact(
            *key, known.status, known.attributes, known.groups, (*known.links, *links), known.system
        )

    def fill_custom(self, fixture: nodes.CustomFixture) -> None:
        kind = self.model.tenant if fixture.on.text == "tenant" else fixture.on.text
        if kind not in self.model.types:
            raise FixtureError("E0200", f"unknown type `{kind}`", fixture.on.span, nearest(kind, self.model.types))
        tenant = self.tenant_name(fixture.tenant) if fixture.tenant is not None else self.only_tenant(fixture.name.span)
        own = self.custom.setdefault(tenant, {})
        if fixture.name.parts[0] in own:
            raise FixtureError("E0201", f"two custom roles are called `{fixture.name.parts[0]}`", fixture.name.span)
        own[fixture.name.parts[0]] = CustomRole(
            fixture.name.parts[0], kind, tuple(pattern.text for pattern in fixture.patterns)
        )

    def grant(self, held: nodes.HeldNode) -> tuple[str, Grant]:
        tenant, place = self.place(held.on)
        kind = place.partition(":")[0]
        role = self.model.role_on(kind, held.role.text)
        if role is None:
            own = [name.rpartition(".")[2] for name, known in self.model.roles.items() if known.type == kind]
            raise FixtureError(
                "E0200", f"`{kind}` has no role `{held.role.text}`", held.role.span, nearest(held.role.text, own)
            )
        return tenant, Grant(
            role, place, self.time(held.starts, ALWAYS, held.span), self.time(held.expires, NEVER, held.span)
        )

    def time(self, written: str | None, default: int, span: Span) -> int:
        if written is None:
            return default
        moment = parse_time(written)
        if moment is None:
            raise FixtureError("E0303", 'a time is written "2026-03-01T10:00:00Z"', span)
        return moment

    def place(self, name: nodes.Name) -> tuple[str, str]:
        """The tenant and the reference of a place; the tenant of `system` is empty."""
        text = name.parts[0]
        if not name.quoted and text not in self.names:
            if text == SYSTEM:
                return "", f"{SYSTEM}:{SYSTEM}"
            if text == "tenant":
                tenant = self.only_tenant(name.span)
                return tenant, f"{self.model.tenant}:{tenant}"
        named = self.named(name)
        if named.tenant is None:
            return self.home_of(named, name), named.ref
        return named.tenant, named.ref

    def home_of(self, named: Named, name: nodes.Name) -> str:
        """Where a principal is a resource: the tenant that it is a member of, if it is one alone."""
        if not self.model.has_tenant:
            return IMPLICIT_TENANT
        homes = [home for home, kind, identity in self.members if f"{kind}:{identity}" == named.ref]
        return homes[0] if len(homes) == 1 else self.only_tenant(name.span)


def check_tests(model: Model) -> list[Diagnostic]:
    """Find mistakes in the fixtures of tests: unknown types, roles and attributes, two of one name. They keep no
    policy from deciding."""
    found = []
    for test in model.tests:
        try:
            World(model, test.statements)
        except FixtureError as error:
            found.append(error.diagnostic)
    return found
