"""Conditions: syntax → typed expressions, for one type of resource, one action and one type of principal at a time.

`Scope` says for whom a condition is checked; `ConditionChecker.check` gives the typed expression, or None where it
reported an error. Guards (`has`) flow through `and` from left to right and nowhere else. A `define` is checked where
it is used, as if written there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from engine import nodes
from engine.functions import FUNCTIONS
from engine.model import (
    And,
    Arith,
    Attr,
    Call,
    Compare,
    CompareOp,
    Const,
    Entity,
    Expr,
    Has,
    Holds,
    Not,
    Or,
    Ref,
    Sent,
    SetOf,
)
from engine.paths import NO_GUARDS, Guard, Guards, PathChecker, in_kind, unify
from engine.source import Span
from engine.spelling import nearest
from engine.values import (
    BOOL,
    DURATION,
    INT,
    IP,
    MAX_INT,
    MIN_INT,
    STRING,
    TIME,
    Type,
    parse_cidr,
    parse_duration,
    parse_ip,
    parse_time,
    parse_zone,
    set_of,
)

#: What a condition may grow to when its defines are written out; text this long in one rule nobody can review.
MAX_SIZE = 2000
MAX_DEPTH = 80


class ConditionChecker(PathChecker):
    """Checks conditions for one scope."""

    def check(self, when: nodes.ExprNode | None, unless: nodes.ExprNode | None) -> Expr | None:
        """Check `when … unless …` as one condition: `when and not unless`."""
        guards = NO_GUARDS
        items: list[Expr] = []
        broken = False
        if when is not None:
            condition, guards = self.condition(when, guards)
            broken = condition is None
            items += [condition] if condition is not None else []
        if unless is not None:
            condition, _ = self.condition(unless, guards)
            broken = broken or condition is None
            items += [Not(condition, unless.span)] if condition is not None else []
        if broken:
            return None
        return items[0] if len(items) == 1 else And(tuple(items), items[0].span.to(items[-1].span))

    # --- conditions --------------------------------------------------------------------------------

    def condition(self, node: nodes.ExprNode, guards: Guards) -> tuple[Expr | None, Guards]:
        """Check a condition; return it, and what is guarded wherever it holds."""
        self.size += 1
        self.depth += 1
        try:
            if self.is_too_large:
                return None, guards
            if self.size > MAX_SIZE or self.depth > MAX_DEPTH:
                self.is_too_large = True
                self.report.add("E0101", "this condition is too large once its defines are written out", node.span)
                return None, guards
            return self._condition(node, guards)
        finally:
            self.depth -= 1

    def _condition(self, node: nodes.ExprNode, guards: Guards) -> tuple[Expr | None, Guards]:
        match node:
            case nodes.BoolNode(op="and"):
                return self.conjunction(node, guards)
            case nodes.BoolNode():
                items = [self.condition(item, guards)[0] for item in node.items]
                known = tuple(item for item in items if item is not None)
                return (Or(known, node.span) if len(known) == len(items) else None), guards
            case nodes.NotNode():
                item, _ = self.condition(node.item, guards)
                return (Not(item, node.span) if item is not None else None), guards
            case nodes.CompareNode():
                return self.compare(node, guards), guards
            case nodes.HasNode():
                return self.has(node, guards)
            case nodes.HoldsNode():
                return self.holds(node, guards), guards
            case nodes.PathNode() if self.is_define(node):
                return self.define(node, guards)
            case _:
                value = self.value(node, guards)
                if value is not None and value.type.kind != "bool":
                    self.report.add("E0300", f"a condition is true or false, this is {value.type}", node.span)
                    return None, guards
                return value, guards

    def conjunction(self, node: nodes.BoolNode, guards: Guards) -> tuple[Expr | None, Guards]:
        items: list[Expr] = []
        for item in node.items:
            checked, guards = self.condition(item, guards)
            if checked is not None:
                items.append(checked)
        return (And(tuple(items), node.span) if len(items) == len(node.items) else None), guards

    def is_define(self, node: nodes.PathNode) -> bool:
        return len(node.segments) == 1 and node.segments[0].text in self.symbols.defines

    def define(self, node: nodes.PathNode, guards: Guards) -> tuple[Expr | None, Guards]:
        name = node.segments[0].text
        if name in self.expanding:
            return None, guards  # a cycle, reported where it is declared
        self.expanding += (name,)
        try:
            return self.condition(self.symbols.defines[name].condition, guards)
        finally:
            self.expanding = self.expanding[:-1]

    def holds(self, node: nodes.HoldsNode, guards: Guards) -> Expr | None:
        role = self.symbols.role_named(node.role, self.report)
        place = self.path(node.place, guards)
        if place is None or role is None:
            return None
        kind = place.type.element if place.type.kind == "set" and place.type.element is not None else place.type
        if kind.kind != "ref" or any(self.symbols.types[name].kind == "principal" for name in kind.names):
            self.report.add("E0300", f"a role is held on a resource, this is {place.type}", node.place.span)
            return None
        return Holds(role, place, node.exact, self.scope.is_deny, node.span)

    def has(self, node: nodes.HasNode, guards: Guards) -> tuple[Expr | None, Guards]:
        """`path has NAME | TYPE`. The path itself needs no guard, since `has` never fails; where it holds, all of it
        is there."""
        head = node.path.segments[0].text
        name = node.name.text
        if head in ("context", "action") and len(node.path.segments) == 1:
            fields = self.fields_of(head, node.path.span)
            if fields is None:
                return None, guards
            if name not in fields:
                self.missing(node.name.span, f"`{head}` has no `{name}`", fields, name)
                return None, guards
            source: Literal["context", "action"] = "context" if head == "context" else "action"
            return Has(source, name, node.span, fields[name].type.kind == "ref"), guards | {(source, name)}
        entity, gained = self.entity(node.path, guards)
        if entity is None:
            return None, guards
        infos = [self.symbols.types[kind] for kind in sorted(entity.types)]
        found = [info.attributes[name] for info in infos if name in info.attributes]
        elsewhere = self.of_another_principal(entity, node.name) if not found and name != "id" else None
        if name == "id" or (infos and len(found) == len(infos)) or elsewhere is not None:
            is_reference = any(attribute.type.kind == "ref" for attribute in (*found, *filter(None, [elsewhere])))
            return Has(entity, name, node.span, is_reference), guards | gained | {(entity, name)}
        kind_info = self.symbols.type_named(node.name)
        if (
            kind_info is not None
            and entity.kind in ("resource", "ancestor")
            and any(self.lies_in(info, kind_info) for info in infos)
        ):
            ancestor = Entity("ancestor", frozenset((kind_info.name,)))
            return Has(ancestor, None, node.span), guards | gained | {(ancestor, None)}
        where = " | ".join(info.name for info in infos)
        known = {attribute for info in infos for attribute in info.attributes} | {
            kind for info in infos for kind in info.above
        }
        self.missing(node.name.span, f"`{where}` has no `{name}`", known, name)
        return None, guards

    def entity(self, node: nodes.PathNode, guards: Guards) -> tuple[Entity | None, Guards]:
        """Read a path as a thing that has attributes, without asking for guards; return the guards that its presence
        implies."""
        unguarded = _Unguarded(self)
        expr = unguarded.path(node, guards)
        match expr:
            case Ref(entity=entity):
                return entity, unguarded.assumed
            case Attr(type=kind) | Sent(type=kind) if kind.kind == "ref":
                return Entity("referred", kind.names, expr), unguarded.assumed
            case None:
                return None, NO_GUARDS
            case _:
                pass
        self.report.add("E0301", "this has no attributes", node.span)
        return None, NO_GUARDS

    # --- comparisons -------------------------------------------------------------------------------

    def compare(self, node: nodes.CompareNode, guards: Guards) -> Expr | None:
        op = node.op
        left_node, right_node = (node.right, node.left) if op == "contains" else (node.left, node.right)
        if op in ("in", "not in", "contains"):
            return self.membership("not in" if op == "not in" else "in", left_node, right_node, node.span, guards)
        if op == "like":
            return self.like(node, guards)
        left, right = self.pair(left_node, right_node, guards)
        if left is None or right is None:
            return None
        kind, other = left.type.kind, right.type.kind
        if op in ("overlaps", "within"):
            fits = kind == other == "set" and unify(left.type, right.type)
        elif op in ("==", "!="):
            fits = unify(left.type, right.type) and kind != "cidr"
        else:
            fits = kind == other and kind in ("int", "duration", "time")
        if not fits:
            self.report.add("E0300", f"`{op}` does not compare {left.type} with {right.type}", node.span)
            return None
        if op in ("==", "!=") and not self.words_fit(left, right):
            return None
        return Compare(_OPS[op], left, right, node.span)

    def words_fit(self, left: Expr, right: Expr) -> bool:
        """An enumeration compared with a word that it lacks is a slip."""
        for enumeration, word in ((left, right), (right, left)):
            options = enumeration.type.options
            if not options or word.type.kind != "string":
                continue
            if isinstance(word, Const) and word.value not in options:
                fix = nearest(word.value, options)
                message = f'"{word.value}" is no word of {enumeration.type}'
                self.report.add("E0300", message, word.span, fix=f'"{fix}"' if fix else None)
                return False
            if word.type.options and not set(options) & set(word.type.options):
                self.report.add(
                    "E0300", f"{left.type} and {right.type} have no word in common", left.span.to(right.span)
                )
                return False
        return True

    def membership(
        self,
        op: Literal["in", "not in"],
        left_node: nodes.ExprNode,
        right_node: nodes.ExprNode,
        span: Span,
        guards: Guards,
    ) -> Expr | None:
        """`X in G`: a member of a group or of groups, an element of a set, an address in a network."""
        if isinstance(right_node, nodes.ListNode):
            left = self.value(left_node, guards)
            expected = set_of(replace(left.type, options=())) if left is not None else None
            right = self.value(right_node, guards, expected)
        else:
            right = self.value(right_node, guards)
            element = right.type.element if right is not None and right.type.kind == "set" else None
            if right is not None and "cidr" in (right.type.kind, element.kind if element is not None else ""):
                element = IP
            left = self.value(left_node, guards, element)
        if left is None or right is None:
            return None
        how = in_kind(left.type, right.type)
        if how is None:
            self.report.add("E0300", f"{left.type} cannot be in {right.type}", span)
            return None
        return Compare(op, left, right, span, how)

    def like(self, node: nodes.CompareNode, guards: Guards) -> Expr | None:
        left = self.value(node.left, guards, STRING)
        if not (isinstance(node.right, nodes.Literal_) and node.right.kind == "string"):
            self.report.add("E0300", "`like` takes a literal string with `*`", node.right.span)
            return None
        if left is None:
            return None
        if left.type.kind != "string":
            self.report.add("E0300", f"`like` matches strings, this is {left.type}", node.left.span)
            return None
        return Compare("like", left, Const(node.right.value, STRING, node.right.span), node.span)

    def pair(
        self, left_node: nodes.ExprNode, right_node: nodes.ExprNode, guards: Guards
    ) -> tuple[Expr | None, Expr | None]:
        """Check two operands, the one whose type is plain first: it says what a literal string or list on the other
        side means."""
        if isinstance(left_node, nodes.Literal_ | nodes.ListNode):
            right = self.value(right_node, guards)
            return self.value(left_node, guards, right.type if right is not None else None), right
        left = self.value(left_node, guards)
        return left, self.value(right_node, guards, left.type if left is not None else None)

    # --- values ------------------------------------------------------------------------------------

    def value(self, node: nodes.ExprNode, guards: Guards, expected: Type | None = None) -> Expr | None:
        """Check an operand. `expected` is the type that a literal string or list should have, where that is known."""
        self.size += 1
        match node:
            case nodes.Literal_():
                return self.literal(node, expected)
            case nodes.ListNode():
                return self.list_(node, guards, expected)
            case nodes.CallNode():
                return self.call(node, guards)
            case nodes.ArithNode():
                return self.arithmetic(node, guards)
            case nodes.PathNode() if not self.is_define(node):
                return self.path(node, guards)
            case _:
                return self.condition(node, guards)[0]

    def literal(self, node: nodes.Literal_, expected: Type | None) -> Expr | None:
        kind = expected.kind if expected is not None else ""
        if node.kind == "bool":
            return Const(node.value, BOOL, node.span)
        if node.kind == "int":
            if not MIN_INT <= int(node.value) <= MAX_INT:
                self.report.add("E0303", "a number has 64 bits", node.span)
                return None
            return Const(node.value, INT, node.span)
        text = str(node.value)
        if node.kind == "duration":
            return self.parsed(parse_duration(text), DURATION, node.span, "this duration is too long")
        if kind == "time":
            return self.parsed(parse_time(text), TIME, node.span, 'a time is written "2026-03-01T10:00:00Z"')
        if kind == "ip" and expected is not None:
            return self.parsed(parse_ip(text), expected, node.span, 'an address is written "10.0.0.1" or "2001:db8::1"')
        return Const(text, STRING, node.span)

    def parsed(self, value: object, kind: Type, span: Span, problem: str) -> Expr | None:
        if value is None:
            self.report.add("E0303", problem, span)
            return None
        return Const(value, kind, span)

    def list_(self, node: nodes.ListNode, guards: Guards, expected: Type | None) -> Expr | None:
        wanted = expected.element if expected is not None and expected.kind == "set" else None
        items = [self.value(item, guards, wanted) for item in node.items]
        known = [item for item in items if item is not None]
        if len(known) < len(items):
            return None
        for item in known[1:]:
            if not unify(known[0].type, item.type):
                self.report.add(
                    "E0300", f"a list holds one type: {known[0].type} and {item.type} do not mix", item.span
                )
                return None
        if known and known[0].type.kind == "set":
            self.report.add("E0300", "a set cannot hold sets", node.span)
            return None
        element = replace(known[0].type, options=()) if known else wanted
        return SetOf(tuple(known), set_of(element), node.span)

    def call(self, node: nodes.CallNode, guards: Guards) -> Expr | None:
        function = FUNCTIONS.get(node.name.text)
        if function is None:
            self.report.unknown("function", node.name.text, node.name.span, FUNCTIONS)
            return None
        if len(node.args) != len(function.parameters):
            self.report.add(
                "E0300", f"`{function.name}` takes {len(function.parameters)} values, not {len(node.args)}", node.span
            )
            return None
        args = [self.value(arg, guards, kind) for arg, kind in zip(node.args, function.parameters, strict=True)]
        known = tuple(arg for arg in args if arg is not None)
        if len(known) < len(args):
            return None
        for arg, kind in zip(known, function.parameters, strict=True):
            if not unify(kind, arg.type):
                self.report.add(
                    "E0300",
                    f"`{function.name}` takes {'a set' if kind.kind == 'set' else kind}, this is {arg.type}",
                    arg.span,
                )
                return None
        if not self.literal_argument_fits(function.name, known):
            return None
        return Call(function.name, known, function.result, node.span)

    def literal_argument_fits(self, name: str, args: tuple[Expr, ...]) -> bool:
        last = args[-1] if args else None
        if not isinstance(last, Const):
            return True
        if name == "cidr" and parse_cidr(last.value) is None:
            self.report.add("E0303", 'a network is written "10.0.0.0/8"', last.span)
            return False
        if name in ("hour", "weekday") and parse_zone(last.value) is None:
            self.report.add(
                "E0303",
                f'"{last.value}" is no time zone',
                last.span,
                cure='write an IANA name like "Europe/Berlin", or an offset like "+02:00"',
            )
            return False
        return True

    def arithmetic(self, node: nodes.ArithNode, guards: Guards) -> Expr | None:
        left, right = self.pair(node.left, node.right, guards)
        if left is None or right is None:
            return None
        kinds = (left.type.kind, right.type.kind)
        result = {("int", "int"): INT, ("duration", "duration"): DURATION, ("time", "duration"): TIME}.get(kinds)
        if kinds == ("time", "time") and node.op == "-":
            result = DURATION
        if result is None:
            word = "add" if node.op == "+" else "subtract"
            self.report.add("E0300", f"cannot {word} {left.type} and {right.type}", node.span)
            return None
        return Arith(node.op, left, right, result, node.span)


class _Unguarded(ConditionChecker):
    """Resolves the path of a `has`: nothing needs a guard there, and what would have, is there wherever the `has`
    holds."""

    def __init__(self, checker: ConditionChecker) -> None:
        super().__init__(checker.symbols, checker.report, checker.scope)
        self.lacking = checker.lacking
        self.assumed: Guards = NO_GUARDS

    def want_guard(self, guard: Guard, span: Span, message: str, cure: str, guards: Guards) -> None:
        self.assumed |= {guard}


_OPS: dict[str, CompareOp] = {op: op for op in ("==", "!=", "<", "<=", ">", ">=", "overlaps", "within")}
