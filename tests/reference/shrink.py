"""Makes a case on which engine and reference differ smaller, while they still differ in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.reference.agreement import Disagreement, differs
from tests.reference.parts import Asked, Case, Clause, Cond, Declaration, Define, Part, PolicyText, RoleText, RuleText

MOST_TRIES = 6000


def shrink(found: Disagreement) -> Disagreement:
    """Drop one part after the other for as long as something can be dropped."""
    kind = found.difference.kind
    tries = 0
    while True:
        for smaller in smaller_cases(found.case):
            tries += 1
            again = differs(smaller, kind) if tries <= MOST_TRIES else None
            if again is not None:
                found = again
                break
        else:
            return found


def smaller_cases(case: Case) -> Iterator[Case]:
    for asked in without_one(case.asked):
        if asked:
            yield replace(case, asked=asked)
    for parts in smaller_lists(case.policy.parts, smaller_parts):
        yield replace(case, policy=PolicyText(parts))
    for facts in smaller_values(case.facts):
        yield replace(case, facts=facts)
    for asked in smaller_lists(case.asked, smaller_asked, drop=False):
        yield replace(case, asked=asked)


def without_one(items: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Halves and quarters first, then all but one."""
    size = len(items) // 2
    while size >= 1:
        for start in range(0, len(items), size):
            yield (*items[:start], *items[start + size :])
        size //= 2
    if len(items) == 1:
        yield ()


def smaller_lists(
    items: Sequence[Any], smaller: Callable[[Any], Iterator[Any]], *, drop: bool = True
) -> Iterator[tuple[Any, ...]]:
    if drop:
        yield from without_one(items)
    for index, item in enumerate(items):
        for other in smaller(item):
            yield (*items[:index], other, *items[index + 1 :])


def nothing_smaller(_: Any) -> Iterator[Any]:
    yield from ()


def smaller_parts(part: Part) -> Iterator[Part]:
    match part:
        case Define():
            for cond in smaller_conditions(part.cond):
                yield replace(part, cond=cond)
        case Declaration():
            for index, (name, items) in enumerate(part.lists):
                for fewer in without_one(items):
                    yield replace(part, lists=(*part.lists[:index], (name, fewer), *part.lists[index + 1 :]))
        case RoleText():
            for cans in smaller_lists(part.cans, smaller_clauses):
                yield replace(part, cans=cans)
            for supers in without_one(part.supers):
                yield replace(part, supers=supers)
            for marks in without_one(part.marks):
                yield replace(part, marks=marks)
        case RuleText():
            for clause in smaller_clauses(part.clause):
                yield replace(part, clause=clause)
            for who in without_one(part.who):
                if who:
                    yield replace(part, who=who)
            for obligations in without_one(part.obligations):
                yield replace(part, obligations=obligations)


def smaller_clauses(clause: Clause) -> Iterator[Clause]:
    for patterns in without_one(clause.patterns):
        if patterns:
            yield replace(clause, patterns=patterns)
    for when in smaller_or_none(clause.when):
        yield replace(clause, when=when)
    for unless in smaller_or_none(clause.unless):
        yield replace(clause, unless=unless)


def smaller_or_none(cond: Cond | None) -> Iterator[Cond | None]:
    if cond is not None:
        yield None
        yield from smaller_conditions(cond)


def smaller_conditions(cond: Cond) -> Iterator[Cond]:
    yield from cond.items
    if len(cond.items) > 1:
        for items in without_one(cond.items):
            if len(items) > 1:
                yield replace(cond, items=items)
    for items in smaller_lists(cond.items, smaller_conditions, drop=False):
        yield replace(cond, items=items)


def smaller_values(value: Any) -> Iterator[Any]:
    """A document with one entry fewer, somewhere."""
    if isinstance(value, dict):
        for keys in without_one(list(value)):
            yield {key: value[key] for key in keys}
        for key, inner in value.items():
            for smaller in smaller_values(inner):
                yield {**value, key: smaller}
    elif isinstance(value, list):
        for items in smaller_lists(value, smaller_values):
            yield list(items)


def smaller_asked(asked: Asked) -> Iterator[Asked]:
    for name in ("subject_properties", "resource_properties", "action_properties", "context", "token_tenant"):
        if name in asked:
            yield {key: value for key, value in asked.items() if key != name}
            for smaller in smaller_values(asked[name]):
                yield {**asked, name: smaller}
