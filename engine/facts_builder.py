"""Facts from a document: a facts file, parsed, or the same as Python values.

Every scalar is read as written, as a string, and means what the policy's types say; then it is checked as a whole.
`strict` (files): a row
without one of its mandatory attributes, an unknown role, a wrong type is an error that names the place. Not strict
    (fixtures of tests):
attributes may be left out, and what does not fit is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import FactsError
from engine.facts import (
    ALWAYS,
    ANYONE,
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
from engine.patterns import is_well_formed, split
from engine.spelling import nearest
from engine.values import Value, WrongTypeError, convert, parse_time, split_reference

Document = Mapping[str, Any]
SECTIONS = ("tenants", "users", "services", "groups", "resources", "assignments", "links", "custom_roles")


def build(
    document: Document,
    model: Model,
    *,
    strict: bool = True,
    written: bool = True,
    name: str = "facts",
    revision: str = "",
) -> MemoryFacts:
    """Make facts of a document, as the policy's types say.

    Args:
        strict: see the module.
        written: all scalars are strings as they stand in a file; else JSON values.
        name: what errors call the document.
        revision: what decisions call this state of the facts.

    Raises:
        FactsError: with a message that lists every problem.
    """
    builder = _Builder(document, model, strict=strict, written=written, revision=revision)
    facts = builder.build()
    if builder.problems:
        shown = builder.problems[:50]
        more = f"\n… and {len(builder.problems) - len(shown)} more" if len(builder.problems) > len(shown) else ""
        raise FactsError("bad_facts", "\n".join(f"{name}: {problem}" for problem in shown) + more)
    return facts


class _ProblemError(Exception):
    """One entry that does not fit; caught where its place is known."""


@dataclass(slots=True)
class _Principal:
    """A principal while it is collected."""

    status: Status
    attributes: Mapping[str, Value]
    groups: list[Belonging]
    links: list[Link]
    system: list[Grant]


@dataclass(slots=True)
class _Member:
    membership: Membership | None
    groups: list[Belonging]
    grants: list[Grant]


class _Builder:
    """Collects one document. Problems are noted, each with its place, and the rest goes on."""

    def __init__(self, document: Document, model: Model, *, strict: bool, written: bool, revision: str) -> None:
        self.document = document
        self.model = model
        self.strict = strict
        self.written = written
        self.revision = revision
        self.aliases = model.aliases
        self.problems: list[str] = []
        self.tenants: dict[str, TenantFact] = {}
        self.principals: dict[tuple[str, str], _Principal] = {}
        self.members: dict[tuple[str, str, str], _Member] = {}
        self.groups: dict[str, GroupFact] = {}
        self.granted: dict[tuple[str, str], list[Grant]] = {}
        self.resources: dict[tuple[str, str, str], ResourceFact] = {}
        self.custom: dict[str, dict[str, CustomRole]] = {}

    def build(self) -> MemoryFacts:
        for key in self.document:
            if key not in SECTIONS:
                fix = nearest(key, SECTIONS)
                self.problems.append(f"unknown section `{key}`" + (f"; did you mean `{fix}`?" if fix else ""))
        if not self.model.has_tenant:
            self.tenants[IMPLICIT_TENANT] = TenantFact(IMPLICIT_TENANT, "active")
            if self.document.get("tenants"):
                self.problems.append("tenants: the policy has no tenant")
        else:
            self.each("tenants", self.tenant)
        self.each("users", lambda place, key, entry: self.principal("user", place, key, entry))
        self.each("services", lambda place, key, entry: self.principal("service", place, key, entry))
        self.each("groups", self.group)
        self.resource_section()
        self.list_section("custom_roles", self.custom_role)
        self.list_section("assignments", self.assignment)
        self.list_section("links", self.link)
        return self.result()

    def result(self) -> MemoryFacts:
        members = {key: MemberFact(m.membership, tuple(m.groups), tuple(m.grants)) for key, m in self.members.items()}
        principals = {
            key: PrincipalFact(
                *key, p.status, p.attributes, tuple(p.groups), at_home(p.links, members, key), tuple(p.system)
            )
            for key, p in self.principals.items()
        }
        granted = {key: tuple(grants) for key, grants in self.granted.items()}
        return MemoryFacts(
            self.model,
            self.tenants,
            principals,
            members,
            self.groups,
            granted,
            self.resources,
            self.custom,
            self.revision,
        )

    # --- walking -----------------------------------------------------------------------------------

    def each(self, section: str, handle: Any) -> None:
        entries = self.document.get(section) or {}
        if not isinstance(entries, dict):
            self.problems.append(f"{section}: expected a mapping by id")
            return
        for key, entry in entries.items():
            place = f"{section}.{key}"
            self.attempt(place, lambda key=key, entry=entry, place=place: handle(place, key, self.mapping(entry)))

    def list_section(self, section: str, handle: Any) -> None:
        entries = self.document.get(section) or []
        if not isinstance(entries, list):
            self.problems.append(f"{section}: expected a list")
            return
        for index, entry in enumerate(entries):
            self.attempt(f"{section}[{index}]", lambda entry=entry: handle(self.mapping(entry)))

    def attempt(self, place: str, action: Any) -> None:
        try:
            action()
        except (_ProblemError, WrongTypeError) as problem:
            self.problems.append(f"{place}: {problem}")

    def mapping(self, entry: object) -> Document:
        if entry in (None, ""):
            return {}
        if not isinstance(entry, dict):
            raise _ProblemError("expected a mapping")
        return entry

    def only(self, entry: Document, *known: str) -> None:
        for key in entry:
            if key not in known:
                fix = nearest(key, known)
                raise _ProblemError(
                    f"unknown key `{key}`" + (f"; did you mean `{fix}`?" if fix else f"; known are {', '.join(known)}")
                )

    def text(self, entry: Document, key: str) -> str:
        value = entry.get(key)
        if not isinstance(value, str) or not value:
            raise _ProblemError(f"`{key}` is missing" if value is None else f"`{key}` must be a string")
        return value

    def status(self, entry: Document, *allowed: str) -> Any:
        status = entry.get("status", "active")
        if status not in allowed:
            fix = nearest(str(status), allowed)
            hint = f"; did you mean `{fix}`?" if fix else f"; known are {', '.join(allowed)}"
            raise _ProblemError(f"`{status}` is no status{hint}")
        return status

    def times(self, entry: Document) -> tuple[int, int]:
        found = []
        for key, default in (("starts", ALWAYS), ("expires", NEVER)):
            written = entry.get(key)
            moment = default if written is None else parse_time(written) if isinstance(written, str) else None
            if moment is None:
                raise _ProblemError(f"`{key}`: expected a time as RFC 3339 writes it, with its zone")
            found.append(moment)
        return found[0], found[1]

    def attributes(self, place: str, declared: Mapping[str, Attribute], given: object) -> dict[str, Value]:
        """Convert attributes; what is not declared is ignored, as the language says of properties."""
        values = self.mapping(given)
        found: dict[str, Value] = {}
        for name, attribute in declared.items():
            if name not in values or values[name] is None:
                if self.strict and not attribute.optional:
                    self.problems.append(f"{place}: mandatory attribute `{name}` is missing")
                continue
            try:
                found[name] = convert(
                    attribute.type, values[name], self.aliases, written=self.written, enumerated=False
                )
            except WrongTypeError as error:
                if self.strict:
                    self.problems.append(f"{place}.attributes.{name}: {error}")
        if self.strict:
            for name in values:
                if name not in declared:
                    fix = nearest(name, declared)
                    hint = f"; did you mean `{fix}`?" if fix else ""
                    self.problems.append(f"{place}: the policy declares no attribute `{name}`{hint}")
        return found

    # --- sections ----------------------------------------------------------------------------------

    def tenant(self, place: str, key: str, entry: Document) -> None:
        self.only(entry, "status", "attributes")
        declared = self.model.types[self.model.tenant].attributes
        status = self.status(entry, "active", "suspended", "deleted")
        self.tenants[key] = TenantFact(key, status, self.attributes(place, declared, entry.get("attributes")))

    def principal(self, kind: Literal["user", "service"], place: str, key: str, entry: Document) -> None:
        self.only(entry, "status", "attributes", "members")
        status = self.status(entry, "active", "suspended", "deleted")
        attributes = self.attributes(place, self.model.types[kind].attributes, entry.get("attributes"))
        self.principals[kind, key] = _Principal(status, attributes, [], [], [])
        for tenant, membership in self.mapping(entry.get("members")).items():
            given = {"status": membership} if isinstance(membership, str) and membership else self.mapping(membership)
            self.only(given, "status", "starts", "expires")
            self.want_tenant(tenant)
            self.member(tenant, kind, key).membership = Membership(
                self.status(given, "active", "guest", "suspended"), *self.times(given)
            )

    def member(self, tenant: str, kind: str, identity: str) -> _Member:
        return self.members.setdefault((tenant, kind, identity), _Member(None, [], []))

    def want_tenant(self, tenant: object) -> None:
        if not self.model.has_tenant:
            raise _ProblemError("the policy has no tenant")
        if not isinstance(tenant, str):
            raise _ProblemError("`tenant` must be a string")
        if tenant not in self.tenants:
            fix = nearest(tenant, self.tenants)
            raise _ProblemError(f"unknown tenant `{tenant}`" + (f"; did you mean `{fix}`?" if fix else ""))

    def group(self, place: str, key: str, entry: Document) -> None:
        self.only(entry, "tenant", "members", "in", "attributes")
        tenant = entry.get("tenant")
        if tenant is not None:
            self.want_tenant(tenant)
        if key == ANYONE:
            raise _ProblemError("`anyone` is no group's name")
        outer = entry.get("in") or []
        members = entry.get("members") or []
        if not isinstance(outer, list) or not isinstance(members, list) or not all(isinstance(n, str) for n in outer):
            raise _ProblemError("`members` and `in` are lists")
        known = self.document.get("groups") or {}
        for name in outer:
            if name not in known:
                raise _ProblemError(f"unknown group `{name}`")
            if self.mapping(known[name]).get("tenant") != tenant:
                raise _ProblemError(f"group `{name}` is not of the same tenant: groups nest where they belong")
        attributes = self.attributes(place, self.model.types["group"].attributes, entry.get("attributes"))
        self.groups[key] = GroupFact(key, tenant, tuple(outer), attributes)
        if any(key in _outer_names(name, known) for name in outer):
            raise _ProblemError("the group lies in itself")
        for item in members:
            self.group_member(key, tenant, item)

    def group_member(self, group: str, tenant: str | None, item: object) -> None:
        entry = {"subject": item} if isinstance(item, str) else self.mapping(item)
        self.only(entry, "subject", "starts", "expires")
        kind, identity = self.asker(self.text(entry, "subject"))
        belonging = Belonging(group, *self.times(entry))
        if tenant is None:
            if (kind, identity) not in self.principals:
                raise _ProblemError(f"unknown {kind} `{identity}`")
            self.principals[kind, identity].groups.append(belonging)
        else:
            self.member(tenant, kind, identity).groups.append(belonging)

    def asker(self, written: str) -> tuple[str, str]:
        kind, identity = split_reference(written)
        kind = self.aliases.get(kind, kind)
        if kind not in ("user", "service"):
            raise _ProblemError(f"`{written}` is no user or service")
        return kind, identity

    def resource_section(self) -> None:
        entries = self.document.get("resources") or {}
        if not isinstance(entries, dict):
            self.problems.append("resources: expected a mapping by type:id")
            return
        rows: dict[str, tuple[str | None, str, str, Document]] = {}
        for key, entry in entries.items():
            self.attempt(
                f"resources.{key}",
                lambda key=key, entry=entry: rows.__setitem__(key, self.row(key, self.mapping(entry))),
            )
        for key in rows:
            self.attempt(f"resources.{key}", lambda key=key: self.resource(key, rows))

    def row(self, key: str, entry: Document) -> tuple[str | None, str, str, Document]:
        """Read a row's key: `type:id`, or `tenant/type:id` where ids repeat."""
        self.only(entry, "parent", "status", "attributes")
        tenant, written = self.split_tenant(key)
        kind, identity = split_reference(written)
        info = self.model.types.get(kind)
        if info is None or info.kind != "resource":
            fix = nearest(kind, [name for name, known in self.model.types.items() if known.kind == "resource"])
            raise _ProblemError(
                f"the policy has no resource type `{kind}`" + (f"; did you mean `{fix}`?" if fix else "")
            )
        if info.external:
            raise _ProblemError(f"`{kind}` is external: it is kept by the application, not here")
        return tenant, kind, identity, entry

    def split_tenant(self, written: str) -> tuple[str | None, str]:
        before, slash, rest = written.partition("/")
        if slash and before in self.tenants and ":" not in before:
            return before, rest
        return None, written

    def resource(self, key: str, rows: dict[str, tuple[str | None, str, str, Document]]) -> None:
        tenant, kind, identity, entry = rows[key]
        info = self.model.types[kind]
        home = tenant or self.tenant_above(key, rows)
        status = self.status(entry, "active", "deleted")
        parent = entry.get("parent")
        if parent is not None:
            parent_tenant, parent = self.split_tenant(self.text(entry, "parent"))
            parent_kind, parent_id = split_reference(parent)
            if parent_kind == "tenant" and self.model.has_tenant:
                parent_kind = self.model.tenant
            parent = f"{parent_kind}:{parent_id}"
            if parent_kind not in info.parents:
                raise _ProblemError(f"`{kind}` does not lie in `{parent_kind}`")
            if parent_tenant not in (None, home):
                raise _ProblemError("the parent is of another tenant")
        place = f"resources.{key}"
        attributes = self.attributes(place, info.attributes, entry.get("attributes"))
        if (home, kind, identity) in self.resources:
            raise _ProblemError("this resource stands here twice")
        self.resources[home, kind, identity] = ResourceFact(kind, identity, parent, attributes, status == "deleted")

    def tenant_above(self, key: str, rows: dict[str, tuple[str | None, str, str, Document]]) -> str:
        """The tenant in which a row lies, by its parents."""
        if not self.model.has_tenant:
            return IMPLICIT_TENANT
        seen: set[str] = set()
        while True:
            if key in seen:
                raise _ProblemError("the resource lies in itself")
            seen.add(key)
            tenant, _, _, entry = rows[key]
            if tenant is not None:
                return tenant
            parent = entry.get("parent")
            if not isinstance(parent, str):
                raise _ProblemError("no parent is named, so its tenant is unknown: name one, or write `tenant/type:id`")
            named, written = self.split_tenant(parent)
            if named is not None:
                return named
            kind, identity = split_reference(written)
            if kind in (self.model.tenant, "tenant"):
                self.want_tenant(identity)
                return identity
            if written not in rows:
                raise _ProblemError(f"unknown parent `{parent}`")
            key = written

    def custom_role(self, entry: Document) -> None:
        self.only(entry, "tenant", "name", "on", "can")
        tenant = self.owner(entry)
        name, on = self.text(entry, "name"), self.text(entry, "on")
        on = self.model.tenant if on == "tenant" else on
        if on not in self.model.types:
            raise _ProblemError(f"unknown type `{on}`")
        can = entry.get("can") or []
        if not isinstance(can, list) or not all(isinstance(pattern, str) for pattern in can):
            raise _ProblemError("`can` is a list of patterns")
        for pattern in can:
            if not is_well_formed(split(pattern)):
                raise _ProblemError(f"`{pattern}` is no pattern: `type.action`, `type.*`, `*.action` or `*`")
        own = self.custom.setdefault(tenant, {})
        if name in own:
            raise _ProblemError(f"custom role `{name}` stands here twice")
        own[name] = CustomRole(name, on, tuple(can))

    def owner(self, entry: Document) -> str:
        if not self.model.has_tenant:
            if "tenant" in entry:
                raise _ProblemError("the policy has no tenant")
            return IMPLICIT_TENANT
        tenant = self.text(entry, "tenant")
        self.want_tenant(tenant)
        return tenant

    def place(self, written: str) -> tuple[str, str]:
        """The tenant and the reference of a place on which something is held; the tenant of `system` is empty."""
        if written in (SYSTEM, f"{SYSTEM}:{SYSTEM}"):
            return "", f"{SYSTEM}:{SYSTEM}"
        if not self.model.has_tenant and written in ("tenant", f"{IMPLICIT_TENANT}:{IMPLICIT_TENANT}"):
            return IMPLICIT_TENANT, f"{IMPLICIT_TENANT}:{IMPLICIT_TENANT}"
        tenant, reference = self.split_tenant(written)
        kind, identity = split_reference(reference)
        kind = self.model.tenant if kind == "tenant" else self.aliases.get(kind, kind)
        if kind not in self.model.types:
            fix = nearest(kind, self.model.types)
            raise _ProblemError(f"the policy has no type `{kind}`" + (f"; did you mean `{fix}`?" if fix else ""))
        reference = f"{kind}:{identity}"
        if kind == self.model.tenant:
            self.want_tenant(identity)
            return identity, reference
        if not self.model.has_tenant:
            return IMPLICIT_TENANT, reference
        if tenant is None:
            tenant = self.only_tenant_of(kind, identity, reference)
        return tenant, reference

    def only_tenant_of(self, kind: str, identity: str, written: str) -> str:
        homes = [home for home, known, name in self.resources if known == kind and name == identity]
        if self.model.types[kind].kind == "principal":
            homes = [home for home, known, name in self.members if known == kind and name == identity]
            if kind == "group" and identity in self.groups and self.groups[identity].tenant is not None:
                homes = [self.groups[identity].tenant or ""]
        if len(homes) == 1:
            return homes[0]
        if homes:
            raise _ProblemError(f"`{written}` is in several tenants: write `{homes[0]}/{written}`")
        if len(self.tenants) == 1:
            return next(iter(self.tenants))
        raise _ProblemError(
            f"there is no `{written}`"
            if not self.model.types[kind].external
            else f"write `tenant/{written}`: it has no row"
        )

    def role(self, written: str, place: str) -> str:
        kind = place.partition(":")[0]
        name = self.model.role_on(kind, written)
        if name is None:
            if not self.strict:
                return written
            own = [full.rpartition(".")[2] for full, role in self.model.roles.items() if role.type == kind]
            fix = nearest(written, own)
            raise _ProblemError(f"`{kind}` has no role `{written}`" + (f"; did you mean `{fix}`?" if fix else ""))
        return name

    def assignment(self, entry: Document) -> None:
        self.only(entry, "subject", "role", "on", "starts", "expires")
        subject = self.text(entry, "subject")
        tenant, place = self.place(self.text(entry, "on"))
        grant = Grant(self.role(self.text(entry, "role"), place), place, *self.times(entry))
        if subject == ANYONE:
            if not tenant:
                raise _ProblemError("`anyone` cannot hold a role on `system`")
            self.granted.setdefault((tenant, ANYONE), []).append(grant)
            return
        kind, identity = split_reference(subject)
        if self.aliases.get(kind, kind) == "group":
            self.assign_to_group(identity, tenant, grant)
            return
        kind, identity = self.asker(subject)
        if not tenant:
            if (kind, identity) not in self.principals:
                raise _ProblemError(f"unknown {kind} `{identity}`")
            self.principals[kind, identity].system.append(grant)
            return
        self.hold(tenant, kind, identity, grant)

    def hold(self, tenant: str, kind: str, identity: str, grant: Grant) -> None:
        member = self.member(tenant, kind, identity)
        member.grants.append(grant)
        # The shorthand of this file: a user named in an assignment is an active member where nothing is said of the
        # tenant.
        if kind == "user" and member.membership is None and self.model.has_tenant:
            member.membership = Membership("active")

    def assign_to_group(self, name: str, tenant: str, grant: Grant) -> None:
        group = self.groups.get(name)
        if group is None:
            raise _ProblemError(f"unknown group `{name}`")
        if not tenant:
            raise _ProblemError("a group cannot hold a role on `system`")
        if group.tenant not in (None, tenant):
            raise _ProblemError(f"group `{name}` is of another tenant")
        self.granted.setdefault((tenant, name), []).append(grant)

    def link(self, entry: Document) -> None:
        self.only(entry, "subject", "home", "role", "on", "starts", "expires")
        kind, identity = self.asker(self.text(entry, "subject"))
        home = self.text(entry, "home")
        self.want_tenant(home)
        tenant, place = self.place(self.text(entry, "on"))
        if not tenant:
            raise _ProblemError("a link holds a role in a tenant, not on `system`")
        if (kind, identity) not in self.principals:
            raise _ProblemError(f"unknown {kind} `{identity}`")
        role = self.role(self.text(entry, "role"), place)
        self.principals[kind, identity].links.append(Link(home, tenant, role, place, *self.times(entry)))


def _outer_names(name: str, groups: Mapping[str, Any]) -> Iterable[str]:
    found: set[str] = set()
    pending = [name]
    while pending:
        current = pending.pop()
        if current in found:
            continue
        found.add(current)
        entry = groups.get(current)
        pending.extend(entry.get("in") or [] if isinstance(entry, dict) else [])
    return found
