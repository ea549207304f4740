"""The syntax tree: what stands in the text, nothing resolved. Frozen values without behaviour, each with its span.

Equality ignores spans, so that `parse(format(tree)) == tree` can be said in a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.source import Span


def _span() -> Span:
    return field(compare=False, repr=False)  # type: ignore[no-any-return]  # dataclasses' own idiom


@dataclass(frozen=True, slots=True)
class Name:
    """One name, or several joined by points; `parts` keeps them apart. `quoted`: one lone quoted string."""

    parts: tuple[str, ...]
    span: Span = _span()
    quoted: bool = field(default=False, compare=False)

    @property
    def text(self) -> str:
        return ".".join(self.parts)


# --- types and attributes --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypeName:
    """`bool`, `user`, `projects.project` …"""

    name: Name
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class SetType:
    """`set<TYPE>`"""

    element: TypeNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class EnumType:
    """`"a" | "b"`"""

    options: tuple[str, ...]
    span: Span = _span()


TypeNode = TypeName | SetType | EnumType


@dataclass(frozen=True, slots=True)
class AttributeNode:
    """`name: TYPE[?] [sent]`"""

    name: Name
    type: TypeNode
    optional: bool
    sent: bool
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ActionNode:
    """`name [new] [{ field: TYPE, … }]`"""

    name: Name
    new: bool
    fields: tuple[AttributeNode, ...]
    span: Span = _span()


# --- conditions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Literal_:  # noqa: N801  # `Literal` is a name of `typing`
    """A literal: `value` is bool, int, str; of a duration the text as it stands."""

    kind: Literal["bool", "int", "string", "duration"]
    value: bool | int | str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ListNode:
    items: tuple[ExprNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CallNode:
    name: Name
    args: tuple[ExprNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class PathNode:
    """`head.name.name`; one segment alone may be the name of a `define`."""

    segments: tuple[Name, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ArithNode:
    op: Literal["+", "-"]
    left: ExprNode
    right: ExprNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CompareNode:
    """`op` is one of `== != < <= > >= in contains overlaps within like` or `not in`."""

    op: str
    left: ExprNode
    right: ExprNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class HoldsNode:
    """`principal is ROLE on|at path`"""

    role: Name
    exact: bool
    place: PathNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class HasNode:
    """`path has NAME`, `path has TYPE`"""

    path: PathNode
    name: Name
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class NotNode:
    item: ExprNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class BoolNode:
    op: Literal["and", "or"]
    items: tuple[ExprNode, ...]
    span: Span = _span()


ExprNode = (
    Literal_ | ListNode | CallNode | PathNode | ArithNode | CompareNode | HoldsNode | HasNode | NotNode | BoolNode
)


# --- declarations ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatternNode:
    """`type.action`, `type.*`, `*.action`, `*`, `action`; a star is the part `*`."""

    parts: tuple[str, ...]
    span: Span = _span()

    @property
    def text(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class TenantNode:
    name: Name
    actions: tuple[ActionNode, ...]
    attributes: tuple[AttributeNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ResourceNode:
    name: Name
    parents: tuple[Name, ...]
    external: bool
    actions: tuple[ActionNode, ...]
    attributes: tuple[AttributeNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class PrincipalNode:
    name: Name
    aliases: tuple[Name, ...]
    actions: tuple[ActionNode, ...]
    attributes: tuple[AttributeNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class SystemNode:
    actions: tuple[ActionNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ContextNode:
    fields: tuple[AttributeNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CanNode:
    """`can PATTERN, … [when COND] [unless COND]`"""

    patterns: tuple[PatternNode, ...]
    when: ExprNode | None
    unless: ExprNode | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RoleNode:
    name: Name
    on: Name
    supers: tuple[Name, ...]
    crossing: bool
    claimable: bool
    cans: tuple[CanNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CustomNode:
    """`custom on TYPE { can PATTERN, … }`"""

    on: Name
    patterns: tuple[PatternNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class WhoNode:
    """`anyone`, `public`, `user`, `service`: kind is the word; `role`: a role; `group`: the name of a group of the
    platform."""

    kind: Literal["anyone", "public", "user", "service", "role", "group"]
    name: Name
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RuleNode:
    effect: Literal["allow", "deny"]
    name: Name
    who: tuple[WhoNode, ...]
    patterns: tuple[PatternNode, ...]
    when: ExprNode | None
    unless: ExprNode | None
    because: str | None
    obligations: tuple[tuple[Name, Literal_], ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RouteNode:
    """`route METHOD "TEMPLATE" to ACTION [in TYPE] | public | authenticated`; `method` may be `*`."""

    method: str
    template: str
    action: PatternNode | None
    parent: Name | None
    open_to: Literal["public", "authenticated"] | None
    template_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AssignedNode:
    """What an `assign` hands out: a role, or `members`, `groups`, `custom`, or a `group "NAME"` of the platform."""

    kind: Literal["role", "members", "groups", "custom", "group"]
    name: Name
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AssignNode:
    what: tuple[AssignedNode, ...]
    by: tuple[Name, ...]
    when: ExprNode | None
    max: int | None
    not_self: bool
    approval: bool
    anyone: bool
    expires_within: str | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DefineNode:
    name: Name
    condition: ExprNode
    span: Span = _span()


# --- tests -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NameValue:
    """A fixture's name as the value of an attribute."""

    name: Name
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ListValue:
    items: tuple[ValueNode, ...]
    span: Span = _span()


