"""The names of a policy: what is declared, under which names, and what a name in the text means.

First stage of checking. `collect` reads the declarations of all files and finds duplicate, reserved and ambiguous
names, cycles of types and what lies where it cannot; the result answers "which type, which role is this?" for the
later stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine import nodes
from engine.codes import CODES
from engine.diagnostics import Diagnostic
from engine.model import SYSTEM, Action, Attribute, TypeInfo
from engine.source import Source, Span
from engine.spelling import nearest
from engine.values import PLAIN, PRINCIPAL_TYPES, Type, ref, set_of

RESERVED_ROLES = frozenset(
    ["anyone", "public", "user", "service", "group", "groups", "custom", "members", "system", "tenant"]
)
RESERVED_TYPES = RESERVED_ROLES | frozenset(["principal", "resource", "action", "context", "anonymous"])
RESERVED_ATTRIBUTES = frozenset(["id", "tenant", "parent", "roles", "type", "new"])
RESERVED_RULES = frozenset((*CODES, "unknown_type", "unknown_action", "tenant_required"))
RESERVED_DEFINES = frozenset(
    ["principal", "resource", "action", "context", "tenant", "system", "true", "false", "not", "and", "or"]
)


class Report:
    """Findings so far. The same code is reported at one place once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[str, str, int, int]] = set()

    def add(self, code: str, message: str, span: Span, *, cure: str | None = None, fix: str | None = None) -> None:
        key = (code, span.source.name, span.start, span.end)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(Diagnostic(code, message, span, cure or (f"did you mean `{fix}`?" if fix else None), fix))

    def twice(self, what: str, span: Span, first: Span | None) -> None:
        """Report a second declaration of a name, and where the first stands."""
        self.add("E0201", f"{what} is declared twice", span, cure=f"the first is at {first.at}" if first else None)

    def unknown(self, what: str, name: str, span: Span, known: Iterable[str]) -> None:
        self.add("E0200", f"unknown {what} `{name}`", span, fix=nearest(name, known))


@dataclass
class Symbols:
    """All names of a policy. Filled by `collect`, read afterwards."""

    tenant: str = "tenant"
    has_tenant: bool = False
    types: dict[str, TypeInfo] = field(default_factory=dict)
    context: dict[str, Attribute] = field(default_factory=dict)
    roles: dict[str, nodes.RoleNode] = field(default_factory=dict)
    defines: dict[str, nodes.DefineNode] = field(default_factory=dict)
    #: Names of attributes whose declared type is none.
    untyped: set[str] = field(default_factory=set)

    def type_named(self, name: nodes.Name) -> TypeInfo | None:
        """The type that a name means; `tenant` is the tenant's, `system` that of the system."""
        return self.types.get(self.tenant if name.text == "tenant" else name.text)

    def role_named(self, name: nodes.Name, report: Report, *, own: str | None = None) -> str | None:
        """The full name, `TYPE.NAME`, of the role that a name means; reports it where there is none or more than one.

        Args:
            own: after `is` in a role, the type whose own role comes first.
        """
        if len(name.parts) > 1:
            kind = ".".join(name.parts[:-1])
            full = f"{self.tenant if kind == 'tenant' else kind}.{name.parts[-1]}"
            if full in self.roles:
                return full
            report.unknown("role", name.text, name.span, self.roles)
            return None
        if own is not None and f"{own}.{name.text}" in self.roles:
            return f"{own}.{name.text}"
        found = sorted(full for full in self.roles if full.rpartition(".")[2] == name.text)
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(f"`{full}`" for full in found)
            report.add("E0202", f"`{name.text}` is a role of several types", name.span, cure=f"write {choices}")
        elif name.text in ("members", "everyone", "everybody", "all"):
            report.add(
                "E0200", f"unknown role `{name.text}`", name.span, cure="`anyone` means every member", fix="anyone"
            )
        else:
            short = {full.rpartition(".")[2] for full in self.roles}
            report.unknown("role", name.text, name.span, short | set(self.roles))
        return None


def collect(declarations: Sequence[nodes.Declaration], report: Report) -> Symbols:
    """Read all declarations and give each name its meaning."""
    symbols = Symbols()
    _Types(declarations, symbols, report).collect()
    _collect_context(declarations, symbols, report)
    for node in declarations:
        if isinstance(node, nodes.RoleNode):
            _collect_role(node, symbols, report)
        elif isinstance(node, nodes.DefineNode):
            _collect_define(node, symbols, report)
    return symbols


