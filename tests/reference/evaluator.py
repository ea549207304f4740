"""The language once more, read from its text alone: plain, slow, and meant to be obviously right.

A second opinion for tests. It walks the checked model with the facts at hand: no index, no memo, no compiled code,
and nothing shared with what it is compared with but the model, the facts and the conversion of values. `question` reads
what is asked, `standing` says who asks and what he holds, `conditions` what a condition is worth; here it is decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine import model as m
from engine.facts import MemoryFacts
from engine.request import Request
from engine.values import Value
from tests.reference.conditions import Conditions, Truth
from tests.reference.question import SYSTEM_PLACE, id_of


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, to be compared with another."""

    allowed: bool
    code: str
    by: str | None = None
    failed: tuple[str, ...] = ()
    obligations: tuple[tuple[str, str, Value], ...] = ()


def decide(model: m.Model, facts: MemoryFacts, request: Request, now: int) -> Answer:
    """Answer one question.

    Raises:
        RequestError: it is malformed.
    """
    return _Case(model, facts, request, now).answer()


class _Case(Conditions):
    """A question, and the decision."""

    def answer(self) -> Answer:
        if not self.voices_agree:
            return Answer(False, "boundary")
        code = self.what_is_missing()
        if code is not None:
            is_hidden = code in ("unknown_resource", "exists", "broken_chain") and self.is_outside()
            return Answer(False, "boundary" if is_hidden else code)
        allows = [(rule, self.truth_of(rule.conditions)) for rule in self.rules("allow")]
        denies = [(rule, self.truth_of(rule.conditions)) for rule in self.rules("deny")]
        cans = [
            (held, self.truth_of(conditions))
            for held in self.held
            if held.place in self.places()
            for conditions in self.conditions_of(held)
        ]
        applying = [rule for rule, truth in allows if truth is True]
        denying = [rule for rule, truth in denies if truth is not False]
        giving = [held for held, truth in cans if truth is True]
        failed = tuple(
            sorted(
                {rule.name for rule, truth in allows if truth is None}
                | {held.role for held, truth in cans if truth is None}
            )
        )
        if denying and self.is_outside() and not applying:
            return Answer(False, "boundary", None, failed)
        if denying:
            failed = tuple(sorted(rule.name for rule, truth in denies if truth is None))
            return Answer(False, "rule", denying[0].name, failed, obligations_of(denying))
        if giving:
            first = min(giving, key=lambda held: (held.role, self.places().index(held.place)))
            return Answer(True, "role", f"{first.role} on {first.place}", failed, obligations_of(applying))
        if applying:
            return Answer(True, "rule", applying[0].name, failed, obligations_of(applying))
        return Answer(False, "boundary" if self.is_outside() else "default", None, failed)

    def what_is_missing(self) -> str | None:
        if self.model.has_tenant and self.in_tenant:
            tenant = self.facts.tenant(self.tenant)
            if tenant is None or tenant.status != "active":
                return "tenant_inactive"
        if self.stored_asker and self.stored_asker.status != "active":
            return "principal_inactive"
        if self.type.kind == "tenant" and id_of(self.resource) != self.tenant:
            return "boundary"
        if self.action.new and not self.is_new and not self.type.external:
            return "exists"
        if not self.action.new and not self.has_row and not self.type.external:
            return "unknown_resource"
        if self.links[-1] != SYSTEM_PLACE:
            return "broken_chain"
        if self.sent_parent is not None and (self.type.kind == "tenant" or self.sent_parent not in self.links[1:2]):
            return "boundary"
        return None

    # --- rules ------------------------------------------------------------------------------------

    def rules(self, effect: Literal["allow", "deny"]) -> list[m.Rule]:
        """The rules for this action that mean him who asks, by name."""
        means = self.is_denied_by if effect == "deny" else self.is_allowed_by
        rules = [
            rule
            for rule in self.model.rules
            if rule.effect == effect and self.action.code in rule.actions and means(rule.who)
        ]
        return sorted(rules, key=lambda rule: rule.name)

    def is_denied_by(self, who: m.Who) -> bool:
        return (
            who.anyone
            or who.public
            or self.asker_type in who.types
            or any(self.satisfies(role, self.places(), on=self.places(), wide=True) for role in who.roles)
            or any(self.is_in_platform_group(name) for name in who.groups)
        )

    def is_allowed_by(self, who: m.Who) -> bool:
        if who.public:
            return True
        if self.is_outside():
            return False
        is_anyone = self.is_full_member() or self.is_inside_by_claim()
        return (
            (is_anyone and (who.anyone or self.asker_type in who.types))
            or any(self.satisfies(role, self.places(), on=self.places(), wide=False) for role in who.roles)
            or (self.is_member() and any(self.is_in_platform_group(name) for name in who.groups))
        )

    def is_in_platform_group(self, name: str) -> bool:
        group = self.facts.groups.get(name)
        return (
            group is not None and group.tenant is None and self.asker is not None and name in self.groups_of(self.asker)
        )

    def truth_of(self, conditions: m.Conditions | None) -> Truth:
        return True if conditions is None else self.truth(conditions[self.action.code, self.asker_type])


def obligations_of(rules: Iterable[m.Rule]) -> tuple[tuple[str, str, Value], ...]:
    return tuple(
        sorted(
            ((rule.name, name, value) for rule in rules for name, value in rule.obligations),
            key=lambda entry: entry[:2],
        )
    )
