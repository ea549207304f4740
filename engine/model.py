"""The checked policy: every name resolved, every type known, patterns unfolded to actions. The one form that
everything reads.

Expressions are typed and closed: they say of what they read, not how it was written. `when C unless D` has become `C
and not D`, a `define` its condition, `contains` the `in` that it is, `principal is ROLE` the role's full name. Spans
remain for people, and take no part in equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine import nodes
from engine.diagnostics import Diagnostic
from engine.source import Span
from engine.values import BOOL, Type, Value

SYSTEM = "system"

# --- what a path starts from -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that has an id and attributes.

    `principal`, `resource`, `parent` and `tenant` are those of the request; `ancestor` is the nearest thing of type
    `type` on the chain, the resource itself first; `referred` is what the reference `of` names.
    """

    kind: Literal["principal", "resource", "ancestor", "parent", "tenant", "referred"]
    types: frozenset[str]
    of: Expr | None = None

    @property
    def type(self) -> str:
        """The type of an `ancestor`, which has one alone."""
        return min(self.types)


# --- terms -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    value: Value
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SetOf:
    """A list as it stands in the policy."""

    items: tuple[Expr, ...]
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Ref:
    """The reference that names an entity: `principal`, `resource`, `resource.project`, `tenant`."""

    entity: Entity
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Attr:
    """An attribute of an entity."""

    entity: Entity
    name: str
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Id:
    entity: Entity
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """A field of the context or of the action: what the request alone says."""

    source: Literal["context", "action"]
    name: str
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A built-in: `now size lower cidr hour weekday`."""

    name: str
    args: tuple[Expr, ...]
    type: Type
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Arith:
    """A sum. `type` is that of the result, which says when it overflows."""

    op: Literal["+", "-"]
    left: Expr
    right: Expr
    type: Type
    span: Span = field(compare=False, repr=False)


# --- conditions: expressions of type bool with three values ----------------------------------------

CompareOp = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "overlaps", "within", "like"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison; `how` says which `in` it is: an element of a set, a member of a group or of groups, inside a
    network or networks."""

    op: CompareOp
    left: Expr
    right: Expr
    span: Span = field(compare=False, repr=False)
    how: Literal["", "element", "group", "groups", "network", "networks"] = ""
    type: Type = field(default=BOOL, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Has:
    """`path has NAME`: whether reading it would give a value. Never fails. `name` None: whether the ancestor itself
    is there.

    Of an attribute that `is_reference`, what it names must be there too.
    """

    entity: Entity | Literal["context", "action"]
    name: str | None
    span: Span = field(compare=False, repr=False)
    is_reference: bool = False
    type: Type = field(default=BOOL, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Holds:
    """`principal is ROLE on PLACE` (`exact`: `at`). `wide`, in a deny: over a link or as a system role counts too."""

    role: str
    place: Expr
    exact: bool
    wide: bool
    span: Span = field(compare=False, repr=False)
    type: Type = field(default=BOOL, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    item: Expr
    span: Span = field(compare=False, repr=False)
    type: Type = field(default=BOOL, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class And:
    items: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)
    type: Type = field(default=BOOL, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)
    type: Type = field(default=BOOL, compare=False, repr=False)


Term = Const | SetOf | Ref | Attr | Id | Sent | Call | Arith
Condition = Compare | Has | Holds | Not | And | Or
Expr = Term | Condition

# --- declarations ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    type: Type
    optional: bool
    sent: bool
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Action:
    """An action of a type. `code` is the permission's name, `type.name`."""

    type: str
    name: str
    new: bool
    fields: Mapping[str, Attribute]
    span: Span = field(compare=False, repr=False)

    @property
    def code(self) -> str:
        return f"{self.type}.{self.name}"


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """A type of thing. `parents`: types that it may lie in; `above`: all types that may be on its chain beside
    itself; `always`: those that must."""

    name: str
    kind: Literal["tenant", "resource", "principal", "system"]
    parents: tuple[str, ...]
    external: bool
    actions: Mapping[str, Action]
    attributes: Mapping[str, Attribute]
    aliases: tuple[str, ...]
    declared: bool
    above: frozenset[str]
    always: frozenset[str]
    span: Span | None = field(compare=False, repr=False)


#: Conditions of one rule or `can`: for each action code and type of principal; None: no condition at all.
Conditions = Mapping[tuple[str, str], Expr]


@dataclass(frozen=True, slots=True)
class Can:
    """One `can` of a role, with the actions that its patterns reach."""

    role: str
    actions: frozenset[str]
    conditions: Conditions | None
    span: Span = field(compare=False, repr=False)


#: Where a role counts that another takes over by `is`: sets of types, all of one of which must be on the chain. A
#: role of the same type counts
#: everywhere, `(frozenset(),)`; `admin on organization is project.owner` makes an owner of every project inside, and
#: of nothing beside them.
Within = tuple[frozenset[str], ...]
EVERYWHERE: Within = (frozenset(),)


@dataclass(frozen=True, slots=True)
class Role:
    """A role. `name` is `TYPE.NAME`; `satisfies`: all roles that it is, its own name too, and where; `gives`: all
    their `can`s, and where."""

    name: str
    type: str
    supers: tuple[str, ...]
    crossing: bool
    claimable: bool
    cans: tuple[Can, ...]
    satisfies: Mapping[str, Within]
    gives: tuple[tuple[Can, Within], ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a rule means: any of these."""

    anyone: bool
    public: bool
    types: frozenset[str]
    roles: frozenset[str]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    effect: Literal["allow", "deny"]
    name: str
    who: Who
    actions: frozenset[str]
    conditions: Conditions | None
    because: str | None
    obligations: tuple[tuple[str, Value], ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `segments`: text, or a binding `{type}`; `{_}` any one segment; `{rest...}` what remains. A binding
    holds the type's full name."""

    method: str
    template: str
    segments: tuple[str, ...]
    action: str | None
    parent: str | None
    open_to: Literal["public", "authenticated"] | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Assign:
    """Who may give or take what. `what`: role names, `members`, `groups`, `custom`, `group NAME`."""

    what: tuple[str, ...]
    by: tuple[str, ...]
    conditions: Conditions | None
    max: int | None
    not_self: bool
    approval: bool
    anyone: bool
    expires_within: int | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Model:
    """A whole policy without errors. Mappings are by name; `tenant` is the tenant type's name, `tenant` itself where
    none is declared."""

    tenant: str
    has_tenant: bool
    types: Mapping[str, TypeInfo]
    context: Mapping[str, Attribute]
    roles: Mapping[str, Role]
    custom: Mapping[str, frozenset[str]]
    rules: tuple[Rule, ...]
    routes: tuple[Route, ...]
    assigns: tuple[Assign, ...]
    tests: tuple[nodes.TestNode, ...]
    diagnostics: tuple[Diagnostic, ...]
    digest: str

    @property
    def aliases(self) -> dict[str, str]:
        """Further names of principal types, to their own."""
        return {alias: info.name for info in self.types.values() for alias in info.aliases}

    @property
    def actions(self) -> dict[str, Action]:
        """All actions by code."""
        return {action.code: action for info in self.types.values() for action in info.actions.values()}

    def inside(self, kind: str) -> frozenset[str]:
        """The types whose things may lie in one of that type, itself too; in `system` lies everything."""
        if kind == SYSTEM:
            return frozenset(self.types)
        return frozenset(name for name, info in self.types.items() if name == kind or kind in info.above)

    def role_on(self, kind: str, written: str) -> str | None:
        """The role that `written` means for a place of that type, in facts: its own type's, bare or with its type; or
        a custom one."""
        if written.startswith("custom."):
            return written
        name = written if written in self.roles and self.roles[written].type == kind else f"{kind}.{written}"
        if name in self.roles:
            return name
        if written.startswith("tenant.") and kind == self.tenant:
            return (
                self.role_on(kind, f"{self.tenant}.{written.removeprefix('tenant.')}")
                if self.tenant != "tenant"
                else None
            )
        return None
