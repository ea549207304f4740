"""Timing by turns: many lanes, one after the other, again and again, so that a slow moment falls on all.

A *lane* is one contestant with one list of requests. In each round every lane has one turn: a few passes over its
requests, of which the fastest counts. What is reported is the best and the median of the turns. The garbage collector
is off during a turn, as `timeit` has it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from bench.contestants import Contestant
from bench.scenario import Question

FEWEST = 8
"""A lane has at least so many requests (if there are), however slow its contestant."""


class WrongAnswerError(AssertionError):
    """A contestant's answer is not the right one."""


@dataclass(slots=True)
class Lane:
    """One contestant in one cell with one kind of question; `turns_us` holds µs per decision, a number a turn."""

    contestant: Contestant
    requests: list[object]
    allowed: int
    passes: int
    turns_us: list[float] = field(default_factory=list)

    @property
    def best_us(self) -> float:
        """Tell the best turn, in µs per decision."""
        return min(self.turns_us)

    @property
    def median_us(self) -> float:
        """Tell the median turn, in µs per decision."""
        return median(self.turns_us)


def make_lane(contestant: Contestant, questions: Sequence[Question], turn_s: float) -> Lane:
    """Prepare as many of the questions as fit into a turn of `turn_s` seconds, and check every answer.

    Raises:
        WrongAnswerError: the contestant answers a question wrongly.
    """
    cost_s = _cost_s(contestant, questions)
    asked = questions[: max(FEWEST, int(turn_s / cost_s))]
    check(contestant, asked)
    requests = [contestant.prepare(question) for question in asked]
    passes = max(1, int(turn_s / (cost_s * len(asked))))
    return Lane(contestant, requests, sum(question.expected for question in asked), passes)


def _cost_s(contestant: Contestant, questions: Sequence[Question]) -> float:
    """Measure roughly what a decision costs, in seconds, after one that warms up."""
    requests = [contestant.prepare(question) for question in questions[:FEWEST]]
    contestant.count(requests[:1])
    return max(_pass_s(contestant, requests) / len(requests), 1e-8)


def check(contestant: Contestant, questions: Iterable[Question]) -> None:
    """Ask the questions one by one and compare.

    Raises:
        WrongAnswerError: an answer is wrong; it names the question.
    """
    for question in questions:
        answer = contestant.count([contestant.prepare(question)]) == 1
        if answer is not question.expected:
            raise WrongAnswerError(f"{type(contestant).__name__} answers {answer} to {question}")


def affordable(contestant: Contestant, questions: Sequence[Question], budget_s: float) -> Sequence[Question]:
    """Keep as many of the questions as the contestant can answer in about `budget_s` seconds."""
    return questions[: max(FEWEST, int(budget_s / _cost_s(contestant, questions)))] if questions else questions


def run(lanes: Sequence[Lane], rounds: int) -> None:
    """Give every lane its turn, `rounds` times over."""
    for _ in range(rounds):
        for lane in lanes:
            lane.turns_us.append(_turn_us(lane))


def _turn_us(lane: Lane) -> float:
    gc.collect(0)
    gc.disable()
    try:
        best_s = min(_pass_s(lane.contestant, lane.requests, lane.allowed) for _ in range(lane.passes))
    finally:
        gc.enable()
    return best_s / len(lane.requests) * 1e6


def _pass_s(contestant: Contestant, requests: Sequence[object], allowed: int | None = None) -> float:
    start = perf_counter()
    count = contestant.count(requests)
    elapsed_s = perf_counter() - start
    if allowed is not None and count != allowed:
        raise WrongAnswerError(f"{type(contestant).__name__} allows {count} of {len(requests)}, not {allowed}")
    return elapsed_s
