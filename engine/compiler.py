"""Conditions → Python functions.

A condition has three values, and a decision asks of it one of two things only: a grant or an allow, whether it is
*true*; a deny, whether it is *false*. So each condition is compiled into two plain boolean functions, and failed is
"neither". Kleene's tables then need no third value at run time: `true(a and b)` is `true(a) and true(b)`, `false(a
and b)` is `false(a) or false(b)`, `not` swaps the two. The design sketched a short-circuit form that raises,
evaluated again in Kleene form; this form is exact at the first go and raises nothing.

A term that fails is `None`. Functions take `(s, t, x, a, n)`: the principal's standing, the target, context, the
action's fields, the instant. The text holds names minted here and `repr` constants, never text of the policy. The
same condition gives the same text, whatever else the policy holds; `source_of` shows it, and `linecache` has it for
tracebacks, as long as the program lives.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

from engine import functions
from engine.model import (
    SYSTEM,
    And,
    Arith,
    Attr,
    Call,
    Compare,
    Const,
    Entity,
    Expr,
    Has,
    Holds,
    Id,
    Not,
    Or,
    Ref,
    Sent,
    SetOf,
)
from engine.target import SYSTEM_PLACE
from engine.values import Value

if TYPE_CHECKING:
    from engine.standing import Standing
    from engine.target import Target

Test = Callable[["Standing", "Target", dict[str, Value], dict[str, Value], int], bool]
Reader = Callable[["Standing", "Target", dict[str, Value], dict[str, Value], int], Value]

_INVERSE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class Compiler:
    """Compiles the conditions of one program, each once. Functions live in a namespace of their own, no module's."""

    def __init__(self, digest: str) -> None:
        self.name = f"<bylaw {digest[:20]}>"
        self.namespace: dict[str, Any] = {
            "__builtins__": {},
            "add": functions.add,
            "subtract": functions.subtract,
            "is_inside": functions.is_inside,
            "is_like": functions.is_like,
            "all_of": _all_of,
            "in_networks": _in_networks,
            "frozenset": frozenset,
        } | {f"call_{name}": function.run for name, function in functions.FUNCTIONS.items()}
        self.known: dict[tuple[str, Expr], Callable[..., Any]] = {}
        self.filenames: list[str] = []
        weakref.finalize(self, _forget, self.filenames)

    def true(self, expr: Expr) -> Test:
        """Return the function that says whether a condition is true."""
        return self._function("true", expr)

    def false(self, expr: Expr) -> Test:
        """Return the function that says whether a condition is false."""
        return self._function("false", expr)

    def value(self, expr: Expr) -> Reader:
        """Return the function that reads a term: its value, or None where it fails."""
        return self._function("value", expr)

    def _function(self, form: str, expr: Expr) -> Callable[..., Any]:
        key = (form, expr)
        if key not in self.known:
            text, constants = source_of(form, expr)
            line, column = expr.span.source.position(expr.span.start)
            # A traceback, or a profile, names the place in the policy.
            filename = f"{self.name} {expr.span.source.name}:{line}:{column} {form} {len(self.known)}"
            namespace = {**self.namespace, **constants}
            exec(compile(text, filename, "exec"), namespace)  # noqa: S102  # text made here, of minted names and `repr` constants
            self.filenames.append(filename)
            linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
            self.known[key] = namespace["run"]
        return self.known[key]


def source_of(form: str, expr: Expr) -> tuple[str, dict[str, Value]]:
    """Return the Python text of a condition in one of its forms, and the constants that it names.

    Args:
        form: `true`, `false` or `value`.
    """
    writer = _Writer()
    body = {"true": writer.true, "false": writer.false, "value": writer.value}[form](expr)
    return f"def run(s, t, x, a, n):\n    return {body}\n", writer.constants


def _forget(filenames: list[str]) -> None:
    """Drop the texts of a program that is gone, so that reloads do not grow the process."""
    for filename in filenames:
        linecache.cache.pop(filename, None)


def _all_of(items: tuple[Value, ...]) -> frozenset[Value] | None:
    return None if None in items else frozenset(items)


def _in_networks(address: Value, networks: tuple[Value, ...]) -> bool | None:
    """Say whether an address lies in any of several networks: an `or` over them."""
    if address is None:
        return None
    inside = [functions.is_inside(address, network) for network in networks]
    return True if True in inside else None if None in inside else False


