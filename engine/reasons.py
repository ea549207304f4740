"""Why: everything that speaks for and against, weighed in full.

`judge` stops at the first thing that settles a question; here nothing stops. Every rule that means the principal and
every `can` of a role that he holds gets its verdict: true, false or failed. What a decision reports (`by`, `because`,
obligations, failed conditions), what `explain` shows and what coverage counts, are read off this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.authorizer import Question, holds_any, is_platform_group
from engine.decision import NO_REASONS, Decision, Obligation, Reasons
from engine.model import Can, Conditions, Expr, Rule
from engine.program import RoleSet
from engine.target import SYSTEM_PLACE

Verdict = Literal["true", "false", "failed"]
Way = Literal["held", "link", "system"]


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
    way: Way
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


def _ways(question: Question) -> Iterator[tuple[int, str, Way, RoleSet]]:
    """All that is held on the target and above, however it is held: how far up, where, and the roles."""
    s, t = question.standing, question.target
    for index, place in enumerate(t.places):
        if place in s.held:
            yield index, place, "held", s.held[place]
        if place in s.linked:
            yield index, place, "link", s.linked[place]
    if s.system is not None:
        yield len(t.places), SYSTEM_PLACE, "system", s.system


def _weigh_cans(question: Question) -> list[WeighedCan]:
    found: list[tuple[str, int, WeighedCan]] = []
    for index, place, way, roles in _ways(question):
        for name in roles.names:
            for can in _cans_of(question, name, roles.custom):
                condition = _condition(question, can.conditions) if can is not None else None
                weighed = WeighedCan(name, place, way, can, condition, verdict_of(question, condition))
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
    """Work out what a decision rests on, from the question that it answered.

    Stops at the first by name, unless there are obligations to collect: this is on the way of every answer by HTTP.
    """
    question = decision.judged
    if question is None or decision.code not in ("role", "rule"):
        return NO_REASONS
    if decision.code == "role":
        return _of_role(question)
    applying = _applying(question, effect=decision.allowed)
    first = applying[0]
    return Reasons(first.name, question.plan.places[first.name], first.because, _obligations(applying))


def _of_role(question: Question) -> Reasons:
    """The first role by name that gives, then the nearest place; with the obligations of the allow rules that apply
    beside it."""
    plan, s, t, x, a, n = question
    best: tuple[str, int] | None = None
    found: tuple[str, str | None] = ("", None)
    for index, place, _, roles in _ways(question):
        for role, at, test in roles.givers(plan):
            if best is not None and (role, index) >= best:
                break
            if test is None or test(s, t, x, a, n):
                best, found = (role, index), (place, at)
                break
    if best is None:
        raise AssertionError("a role gave this, so one does")
    obligations = _obligations(_applying(question, effect=True)) if plan.obliges[True] else ()
    return Reasons(f"{best[0]} on {found[0]}", found[1], None, obligations)


def _applying(question: Question, *, effect: bool) -> list[Rule]:
    """The rules of one side that mean who asks and apply, by name; where none has obligations, the first alone."""
    plan, s, t, x, a, n = question
    outside = s.is_outside(t)
    found = []
    for rule, test in plan.rules[effect]:
        if _means(question, rule, outside=outside) and (test is None or test(s, t, x, a, n) == effect):
            found.append(rule)
            if not plan.obliges[effect]:
                break
    return found


def failed_in(decision: Decision) -> tuple[str, ...]:
    """Names of the rules and roles whose condition failed: of the denies where one denied, else of what might have
    allowed."""
    question = decision.judged
    if question is None:
        return ()
    weighed = weigh(question)
    if decision.code == "rule" and not decision.allowed:
        return _failed_rules(weighed.denies)
    return tuple(sorted({w.role for w in weighed.cans if w.verdict == "failed"} | set(_failed_rules(weighed.allows))))


def _failed_rules(weighed: tuple[WeighedRule, ...]) -> tuple[str, ...]:
    return tuple(sorted(w.rule.name for w in weighed if w.means and w.verdict == "failed"))


def _obligations(applying: list[Rule]) -> tuple[Obligation, ...]:
    return tuple(Obligation(rule.name, name, value) for rule in applying for name, value in rule.obligations)
