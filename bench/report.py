"""What `bench.decide` prints: tables of microseconds, the ratios to Bylaw, and a line for each goal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from bench.contestants import BYLAW, CEDAR, FLOOR
from bench.scenario import QuestionKind

Key = tuple[str, str, int]
"""Kind of question, contestant, size of the cell."""
TIMED: tuple[QuestionKind, ...] = ("role", "conditional", "denied")
"""The kinds of question that are timed, in the order of the tables."""
NAME_WIDTH, CELL_WIDTH = 20, 18


@dataclass(frozen=True, slots=True)
class Figure:
    """The best and the median turn, in µs per decision."""

    best_us: float
    median_us: float


@dataclass(frozen=True, slots=True)
class Result:
    """One sweep, measured: seconds to load by (contestant, size), figures by (kind, contestant, size)."""

    label: str
    sizes: tuple[int, ...]
    load_s: dict[tuple[str, int], float]
    figures: dict[Key, Figure]

    def best(self, kind: str, name: str, size: int) -> float | None:
        """Tell the best turn in µs, or None where it was not measured."""
        figure = self.figures.get((kind, name, size))
        return figure.best_us if figure else None

    @property
    def names(self) -> list[str]:
        """List the contestants in the order in which they were measured."""
        return list(dict.fromkeys(name for _, name, _ in self.figures))


def tables(result: Result) -> Iterator[str]:
    """Print a sweep: a table for each kind of question, one of ratios to Bylaw, one of the time to load."""
    for kind in TIMED:
        yield from ("", _row(f"{kind}, µs", result.sizes), *_figure_rows(result, kind))
        if (kind, BYLAW, result.sizes[-1]) in result.figures:
            yield from ("  × Bylaw's best", *_ratio_rows(result, kind))
    yield from ("", _row("load, s", result.sizes), *_load_rows(result))
    yield f"({result.label}; best turn, median in brackets)"


def _figure_rows(result: Result, kind: str) -> Iterator[str]:
    for name in result.names:
        yield _row(name, (_figure(result.figures.get((kind, name, size))) for size in result.sizes))


def _figure(figure: Figure | None) -> str:
    return f"{_digits(figure.best_us)} ({_digits(figure.median_us)})" if figure else "–"


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}" if value < 1_000 else f"{value:,.0f}"


def _ratio_rows(result: Result, kind: str) -> Iterator[str]:
    for name in result.names:
        if name != BYLAW:
            yield _row(f"  {name}", (_ratio(result, kind, name, size) for size in result.sizes))


def _ratio(result: Result, kind: str, name: str, size: int) -> str:
    ratio = _quotient(result.best(kind, name, size), result.best(kind, BYLAW, size))
    return "–" if ratio is None else f"{ratio:,.2f} ×" if ratio < 10 else f"{ratio:,.0f} ×"


def _load_rows(result: Result) -> Iterator[str]:
    for name in dict.fromkeys(name for name, _ in result.load_s):
        yield _row(name, (f"{result.load_s[name, size]:.2f}" for size in result.sizes))


def _row(name: str, cells: Iterable[object]) -> str:
    texts = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return "".join(chain([f"{name:<{NAME_WIDTH}}"], (f"{text:>{CELL_WIDTH}}" for text in texts)))


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two figures that is to stay at or below (`at_most`), or at or above, a bound; None: not measured."""

    text: str
    ratio: float | None
    bound: float
    at_most: bool

    def line(self) -> str:
        """Say whether it is reached, and by what figure."""
        wanted = f"{'<=' if self.at_most else '>='} {self.bound:g}"
        if self.ratio is None:
            return f"not measured  {self.text}: wanted {wanted}"
        reached = self.ratio <= self.bound if self.at_most else self.ratio >= self.bound
        return f"{'reached' if reached else 'missed':<12}  {self.text}: {self.ratio:,.2f} (wanted {wanted})"


def goals(result: Result) -> Iterator[str]:
    """Print a line for each goal, from the sweep over the number of rules; all by the best turns."""
    yield ""
    yield from (goal.line() for goal in _goals(result))


def _goals(result: Result) -> Iterator[Goal]:
    floor = result.best("role", FLOOR, 10)
    yield Goal("role / floor, 10 rules", _quotient(result.best("role", BYLAW, 10), floor), 10, at_most=True)
    conditional = result.best("conditional", BYLAW, 10)
    # The floor of both is the plain role decision by hand: the stricter reading.
    yield Goal("conditional / floor, 10 rules", _quotient(conditional, floor), 20, at_most=True)
    for kind in ("role", "conditional"):
        ratio = _quotient(result.best(kind, BYLAW, 10_000), result.best(kind, BYLAW, 10))
        yield Goal(f"{kind}, 10,000 rules / 10 rules", ratio, 1.2, at_most=True)
    for size, bound in ((1, 8), (1_000, 300)):
        ratio = _quotient(result.best("role", CEDAR, size), result.best("role", BYLAW, size))
        yield Goal(f"cedarpy / role, {size:,} rule{'s' if size > 1 else ''}", ratio, bound, at_most=False)


def _quotient(value: float | None, by: float | None) -> float | None:
    return None if value is None or by is None else value / by


def figures(result: Result) -> list[dict[str, object]]:
    """Give the figures as JSON has them, one object a cell."""
    return [
        {"kind": kind, "contestant": name, "size": size, "best_us": figure.best_us, "median_us": figure.median_us}
        for (kind, name, size), figure in result.figures.items()
    ]
