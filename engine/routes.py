"""Routes: how an HTTP request names an action on a resource.

`RouteChecker` checks the declarations; `RouteTable` finds the route of a method and a path; `path_segments` refuses a
path that two readers might read differently, before any route, tenant or principal is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from engine import nodes
from engine.model import SYSTEM, Action, Route, TypeInfo
from engine.source import Span
from engine.spelling import nearest
from engine.symbols import Report, Symbols

ANY_SEGMENT, REST = "{_}", "{rest...}"
#: What may stand in a path as it comes, its slashes aside: visible ASCII without `\ ; # ?` and with whole escapes only.
_SEGMENT = re.compile(r"(?:[!-\"$&-.0-:<->@-\[\]-~]|%[0-9A-Fa-f]{2})+\Z")
#: Escapes of what needs none, or of what another reader may take for structure.
_REFUSED_ESCAPE = re.compile(r"%(?:00|2[DdEeFf5]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe])")


def path_segments(path: str) -> tuple[str, ...] | None:
    """Split a path, as it came and without its query, into raw segments; None where it is a bad path."""
    path = path.partition("?")[0]
    if not path.startswith("/"):
        return None
    if path == "/":
        return ()
    segments = tuple(path[1:].split("/"))
    return segments if all(map(is_plain_segment, segments)) else None


def is_plain_segment(segment: str) -> bool:
    """Say whether a raw segment can mean one thing only."""
    if segment in (".", "..") or not _SEGMENT.match(segment) or _REFUSED_ESCAPE.search(segment):
        return False
    return "%" not in segment or _decoded(segment) is not None


def _decoded(segment: str) -> str | None:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Match:
    """A route and what its bindings took: (type, decoded id) from left to right."""

    route: Route
    bindings: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Step:
    """A place in the tree of segments. What a literal reaches is tried before what a binding does, that before the
    rest."""

    literals: dict[str, _Step] = field(default_factory=dict)
    binding: _Step | None = None
    rest: dict[str, Route] = field(default_factory=dict)
    ends: dict[str, Route] = field(default_factory=dict)


class RouteTable:
    """All routes of a policy, by segments. A look-up tries at most two branches a segment, among no more nodes than
    the tree has."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.root = _Step()
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        step = self.root
        for segment in route.segments:
            if segment == REST:
                step.rest[route.method] = route
                return
            if segment.startswith("{"):
                step.binding = step.binding or _Step()
                step = step.binding
            else:
                step = step.literals.setdefault(segment, _Step())
        step.ends[route.method] = route

    def find(self, method: str, segments: Sequence[str]) -> Match | None:
        """Return the route of a method and raw segments. A route that does not match in full, its method too, beats
        nothing."""
        route = self._find(self.root, method, segments, 0)
        if route is None:
            return None
        bound = [
            (segment[1:-1], _decoded(raw) or "")
            for segment, raw in zip(route.segments, segments, strict=False)
            if segment.startswith("{") and segment not in (ANY_SEGMENT, REST)
        ]
        return Match(route, tuple(bound))

    def _find(self, step: _Step, method: str, segments: Sequence[str], index: int) -> Route | None:
        if index == len(segments):
            return step.ends.get(method) or step.ends.get("*")
        following = step.literals.get(segments[index])
        found = self._find(following, method, segments, index + 1) if following is not None else None
        if found is None and step.binding is not None:
            found = self._find(step.binding, method, segments, index + 1)
        return found or step.rest.get(method) or step.rest.get("*")


class _ImpossibleError(Exception):
    """A template that no path can match; caught where its place is known."""