ValueNode = Literal_ | NameValue | ListValue
Values = tuple[tuple[Name, ValueNode], ...]


@dataclass(frozen=True, slots=True)
class HeldNode:
    """`ROLE on NAME [from "TIME"] [until "TIME"]`"""

    role: Name
    on: Name
    starts: str | None
    expires: str | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ThingFixture:
    """`TYPE NAME [in PARENT] [suspended] [{ attributes }]`: a tenant or a resource."""

    type: Name
    name: Name
    parent: Name | None
    suspended: bool
    attributes: Values
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class GroupFixture:
    """`group NAME [of TENANT] [in GROUP, …] [: HELD]`"""

    name: Name
    tenant: Name | None
    groups: tuple[Name, ...]
    attributes: Values
    held: tuple[HeldNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class PrincipalFixture:
    """`user|service NAME [suspended] [[guest] of TENANT, …] [in GROUP, …] [{ attributes }] [: HELD]`"""

    type: Literal["user", "service"]
    name: Name
    suspended: bool
    member_of: tuple[Name, ...]
    guest_of: tuple[Name, ...]
    groups: tuple[Name, ...]
    attributes: Values
    held: tuple[HeldNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class LinkFixture:
    """`link NAME of HOME: HELD`"""

    name: Name
    home: Name
    held: tuple[HeldNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CustomFixture:
    """`custom NAME on TYPE [of TENANT] { can … }`"""

    name: Name
    on: Name
    tenant: Name | None
    patterns: tuple[PatternNode, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class TailNode:
    """`[in TENANT] [with { … }] [at "TIME"] [because CODE_OR_NAME]`"""

    tenant: Name | None
    values: Values
    at: str | None
    because: Name | None
    at_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AskNode:
    """`SUBJECT can|cannot ACTION RESOURCE`; for a new resource `resource` is its type and `new` holds. No subject:
    anonymous."""

    subject: Name | None
    expected: bool
    action: Name
    resource: Name
    new: bool
    parent: Name | None
    tail: TailNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RouteAskNode:
    """`METHOD "PATH" as SUBJECT is allowed|denied`"""

    method: str
    path: str
    subject: Name | None
    expected: bool
    tail: TailNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ResourceSearchNode:
    """`SUBJECT can ACTION exactly NAME, …`"""

    subject: Name | None
    action: Name
    names: tuple[Name, ...]
    tail: TailNode
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class SubjectSearchNode:
    """`exactly NAME, … can ACTION RESOURCE`"""

    names: tuple[Name, ...]
    action: Name
    resource: Name
    tail: TailNode
    span: Span = _span()


FixtureNode = ThingFixture | GroupFixture | PrincipalFixture | LinkFixture | CustomFixture
ExpectationNode = AskNode | RouteAskNode | ResourceSearchNode | SubjectSearchNode


@dataclass(frozen=True, slots=True)
class TestNode:
    name: str
    statements: tuple[FixtureNode | ExpectationNode, ...]
    span: Span = _span()


Declaration = (
    TenantNode
    | ResourceNode
    | PrincipalNode
    | SystemNode
    | ContextNode
    | RoleNode
    | CustomNode
    | RuleNode
    | RouteNode
    | AssignNode
    | DefineNode
    | TestNode
)


@dataclass(frozen=True, slots=True)
class Module:
    """One file, parsed."""

    declarations: tuple[Declaration, ...]
    span: Span = _span()
