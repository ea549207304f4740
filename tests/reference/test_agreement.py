"""The engine and the reference evaluator agree, on what was made up at random."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import Tally, search
from tests.reference.agreement import first_disagreement
from tests.reference.shrink import shrink
from tests.strategies import Case, cases

TRIPLES = 8_000


@pytest.mark.slow
@pytest.mark.property
@pytest.mark.parametrize("seed", [1, 2])
def test_the_two_agree(seed: int) -> None:
    """Allowed, code, what determined it, what failed and obligations are the same, asked once and asked again."""
    tally = Tally()

    found = search(seed, TRIPLES, tally)

    assert found is None, str(shrink(found))
    assert tally.triples >= TRIPLES


@pytest.mark.slow
@pytest.mark.property
def test_most_policies_are_well_typed() -> None:
    """Under a third of what is made up is refused by the checker."""
    tally = Tally()

    search(3, 4_000, tally)

    assert tally.refused < 0.3 * tally.policies


@pytest.mark.property
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_cases_agree(case: Case) -> None:
    """The same, with cases that Hypothesis picks."""
    assert first_disagreement(case) is None