class RouteChecker:
    """Checks the `route` declarations of a policy."""

    def __init__(
        self, symbols: Symbols, report: Report, action_of: Callable[[nodes.PatternNode], Action | None]
    ) -> None:
        self.symbols = symbols
        self.report = report
        self.action_of = action_of

    def check(self, declared: Sequence[nodes.RouteNode]) -> tuple[Route, ...]:
        found: dict[tuple[str, tuple[str, ...]], Route] = {}
        for node in declared:
            route = self.route(node)
            if route is None:
                continue
            shape = tuple(ANY_SEGMENT if s.startswith("{") and s != REST else s for s in route.segments)
            other = found.get((route.method, shape))
            if other is not None:
                self.report.add(
                    "E0402",
                    f"`{node.method} {node.template}` has the shape of the route at {other.span.at}",
                    node.template_span,
                )
            else:
                found[route.method, shape] = route
        return tuple(found[key] for key in sorted(found))

    def route(self, node: nodes.RouteNode) -> Route | None:
        segments = self.segments(node)
        if node.open_to is not None:
            if any(is_binding(segment) for segment in segments or ()):
                self.report.add(
                    "E0403",
                    f"a route that is `{node.open_to}` decides on no resource, so it binds none; write {{_}}",
                    node.template_span,
                )
            return (
                Route(node.method, node.template, segments or (), None, None, node.open_to, node.span)
                if segments is not None
                else None
            )
        action = self.action_of(node.action) if node.action is not None else None
        parent = self.parent_of(node, action)
        if segments is None or action is None or (node.parent is not None and parent is None):
            return None
        self.check_bindings(node, segments, self.symbols.types[action.type], parent)
        return Route(node.method, node.template, segments, action.code, parent, None, node.span)

    def segments(self, node: nodes.RouteNode) -> tuple[str, ...] | None:
        """The template's segments, with the full names of the bound types; None where no path can match it."""
        span = node.template_span
        try:
            found = self.read(node.template, span)
        except _ImpossibleError as error:
            self.report.add("E0404", str(error), span)
            return None
        bound = [segment for segment in found or () if is_binding(segment)]
        if len(set(bound)) < len(bound):
            self.report.add("E0402", "a type is bound twice", span)
            return None
        return found

    def read(self, template: str, span: Span) -> tuple[str, ...] | None:
        if not template.startswith("/"):
            raise _ImpossibleError("a template begins with `/`")
        found: list[str] = []
        raw = template[1:].split("/") if template != "/" else []
        for index, segment in enumerate(raw):
            if segment == REST and index < len(raw) - 1:
                raise _ImpossibleError("`{rest...}` stands last")
            if segment in (ANY_SEGMENT, REST):
                found.append(segment)
            elif segment.startswith("{") and segment.endswith("}"):
                info = self.symbols.type_named(nodes.Name((segment[1:-1],), span))
                if info is None or info.kind == "system":
                    fix = nearest(segment[1:-1], self.symbols.types)
                    cure = f'"{template.replace(segment, f"{{{fix}}}")}"' if fix else None
                    self.report.add("E0200", f"unknown type `{segment[1:-1]}`", span, fix=cure)
                    return None
                found.append(f"{{{info.name}}}")
            elif "{" in segment or "}" in segment:
                raise _ImpossibleError(f"a binding is a whole segment, `{segment}` is not")
            elif not is_plain_segment(segment):
                raise _ImpossibleError(f"no path has the segment `{segment}`: it would be refused")
            else:
                found.append(segment)
        return tuple(found)

    def parent_of(self, node: nodes.RouteNode, action: Action | None) -> str | None:
        if node.parent is None:
            return None
        info = self.symbols.type_named(node.parent)
        if info is None:
            self.report.unknown("type", node.parent.text, node.parent.span, self.symbols.types)
            return None
        if action is None:
            return None
        if not action.new:
            self.report.add(
                "E0401",
                f"`{action.code}` is not marked `new`, so nothing new lies in `{info.name}`",
                node.parent.span,
            )
            return None
        if info.name not in self.symbols.types[action.type].parents:
            self.report.add("E0401", f"`{action.type}` does not lie in `{info.name}`", node.parent.span)
            return None
        return info.name

    def check_bindings(
        self, node: nodes.RouteNode, segments: tuple[str, ...], info: TypeInfo, parent: str | None
    ) -> None:
        bound = [segment[1:-1] for segment in segments if is_binding(segment)]
        wanted = parent if parent is not None else info.name
        tenant = self.symbols.tenant
        if wanted not in (tenant, SYSTEM) and wanted not in bound:
            self.report.add(
                "E0403", f"the path binds no `{wanted}`", node.template_span, cure=f"a segment `{{{wanted}}}` binds it"
            )
        base = self.symbols.types[wanted]
        for kind in bound:
            if kind not in base.above and kind not in (base.name, tenant):
                self.report.add(
                    "E0403",
                    f"`{base.name}` does not lie in `{kind}`, so the path says nothing of it",
                    node.template_span,
                )


def is_binding(segment: str) -> bool:
    return segment.startswith("{") and segment not in (ANY_SEGMENT, REST)
