"""What commands print: colour on a terminal, JSON for machines, errors to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from engine.diagnostics import errors, render
from engine.errors import BylawError

GREEN, RED, DIM, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def has_colour(stream: TextIO) -> bool:
    """Say whether a person reads this stream in a terminal that knows colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    return f"{colour}{text}{PLAIN}" if has_colour(stream or sys.stdout) else text


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def fail(error: BylawError, *, as_json: bool) -> int:
    """Print why a command could not run; return exit code 2."""
    found = errors(error.diagnostics)
    if as_json:
        print(
            json.dumps({"error": error.code, "message": error.message, "diagnostics": [d.as_json() for d in found]}),
            file=sys.stderr,
        )
    elif found:
        print(render(found, colour=has_colour(sys.stderr)), file=sys.stderr)
    else:
        print("\n".join(f"bylaw: {line}" for line in error.message.splitlines()), file=sys.stderr)
    return 2


def count(number: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns; the first row is the headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
