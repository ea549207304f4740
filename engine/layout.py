"""Pieces → where lines begin, and which words stand below each other.

What fits on a line stands on one, with these exceptions: a rule with more than one clause, a `when` that covers several
patterns and is in no table, and a body with more than one entry are broken; so is a body whose `{` the author had at
the end of a line, and a rule before whose first clause he broke it. What does not fit keeps the author's line ends
where a line may end; where he had none, lists of attributes get one a line, and all else is filled.

Two or more neighbours of one kind, each on one line, are a table: its columns are as narrow as they can be, or where
most rows had them already. Other words stay below each other where the author wrote them so.

Every choice depends only on what it leaves as it is. So laying out a second time changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.written import Gap, Piece, Stretch, Written

WIDTH = 120
INDENT = 2
CLAUSES = ("when", "unless", "because", "with")

Mode = Literal["all", "fill", "author"]


@dataclass(frozen=True, slots=True)
class Group:
    """Places where lines may begin, and how far they are then indented, seen from the line that is broken there.

    `required`: where they begin if any does; `forced`: so even if all would fit; `level`: the lowest gives way first.
    `mode`: where they begin else if the author has no say: everywhere, where they must, or only where he had them.
    """

    level: int
    points: dict[int, int]
    mode: Mode
    required: frozenset[int] = frozenset()
    forced: bool = False
    is_bound: bool = False
    order: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(sorted(self.points)))

    def inside(self, start: int, end: int) -> tuple[int, ...]:
        """Return the places after one piece and before another, in order."""
        return self.order[bisect_right(self.order, start) : bisect_left(self.order, end)]

    def at(self, indent: int) -> Group:
        """Bind it to the line that it breaks first; from then on it is as any other."""
        if self.is_bound:
            return self
        points = {k: indent + more for k, more in self.points.items()}
        return replace(self, points=points, forced=False, is_bound=True)


@dataclass(frozen=True, slots=True)
class Unit:
    """A declaration, a `can` in a role, or a statement in a test."""

    kind: str
    start: int
    end: int
    indent: int


def _any_forced(groups: Iterable[Group]) -> bool:
    return any(group.forced for group in groups)


def _forced(groups: Sequence[Group]) -> list[Group]:
    """Force what gives way first."""
    first = min((group.level for group in groups), default=0)
    return [replace(group, forced=True) if group.level == first else group for group in groups]


def _lower(group: Group) -> Group:
    """Let what is around a group give way before it."""
    return replace(group, level=group.level + 2)


def _measure(pieces: Sequence[Piece]) -> tuple[list[int], list[int], list[int]]:
    """Return where each piece begins and ends if all stand on one line, and the comments up to it, it included."""
    left, right, comments = [], [], []
    end = count = 0
    for piece in pieces:
        left.append(end + (not piece.tight))
        right.append(end := left[-1] + len(piece.text))
        comments.append(count := count + len(piece.gap.comments))
    return left, right, comments


class Layout:
    """Where lines begin: `starts` has their indentation; `spaced`: what a blank line may stand above.

    `tabled`: units that are rows of tables, each on a line as it is; `broken`: units that were too wide for that.
    """

    def __init__(self, written: Written) -> None:
        self.pieces = written.pieces
        self.match = written.match
        self.declarations = written.declarations
        self.units = [Unit(self.pieces[d.start].word, d.start, d.end, 0) for d in written.declarations]
        self.left, self.right, self.comments = _measure(self.pieces)
        self.starts: dict[int, int] = {len(self.pieces) - 1: 0}
        self.spaced: set[int] = {len(self.pieces) - 1}
        self.tabled: set[int] = set()
        self.broken: set[int] = set()

    def lay_out(self) -> None:
        """Break all declarations into lines; the tables are known by now."""
        for declaration, unit in zip(self.declarations, self.units, strict=True):
            if unit.kind == "test":
                self._test(unit, declaration.statements)
            else:
                self._place(unit)

    def _test(self, unit: Unit, statements: Sequence[Stretch]) -> None:
        self._begin(unit)
        for statement in statements:
            self._place(Unit("statement", statement.start, statement.end, INDENT))
        close = unit.end - 1
        if statements or self.gap(close).comments:
            self.starts[close] = 0
        self._lay(unit.start, statements[0].start if statements else close, 0, [])

    def _place(self, unit: Unit) -> None:
        self._begin(unit)
        if unit.start not in self.tabled:
            self._lay(unit.start, unit.end, unit.indent, sorted(self.groups(unit), key=lambda group: group.level))

    def _begin(self, unit: Unit) -> None:
        self.starts[unit.start] = unit.indent
        self.spaced.add(unit.start)

    # --- the pieces ---------------------------------------------------------------------------------------------------

    def gap(self, k: int) -> Gap:
        return self.pieces[k].gap

    def word(self, k: int) -> str:
        return self.pieces[k].word

    def width(self, start: int, end: int) -> int:
        """How wide pieces are on one line."""
        return self.right[end - 1] - self.left[start]

    def fits(self, start: int, end: int, indent: int) -> bool:
        """Say whether pieces can stand on one line: there is room, and no comment among them."""
        has_comment = self.comments[end - 1] > self.comments[start]
        return not has_comment and indent + self.width(start, end) <= WIDTH

    def tops(self, start: int, end: int) -> Iterator[int]:
        """Walk over pieces, not into brackets."""
        k = start
        while k < end:
            yield k
            k = self.match.get(k, k) + 1

    def words(self, start: int, end: int, *wanted: str) -> list[int]:
        return [k for k in self.tops(start, end) if self.word(k) in wanted]

    def after_commas(self, start: int, end: int) -> list[int]:
        return [k + 1 for k in self.words(start, end, ",")]

    def is_apart(self, k: int) -> bool:
        """Say whether a blank line or a line of comment stands above a piece that begins a line."""
        gap = self.gap(k)
        return (gap.blank and k in self.spaced) or any(comment.own_line for comment in gap.comments)

    # --- breaking lines -----------------------------------------------------------------------------------------------

    def _lay(self, start: int, end: int, indent: int, groups: Sequence[Group]) -> None:
        """Break what begins at `start`, on a line indented so, until every line fits or no place is left."""
        inner = [group for group in groups if group.inside(start, end)]
        group = next((group for group in inner if group.forced), None)
        if inner and not self.fits(start, end, indent):
            group = inner[0]
        if group is None:
            for k in range(start + 1, end):
                if self.gap(k).comments:
                    self.starts[k] = indent + 2 * INDENT
            return
        chosen = self._choose(group, start, end, indent)
        bound = group.at(indent)
        rest = [bound if other is group else other for other in inner if chosen or other is not group]
        for k, following in zip([start, *chosen], [*chosen, end], strict=True):
            if k != start:
                self.starts[k] = indent = bound.points[k]
            self._lay(k, following, indent, rest)

    def _choose(self, group: Group, start: int, end: int, indent: int) -> list[int]:
        """Choose where lines begin among the points of a group that lie inside."""
        inner = group.inside(start, end)
        required = [k for k in inner if k in group.required]
        authors = [k for k in inner if k not in group.required and self.gap(k).newline]
        if authors:
            return sorted(required + authors)
        if required and (group.forced or group.mode == "fill"):
            return required
        if group.mode == "all":
            return list(inner)
        return self._fill(group.at(indent), start, end, indent) if group.mode == "fill" else []

    def _fill(self, group: Group, start: int, end: int, indent: int) -> list[int]:
        chosen: list[int] = []
        inner = group.inside(start, end)
        for k, following in zip(inner, [*inner[1:], end], strict=True):
            if indent + self.width(start, following) > WIDTH:
                chosen.append(k)
                start, indent = k, group.points[k]
        return chosen

    # --- where lines may begin ----------------------------------------------------------------------------------------

    def groups(self, unit: Unit, *, tabled: bool = False) -> list[Group]:
        """List the groups of a unit; `tabled`: as a row of a table."""
        groups = self._groups(unit, tabled=tabled)
        return _forced(groups) if unit.start in self.broken else groups

    def _groups(self, unit: Unit, *, tabled: bool) -> list[Group]:
        start, end = unit.start, unit.end
        brace = next(iter(self.words(start, end, "{")), end)
        match unit.kind:
            case "tenant" | "resource" | "principal" | "system":
                return [self._list(start, brace, 1), *self._body(brace, end)]
            case "context":
                return self._braces(brace, 0, "all")
            case "role" | "custom":
                return [self._list(start, brace, 1), *self._cans(brace, tabled=tabled)]
            case "can":
                return self._can(start, end, tabled=tabled)
            case "allow" | "deny":
                return self._rule(unit, tabled=tabled)
            case "assign":
                return self._assign(unit)
            case "define":
                return self._expression(start + 3, end, INDENT, 0)
            case "statement":
                return self._statement(unit)
            case _:
                return []

    def _list(self, start: int, end: int, level: int, more: int = 2 * INDENT) -> Group:
        return Group(level, dict.fromkeys(self.after_commas(start, end), more), "fill")

    def _braces(self, brace: int, level: int, mode: Mode) -> list[Group]:
        """ "{" [ item { "," item } ] "}" """
        close = self.match[brace]
        if close == brace + 1:
            return self._empty(close, level)
        items = [brace + 1, *self.after_commas(brace + 1, close)]
        self.spaced.update(items)
        points = {**dict.fromkeys(items, INDENT), close: 0}
        required = frozenset([brace + 1, close])
        groups = [Group(level, points, mode, required, self.gap(brace + 1).newline)]
        bars = dict.fromkeys(self.words(brace + 1, close, "|"), INDENT)
        groups.append(Group(level + 1, bars, "fill"))
        for bracket in self.words(brace + 1, close, "["):
            groups.append(self._list(bracket + 1, self.match[bracket], level + 2, INDENT))
        return groups

    def _empty(self, close: int, level: int) -> list[Group]:
        """Keep an empty body together, unless there is a comment in it."""
        points = {close: 0} if self.gap(close).comments else {}
        return [Group(level, points, "all", frozenset(points))]

    def _entries(self, brace: int, entries: Sequence[int], *, forced: bool) -> Group:
        """A body whose entries get a line each as soon as it is broken."""
        self.spaced.update(entries)
        close = self.match[brace]
        points = {**dict.fromkeys(entries, INDENT), close: 0}
        forced = forced or len(entries) > 1 or self.gap(entries[0]).newline
        return Group(0, points, "all", frozenset(points), forced)

    def _body(self, brace: int, end: int) -> list[Group]:
        """ "{" { "actions" action, … | "attributes" "{" … "}" } "}" """
        if brace == end:
            return []
        close = self.match[brace]
        sections = self.words(brace + 1, close, "actions", "attributes")
        if not sections:
            return self._empty(close, 0)
        groups: list[Group] = []
        for section, following in zip(sections, [*sections[1:], close], strict=True):
            if self.word(section) == "attributes":
                groups += self._braces(section + 1, 2, "all")
            else:
                groups.append(self._actions(section, following))
                for fields in self.words(section, following, "{"):
                    groups += self._braces(fields, 3, "all")
        return [self._entries(brace, sections, forced=_any_forced(groups)), *groups]

    def _actions(self, section: int, end: int) -> Group:
        """A long list of actions; one that the author began on a line of its own begins there."""
        points = dict.fromkeys([section + 1, *self.after_commas(section, end)], INDENT)
        if not self.gap(section + 1).newline:
            del points[section + 1]
        return Group(2, points, "fill")

    def _cans(self, brace: int, *, tabled: bool) -> list[Group]:
        """ "{" { can } "}" """
        close = self.match[brace]
        cans = self.words(brace + 1, close, "can")
        if not cans:
            return self._empty(close, 0)
        groups: list[Group] = []
        for can, following in zip(cans, [*cans[1:], close], strict=True):
            unit = Unit("can", can, following, INDENT)
            groups += [_lower(group) for group in self.groups(unit, tabled=tabled or can in self.tabled)]
        return [self._entries(brace, cans, forced=_any_forced(groups)), *groups]

    def _can(self, can: int, end: int, *, tabled: bool) -> list[Group]:
        """ "can" PATTERN, … [ "when" cond ] [ "unless" cond ]"""
        clauses = self.words(can + 1, end, *CLAUSES)
        patterns = self._list(can + 1, clauses[0] if clauses else end, 1)
        many = bool(patterns.points) and not tabled
        return [*self._clauses(clauses, end, 2 * INDENT, many=many), patterns]

    def _clauses(self, clauses: Sequence[int], end: int, indent: int, *, many: bool) -> list[Group]:
        """[ "when" cond ] [ "unless" cond ] [ "because" STRING ] [ "with" "{" … "}" ]"""
        if not clauses:
            return []
        groups: list[Group] = []
        for clause, following in zip(clauses, [*clauses[1:], end], strict=True):
            if self.word(clause) == "with":
                groups += self._braces(clause + 1, 2, "all")
            else:
                groups += self._expression(clause + 1, following, INDENT, 3)
        first = clauses[0]
        covers = many and self.word(first) in ("when", "unless")
        forced = covers or len(clauses) > 1 or self.gap(first).newline or _any_forced(groups)
        points = dict.fromkeys(clauses, INDENT)
        if self._stays(clauses, end, indent):
            del points[clauses[1]]
        return [Group(0, points, "all", frozenset(points), forced), *groups]

    def _stays(self, clauses: Sequence[int], end: int, indent: int) -> bool:
        """Say whether an `unless` stays behind its `when`, on a line below the rule: the author had it there."""
        if [self.word(k) for k in clauses[:2]] != ["when", "unless"]:
            return False
        when, unless, following = [*clauses, end][:3]
        return self.gap(when).newline and not self.gap(unless).newline and self.fits(when, following, indent)

    def _rule(self, unit: Unit, *, tabled: bool) -> list[Group]:
        """("allow" | "deny") NAME ":" WHO, … "to" PATTERN, … clauses"""
        who = self.words(unit.start, unit.end, ":")[0] + 1
        to = self.words(who, unit.end, "to")[0]
        clauses = self.words(to, unit.end, *CLAUSES)
        patterns = self.after_commas(to, clauses[0] if clauses else unit.end)
        began_below = INDENT if self.gap(who).newline else 0
        return [
            *self._clauses(clauses, unit.end, INDENT, many=bool(patterns) and not tabled),
            Group(1, {who: INDENT}, "author"),
            Group(2, dict.fromkeys(patterns, 2 * INDENT - began_below), "fill"),
            self._list(who, to, 3),
        ]

    def _assign(self, unit: Unit) -> list[Group]:
        """ "assign" ROLE, … "by" ROLE, … [ "when" cond ] [ "{" option, … "}" ]"""
        clauses = self.words(unit.start, unit.end, "by", "when")
        brace = next(iter(self.words(unit.start, unit.end, "{")), unit.end)
        groups = [
            Group(0, dict.fromkeys(clauses, INDENT), "fill"),
            self._list(unit.start, clauses[0], 1),
            self._list(clauses[0], clauses[1] if len(clauses) > 1 else brace, 2),
        ]
        if len(clauses) > 1:
            groups += self._expression(clauses[1] + 1, brace, INDENT, 3)
        return groups if brace == unit.end else [*groups, self._list(brace + 1, unit.end - 1, 9, INDENT)]

    def _statement(self, unit: Unit) -> list[Group]:
        """A fixture or an expectation."""
        start, end = unit.start + 1, unit.end
        tail = self.words(start, end, "with", "at", "because")
        groups = [Group(0, dict.fromkeys(tail, INDENT), "fill"), self._list(start, end, 9)]
        for brace in self.words(start, end, "{"):
            is_body = self.word(brace + 1) == "can"
            groups += self._cans(brace, tabled=False) if is_body else self._braces(brace, 1, "fill")
        return groups

    def _expression(self, start: int, end: int, more: int, level: int) -> list[Group]:
        """cond := and { "or" and }; what is in brackets gives way after what is around it"""
        groups: list[Group] = []
        for word in ("or", "and"):
            groups.append(Group(level, dict.fromkeys(self.words(start, end, word), more), "fill"))
            level += 1
        for bracket in self.words(start, end, "(", "["):
            close = self.match[bracket]
            groups.append(self._list(bracket + 1, close, level, more))
            groups += self._expression(bracket + 1, close, more, level + 1)
        return groups
