"""Asks the engine and the reference evaluator the same, for as long as wanted: `python -m tests.fuzz --seed 1`.

A triple is a policy, facts and one question. The first on which the two differ is made smaller and printed, and the
exit code is 1. The same seed gives the same triples.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from random import Random

from engine.errors import FactsError, PolicyError
from engine.policy import Facts, Policy
from tests.reference.agreement import Disagreement, compare, first_disagreement
from tests.reference.shrink import shrink
from tests.strategies import Case, make_facts, make_policy, make_questions

FACTS_OF_A_POLICY = 2
QUESTIONS_OF_FACTS = 40
SECONDS_BETWEEN_LINES = 5.0


class Tally:
    """What was tried."""

    def __init__(self) -> None:
        self.policies = self.refused = self.triples = self.differing = 0
        self.began = self.said = time.monotonic()

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.began, 0.001)
        return (
            f"{self.triples} triples, {self.differing} disagreements, {self.triples / seconds:.0f} a second; "
            f"{self.policies} policies, {self.refused} of them refused"
        )

    def say(self, *, at_once: bool = False) -> None:
        """Print a line, every few seconds."""
        if at_once or time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            print(self, flush=True)


def cases(seed: int, tally: Tally) -> Iterator[tuple[Policy, Facts, Case]]:
    """Cases that load, without an end; what the checker refuses is counted and thrown away."""
    while True:
        rng = Random(f"{seed}:{tally.policies}")
        world, text = make_policy(rng)
        tally.policies += 1
        try:
            policy = Policy.parse(str(text))
        except PolicyError:
            tally.refused += 1
            continue
        for _ in range(FACTS_OF_A_POLICY):
            document = make_facts(rng, world)
            questions = make_questions(rng, world, document, QUESTIONS_OF_FACTS)
            try:
                facts = Facts(document, policy, strict=False)
            except FactsError:
                continue
            tally.triples += len(questions)
            yield policy, facts, Case(text, document, questions)


def search(seed: int, count: int, tally: Tally, *, minutes: float = float("inf")) -> Disagreement | None:
    """Compare until so many triples or minutes are over, or the two differ."""
    for policy, facts, case in cases(seed, tally):
        difference = next(compare(policy, facts, case.asked), None)
        if difference is not None:
            tally.differing += 1
            return first_disagreement(case) or Disagreement(case, difference)
        tally.say()
        if tally.triples >= count or time.monotonic() - tally.began >= minutes * 60:
            return None
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the search and print what it found."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50_000, help="stop after so many triples")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args(arguments)
    tally = Tally()
    found = search(options.seed, options.count, tally, minutes=options.minutes)
    if found is not None:
        print("the two differ; making it smaller", flush=True)
        print(shrink(found))
    tally.say(at_once=True)
    return 0 if tally.differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
