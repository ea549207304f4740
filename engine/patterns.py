"""Patterns of actions: the one matcher that roles, rules, custom roles and the ceiling use.

    type.action · type.* · namespace.* · *.action · * · and, in a role, a bare action of its own type

All segments are compared; a star stands for a whole first or last segment, never for part of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from engine.model import Action, Model, TypeInfo


def matching(
    parts: tuple[str, ...], types: Mapping[str, TypeInfo], *, tenant: str, own: str | None = None
) -> list[Action]:
    """Return the declared actions that a pattern names, wherever they are.

    Args:
        parts: the pattern's segments; a star is the segment `*`.
        types: all types of the policy.
        tenant: the name of the tenant's type, which `tenant` means too.
        own: in a role, the type whose actions a bare name means.
    """
    if parts == ("*",):
        return [action for info in types.values() for action in info.actions.values()]
    if len(parts) == 1:
        return _one(types.get(own or ""), parts[0])
    if parts[0] == "*":
        return (
            [info.actions[parts[1]] for info in types.values() if parts[1] in info.actions] if len(parts) == 2 else []
        )
    name = _type_name(parts[:-1], types, tenant)
    if parts[-1] != "*":
        return _one(types.get(name), parts[-1])
    return [
        action
        for info in types.values()
        if info.name == name or info.name.startswith(name + ".")
        for action in info.actions.values()
    ]


def _type_name(parts: tuple[str, ...], types: Mapping[str, TypeInfo], tenant: str) -> str:
    name = ".".join(parts)
    return tenant if name == "tenant" and name not in types else name


def _one(info: TypeInfo | None, name: str) -> list[Action]:
    return [info.actions[name]] if info is not None and name in info.actions else []


def split(written: str) -> tuple[str, ...]:
    """Split a pattern as it stands in data, where a colon is read as a point."""
    return tuple(written.replace(":", ".").split("."))


def is_well_formed(parts: tuple[str, ...]) -> bool:
    """Say whether a pattern from data is one: stars whole, first or last, one alone, and nothing empty."""
    if not all(parts) or any("*" in part and part != "*" for part in parts):
        return False
    stars = parts.count("*")
    return stars == 0 or (stars == 1 and (parts == ("*",) or parts[-1] == "*" or (parts[0] == "*" and len(parts) == 2)))


def ceiling_cut(model: Model, kind: str, written: Iterable[str]) -> frozenset[str]:
    """Return the action codes that a custom role on `kind` gives: its patterns, cut to the line that the policy draws
    for that type."""
    ceiling: Collection[str] = model.custom.get(kind, frozenset())
    return frozenset(
        action.code
        for pattern in written
        if is_well_formed(parts := split(pattern))
        for action in matching(parts, model.types, tenant=model.tenant, own=kind)
        if action.code in ceiling
    )
