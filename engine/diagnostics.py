"""What is found wrong with a policy, and how it is shown.

A `Diagnostic` is a value; the checker collects them, `render` makes the text that a person reads, `as_json` what a
machine reads. Codes are stable: `docs/diagnostics/CODE.md` has a page for each.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.source import Span

Severity = Literal["error", "warning", "note"]

#: Every code, its severity and its title. The first digit says the stage: 1 syntax, 2 names, 3 types, 4 structure, 5
#: warnings, 6 notes.
CODES: dict[str, tuple[Severity, str]] = {
    "E0100": ("error", "syntax error"),
    "E0101": ("error", "text or nesting too large"),
    "E0200": ("error", "unknown name"),
    "E0201": ("error", "duplicate name"),
    "E0202": ("error", "ambiguous name"),
    "E0203": ("error", "reserved name"),
    "E0204": ("error", "cycle"),
    "E0300": ("error", "type mismatch"),
    "E0301": ("error", "path that cannot be there"),
    "E0302": ("error", "unguarded optional"),
    "E0303": ("error", "bad literal"),
    "E0400": ("error", "pattern that matches nothing"),
    "E0401": ("error", "misplaced declaration"),
    "E0402": ("error", "route conflict"),
    "E0403": ("error", "unbound type in a route"),
    "E0404": ("error", "impossible route template"),
    "E0500": ("error", "mistake in a test"),
    "W0100": ("warning", "permission that nobody can get"),
    "W0101": ("warning", "role that gives nothing"),
    "W0102": ("warning", "rule shadowed by a broader deny"),
    "W0103": ("warning", "condition that is always true or always false"),
    "W0104": ("warning", "lone star outside system"),
    "W0105": ("warning", "assign by a role that cannot do all that it hands out"),
    "W0106": ("warning", "fleeting role in a deny"),
    "W0107": ("warning", "system role in an allow"),
    "W0108": ("warning", "has in a deny opens what is absent"),
    "W0109": ("warning", "path that some principals cannot have"),
    "N0100": ("note", "crossing role: a way over the wall"),
    "N0101": ("note", "public rule: a way over the wall"),
    "N0102": ("note", "external type: kept by the application alone"),
    "N0103": ("note", "sent attribute on which an allow hangs"),
}

#: More findings than this of one severity help nobody.
LIMIT = 200


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: a stable code, one sentence, the place, and where there is one, the cure."""

    code: str
    message: str
    span: Span
    help: str | None = None
    fix: str | None = None

    @property
    def severity(self) -> Severity:
        return CODES[self.code][0]

    def as_json(self) -> dict[str, object]:
        """Return the JSON form of `bylaw lint --json`; lines and columns count from 1."""
        line, column = self.span.source.position(self.span.start)
        end_line, end_column = self.span.source.position(self.span.end)
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.span.source.name,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "fix": self.fix,
            "help": self.help,
        }


def sort(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the diagnostics by file and place, each once; past `LIMIT` of a severity the rest is left out."""
    unique = {(d.span.source.name, d.span.start, d.span.end, d.code, d.message): d for d in found}
    counts: Counter[str] = Counter()
    kept = []
    for key in sorted(unique):
        counts[unique[key].severity] += 1
        if counts[unique[key].severity] <= LIMIT:
            kept.append(unique[key])
    return kept


def errors(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return those that keep a policy from loading."""
    return [d for d in found if d.severity == "error"]


_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}


def render(found: Sequence[Diagnostic], *, colour: bool = False) -> str:
    """Render diagnostics for a person: the sentence, the source line, a caret under the span, the cure."""
    return "\n\n".join(_render_one(d, colour=colour) for d in found)


def concise(found: Iterable[Diagnostic]) -> str:
    """Render one line per diagnostic, as editors and logs read it."""
    rows = []
    for d in found:
        line, column = d.span.source.position(d.span.start)
        rows.append(f"{d.span.source.name}:{line}:{column}: {d.code} {d.message}")
    return "\n".join(rows)


def _render_one(d: Diagnostic, *, colour: bool) -> str:
    line, column = d.span.source.position(d.span.start)
    end_line, end_column = d.span.source.position(d.span.end)
    text = d.span.source.line(line).replace("\t", " ").rstrip("\r")
    width = max(1, (end_column if end_line == line else len(text) + 1) - column)
    shown, offset = _window(text, column - 1)
    before = column - 1 - offset
    gutter = " " * len(str(line))
    tint, plain = (_COLOURS[d.severity], "\x1b[0m") if colour else ("", "")
    rows = [
        f"{tint}{d.severity}[{d.code}]{plain}: {d.message}",
        f"{gutter}--> {d.span.source.name}:{line}:{column}",
        f"{gutter} |",
        f"{line} | {shown}",
        f"{gutter} | {' ' * before}{tint}{'^' * min(width, max(1, len(shown) - before))}{plain}",
    ]
    if d.help:
        rows.append(f"{gutter} = help: {d.help}")
    return "\n".join(rows)


def _window(text: str, column: int, width: int = 160) -> tuple[str, int]:
    """Cut a very long line down to what surrounds the column; return the cut and how much was cut before it."""
    if len(text) <= width:
        return text, 0
    start = max(0, min(column - width // 2, len(text) - width))
    return text[start : start + width], start
