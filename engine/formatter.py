"""Text → the same text in its canonical layout.

`written` says what stands there, `layout` where lines begin, `columns` what stands below what; here it is printed. What
holds of every file that parses: the tree stays the same, no comment is lost, and formatting twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from engine import diagnostics
from engine.columns import keep, tabulate
from engine.errors import PolicyError
from engine.layout import INDENT, Layout
from engine.parser import parse
from engine.source import Source
from engine.written import Comment, read


@dataclass(slots=True)
class _Line:
    """A line being printed, and the comment behind it: how far behind, and in which column the author had it."""

    text: str
    comment: str = ""
    distance: int = 2
    column: int | None = None


def format_source(source: Source) -> str:
    """Return a file's text in the canonical layout.

    Raises:
        PolicyError: it has syntax errors; carries them.
    """
    _, found = parse(source)
    if found:
        found = diagnostics.sort(found)
        raise PolicyError("bad_policy", diagnostics.concise(found), found)
    layout = Layout(read(source))
    pads = tabulate(layout)
    layout.lay_out()
    keep(layout, pads)
    return "".join(f"{line}\n" for line in _with_comments(_lines(layout, pads)))


def _lines(layout: Layout, pads: dict[int, int]) -> list[_Line]:
    lines: list[_Line] = []
    begun = 0
    for k, piece in enumerate(layout.pieces):
        for comment in piece.gap.comments:
            if comment.own_line:
                _space(layout, lines, k, wanted=comment.blank)
                lines.append(_Line(" " * _comment_indent(layout, k) + comment.text))
            else:
                _remark(layout, lines[-1], comment, begun, k - 1)
        if k not in layout.starts:
            lines[-1].text += " " * (pads.get(k, 0) + (not piece.tight)) + piece.text
            continue
        _space(layout, lines, k, wanted=piece.gap.blank and piece.word != "}")
        begun = k
        lines.append(_Line(" " * layout.starts[k] + piece.text))
    return lines[:-1] if not lines[-1].text else lines


def _space(layout: Layout, lines: list[_Line], k: int, *, wanted: bool) -> None:
    """Leave a line blank where the author did, but not at the beginning of the file or of a body."""
    is_place = k in layout.spaced or layout.pieces[k].word == "}"
    if wanted and is_place and lines and not lines[-1].text.endswith("{"):
        lines.append(_Line(""))


def _comment_indent(layout: Layout, k: int) -> int:
    return layout.starts[k] + (INDENT if layout.pieces[k].word == "}" else 0)


def _remark(layout: Layout, line: _Line, comment: Comment, begun: int, last: int) -> None:
    """Put a comment at the end of a line, where the author had it if the line has the same pieces as it had."""
    first, end = layout.pieces[begun], layout.pieces[last]
    line.comment = comment.text
    if first.line == end.line and (first.gap.newline or begun == 0):
        line.distance = max(2, comment.column - end.end)
        line.column = layout.starts[begun] + comment.column - first.column


def _with_comments(lines: list[_Line]) -> list[str]:
    """Join lines and the comments behind them; those that stood in one column below each other still do."""
    found: list[str] = []
    for column, group in groupby(lines, key=lambda line: line.column):
        block = list(group)
        if column is not None and len(block) > 1:
            place = max(column, *(len(line.text) + 2 for line in block))
            found += [line.text.ljust(place) + line.comment for line in block]
        else:
            found += [f"{line.text}{' ' * line.distance}{line.comment}".rstrip() for line in block]
    return found
