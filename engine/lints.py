"""Warnings and notes: what a good policy does not have, and what its reviewer should know. Each reads the checked
model.

Two warnings need the text as it stands and are found by the checker: a lone `*`, and a `has` in a deny's `when`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from engine.compiler import Compiler
from engine.diagnostics import Diagnostic
from engine.model import (
    SYSTEM,
    And,
    Arith,
    Attr,
    Call,
    Compare,
    Conditions,
    Const,
    Expr,
    Has,
    Holds,
    Model,
    Not,
    Or,
    Role,
    Rule,
    SetOf,
)


def lint(model: Model) -> list[Diagnostic]:
    """Return the warnings and notes of a policy without errors."""
    return [finding for look in LOOKS for finding in look(model)]


# --- permissions and roles -------------------------------------------------------------------------


def unreachable_permissions(model: Model) -> Iterator[Diagnostic]:
    """A permission nobody can get."""
    given = {code for rule in model.rules if rule.effect == "allow" for code in rule.actions}
    given |= {code for role in model.roles.values() for can, _ in role.gives for code in can.actions}
    given |= {code for ceiling in model.custom.values() for code in ceiling}
    for code, action in model.actions.items():
        if code not in given:
            yield Diagnostic(
                "W0100",
                f"nobody can get `{code}`: no role and no allow rule gives it",
                action.span,
                "give it to a role, or remove the action",
            )


def empty_roles(model: Model) -> Iterator[Diagnostic]:
    """A role that gives nothing, and that nothing asks for."""
    asked = {name for rule in model.rules for name in rule.who.roles}
    asked |= {expr.role for expr in _all_conditions(model) if isinstance(expr, Holds)}
    asked |= {name for assign in model.assigns for name in assign.by}
    for role in model.roles.values():
        if not any(can.actions for can, _ in role.gives) and role.name not in asked:
            yield Diagnostic("W0101", f"role `{role.name}` gives nothing, and no rule asks for it", role.span)


def shadowed_rules(model: Model) -> Iterator[Diagnostic]:
    """A rule that a broader deny without a condition leaves nothing to say."""
    broad = [rule for rule in model.rules if rule.effect == "deny" and rule.conditions is None]
    for rule in model.rules:
        for deny in broad:
            if deny is not rule and _covers(deny, rule) and not (_covers(rule, deny) and rule.name < deny.name):
                yield Diagnostic(
                    "W0102", f"rule `{rule.name}` is shadowed by the deny `{deny.name}` at {deny.span.at}", rule.span
                )
                break


def _covers(deny: Rule, rule: Rule) -> bool:
    """Say whether an unconditional deny denies whatever a rule speaks of."""
    if deny.effect != "deny" or deny.conditions is not None or not rule.actions <= deny.actions:
        return False
    only_types = not (rule.who.anyone or rule.who.public or rule.who.roles or rule.who.groups)
    return deny.who.anyone or deny.who.public or (only_types and rule.who.types <= deny.who.types)


# --- conditions ------------------------------------------------------------------------------------


def settled_conditions(model: Model) -> Iterator[Diagnostic]:
    """A condition, or a part of one, that is always true or always false."""
    compiler = Compiler("lint")
    seen: set[object] = set()
    for _, conditions, is_deny in _conditioned(model):
        for expr in _distinct(conditions):
            for part, verdict in _settled(expr, model, compiler, is_deny=is_deny):
                if part.span not in seen:
                    seen.add(part.span)
                    yield Diagnostic("W0103", f"this is always {'true' if verdict else 'false'}", part.span)


def _settled(expr: Expr, model: Model, compiler: Compiler, *, is_deny: bool) -> Iterator[tuple[Expr, bool]]:
    """The largest parts of a condition whose truth no request can change."""
    if isinstance(expr, Not) and expr.span == expr.item.span:  # an `unless`: its author wrote what is negated
        yield from _settled(expr.item, model, compiler, is_deny=is_deny)
        return
    verdict = _verdict(expr, model, compiler, is_deny=is_deny)
    if verdict is not None:
        yield expr, verdict
        return
    match expr:
        case And(items) | Or(items):
            for item in items:
                yield from _settled(item, model, compiler, is_deny=is_deny)
        case Not(item):
            yield from _settled(item, model, compiler, is_deny=is_deny)
        case _:
            pass


def _verdict(expr: Expr, model: Model, compiler: Compiler, *, is_deny: bool) -> bool | None:
    match expr:
        case And(items) | Or(items):
            found = [_verdict(item, model, compiler, is_deny=is_deny) for item in items]
            settling = isinstance(expr, Or)
            if settling in found:
                return settling
            return not settling if all(verdict is (not settling) for verdict in found) else None
        case Not(item):
            inner = _verdict(item, model, compiler, is_deny=is_deny)
            return None if inner is None else not inner
        case Const(value=bool() as value):
            return value
        case Compare(left=left, right=right) if _is_constant(left) and _is_constant(right):
            unread: Any = None  # nothing of the request is read
            if compiler.true(expr)(unread, unread, unread, unread, 0):
                return True
            return False if compiler.false(expr)(unread, unread, unread, unread, 0) else None
        case Holds():
            return None if _can_be_held(expr, model, is_deny=is_deny) else False
        case _:
            return None


def _is_constant(expr: Expr) -> bool:
    match expr:
        case Const():
            return True
        case SetOf(items=items) | Call(args=items):
            return not (isinstance(expr, Call) and expr.name == "now") and all(map(_is_constant, items))
        case Arith(left=left, right=right):
            return _is_constant(left) and _is_constant(right)
        case _:
            return False


def _can_be_held(node: Holds, model: Model, *, is_deny: bool) -> bool:
    """Say whether a role can be held on that place or above: by some role that is it."""
    kind = node.place.type.element if node.place.type.kind == "set" and node.place.type.element else node.place.type
    above = {name for name in kind.names if name in model.types}
    if not node.exact:
        above |= {outer for name in above for outer in model.types[name].above}
    holders = [role for role in model.roles.values() if node.role in role.satisfies]
    if any(role.type == SYSTEM for role in holders) and is_deny:
        return True
    return any(role.type in above for role in holders)


def hanging_on_sent(model: Model) -> Iterator[Diagnostic]:
    """An attribute that the request may send, on which an allow hangs."""
    seen = set()
    for name, conditions, is_deny in _conditioned(model):
        if is_deny:
            continue
        for expr in _distinct(conditions):
            for part in _parts(expr):
                if not isinstance(part, Attr) or part.entity.kind not in ("principal", "resource"):
                    continue
                sent = [
                    kind
                    for kind in part.entity.types
                    if (known := model.types[kind].attributes.get(part.name)) is not None and known.sent
                ]
                if sent and part.span not in seen:
                    seen.add(part.span)
                    yield Diagnostic(
                        "N0103", f"`{name}` hangs on `{sent[0]}.{part.name}`, which the request may send", part.span
                    )


# --- assigns, denies, ways over the wall -----------------------------------------------------------


def assigns_beyond_reach(model: Model) -> Iterator[Diagnostic]:
    """An `assign` by a role that cannot itself do all that it hands out."""
    for assign in model.assigns:
        for giver in (model.roles[name] for name in assign.by):
            for what in assign.what:
                beyond = _beyond(model, giver, what)
                if beyond:
                    shown = ", ".join(f"`{code}`" for code in sorted(beyond)[:3]) + (" …" if len(beyond) > 3 else "")
                    yield Diagnostic(
                        "W0105", f"`{giver.name}` hands out `{what}`, but cannot itself {shown}", assign.span
                    )


def _beyond(model: Model, giver: Role, what: str) -> set[str]:
    own = {code for can, _ in giver.gives for code in can.actions}
    if what == "custom":
        return {code for ceiling in model.custom.values() for code in ceiling} - own
    if what not in model.roles:
        return set()
    without = {code for can, _ in giver.gives if can.conditions is None for code in can.actions}
    same = {can.span for can, _ in giver.gives}
    return {
        code
        for can, _ in model.roles[what].gives
        if can.span not in same
        for code in can.actions
        if code not in (without if can.conditions is None else own)
    }


def fleeting_denies(model: Model) -> Iterator[Diagnostic]:
    """A deny that names a role which is shed easily, or which others are too."""
    expiring = {name for assign in model.assigns if assign.expires_within is not None for name in assign.what}
    for rule in model.rules:
        if rule.effect != "deny":
            continue
        for name in sorted(rule.who.roles):
            heirs = sorted(role.name for role in model.roles.values() if name in role.satisfies and role.name != name)
            if model.roles[name].claimable:
                yield Diagnostic(
                    "W0106", f"`{name}` is claimable: who leaves it out of his claims is not denied", rule.span
                )
            elif name in expiring:
                yield Diagnostic("W0106", f"`{name}` expires, and this deny with it", rule.span)
            elif heirs:
                yield Diagnostic("W0106", f"`{heirs[0]}` takes over `{name}`, and is denied with it", rule.span)


def system_roles_in_allows(model: Model) -> Iterator[Diagnostic]:
    """A system role in an allow's WHO means nobody."""
    for rule in model.rules:
        for name in sorted(rule.who.roles):
            if rule.effect == "allow" and model.roles[name].type == SYSTEM:
                yield Diagnostic(
                    "W0107",
                    f"`{name}` is a system role: a rule does not mean its holders, they have what it `can`",
                    rule.span,
                )


