"""A bar on stderr while rows go by: one line that is redrawn on a terminal, a line at every tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

WIDTH = 30
#: Looking at the clock costs more than making a row: so it is looked at after so many rows.
STRIDE = 5_000
REDRAW_S = 0.2


class Bar:
    """Shows how far one piece of work is."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, max(1, total)
        self._began = self._drawn = monotonic()
        self._tenth = 0
        self._is_terminal = sys.stderr.isatty()

    def over(self, rows: Iterable[T]) -> Iterator[T]:
        """Pass the rows on, and show how many went by."""
        done = 0
        for done, row in enumerate(rows, 1):
            yield row
            if not done % STRIDE:
                self.show(done)
        self.show(done, is_last=True)

    def show(self, done: int, *, is_last: bool = False) -> None:
        """Draw the bar, unless it was drawn a moment ago."""
        now, tenth = monotonic(), done * 10 // self._total
        is_due = now - self._drawn >= REDRAW_S if self._is_terminal else tenth > self._tenth
        if is_due or is_last:
            self._drawn, self._tenth = now, tenth
            end = "\r" if self._is_terminal and not is_last else "\n"
            print(self._line(done, now - self._began), end=end, file=sys.stderr, flush=True)

    def _line(self, done: int, elapsed_s: float) -> str:
        share = min(1.0, done / self._total)
        bar = "#" * round(share * WIDTH)
        per_s = done / elapsed_s if elapsed_s > 0 else 0
        return f"{self._name:<20} [{bar:<{WIDTH}}] {share:4.0%}  {done:>12,}  {per_s:>10,.0f}/s  {elapsed_s:6.1f} s"
