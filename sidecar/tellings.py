"""What is told of decisions beside the answer: counts for the metrics, entries for the decision log.

It stands on the way of every check, so it counts in plain dictionaries, and hands the log what the answer was made of;
labels and lines are made of them when somebody reads them. A count is of what was answered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidecar.answering import Outcome
from sidecar.callers import Caller
from sidecar.errors import PublicError
from sidecar.exchange import Call

if TYPE_CHECKING:
    from sidecar.decision_log import DecisionLog

#: Upper bounds of the buckets of `Histogram`, in seconds.
BUCKETS_S: Final = (
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip


class Histogram:
    """How long something took: counts by bucket, and the sum, in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float) -> None:
        self.counts[bisect_left(BUCKETS_S, took_s)] += 1
        self.sum_s += took_s


class Tellings:
    """Counts decisions, and hands them to the log if there is one.

    Attributes:
        decisions: counts by (action, allowed, code); the action is "" where the policy has none such.
        decide: what deciding and writing the answer took, of requests that waited for nothing.
        refusals: answers that are no decision, by (status, code).
    """

    def __init__(self, log: DecisionLog | None = None) -> None:
        self.log = log
        self.decisions: Counter[tuple[str, bool, str]] = Counter()
        self.decide = Histogram()
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.decided_in = self.decide.add

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
