"""Lines → spaces that put words below each other: the columns of tables, and those that the author made.

A table is a run of neighbours of one kind that each fit on one line. Routes and assigns are one table through blank
lines and comments, since they are read as one; all else ends there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from engine.layout import WIDTH, Layout, Unit

#: The columns of each kind of table, in the order in which they stand.
_COLUMNS = {
    "role": ("on", "is", "{"),
    "custom": ("{",),
    "resource": ("{",),
    "allow": ("name", "who"),
    "deny": ("name", "who"),
    "can": ("when",),
    "route": ("template", "to"),
    "assign": ("by",),
    "define": ("=",),
}
#: Kinds that are one table through blank lines and comments, however wide it gets.
_LONG = ("route", "assign")
#: Kinds that share a table.
_RULES = {"allow", "deny"}
#: Words that begin a column, and its name.
_NAMES = {
    **{word: word for word in ("on", "is", "{", "to", "by", "=", "when", "in", "of", "with", "at", "because")},
    **{"crossing": "is", "claimable": "is", "public": "to", "authenticated": "to", "unless": "when"},
}
#: Words behind which a condition begins or goes on.
_IN_CONDITIONS = {"when", "unless", "and", "or", "="}


def tabulate(layout: Layout) -> dict[int, int]:
    """Find the tables, tell the layout, and return the spaces that their columns take."""
    pads: dict[int, int] = {}
    for units in [layout.units, *(_cans(layout, unit) for unit in layout.units if unit.kind == "role")]:
        for run in _runs(layout, units):
            for table, spaces in _settled(layout, run):
                layout.tabled.update(unit.start for unit in table)
                pads |= spaces
    return pads


def _cans(layout: Layout, role: Unit) -> list[Unit]:
    brace = layout.words(role.start, role.end, "{")[0]
    cans = layout.words(brace + 1, role.end - 1, "can")
    ends = [*cans[1:], role.end - 1] if cans else []
    return [Unit("can", k, end, 2) for k, end in zip(cans, ends, strict=True)]


def _runs(layout: Layout, units: Iterable[Unit]) -> Iterator[list[Unit]]:
    """Cut units into runs that could be tables."""
    run: list[Unit] = []
    for unit in units:
        is_row = _is_row(layout, unit)
        goes_on = is_row and run and (unit.kind == run[-1].kind or {unit.kind, run[-1].kind} <= _RULES)
        if not goes_on or (unit.kind not in _LONG and _is_apart(layout, unit)):
            yield run
            run = []
        if is_row:
            run.append(unit)
    yield run


def _is_apart(layout: Layout, unit: Unit) -> bool:
    gap = layout.gap(unit.start)
    return gap.blank or any(comment.own_line for comment in gap.comments)


def _is_row(layout: Layout, unit: Unit) -> bool:
    """Say whether a unit can be a row: all of it on a line, by nothing broken."""
    if unit.kind not in _COLUMNS or not layout.fits(unit.start, unit.end, unit.indent):
        return False
    if any(group.forced for group in layout.groups(unit, tabled=True)):
        return False
    return unit.kind != "can" or bool(_columns(layout, unit))


def _settled(layout: Layout, run: Sequence[Unit]) -> Iterator[tuple[Sequence[Unit], dict[int, int]]]:
    """Align a run; rows that get too wide are broken, and the run is cut there."""
    if len(run) < 2:
        return
    pads = _align(layout, run)
    fits = [unit.kind in _LONG or _end(layout, unit.start, unit.end, unit.indent, pads) <= WIDTH for unit in run]
    if all(fits):
        yield run, pads
        return
    part: list[Unit] = []
    for unit, is_row in zip(run, fits, strict=True):
        if is_row:
            part.append(unit)
        else:
            layout.broken.add(unit.start)
            yield from _settled(layout, part)
            part = []
    yield from _settled(layout, part)


def _align(layout: Layout, run: Sequence[Unit]) -> dict[int, int]:
    pads: dict[int, int] = {}
    columns = [_columns(layout, unit) for unit in run]
    for name in _COLUMNS[run[0].kind]:
        cells = [(unit, at[name]) for unit, at in zip(run, columns, strict=True) if name in at]
        if len(cells) > 1:
            needed = [_place(layout, unit.start, unit.indent, k, pads) for unit, k in cells]
            column = _column(layout, cells, max(needed))
            pads |= {k: column - place for (_, k), place in zip(cells, needed, strict=True)}
    return pads


def _column(layout: Layout, cells: Sequence[tuple[Unit, int]], needed: int) -> int:
    """Choose a column: where most of the rows have it, if there is room for all, else the first where there is."""
    pieces = layout.pieces
    written = Counter(
        unit.indent + pieces[k].column - pieces[unit.start].column
        for unit, k in cells
        if pieces[k].line == pieces[unit.start].line
    )
    column, count = written.most_common(1)[0] if written else (0, 0)
    return column if count * 2 > len(cells) and column >= needed else needed


def _columns(layout: Layout, unit: Unit) -> dict[str, int]:
    """Find where the columns of a row begin."""
    if unit.kind in _RULES:
        return {"name": unit.start + 1, "who": layout.words(unit.start, unit.end, ":")[0] + 1}
    found = {"template": unit.start + 2} if unit.kind == "route" else {}
    for k in layout.tops(unit.start + 1, unit.end):
        name = _NAMES.get(layout.word(k))
        if name in _COLUMNS[unit.kind]:
            found.setdefault(name, k)
    return found


def _place(layout: Layout, start: int, indent: int, k: int, pads: dict[int, int]) -> int:
    """Say in which column a piece stands whose line begins with another."""
    return indent + layout.left[k] - layout.left[start] + sum(pads.get(m, 0) for m in range(start + 1, k + 1))


def _end(layout: Layout, start: int, end: int, indent: int, pads: dict[int, int]) -> int:
    return _place(layout, start, indent, end - 1, pads) + len(layout.pieces[end - 1].text)


# --- what the author put below each other -----------------------------------------------------------------------------


class _Line:
    """A line as it is printed, and the columns in which its parts stood if it was a line already.

    A column is told by where it is and what begins there: one of some words, or what follows a `:`.
    `fixed`: the columns of tables; up to the last of them nothing else is lined up, nor is anything in a condition.
    """

    def __init__(self, layout: Layout, start: int, end: int, fixed: Collection[int]) -> None:
        self.start, self.end, self.indent = start, end, layout.starts[start]
        self.columns: dict[tuple[int, str], int] = {}
        pieces = layout.pieces
        first = pieces[start]
        if first.word in _IN_CONDITIONS or not (first.gap.newline or start == 0):
            return
        after = max((k for k in range(start, end) if k in fixed), default=start)
        for k in layout.tops(start, end):
            name = ":" if pieces[k - 1].word == ":" else _NAMES.get(pieces[k].word, "")
            is_opener = k == end - 1 and name == "{"
            if k > after and name and not is_opener and pieces[k].line == first.line:
                self.columns[self.indent + pieces[k].column - first.column, name] = k
            if pieces[k].word in _IN_CONDITIONS:
                break


Cell = tuple[_Line, int]


def keep(layout: Layout, pads: dict[int, int]) -> None:
    """Add the spaces that keep words below each other which the author put there, in lines that follow each other."""
    for block in _blocks(layout, frozenset(pads)):
        for column, cells in sorted(_clusters(block), key=lambda cluster: cluster[0]):
            if any(_is_wide(layout, k) for _, k in cells):
                _line_up(layout, column, cells, pads)


def _blocks(layout: Layout, fixed: Collection[int]) -> Iterator[list[_Line]]:
    """Gather lines that follow each other, indented alike, with nothing between."""
    block: list[_Line] = []
    for start, end in pairwise(sorted(layout.starts)):
        line = _Line(layout, start, end, fixed)
        if block and (block[-1].indent != line.indent or layout.is_apart(start)):
            yield block
            block = []
        block.append(line)
    yield block


def _clusters(block: Sequence[_Line]) -> Iterator[tuple[int, list[Cell]]]:
    """Find pieces of one sort that stood in one column in lines that follow each other."""
    growing: dict[tuple[int, str], list[Cell]] = {}
    for line in block:
        grown = {column: [*growing.pop(column, []), (line, k)] for column, k in line.columns.items()}
        yield from ((column, cells) for (column, _), cells in growing.items())
        growing = grown
    yield from ((column, cells) for (column, _), cells in growing.items())


def _is_wide(layout: Layout, k: int) -> bool:
    """Say whether the author left more than one space before a piece."""
    return layout.gap(k).spaces > 1


def _line_up(layout: Layout, column: int, cells: Sequence[Cell], pads: dict[int, int]) -> None:
    if len(cells) < 2:
        return
    needed = [_place(layout, line.start, line.indent, k, pads) for line, k in cells]
    column = max(column, *needed)
    pads.update({k: column - place for (_, k), place in zip(cells, needed, strict=True)})
    if any(_end(layout, line.start, line.end, line.indent, pads) > WIDTH for line, _ in cells):
        pads.update(dict.fromkeys((k for _, k in cells), 0))
