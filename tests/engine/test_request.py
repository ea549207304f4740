"""Requests made in Python: what is no question is refused as such, never with an exception of another kind."""

from pathlib import Path
from typing import Any

import pytest

from engine import Facts, Policy, Request, RequestError

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
ANN: dict[str, Any] = {"tenant": "acme", "subject": "user:ann", "action": "read", "resource": "task:t1"}


@pytest.mark.parametrize("odd", [7, [1], "x", True])
@pytest.mark.parametrize(
    "name",
    [
        "tenant",
        "subject",
        "action",
        "resource",
        "subject_properties",
        "resource_properties",
        "action_properties",
        "context",
    ],
)
def test_a_part_of_the_wrong_kind(name: str, odd: object) -> None:
    """A part that is no string or no mapping, or names nothing, is refused or denied."""
    policy = Policy.load(STUDIO)
    facts = Facts.load(STUDIO / "facts.yaml", policy)
    request = Request(**{**ANN, name: odd})

    try:
        allowed = policy.decide(request, facts).allowed
    except RequestError:
        allowed = False

    assert not allowed
