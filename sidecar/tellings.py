"""What is told of decisions beside the answer: counts for the metrics, entries for the decision log.

It stands on the way of every check, so it counts in plain dictionaries, and hands the log what the answer was made of;
labels and lines are made of them when somebody reads them. A count is of what was answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sidecar.answering import Outcome
from sidecar.callers import Caller
from sidecar.errors import PublicError
from sidecar.exchange import Call
from sidecar.histogram import Histogram

if TYPE_CHECKING:
    from sidecar.decision_log import DecisionLog


class Tellings:
    """Counts decisions, and hands them to the log if there is one.

    Attributes:
        decisions: counts by (action, allowed, code); the action is "" where the policy has none such.
        decide: what deciding and writing the answer took, of requests that waited for nothing.
        waited: answers that waited for facts: they had to be loaded, or to be as fresh as demanded.
        refusals: answers that are no decision, by (status, code).
    """

    def __init__(self, log: DecisionLog | None = None) -> None:
        self.log = log
        self.decisions: Counter[tuple[str, bool, str]] = Counter()
        self.decide = Histogram()
        self.waited = 0
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.decided_in = self.decide.add

    @property
    def is_logging(self) -> bool:
        """Whether it matters how a decision is written."""
        return self.log is not None

    def note(self, outcomes: Iterable[Outcome], call: Call, caller: Caller) -> None:
        """Take decisions that are being answered."""
        counts, log = self.decisions, self.log
        for question, decision, text in outcomes:
            if isinstance(decision, PublicError):
                counts["", False, decision.code] += 1
            else:
                counts[decision.action, decision.allowed, decision.code] += 1
            if log is not None and question is not None:
                log.note(question, text, caller.name, call.request_id, call.path)

    def refuse(self, error: PublicError) -> None:
        """Take an answer that is no decision."""
        self.refusals[error.status, error.code] += 1
