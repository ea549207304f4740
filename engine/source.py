"""Policy text and places in it.

A `Source` is one file; a `Span` is a stretch of it, as character offsets. Lines and columns are worked out only when
somebody asks, because most spans of a good policy are never shown.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """One policy file: the name by which people know it, and its text."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def line_starts(self) -> list[int]:
        """Offsets at which lines begin; line 1 begins at the first of them."""
        starts = [0]
        starts.extend(index + 1 for index, character in enumerate(self.text) if character == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Return (line, column) of an offset, both from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return the text of a line, numbered from 1, without its end."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start:] if end < 0 else self.text[start:end]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to, not including, `end` of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def at(self) -> str:
        """`file:line`, as decisions and logs name a place."""
        return f"{self.source.name}:{self.line}"

    def to(self, other: "Span") -> "Span":
        """Return the span from the start of this one to the end of another."""
        return Span(self.source, self.start, other.end)
