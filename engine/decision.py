"""Answers: allowed or not, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.values import Value

if TYPE_CHECKING:
    from engine.authorizer import Parts, Question


@dataclass(frozen=True, slots=True)
class Obligation:
    """What the winning side asks of whoever enforces the decision: one entry of a rule's `with`."""

    rule: str
    name: str
    value: Value

    def as_json(self) -> dict[str, Any]:
        """The form of the AuthZEN obligations profile."""
        return {"id": f"{self.rule}.{self.name}", "type": self.name, "properties": {"value": self.value}}


@dataclass(frozen=True, slots=True)
class Reasons:
    """What a decision rests on."""

    by: str | None = None
    at: str | None = None
    because: str | None = None
    obligations: tuple[Obligation, ...] = ()


NO_REASONS = Reasons()


class Decision:
    """The answer to one question.

    Its reasons are worked out when they are first read, from the very facts that it was made on: most callers want
    the answer alone.

    Attributes:
        allowed: the answer.
        code: `role`, `rule`, `default`, `boundary` …; all of them in `codes`.
        by: the name of the rule, or `TYPE.NAME on TYPE:ID` of the role, that determined.
        at: where that stands in the policy, `file:line`.
        because: the rule's own words.
        obligations: of all rules that apply on the winning side.
        failed: names of the rules and roles whose condition failed, where it could have mattered.
        policy: digest of the policy. revision: of the facts.
    """

    __slots__ = ("_early", "_parts", "_reasons", "allowed", "code")
    _early: Question

    def __init__(self, allowed: bool, code: str, parts: Parts | None) -> None:
        self.allowed = allowed
        self.code = code
        self._parts = parts

    @classmethod
    def early(cls, code: str, question: Question) -> Decision:
        """Deny for what is not there, before any rule was looked at."""
        decision = cls(False, code, None)
        decision._early = question
        return decision

    @property
    def question(self) -> Question | None:
        """The question resolved; None where none could be asked (a bad path, no route, an open one)."""
        return self.judged or getattr(self, "_early", None)

    @property
    def judged(self) -> Question | None:
        """The question, if it was answered by the policy's rules and roles and the wall, not by what is not there."""
        from engine.authorizer import Question  # it makes decisions, so it is below

        return Question(*self._parts) if self._parts is not None else None

    @property
    def action(self) -> str:
        """The action's full name, `task.read`; empty where none was found."""
        parts = self._parts or getattr(self, "_early", None)
        return parts[0].code if parts is not None else ""

    @property
    def revision(self) -> str:
        """The state of the facts that it was made on; empty where none were looked at."""
        parts = self._parts or getattr(self, "_early", None)
        return parts[1].space.revision if parts is not None else ""

    @property
    def tenant(self) -> str:
        """The tenant in which it was made; empty where it is of none."""
        parts = self._parts or getattr(self, "_early", None)
        return parts[1].space.tenant_id if parts is not None else ""

    @property
    def may_oblige(self) -> bool:
        """Whether there may be obligations among its reasons; where not, nobody need work them out."""
        return self._parts is not None and self._parts[0].obliges[self.allowed]

    @property
    def reasons(self) -> Reasons:
        try:
            return self._reasons
        except AttributeError:
            from engine.reasons import reasons_for  # as above

            self._reasons: Reasons = reasons_for(self)
            return self._reasons

    @property
    def by(self) -> str | None:
        return self.reasons.by

    @property
    def at(self) -> str | None:
        return self.reasons.at

    @property
    def because(self) -> str | None:
        return self.reasons.because

    @property
    def obligations(self) -> tuple[Obligation, ...]:
        return self.reasons.obligations

    @property
    def failed(self) -> tuple[str, ...]:
        from engine.reasons import failed_in  # as above

        return failed_in(self)

    def as_json(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an answer of `POST /check`; `extra` adds what the service knows: revision, policy, id."""
        reasons = self.reasons
        return {
            "decision": self.allowed,
            "context": {
                "code": self.code,
                "by": reasons.by,
                "at": reasons.at,
                "because": reasons.because,
                "obligations": [obligation.as_json() for obligation in reasons.obligations],
                **extra,
            },
        }

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return f"Decision({'allow' if self.allowed else 'deny'}, {self.code})"
