"""Why: everything that speaks for and against, weighed in full.

`judge` stops at the first thing that settles a question; here nothing stops. Every rule that means the principal and every `can` of a role
that he holds gets its verdict: true, false or failed. What a decision reports (`by`, `because`, obligations, failed conditions), what
`explain` shows and what coverage counts, are read off this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.authorizer import Question, holds_any, is_platform_group
from engine.decision import NO_REASONS, Decision, Obligation, Reasons
from engine.model import Can, Conditions, Expr, Rule
from engine.space import SYSTEM_PLACE

Verdict = Literal["true", "false", "failed"]


@dataclass(frozen=True, slots=True)
class WeighedRule:
    """A rule for this action, whether it means who asks, and what its condition comes to."""

    rule: Rule
    means: bool
    condition: Expr | None
    verdict: Verdict

    @property
    def applies(self) -> bool:
        """An allow applies when its condition is true; a deny unless it is false."""
        return self.means and (self.verdict == "true" or (self.rule.effect == "deny" and self.verdict == "failed"))


@dataclass(frozen=True, slots=True)
class WeighedCan:
    """A `can` for this action of a role that is held; `can` is None of a custom role."""

    role: str
    place: str
    way: Literal["held", "link", "system"]
    can: Can | None
    condition: Expr | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Weighed:
    """All that speaks on a question. Rules by name; `cans` by name of the role, then the nearest place."""

    denies: tuple[WeighedRule, ...]
    cans: tuple[WeighedCan, ...]
    allows: tuple[WeighedRule, ...]


def weigh(question: Question) -> Weighed:
    """Give every rule and every held role that concerns a question its verdict."""
    program = question.standing.space.program
    rules = program.rules_by_action.get(question.plan.code, [])
    outside = question.standing.is_outside(question.target)
    weighed = [_weigh_rule(question, rule, outside=outside) for rule in rules]
    return Weighed(
        tuple(w for w in weighed if w.rule.effect == "deny"),
        () if outside else tuple(_weigh_cans(question)),
        tuple(w for w in weighed if w.rule.effect == "allow"),
    )


def verdict_of(question: Question, condition: Expr | None) -> Verdict:
    """What a condition comes to. No condition is true."""
    if condition is None:
        return "true"
    _, s, t, x, a, n = question
    compiler = s.space.program.compiler
    if compiler.true(condition)(s, t, x, a, n):
        return "true"
    return "false" if compiler.false(condition)(s, t, x, a, n) else "failed"


def _condition(question: Question, conditions: Conditions | None) -> Expr | None:
    return None if conditions is None else conditions.get((question.plan.code, question.plan.asker))


def _weigh_rule(question: Question, rule: Rule, *, outside: bool) -> WeighedRule:
    means = _means(question, rule, outside=outside)
    # For a kind of principal that WHO never lets through, the condition was not even checked.
    condition = _condition(question, rule.conditions)
    asked = condition is not None or rule.conditions is None
    return WeighedRule(rule, means, condition, verdict_of(question, condition) if asked else "failed")


def _means(question: Question, rule: Rule, *, outside: bool) -> bool:
    """Say whether a rule's WHO means who asks."""
    s, who, asker = question.standing, rule.who, question.plan.asker
    named = asker != "anonymous"
    if who.public:
        return True
    if rule.effect == "deny":
        if who.anyone or asker in who.types:
            return True
        in_group = any(name in s.groups and is_platform_group(s, name) for name in who.groups)
        return named and (in_group or holds_any(question, who.roles, wide=True))
    if outside or not named:
        return False
    if s.anyone and (who.anyone or asker in who.types):
        return True
    in_group = any(name in s.counts_in and is_platform_group(s, name) for name in who.groups)
    return s.inside and (in_group or holds_any(question, who.roles, wide=False))


def _weigh_cans(question: Question) -> list[WeighedCan]:
    s, t = question.standing, question.target
    found: list[tuple[str, int, WeighedCan]] = []
    ways = [(index, place, "held", s.held[place]) for index, place in enumerate(t.places) if place in s.held]
    ways += [(index, place, "link", s.linked[place]) for index, place in enumerate(t.places) if place in s.linked]
    if s.system is not None:
        ways.append((len(t.places), SYSTEM_PLACE, "system", s.system))
    for index, place, way, roles in ways:
        for name in roles.names:
            for can in _cans_of(question, name, roles.custom):
                condition = _condition(question, can.conditions) if can is not None else None
                weighed = WeighedCan(name, place, way, can, condition, verdict_of(question, condition))  # type: ignore[arg-type]  # one of three
                found.append((name, index, weighed))
    return [weighed for _, _, weighed in sorted(found, key=lambda entry: entry[:2])]


def _cans_of(question: Question, name: str, custom: object) -> list[Can | None]:
    """The `can`s of a role that give the action; one None where a custom role does."""
    code = question.plan.code
    if isinstance(custom, dict) and name in custom:
        return [None] if code in custom[name] else []
    role = question.standing.space.program.role(name)
    if role is None:
        return []
    return [can for can, within in role.gives if code in can.actions and question.target.lies_within(within)]


def reasons_for(decision: Decision) -> Reasons:
    """Work out what a decision rests on, from the question that it answered."""
    question = decision.question
    if question is None or decision.code not in ("role", "rule", "default", "boundary"):
        return NO_REASONS
    if question.target.problem is not None:
        return NO_REASONS
    weighed = weigh(question)
    if decision.code == "rule" and not decision.allowed:
        return _of_rules([w for w in weighed.denies if w.applies], failed=_failed_rules(weighed.denies))
    failed = tuple(sorted({w.role for w in weighed.cans if w.verdict == "failed"} | set(_failed_rules(weighed.allows))))
    applying = [w for w in weighed.allows if w.applies]
    if decision.code == "role":
        given = next(w for w in weighed.cans if w.verdict == "true")
        at = given.can.span.at if given.can is not None else None
        return Reasons(f"{given.role} on {given.place}", at, None, _obligations(applying), failed)
    if decision.code == "rule":
        return _of_rules(applying, failed=failed)
    return Reasons(failed=failed)


def _of_rules(applying: list[WeighedRule], *, failed: tuple[str, ...]) -> Reasons:
    first = min((w.rule for w in applying), key=lambda rule: rule.name)
    return Reasons(first.name, first.span.at, first.because, _obligations(applying), failed)


def _failed_rules(weighed: tuple[WeighedRule, ...]) -> tuple[str, ...]:
    return tuple(sorted(w.rule.name for w in weighed if w.means and w.verdict == "failed"))


def _obligations(applying: list[WeighedRule]) -> tuple[Obligation, ...]:
    ordered = sorted((w.rule for w in applying), key=lambda rule: rule.name)
    return tuple(Obligation(rule.name, name, value) for rule in ordered for name, value in rule.obligations)
