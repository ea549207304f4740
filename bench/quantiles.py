"""Times of many pieces of work, told by what half of them and all but one in a hundred stay below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Times:
    """Times of one kind of work, in seconds."""

    name: str
    seconds: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        """Tell the time that this share of all stays below, in ms."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3

    @property
    def p50_ms(self) -> float:
        """Tell the median in ms."""
        return median(self.seconds) * 1e3

    def row(self) -> str:
        """Write a line of the table that `HEAD` begins."""
        if not self.seconds:
            return f"{self.name:<46}{0:>8}"
        cells = (self.p50_ms, self.quantile_ms(0.9), self.quantile_ms(0.99), self.quantile_ms(1.0))
        return f"{self.name:<46}{len(self.seconds):>8,}" + "".join(f"{cell:>11.3f}" for cell in cells)


HEAD = f"{'ms':<46}{'number':>8}{'p50':>11}{'p90':>11}{'p99':>11}{'most':>11}"


def table(times: Iterable[Times]) -> list[str]:
    """Write a table."""
    return [HEAD, *(each.row() for each in times)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Tell the median, and between which values the middle half lies."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return median(ordered), ordered[quarter], ordered[-1 - quarter]