def _collect_role(node: nodes.RoleNode, symbols: Symbols, report: Report) -> None:
    name = node.name.text
    if name in RESERVED_ROLES:
        report.add("E0203", f"`{name}` is reserved and cannot name a role", node.name.span)
        return
    info = symbols.type_named(node.on)
    if info is None:
        report.unknown("type", node.on.text, node.on.span, symbols.types)
        return
    full = f"{info.name}.{name}"
    if full in symbols.roles:
        report.twice(f"role `{name}` on `{info.name}`", node.name.span, symbols.roles[full].name.span)
        return
    symbols.roles[full] = node


def _collect_define(node: nodes.DefineNode, symbols: Symbols, report: Report) -> None:
    name = node.name.text
    if name in RESERVED_DEFINES:
        report.add("E0203", f"`{name}` is reserved and cannot name a condition", node.name.span)
    elif name in symbols.defines:
        report.twice(f"`{name}`", node.name.span, symbols.defines[name].name.span)
    elif name in symbols.types:
        report.add("E0202", f"`{name}` is a type, and cannot name a condition too", node.name.span)
    else:
        symbols.defines[name] = node


def _collect_context(declarations: Sequence[nodes.Declaration], symbols: Symbols, report: Report) -> None:
    found = [node for node in declarations if isinstance(node, nodes.ContextNode)]
    for extra in found[1:]:
        report.add("E0201", "`context` is declared twice", extra.span)
    if found:
        symbols.context = attributes_of(found[0].fields, symbols, report, reserved=frozenset())


def attributes_of(
    fields: Sequence[nodes.AttributeNode],
    symbols: Symbols,
    report: Report,
    *,
    reserved: frozenset[str] = RESERVED_ATTRIBUTES,
) -> dict[str, Attribute]:
    """Resolve declared attributes: names unique and free, types known."""
    found: dict[str, Attribute] = {}
    for node in fields:
        name = node.name.text
        if name in reserved:
            report.add("E0203", f"`{name}` is reserved and cannot name an attribute", node.name.span)
        if name in found:
            report.add("E0201", f"attribute `{name}` is declared twice", node.name.span)
            continue
        kind = _type_of(node.type, symbols, report)
        if kind is None:
            symbols.untyped.add(name)  # told here, and not again wherever it is read
        else:
            found[name] = Attribute(name, kind, node.optional, node.sent, node.span)
    return found


def _type_of(node: nodes.TypeNode, symbols: Symbols, report: Report) -> Type | None:
    if isinstance(node, nodes.EnumType):
        if len(set(node.options)) < len(node.options):
            report.add("E0201", "a word stands twice in this enumeration", node.span)
        return Type("string", options=tuple(dict.fromkeys(node.options)))
    if isinstance(node, nodes.SetType):
        element = _type_of(node.element, symbols, report)
        if element is not None and element.kind == "set":
            report.add("E0300", "a set cannot hold sets", node.span)
            return None
        return set_of(element) if element is not None else None
    name = node.name.text
    if name in PLAIN:
        return PLAIN[name]
    if name == SYSTEM:
        report.add("E0200", "`system` is no type of an attribute", node.span)
        return None
    info = symbols.type_named(node.name)
    if info is None:
        report.unknown("type", name, node.span, [*symbols.types, *PLAIN])
        return None
    return ref(info.name)