class _Writer:
    """Writes the text of one function."""

    def __init__(self) -> None:
        self.constants: dict[str, Value] = {}
        self.temporaries = 0

    def constant(self, value: Value) -> str:
        if isinstance(value, bool | int | str):
            return repr(value)
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def temporary(self) -> str:
        self.temporaries += 1
        return f"v{self.temporaries}"

    # --- the two truths ----------------------------------------------------------------------------

    def true(self, expr: Expr) -> str:
        match expr:
            case And(items):
                return self.joined(" and ", [self.true(item) for item in items])
            case Or(items):
                return self.joined(" or ", [self.true(item) for item in items])
            case Not(item):
                return self.false(item)
            case Compare():
                return self.compare(expr, wanted=True)
            case Has():
                return f"({self.has(expr)} is not None)"
            case Holds():
                return f"({self.holds(expr)} is True)"
            case Const(value=bool() as value):
                return repr(value)
            case Const() | SetOf() | Ref() | Attr() | Id() | Sent() | Call() | Arith():
                return f"({self.value(expr)} is True)"
            case _:
                assert_never(expr)

    def false(self, expr: Expr) -> str:
        match expr:
            case And(items):
                return self.joined(" or ", [self.false(item) for item in items])
            case Or(items):
                return self.joined(" and ", [self.false(item) for item in items])
            case Not(item):
                return self.true(item)
            case Compare():
                return self.compare(expr, wanted=False)
            case Has():
                return f"({self.has(expr)} is None)"
            case Holds():
                return f"({self.holds(expr)} is False)"
            case Const(value=bool() as value):
                return repr(not value)
            case Const() | SetOf() | Ref() | Attr() | Id() | Sent() | Call() | Arith():
                return f"({self.value(expr)} is False)"
            case _:
                assert_never(expr)

    def joined(self, word: str, items: list[str]) -> str:
        return f"({word.join(items)})"

    # --- comparisons -------------------------------------------------------------------------------

    def compare(self, node: Compare, *, wanted: bool) -> str:
        op = node.op
        if op in ("!=", "not in"):
            wanted = not wanted
            op = "==" if op == "!=" else "in"
        if op == "in":
            return self.membership(node, wanted=wanted)
        if op == "==" and wanted:
            return self.equal(node.left, node.right)
        left, is_left = self.present(node.left)
        right, is_right = self.present(node.right)
        checks = [check for check in (is_left, is_right) if check]
        negation = "" if wanted else "not "
        match op:
            case "==":
                checks.append(f"{left} != {right}")
            case "<" | "<=" | ">" | ">=":
                checks.append(f"{left} {op if wanted else _INVERSE[op]} {right}")
            case "overlaps":
                checks.append(f"{'not ' if wanted else ''}{left}.isdisjoint({right})")
            case "within":
                checks.append(f"{negation}{left} <= {right}")
            case "like":
                assert isinstance(node.right, Const)  # noqa: S101  # the checker lets nothing else through
                pieces = self.constant(tuple(node.right.value.split("*")))
                checks = [check for check in (is_left,) if check] + [f"{negation}is_like({left}, {pieces})"]
            case _:
                raise AssertionError(op)
        return self.joined(" and ", checks)

    def equal(self, left: Expr, right: Expr) -> str:
        """`==` is true: no side is absent. What equals a thing that is there, is there itself, so that reference is
        not looked up."""
        if self.is_certain(left) or self.is_certain(right):
            plain = self.raw if left.type.kind == "ref" else self.value
            return f"({plain(left)} == {plain(right)})"
        name = self.temporary()
        return f"(({name} := {self.value(left)}) is not None and {name} == {self.value(right)})"

    def is_certain(self, expr: Expr) -> bool:
        """Say whether a term can never be absent. A new resource may have no id yet, so `resource` is not certain."""
        match expr:
            case Const():
                return True
            case Ref(entity=entity):
                return entity.kind in ("principal", "tenant")
            case _:
                return False

    def present(self, expr: Expr) -> tuple[str, str]:
        """Return text that names a term's value, and the check that it is there, which stands before every use; empty
        if it needs none."""
        text = self.value(expr)
        if self.is_certain(expr):
            return text, ""
        name = self.temporary()
        return name, f"({name} := {text}) is not None"

    def membership(self, node: Compare, *, wanted: bool) -> str:
        verdict = "True" if wanted else "False"
        match node.how:
            case "network":
                return f"(is_inside({self.value(node.left)}, {self.value(node.right)}) is {verdict})"
            case "networks":
                return f"(in_networks({self.value(node.left)}, {self.items(node.right)}) is {verdict})"
            case "group" | "groups":
                # Of a set of groups a broken one is told apart, so the set comes as it is.
                many = node.how == "groups"
                right = self.raw(node.right) if many else self.value(node.right)
                return f"(t.space.in_{node.how}({self.value(node.left)}, {right}, s, n) is {verdict})"
            case "" | "element":
                return self.element(node, wanted=wanted)
            case _:
                assert_never(node.how)

    def element(self, node: Compare, *, wanted: bool) -> str:
        """`in` a set: an `or` over its elements, so a broken one spoils a false, not a true."""
        left, is_left = self.present(node.left)
        checks = [is_left] if is_left else []
        of_references = node.right.type.element is not None and node.right.type.element.kind == "ref"
        if isinstance(node.right, SetOf) and not all(isinstance(item, Const) for item in node.right.items):
            name = self.temporary()
            checks.append(
                f"({left} in {self.items(node.right)})"
                if wanted
                else f"(None not in ({name} := {self.items(node.right)}) and {left} not in {name})"
            )
            return self.joined(" and ", checks)
        name = self.temporary()
        checks.append(f"({name} := {self.raw(node.right)}) is not None")
        checks.append(f"{left} {'in' if wanted else 'not in'} {name}")
        if of_references and not wanted:
            checks.append(f"t.space.whole({name}, s, t) is not None")
        return self.joined(" and ", checks)

    def items(self, expr: Expr) -> str:
        """The elements of a list as it stands, absent ones as None."""
        assert isinstance(expr, SetOf)  # noqa: S101  # sets of networks are lists, and so is what `membership` gives
        return "(" + "".join(f"{self.value(item)}, " for item in expr.items) + ")"

    # --- terms -------------------------------------------------------------------------------------

    def value(self, expr: Expr) -> str:
        """The value of a term, None where it fails: a reference must name something, a set of references nothing
        broken."""
        match expr:
            case Attr(type=kind) | Sent(type=kind):
                raw = self.raw(expr)
                if kind.kind == "ref":
                    return f"t.space.live({raw}, s, t)"
                if kind.kind == "set" and kind.element is not None and kind.element.kind == "ref":
                    return f"t.space.whole({raw}, s, t)"
                return raw
            case And() | Or() | Not() | Compare() | Has() | Holds():
                return f"(True if {self.true(expr)} else False if {self.false(expr)} else None)"
            case _:
                return self.raw(expr)

    def raw(self, expr: Expr) -> str:
        """The value as it is stored or sent, whether what it names is there or not."""
        match expr:
            case Const(value=value):
                return self.constant(value)
            case SetOf(items=items):
                if all(isinstance(item, Const) for item in items):
                    return self.constant(frozenset(item.value for item in items if isinstance(item, Const)))
                return f"all_of({self.items(expr)})"
            case Ref(entity=entity):
                return f"{self.thing(entity)}.ref"
            case Id(entity=entity):
                return f"{self.thing(entity)}.id"
            case Attr(entity=entity, name=name):
                return f"{self.thing(entity)}.attributes.get({name!r})"
            case Sent(source=source, name=name):
                return f"{'x' if source == 'context' else 'a'}.get({name!r})"
            case Call(name="now"):
                return "n"
            case Call(name=name, args=args):
                return f"call_{name}({', '.join(self.value(arg) for arg in args)})"
            case Arith(op=op, left=left, right=right, type=kind):
                return f"{'add' if op == '+' else 'subtract'}({kind.kind!r}, {self.value(left)}, {self.value(right)})"
            case _:
                return self.value(expr)

    def thing(self, entity: Entity) -> str:
        """Text for something with `.ref`, `.id` and `.attributes`; of what is not there they are None, None and
        empty."""
        match entity.kind:
            case "principal":
                return "s"
            case "resource":
                return "t"
            case "parent" | "tenant":
                return f"t.{entity.kind}"
            case "ancestor":
                return f"t.nearest({entity.type!r})"
            case "referred":
                assert entity.of is not None  # noqa: S101  # by its definition
                return f"t.space.follow({self.raw(entity.of)}, s, t)"
            case _:
                assert_never(entity.kind)

    def has(self, node: Has) -> str:
        """Text that is not None where the `has` holds."""
        if isinstance(node.entity, str):
            raw = f"{'x' if node.entity == 'context' else 'a'}.get({node.name!r})"
        elif node.name is None:
            return "True" if node.entity.type == SYSTEM else f"t.has_above({node.entity.type!r})"
        elif node.name == "id":
            return f"{self.thing(node.entity)}.id"
        else:
            raw = f"{self.thing(node.entity)}.attributes.get({node.name!r})"
        return f"t.space.live({raw}, s, t)" if node.is_reference else raw

    def holds(self, node: Holds) -> str:
        """Text of a role question: True, False, or None where the place is broken."""
        place = node.place
        rest = f"{node.exact!r}, {node.wide!r}"
        if isinstance(place, Ref):
            return f"s.holds({node.role!r}, {self.places(place.entity, exact=node.exact)}, {rest})"
        many = place.type.kind == "set"
        return f"t.space.holds_on{'_any' if many else ''}(s, {node.role!r}, {self.raw(place)}, {rest}, t)"

    def places(self, entity: Entity, *, exact: bool) -> str:
        """Text of the places from an entity on up; of a new resource itself, which is no place, none if `exact`."""
        match entity.kind:
            case "resource":
                return "t.own_place" if exact else "t.places"
            case "tenant":
                return "t.tenant_places"
            case "parent":
                return "t.places_above"
            case _ if entity.type == SYSTEM:
                return repr((SYSTEM_PLACE,))
            case _:
                return f"t.{'place_of' if exact else 'places_from'}({entity.type!r})"
