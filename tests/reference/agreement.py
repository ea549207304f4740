"""Compares the engine with the reference evaluator, question by question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from engine.errors import FactsError, PolicyError, RequestError
from engine.policy import Facts, Policy
from engine.request import Request
from tests.reference.evaluator import Answer, decide
from tests.reference.parts import Asked, Case

Outcome = Answer | str  # a decision, or the code of an error


@dataclass(frozen=True, slots=True)
class Difference:
    """A question, by its number, to which the two answer differently."""

    index: int
    engine: Outcome
    reference: Outcome

    @property
    def kind(self) -> str:
        """What differs, so that a smaller case can be held to differ in the same."""
        if isinstance(self.engine, str) or isinstance(self.reference, str):
            codes = (each if isinstance(each, str) else "decision" for each in (self.engine, self.reference))
            return " ".join(("error", *codes))
        if (self.engine.allowed, self.engine.code) != (self.reference.allowed, self.reference.code):
            return f"code {self.engine.code} {self.reference.code}"
        names = ("by", "failed", "obligations")
        return next(name for name in names if getattr(self.engine, name) != getattr(self.reference, name))


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A case with what differs in it."""

    case: Case
    difference: Difference

    def __str__(self) -> str:
        asked = [", ".join(f"{name}={value!r}" for name, value in each.items()) for each in self.case.asked]
        parts = (
            str(self.case.policy),
            f"facts: {self.case.facts}",
            *(f"Request({each})" for each in asked),
            f"engine:    {self.difference.engine}",
            f"reference: {self.difference.reference}",
        )
        return "\n".join(parts)


def by_engine(policy: Policy, facts: Facts, request: Request) -> Outcome:
    """The engine's answer, or the code of its error."""
    try:
        decision = policy.decide(request, facts)
    except RequestError as error:
        return error.code
    obligations = tuple((each.rule, each.name, each.value) for each in decision.obligations)
    return Answer(decision.allowed, decision.code, decision.by, tuple(decision.failed), obligations)


def by_reference(policy: Policy, facts: Facts, request: Request) -> Outcome:
    """The reference evaluator's answer, or the code of its error."""
    assert request.now is not None
    try:
        return decide(policy.model, facts.source, request, request.now)
    except RequestError as error:
        return error.code


def load(case: Case) -> tuple[Policy, Facts] | None:
    """The policy and its facts; None where the checker refuses one of them."""
    try:
        policy = Policy.parse(str(case.policy))
        return policy, Facts(case.facts, policy, strict=False)
    except (PolicyError, FactsError):
        return None


def compare(policy: Policy, facts: Facts, asked: Iterable[Asked]) -> Iterator[Difference]:
    """Ask everything twice, the second time of an engine that remembers the first; yield where the answers differ."""
    requests = [Request(**each) for each in asked]
    expected = [by_reference(policy, facts, request) for request in requests]
    for _ in range(2):
        for index, (request, answer) in enumerate(zip(requests, expected, strict=True)):
            found = by_engine(policy, facts, request)
            if found != answer:
                yield Difference(index, found, answer)


def first_disagreement(case: Case) -> Disagreement | None:
    """The first difference in a case: with its question alone, or with all that was asked before if it takes that."""
    found = differs(case)
    if found is None:
        return None
    index = found.difference.index
    alone = differs(replace(case, asked=(case.asked[index],)), found.difference.kind)
    return alone or differs(replace(case, asked=case.asked[: index + 1]), found.difference.kind) or found


def differs(case: Case, kind: str | None = None) -> Disagreement | None:
    """The first difference in a case, or the first of a kind."""
    loaded = load(case)
    if loaded is None:
        return None
    return next((Disagreement(case, each) for each in compare(*loaded, case.asked) if kind in (None, each.kind)), None)