def ways_over_the_wall(model: Model) -> Iterator[Diagnostic]:
    """Notes: crossing roles, public rules, external types."""
    for role in model.roles.values():
        if role.crossing:
            yield Diagnostic("N0100", f"`{role.name}` may be held from another tenant", role.span)
    for rule in model.rules:
        if rule.effect == "allow" and rule.who.public:
            yield Diagnostic("N0101", f"`{rule.name}` allows everyone, anonymous too", rule.span)
    for info in model.types.values():
        if info.external and info.span is not None:
            yield Diagnostic(
                "N0102",
                f"`{info.name}` is external: its parent and attributes are what the application sends",
                info.span,
            )


LOOKS: tuple[Callable[[Model], Iterable[Diagnostic]], ...] = (
    unreachable_permissions,
    empty_roles,
    shadowed_rules,
    settled_conditions,
    assigns_beyond_reach,
    fleeting_denies,
    system_roles_in_allows,
    ways_over_the_wall,
    hanging_on_sent,
)

# --- walking ---------------------------------------------------------------------------------------


def _conditioned(model: Model) -> Iterator[tuple[str, Conditions, bool]]:
    for rule in model.rules:
        if rule.conditions is not None:
            yield rule.name, rule.conditions, rule.effect == "deny"
    for role in model.roles.values():
        for can in role.cans:
            if can.conditions is not None:
                yield role.name, can.conditions, False


def _distinct(conditions: Conditions) -> list[Expr]:
    return list(dict.fromkeys(conditions.values()))


def _all_conditions(model: Model) -> Iterator[Expr]:
    for _, conditions, _ in _conditioned(model):
        for expr in _distinct(conditions):
            yield from _parts(expr)
    for assign in model.assigns:
        for expr in _distinct(assign.conditions or {}):
            yield from _parts(expr)


def _parts(expr: Expr) -> Iterator[Expr]:
    """An expression and all within it."""
    yield expr
    match expr:
        case And(items) | Or(items):
            inner: tuple[Expr, ...] = items
        case SetOf(items=items) | Call(args=items):
            inner = items
        case Not(item):
            inner = (item,)
        case Compare(left=left, right=right) | Arith(left=left, right=right):
            inner = (left, right)
        case Holds(place=place):
            inner = (place,)
        case Has(entity=entity) | Attr(entity=entity):
            inner = (entity.of,) if not isinstance(entity, str) and entity.of is not None else ()
        case _:
            inner = ()
    for item in inner:
        yield from _parts(item)
