"""A policy, facts and questions as they were made up: in parts, so that a case can be made smaller, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Asked = dict[str, Any]  # the arguments of a `Request`


@dataclass(frozen=True, slots=True)
class Cond:
    """A condition: text, or `and`, `or`, `not` over conditions."""

    text: str
    items: tuple[Cond, ...] = ()

    def __str__(self) -> str:
        if not self.items:
            return self.text
        if self.text == "not":
            return f"not ({self.items[0]})"
        return "(" + f" {self.text} ".join(str(item) for item in self.items) + ")"


def conjunction(items: Sequence[Cond]) -> Cond:
    return items[0] if len(items) == 1 else Cond("and", tuple(items))


@dataclass(frozen=True, slots=True)
class Declaration:
    """`head { body }`: a type, the context, a `custom`."""

    head: str
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __str__(self) -> str:
        parts = []
        for name, items in self.lists:
            if items:
                parts.append(
                    f"{name} {{ {', '.join(items)} }}" if name == "attributes" else f"{name} {', '.join(items)}".strip()
                )
        return f"{self.head} {{ {' '.join(parts)} }}"


@dataclass(frozen=True, slots=True)
class Clause:
    """`PATTERNS when … unless …`, as a `can` or a rule has it."""

    patterns: tuple[str, ...]
    when: Cond | None = None
    unless: Cond | None = None

    def __str__(self) -> str:
        when = f" when {self.when}" if self.when else ""
        return ", ".join(self.patterns) + when + (f" unless {self.unless}" if self.unless else "")


@dataclass(frozen=True, slots=True)
class RoleText:
    head: str
    supers: tuple[str, ...]
    marks: tuple[str, ...]
    cans: tuple[Clause, ...]

    def __str__(self) -> str:
        supers = f" is {', '.join(self.supers)}" if self.supers else ""
        return f"{self.head}{supers} {' '.join(self.marks)} {{ {' '.join(f'can {can}' for can in self.cans)} }}"


@dataclass(frozen=True, slots=True)
class RuleText:
    effect: str
    name: str
    who: tuple[str, ...]
    clause: Clause
    obligations: tuple[str, ...] = ()

    def __str__(self) -> str:
        tail = f" with {{ {', '.join(self.obligations)} }}" if self.obligations else ""
        return f"{self.effect} {self.name}: {', '.join(self.who)} to {self.clause}{tail}"


@dataclass(frozen=True, slots=True)
class Define:
    name: str
    cond: Cond

    def __str__(self) -> str:
        return f"define {self.name} = {self.cond}"


Part = Declaration | RoleText | RuleText | Define


@dataclass(frozen=True, slots=True)
class PolicyText:
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "\n".join(str(part) for part in self.parts) + "\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A policy, facts for it, and questions."""

    policy: PolicyText
    facts: Document
    asked: tuple[Asked, ...]