class _Types:
    """Collects the types: first all names, then what refers to them."""

    def __init__(self, declarations: Sequence[nodes.Declaration], symbols: Symbols, report: Report) -> None:
        self.symbols = symbols
        self.report = report
        self.tenants = [n for n in declarations if isinstance(n, nodes.TenantNode)]
        self.resources: dict[str, nodes.ResourceNode] = {}
        self.principals: dict[str, nodes.PrincipalNode] = {}
        self.systems = [n for n in declarations if isinstance(n, nodes.SystemNode)]
        self.names: dict[str, Span | None] = dict.fromkeys(PRINCIPAL_TYPES) | {SYSTEM: None}
        self.declarations = declarations

    def collect(self) -> None:
        self.collect_names()
        self.check_namespaces()
        parents = {name: self.parents_of(node) for name, node in self.resources.items()}
        parents |= dict.fromkeys(PRINCIPAL_TYPES, (self.symbols.tenant,))
        parents |= {self.symbols.tenant: (), SYSTEM: ()}
        self.check_cycles(parents)
        above = {name: _closure(name, parents) for name in parents}
        always = _always(parents, self.symbols.tenant)
        # Attributes refer to types by name, so a first round makes the types without them.
        for name in parents:
            self.symbols.types[name] = self.shell(name, parents[name], above[name], always[name])
        for name in parents:
            self.symbols.types[name] = self.filled(self.symbols.types[name])

    def collect_names(self) -> None:
        for node in self.tenants[:1]:
            if self.declare(node.name):
                self.symbols.tenant = node.name.text
                self.symbols.has_tenant = True
        for node in self.tenants[1:]:
            self.report.add("E0201", "a policy has at most one tenant", node.name.span)
        if not self.symbols.has_tenant:
            self.names["tenant"] = None
        for declared in self.declarations:
            if isinstance(declared, nodes.ResourceNode) and self.declare(declared.name):
                self.resources[declared.name.text] = declared
        for declared in self.declarations:
            if isinstance(declared, nodes.PrincipalNode):
                self.declare_principal(declared)
        for extra in self.systems[1:]:
            self.report.add("E0201", "`system` is declared twice", extra.span)

    def declare(self, name: nodes.Name) -> bool:
        if name.parts[0] in RESERVED_TYPES:
            self.report.add("E0203", f"`{name.parts[0]}` is reserved and cannot name a type", name.span)
        elif name.text in self.names:
            self.report.twice(f"type `{name.text}`", name.span, self.names[name.text])
        elif name.text in PLAIN or name.text == "set":
            self.report.add("E0203", f"`{name.text}` is a built-in type", name.span)
        else:
            self.names[name.text] = name.span
            return True
        return False

    def declare_principal(self, node: nodes.PrincipalNode) -> None:
        name = node.name.text
        if name not in PRINCIPAL_TYPES:
            self.report.unknown("type of principal", name, node.name.span, PRINCIPAL_TYPES)
            return
        if name in self.principals:
            self.report.add("E0201", f"principal `{name}` is declared twice", node.name.span)
            return
        self.principals[name] = node
        for alias in node.aliases:
            if alias.text in self.names:
                self.report.add("E0201", f"`{alias.text}` already names a type", alias.span)
            elif alias.text in RESERVED_TYPES:
                self.report.add("E0203", f"`{alias.text}` is reserved and cannot name a type", alias.span)
            else:
                self.names[alias.text] = alias.span

    def check_namespaces(self) -> None:
        """A type called like another's namespace would give a dotted name two readings."""
        for name, span in self.names.items():
            parts = name.split(".")
            for size in range(1, len(parts)):
                prefix = ".".join(parts[:size])
                if prefix in self.names and span is not None:
                    self.report.add(
                        "E0202",
                        f"`{prefix}` is a type, and the namespace of `{name}`",
                        span,
                        cure="rename one of the two",
                    )

    def parents_of(self, node: nodes.ResourceNode) -> tuple[str, ...]:
        found: list[str] = []
        for name in node.parents:
            text = self.symbols.tenant if name.text == "tenant" else name.text
            if text not in self.resources and text != self.symbols.tenant:
                known = [*self.resources, self.symbols.tenant]
                if text in self.names:
                    self.report.add("E0401", f"nothing can lie in `{text}`", name.span)
                else:
                    self.report.unknown("type", text, name.span, known)
            elif text in found:
                self.report.add("E0201", f"`{text}` stands here twice", name.span)
            elif text != self.symbols.tenant and self.resources[text].external:
                self.report.add("E0401", f"`{text}` is external, so nothing lies in it", name.span)
            else:
                found.append(text)
        return tuple(found) or (self.symbols.tenant,)

    def check_cycles(self, parents: Mapping[str, tuple[str, ...]]) -> None:
        """Types may nest in themselves, not in each other."""
        for name, node in self.resources.items():
            others = {parent for parent in parents[name] if parent != name}
            if any(name in _closure(other, parents) | {other} for other in others):
                self.report.add("E0204", f"`{name}` lies in itself through other types", node.name.span)

    def shell(self, name: str, parents: tuple[str, ...], above: frozenset[str], always: frozenset[str]) -> TypeInfo:
        if name in self.resources:
            node = self.resources[name]
            return TypeInfo(name, "resource", parents, node.external, {}, {}, (), True, above, always, node.name.span)
        if name in PRINCIPAL_TYPES:
            principal = self.principals.get(name)
            aliases = tuple(alias.text for alias in principal.aliases) if principal else ()
            span = principal.name.span if principal else None
            return TypeInfo(
                name, "principal", parents, False, {}, {}, aliases, principal is not None, above, always, span
            )
        if name == SYSTEM:
            span = self.systems[0].span if self.systems else None
            return TypeInfo(name, "system", (), False, {}, {}, (), bool(self.systems), frozenset(), frozenset(), span)
        span = self.tenants[0].name.span if self.symbols.has_tenant else None
        return TypeInfo(name, "tenant", (), False, {}, {}, (), self.symbols.has_tenant, frozenset(), frozenset(), span)

    def filled(self, info: TypeInfo) -> TypeInfo:
        actions: Sequence[nodes.ActionNode] = ()
        attributes: Sequence[nodes.AttributeNode] = ()
        if info.kind == "resource":
            actions, attributes = self.resources[info.name].actions, self.resources[info.name].attributes
        elif info.kind == "principal" and info.name in self.principals:
            actions, attributes = self.principals[info.name].actions, self.principals[info.name].attributes
        elif info.kind == "system" and self.systems:
            actions = self.systems[0].actions
        elif info.kind == "tenant" and self.tenants:
            actions, attributes = self.tenants[0].actions, self.tenants[0].attributes
        resolved = attributes_of(attributes, self.symbols, self.report)
        self.check_attribute_names(info, resolved)
        if info.kind == "tenant" or info.name == "group":
            for attribute in resolved.values():
                if attribute.sent:
                    self.report.add(
                        "E0401",
                        f"attributes of a {info.kind if info.kind == 'tenant' else 'group'} are never sent",
                        attribute.span,
                    )
        return TypeInfo(
            info.name,
            info.kind,
            info.parents,
            info.external,
            self.actions_of(info.name, actions),
            resolved,
            info.aliases,
            info.declared,
            info.above,
            info.always,
            info.span,
        )

    def check_attribute_names(self, info: TypeInfo, attributes: Mapping[str, Attribute]) -> None:
        """`resource.project` must mean one thing: an attribute or an ancestor."""
        heads = {kind.split(".")[0]: kind for kind in [*info.above, info.name]}
        for name, attribute in attributes.items():
            if name in heads:
                self.report.add(
                    "E0202",
                    f"`{name}` is an attribute of `{info.name}` and names the type `{heads[name]}`",
                    attribute.span,
                )

    def actions_of(self, kind: str, declared: Sequence[nodes.ActionNode]) -> dict[str, Action]:
        found: dict[str, Action] = {}
        for node in declared:
            name = node.name.text
            if name in found:
                self.report.add("E0201", f"action `{name}` is declared twice", node.name.span)
                continue
            fields = attributes_of(node.fields, self.symbols, self.report, reserved=frozenset())
            if node.new and self.symbols.types[kind].kind != "resource":
                self.report.add(
                    "E0401",
                    f"`{kind}` is not made by an action of its own",
                    node.span,
                    cure="`new` stands at actions of resources",
                )
            found[name] = Action(kind, name, node.new, fields, node.span)
        return found


def _closure(name: str, parents: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """All types that may stand above one, itself only where it nests in itself."""
    found: set[str] = set()
    pending = list(parents.get(name, ()))
    while pending:
        parent = pending.pop()
        if parent not in found:
            found.add(parent)
            pending.extend(parents.get(parent, ()))
    return frozenset(found)


def _always(parents: Mapping[str, tuple[str, ...]], tenant: str) -> dict[str, frozenset[str]]:
    """For each type the types that stand above every instance: the greatest solution of "above all my parents, or my
    only parent"."""
    everything = frozenset(parents)
    found = dict.fromkeys(parents, everything)
    found[tenant] = found[SYSTEM] = frozenset()
    changed = True
    while changed:
        changed = False
        for name, above in parents.items():
            if not above:
                continue
            common = frozenset.intersection(*(found[parent] | {parent} for parent in above))
            if name in above:
                common -= {name}  # the outermost of a nest lies in none of its own type
            if common != found[name]:
                found[name] = common
                changed = True
    return found


def no_place(name: str = "<policy>") -> Span:
    """A span for findings that have no place in the text."""
    return Span(Source(name, ""), 0, 0)
