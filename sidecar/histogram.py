"""How long something took, counted in buckets: cheap enough for the way of every check.

What comes in are seconds; what goes out are counts, which `metrics` writes as Prometheus reads them. All have the same
buckets: they reach from a decision, some microseconds, to a load that is given up.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

#: Upper bounds of the buckets, in seconds; past the last there is one more.
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
