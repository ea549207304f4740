"""Policies, facts and questions made up at random: mostly well typed, full of edges, the same for the same seed.

Plain random numbers make them, since thousands a second are wanted; `cases` wraps that for Hypothesis. A policy is kept
in parts, so that a failing case can be made smaller (`tests.reference.shrink`), and its text is rendered from them.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from tests.reference.make_facts import make_facts
from tests.reference.make_policy import make_policy
from tests.reference.make_questions import make_questions
from tests.reference.parts import Asked, Case, Document, PolicyText

__all__ = [
    "Asked",
    "Case",
    "Document",
    "PolicyText",
    "cases",
    "make_case",
    "make_facts",
    "make_policy",
    "make_questions",
]


def make_case(seed: int, questions: int = 20) -> Case:
    """Make up a policy, facts and questions: the same for the same seed."""
    rng = Random(seed)
    world, policy = make_policy(rng)
    facts = make_facts(rng, world)
    return Case(policy, facts, make_questions(rng, world, facts, questions))


#: The same for Hypothesis. It shrinks towards small seeds alone; `tests.reference.shrink` makes a case itself smaller.
cases = st.integers(0, 2**32 - 1).map(make_case)
