"""What a condition is worth: true, false, or `None`, the third truth, if it failed; so are values that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

from engine import model as m
from engine import values
from engine.values import Type, Value
from tests.reference.question import NOBODY, id_of, kind_of
from tests.reference.standing import Standing

Truth = bool | None


def either(truths: Iterable[Truth]) -> Truth:
    """Kleene's `or`."""
    known = list(truths)
    return True if True in known else None if None in known else False


def both(truths: Iterable[Truth]) -> Truth:
    """Kleene's `and`."""
    known = list(truths)
    return False if False in known else None if None in known else True


def opposite(truth: Truth) -> Truth:
    return None if truth is None else not truth


class Conditions(Standing):
    """A question, who asks it, and the conditions that are put to it."""

    def truth(self, condition: m.Expr) -> Truth:
        match condition:
            case m.Not():
                return opposite(self.truth(condition.item))
            case m.And():
                return both([self.truth(item) for item in condition.items])
            case m.Or():
                return either([self.truth(item) for item in condition.items])
            case m.Has():
                return self.has(condition)
            case m.Holds():
                return self.holds(condition)
            case m.Compare():
                return self.compare(condition)
            case _:
                value = self.value(condition)
                return value if isinstance(value, bool) else None

    def has(self, has: m.Has) -> bool:
        if isinstance(has.entity, str):
            return self.sent_value(has.entity, has.name or "", has.is_reference) is not None
        there = self.locate(has.entity)
        if has.name is None or there is None:
            return there is not None
        if has.name == "id":
            return self.identity(there) is not None
        value = self.attributes_of(there, has.entity).get(has.name)
        return value is not None and (not has.is_reference or self.is_there(value))

    def holds(self, holds: m.Holds) -> Truth:
        if holds.place.type.kind == "set":
            places = self.elements(holds.place)
            return None if places is None else either([self.holds_on(holds, place) for place in places])
        return self.holds_on(holds, self.place(holds.place))

    def place(self, path: m.Expr) -> str | None:
        """Where it is asked whether a role is held: the resource too while it has no id, since it may be held above."""
        place: str | None = self.locate(path.entity) if isinstance(path, m.Ref) else self.value(path)
        return place

    def holds_on(self, holds: m.Holds, place: str | None) -> Truth:
        chain = None if place is None else self.links if place == self.resource else self.stored_chain(place)
        if place is None or chain is None:
            return None
        places = [link for link in chain if self.is_place(link)]
        on = [link for link in places if link == place] if holds.exact else places
        return self.satisfies(holds.role, places, on=on, wide=holds.wide)

    def compare(self, compare: m.Compare) -> Truth:
        if compare.op == "in":
            return self.is_in(compare)
        if compare.op == "not in":
            return opposite(self.is_in(compare))
        left, right = self.value(compare.left), self.value(compare.right)
        if left is None or right is None:
            return None
        match compare.op:
            case "==":
                return bool(left == right and left != NOBODY)
            case "!=":
                return bool(left != right or left == NOBODY)
            case "<":
                return bool(left < right)
            case "<=":
                return bool(left <= right)
            case ">":
                return bool(left > right)
            case ">=":
                return bool(left >= right)
            case "overlaps":
                return bool(left & right)
            case "within":
                return bool(left <= right)
            case "like":
                return is_like(left, right)
            case _:
                assert_never(compare.op)

    def is_in(self, compare: m.Compare) -> Truth:
        """Of a set it is an `or` over the elements."""
        item = self.value(compare.left)
        several = compare.how in ("element", "groups", "networks")
        choices = self.elements(compare.right) if several else [self.value(compare.right)]
        if item is None or choices is None:
            return None
        test: Callable[[Value], bool]
        match compare.how:
            case "element":
                test = lambda choice: bool(item == choice)  # noqa: E731
            case "group" | "groups":
                test = lambda choice: item != NOBODY and id_of(choice) in self.groups_of(item)  # noqa: E731
            case "network" | "networks":
                test = lambda choice: item.version == choice.version and item in choice  # noqa: E731
            case _:
                raise AssertionError(compare)
        found = either([None if choice is None else test(choice) for choice in choices])
        # A set of groups is a set too: a group that is an element is in it.
        return True if compare.how == "groups" and item in choices else found

    # --- values -----------------------------------------------------------------------------------

    def value(self, term: m.Expr) -> Value:
        """What a term is worth; None where it failed."""
        if term.type.kind == "set":
            elements = self.elements(term)
            return None if elements is None or None in elements else frozenset(elements)
        match term:
            case m.Const():
                return term.value
            case m.Ref():
                return self.reference(term.entity)
            case m.Id():
                there = self.locate(term.entity)
                return None if there is None else self.identity(there)
            case m.Attr():
                there = self.locate(term.entity)
                found = None if there is None else self.attributes_of(there, term.entity).get(term.name)
                return found if term.type.kind != "ref" or (found is not None and self.is_there(found)) else None
            case m.Sent():
                return self.sent_value(term.source, term.name, term.type.kind == "ref")
            case m.Call():
                return self.call(term)
            case m.Arith():
                return self.sum(term)
            case _:
                return self.truth(term)

    def elements(self, term: m.Expr) -> list[Value] | None:
        """The elements of a set, None for each that failed; None where the set itself did."""
        if isinstance(term, m.SetOf):
            return [self.value(item) for item in term.items]
        found: Iterable[Value] | None = None
        if isinstance(term, m.Const):
            found = term.value
        elif isinstance(term, m.Sent):
            found = self.sent_value(term.source, term.name, is_reference=False)
        elif isinstance(term, m.Attr):
            there = self.locate(term.entity)
            found = None if there is None else self.attributes_of(there, term.entity).get(term.name)
        if found is None:
            return None
        is_reference = term.type.element is not None and term.type.element.kind == "ref"
        return [item if not is_reference or self.is_there(item) else None for item in found]

    def sent_value(self, source: Literal["context", "action"], name: str, is_reference: bool) -> Value:
        found = (self.context if source == "context" else self.action_fields).get(name)
        return None if found is not None and is_reference and not self.is_there(found) else found

    def locate(self, entity: m.Entity) -> str | None:
        """The thing that an entity is in this case; None where it is not there."""
        match entity.kind:
            case "principal":
                return self.asker or NOBODY
            case "resource":
                return self.resource
            case "parent":
                return self.links[1] if len(self.links) > 1 else None
            case "tenant":
                return self.tenant_place if self.in_tenant else None
            case "ancestor":
                return next((link for link in self.links if kind_of(link) == entity.type), None)
            case "referred":
                assert entity.of is not None
                named: str | None = self.value(entity.of)
                return named
            case _:
                assert_never(entity.kind)

    def reference(self, entity: m.Entity) -> str | None:
        """What names an entity: nothing does while it has no id."""
        there = self.locate(entity)
        return there if there == NOBODY or (there and id_of(there)) else None

    def identity(self, there: str) -> str | None:
        return id_of(there) or None

    def attributes_of(self, there: str, entity: m.Entity) -> Mapping[str, Value]:
        """The attributes that count: what is sent of resource and asker counts too, but not through a reference."""
        if entity.kind == "principal":
            return self.principal_attributes
        if entity.kind != "referred" and there == self.resource:
            return self.resource_attributes
        return self.stored_attributes(there) or {}

    def call(self, call: m.Call) -> Value:
        args = [self.value(arg) for arg in call.args]
        if None in args:
            return None
        match call.name:
            case "now":
                return self.now
            case "size":
                return len(args[0])
            case "lower":
                return args[0].lower()
            case "cidr":
                return values.parse_cidr(args[0])
            case "hour" | "weekday":
                local = at_zone(args[0], args[1])
                return None if local is None else local.hour if call.name == "hour" else local.isoweekday()
            case _:
                raise AssertionError(call.name)

    def sum(self, sum_: m.Arith) -> Value:
        left, right = self.value(sum_.left), self.value(sum_.right)
        if left is None or right is None:
            return None
        value = left + right if sum_.op == "+" else left - right
        low, high = limits_of(sum_.type)
        return value if low <= value <= high else None


def limits_of(kind: Type) -> tuple[int, int]:
    if kind.kind == "int":
        return values.MIN_INT, values.MAX_INT
    return (values.MIN_TIME, values.MAX_TIME) if kind.kind == "time" else (-values.MAX_DURATION, values.MAX_DURATION)


def at_zone(moment: int, zone: str) -> datetime | None:
    """Return what clock and calendar say in a zone; None for no zone, and where the calendar ends."""
    there = values.parse_zone(zone)
    if there is None:
        return None
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment // values.SECOND)).astimezone(there)
    except OverflowError:
        return None


def is_like(text: str, pattern: str) -> bool:
    """Match a text with a pattern in which `*` stands for anything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(is_like(text[start:], pattern[1:]) for start in range(len(text) + 1))
    return text[:1] == pattern[0] and is_like(text[1:], pattern[1:])
