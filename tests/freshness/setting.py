"""What an episode is like: how many processes, how tight their bounds, and which moves are made how often."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from tests.freshness.scene import TENANTS


@dataclass(frozen=True, slots=True)
class Setting:
    """What an episode is like: some are calm, some are wild, each in its own way.

    Args:
        max_views, max_tenants, max_changed, max_absent, max_placed: the bounds of `sidecar.views`.
        max_grants: who holds more is asked place by place.
        pace: how far the clock mostly moves, when it does: 0 little, 2 much.
        slow: the kind of message that mostly waits; "" none.
        questions: how many different ones are asked.
        weights: how often each move is made.
    """

    processes: int
    max_staleness_s: float
    max_views: int
    max_tenants: int
    max_changed: int
    max_absent: int
    max_placed: int
    max_grants: int
    pace: int
    slow: str
    tenants: tuple[str, ...]
    questions: int
    weights: tuple[tuple[str, float], ...]


#: How often each move is made, beside the gates.
WEIGHTS: Final = {
    **{"ask": 15.0, "write": 9.0, "hint": 3.0, "wait": 5.0, "lose": 0.5, "leave": 0.4, "prune": 0.5, "restore": 0.2},
    **{"swap": 0.1, "late": 0.15, "forget": 0.2, "down": 0.08, "up": 1.2, "replica": 0.04},
}
#: Messages that may be the slow ones of an episode.
SLOW: Final = (
    "poll.request",
    "poll.answer",
    "poll.answer",
    "load.begin",
    "load.answer",
    "register.request",
    "ack.request",
)


def make_setting(rng: Random) -> Setting:
    """Make a setting up."""
    factors: dict[str, float] = {name: rng.choice((0, 0.3, 1, 1, 3, 8)) for name in WEIGHTS}
    factors |= {"ask": 1, "up": 1, "wait": rng.choice((0.3, 1, 2)), "write": rng.choice((0.3, 1, 1, 2.5))}
    factors["down"] = rng.choice((0, 0, 1, 3))
    factors["lose"] = rng.choice((0, 0.3, 1, 1, 2.5))
    return Setting(
        processes=rng.choice((1, 2, 2, 3)),
        max_staleness_s=rng.choice((1.0, 1.5, 4.0)),
        max_views=rng.choice((10_000, 10_000, 10_000, 40, 15, 6)),
        max_tenants=rng.choice((10_000, 10_000, 10_000, 2, 1)),
        max_changed=rng.choice((10_000, 10_000, 8, 3)),
        max_absent=rng.choice((10_000, 10_000, 3)),
        max_placed=rng.choice((10_000, 10_000, 3)),
        max_grants=rng.choice((1000, 2, 1)),
        pace=rng.randrange(3),
        slow=rng.choice(("", "", *SLOW)),
        tenants=rng.choice((TENANTS[:1], TENANTS[:2], TENANTS[:2], TENANTS)),
        questions=rng.choice((5, 10, 20, 60)),
        weights=tuple((name, weight * factors[name]) for name, weight in WEIGHTS.items()),
    )
