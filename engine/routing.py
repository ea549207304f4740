"""What an HTTP request asks: its method and path, by the policy's routes, as an action on a resource.

`Router` remembers what it has read: applications serve the same paths again and again. What it holds: a `Routed`, or
the code of a deny. Key: method and path, and of the program nothing changes. Bounded by `MAX_PATHS`, then begun anew;
longer paths than `MAX_PATH` are not kept.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from engine.model import SYSTEM, Model, TypeInfo
from engine.routes import Match, RouteTable, path_segments

MAX_PATHS: Final = 10_000
MAX_PATH: Final = 256


class Routed(NamedTuple):
    """What a method and a path ask, whoever asks.

    Args:
        open_to: for whom the route is open; then it asks for nothing.
        tenant: that the path names.
        resource: `"task:t1"`; None: the tenant itself, which the path does not name.
        properties: of the resource, as the path says them.
        bindings: references in the path, each of which must be the resource or something that it lies in.
        is_plain: whether action and resource are all there is to it, beside tenant and bindings.
    """

    open_to: Literal["authenticated", "public"] | None
    tenant: str | None = None
    action: str = ""
    resource: str | None = ""
    properties: dict[str, Any] | None = None
    bindings: tuple[str, ...] = ()
    is_plain: bool = False


class Router:
    """Reads methods and paths."""

    def __init__(self, model: Model, routes: RouteTable) -> None:
        self._model = model
        self._routes = routes
        self._known: dict[tuple[str, str], Routed | str] = {}

    def read(self, method: str, path: str) -> Routed | str:
        """Say what is asked; a code where the path denies by itself."""
        key = (method, path)
        found = self._known.get(key)
        if found is None:
            found = self._read(method, path)
            if len(path) <= MAX_PATH:
                if len(self._known) >= MAX_PATHS:
                    self._known.clear()
                self._known[key] = found
        return found

    def _read(self, method: str, path: str) -> Routed | str:
        segments = path_segments(path)
        if segments is None:
            return "bad_path"
        match = self._routes.find(method, segments)
        return "no_route" if match is None else self._routed(match)

    def _routed(self, match: Match) -> Routed:
        route, bound = match.route, dict(match.bindings)
        if route.open_to is not None:
            return Routed(route.open_to)
        kind, _, name = (route.action or "").rpartition(".")
        info = self._model.types[kind]
        action = info.actions[name]
        tenant = bound.pop(self._model.tenant, None)
        properties: dict[str, Any] = {} if tenant is None else {"tenant": tenant}
        resource: str | None
        if route.parent is not None:
            properties["new"] = True
            resource = f"{action.type}:new"
            if route.parent != self._model.tenant:
                properties["parent"] = f"{route.parent}:{bound[route.parent]}"
        elif info.kind == "system":
            resource = f"{SYSTEM}:{SYSTEM}"
        elif info.kind == "tenant":
            resource = f"{info.name}:{tenant}" if tenant is not None else None
        else:
            resource = f"{info.name}:{bound.pop(info.name)}"
            parent = self._parent(match, info) if action.new or info.external else None
            if parent is not None:
                properties["parent"] = parent
        is_plain = resource is not None and properties.keys() <= {"tenant"} and "tenant" not in info.attributes
        bindings = tuple(f"{kind}:{identity}" for kind, identity in bound.items())
        return Routed(None, tenant, action.code, resource, properties, bindings, is_plain)

    def _parent(self, match: Match, info: TypeInfo) -> str | None:
        """Without `in` the parent is the last binding before the resource's own of a type that it may lie in."""
        found = None
        for kind, identity in match.bindings:
            if kind == info.name:
                break
            if kind in info.parents:
                found = f"{kind}:{identity}"
        return found
