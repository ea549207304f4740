"""Paths of conditions: what `resource.project.owner.department` reads, and whether it may.

A path is checked for one type of resource, one action and one type of principal, the `Scope`. What need not be there
wants a guard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine import nodes
from engine.model import (
    SYSTEM,
    Action,
    Attr,
    Attribute,
    Entity,
    Expr,
    Id,
    Ref,
    Sent,
    TypeInfo,
)
from engine.source import Span
from engine.spelling import nearest
from engine.symbols import Report, Symbols
from engine.values import (
    STRING,
    Type,
    ref,
)

Guard = tuple[object, str | None]
Guards = frozenset[Guard]
NO_GUARDS: Guards = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom a condition is checked. `action` is None in an `assign`, which has none."""

    type: TypeInfo
    action: Action | None
    principal: TypeInfo
    is_deny: bool = False
    #: The other types of principal that may ask, where it is enough that one of them has a path.
    others: tuple[TypeInfo, ...] = ()


class PathChecker:
    """Resolves paths for one scope."""

    def __init__(self, symbols: Symbols, report: Report, scope: Scope) -> None:
        self.symbols = symbols
        self.report = report
        self.scope = scope
        self.size = 0
        self.depth = 0
        self.is_too_large = False
        #: Paths that this type of principal lacks and another has: where, and the sentence.
        self.lacking: list[tuple[Span, str]] = []
        self.expanding: tuple[str, ...] = ()

    def path(self, node: nodes.PathNode, guards: Guards) -> Expr | None:
        """Resolve a path to a reference, an attribute, an id or a sent field."""
        head, rest = node.segments[0].text, node.segments[1:]
        scope = self.scope
        if head == "principal":
            return self.of_entity(Entity("principal", frozenset((scope.principal.name,))), rest, node, guards)
        if head == "resource":
            return self.of_resource(rest, node, guards)
        if head in ("context", "action"):
            return self.of_request("context" if head == "context" else "action", rest, node, guards)
        if head == "tenant":
            return self.of_ancestor(self.symbols.types[self.symbols.tenant], rest, node, guards)
        if head == SYSTEM and not rest:
            return Ref(Entity("ancestor", frozenset((SYSTEM,))), ref(SYSTEM), node.span)
        found = self.type_prefix(node.segments)
        if found is not None:
            info, used = found
            return self.of_ancestor(info, node.segments[used:], node, guards)
        known = ["principal", "resource", "action", "context", "tenant", *self.symbols.defines, *self.symbols.types]
        self.report.unknown("name", head, node.segments[0].span, known)
        return None

    def type_prefix(self, segments: Sequence[nodes.Name]) -> tuple[TypeInfo, int] | None:
        """The type that the first segments name, the longest such, and how many they are."""
        for size in range(len(segments), 0, -1):
            name = ".".join(segment.text for segment in segments[:size])
            info = self.symbols.types.get(self.symbols.tenant if name == "tenant" else name)
            if info is not None and info.kind in ("resource", "tenant", "principal"):
                return info, size
        return None

    def of_resource(self, rest: Sequence[nodes.Name], node: nodes.PathNode, guards: Guards) -> Expr | None:
        info = self.scope.type
        own = Entity("resource", frozenset((info.name,)))
        if not rest or rest[0].text in info.attributes or rest[0].text == "id":
            return self.of_entity(own, rest, node, guards)
        if rest[0].text == "parent":
            if not info.parents:
                self.missing(rest[0].span, f"`{info.name}` has no parent", (), "parent")
                return None
            return self.of_entity(Entity("parent", frozenset(info.parents)), rest[1:], node, guards)
        found = self.type_prefix(rest)
        if found is not None:
            return self.of_ancestor(found[0], rest[found[1] :], node, guards)
        return self.of_entity(own, rest, node, guards)  # which reports it

    def of_ancestor(
        self, outer: TypeInfo, rest: Sequence[nodes.Name], node: nodes.PathNode, guards: Guards
    ) -> Expr | None:
        info = self.scope.type
        if not self.lies_in(info, outer):
            self.missing(node.span, f"`{info.name}` never lies in `{outer.name}`", info.above, outer.name)
            return None
        if outer.kind == "tenant":
            return self.of_entity(Entity("tenant", frozenset((outer.name,))), rest, node, guards)
        entity = Entity("ancestor", frozenset((outer.name,)))
        if outer.name != info.name and outer.name not in info.always:
            self.want_guard(
                (entity, None),
                node.span,
                f"`{info.name}` need not lie in `{outer.name}`",
                f"resource has {outer.name}",
                guards,
            )
        return self.of_entity(entity, rest, node, guards)

    def of_entity(
        self, entity: Entity, rest: Sequence[nodes.Name], node: nodes.PathNode, guards: Guards
    ) -> Expr | None:
        """An entity, its id, one of its attributes, or one step through an attribute that is a reference."""
        if not rest:
            return Ref(entity, ref(*entity.types), node.span)
        name = rest[0].text
        if name == "id":
            if len(rest) > 1:
                self.too_far(rest[1], STRING)
                return None
            return Id(entity, STRING, node.span)
        attribute = self.attribute_of(entity, rest[0])
        if attribute is None:
            return None
        if attribute.optional:
            shown = ".".join(segment.text for segment in node.segments[: len(node.segments) - len(rest)])
            self.want_guard((entity, name), node.span, f"`{name}` may be absent", f"{shown} has {name}", guards)
        read = Attr(entity, name, attribute.type, node.span)
        if len(rest) == 1:
            return read
        if attribute.type.kind != "ref" or entity.kind == "referred":
            self.too_far(rest[1], attribute.type)
            return None
        return self.of_entity(Entity("referred", attribute.type.names, read), rest[1:], node, guards)

    def too_far(self, name: nodes.Name, kind: Type) -> None:
        if kind.kind == "ref":
            self.missing(name.span, "a reference may be followed one step", (), name.text)
        else:
            self.missing(name.span, f"{kind} has no `{name.text}`", (), name.text)

    def attribute_of(self, entity: Entity, name: nodes.Name) -> Attribute | None:
        """The attribute that every type the entity may have declares, with one type; optional if it is for any of
        them."""
        infos = [self.symbols.types[kind] for kind in sorted(entity.types)]
        found = [info.attributes[name.text] for info in infos if name.text in info.attributes]
        if len(found) < len(infos):
            if name.text in self.symbols.untyped:
                return None
            elsewhere = self.of_another_principal(entity, name)
            if elsewhere is not None:
                return elsewhere
            lacking = next(info for info in infos if name.text not in info.attributes)
            known: list[str] = list(lacking.attributes)
            if entity.kind == "resource":
                known += sorted(lacking.above)
            self.missing(
                name.span,
                f"`{lacking.name}` has no attribute `{name.text}`",
                known,
                name.text,
            )
            return None
        if any(not unify(found[0].type, other.type) for other in found[1:]):
            self.missing(name.span, f"`{name.text}` is of different types there", (), name.text)
            return None
        return replace(found[0], optional=any(attribute.optional for attribute in found))

    def of_another_principal(self, entity: Entity, name: nodes.Name) -> Attribute | None:
        """The attribute as another type of principal has it, where that is enough; of this one it is absent then."""
        for other in self.scope.others if entity.kind == "principal" else ():
            if name.text in other.attributes:
                self.lacking.append((name.span, f"`{self.scope.principal.name}` has no attribute `{name.text}`"))
                return replace(other.attributes[name.text], optional=False)
        return None

    def of_request(
        self, source: Literal["context", "action"], rest: Sequence[nodes.Name], node: nodes.PathNode, guards: Guards
    ) -> Expr | None:
        fields = self.fields_of(source, node.span)
        if fields is None:
            return None
        if not rest:
            self.report.add("E0300", f"`{source}` is no value; name one of its fields", node.span)
            return None
        name = rest[0].text
        if name not in fields:
            code = (
                f"`{self.scope.action.code}` has no attribute `{name}`"
                if source == "action" and self.scope.action
                else f"`{source}` has no `{name}`"
            )
            self.missing(rest[0].span, code, fields, name)
            return None
        if fields[name].optional:
            self.want_guard((source, name), node.span, f"`{name}` may be absent", f"{source} has {name}", guards)
        read = Sent(source, name, fields[name].type, node.span)
        if len(rest) == 1:
            return read
        if fields[name].type.kind != "ref":
            self.too_far(rest[1], fields[name].type)
            return None
        return self.of_entity(Entity("referred", fields[name].type.names, read), rest[1:], node, guards)

    def fields_of(self, source: str, span: Span) -> Mapping[str, Attribute] | None:
        if source == "context":
            return self.symbols.context
        if self.scope.action is None:
            self.missing(span, "there is no action here", (), source)
            return None
        return self.scope.action.fields

    def lies_in(self, info: TypeInfo, outer: TypeInfo) -> bool:
        return outer.name == info.name or outer.name in info.above

    # --- findings ----------------------------------------------------------------------------------

    def missing(self, span: Span, message: str, known: object, name: str) -> None:
        candidates = (
            [str(item) for item in known] if isinstance(known, Mapping | set | frozenset | list | tuple) else []
        )
        self.report.add("E0301", message, span, fix=nearest(name, candidates))

    def want_guard(self, guard: Guard, span: Span, message: str, cure: str, guards: Guards) -> None:
        if guard not in guards and not self.scope.is_deny:
            self.report.add("E0302", message, span, cure=f"ask first: `{cure} and …`")


_ASKERS = frozenset(("user", "service"))


def unify(left: Type, right: Type) -> bool:
    """Say whether values of two types can be the same thing. Users and services compare: a rule may mean both."""
    if left.kind != right.kind:
        return False
    if left.kind == "ref":
        return bool(left.names & right.names) or (left.names <= _ASKERS and right.names <= _ASKERS)
    if left.kind == "set":
        return left.element is None or right.element is None or unify(left.element, right.element)
    return True


def in_kind(left: Type, right: Type) -> Literal["element", "group", "groups", "network", "networks"] | None:
    """Say which `in` stands between two types, or None where there is none."""
    is_member = left.kind == "ref" and left.names <= _ASKERS | {"group"}
    if right.kind == "cidr":
        return "network" if left.kind == "ip" else None
    if right.kind == "ref":
        return "group" if is_member and right.names == {"group"} else None
    if right.kind != "set":
        return None
    element = right.element
    if element is None:
        return "element"
    if element.kind == "ref" and element.names == {"group"} and is_member:
        return "groups"
    if element.kind == "cidr":
        return "networks" if left.kind == "ip" else None
    return "element" if unify(left, element) else None
