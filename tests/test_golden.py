"""Golden policy files: what is wrong with a text, how that is shown, and how a text is laid out.

`golden/*.bylaw` holds policies, separated by lines `---`. A line with mistakes ends in `#! CODE "the message"` for each
of them; a policy without such marks has no errors. `golden/*.expected` is what a person sees of the errors.
`golden/layout/*.bylaw` and the `.expected` beside them are texts before and after formatting.

`make golden` writes the `.expected` files anew. Read the diff before you commit it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.diagnostics import Diagnostic, errors, render, sort
from engine.fixtures import check_tests
from engine.formatter import format_source
from engine.loading import compile_sources
from engine.source import Source

GOLDEN = Path(__file__).parent / "golden"
REWRITES = os.environ.get("BYLAW_GOLDEN") == "rewrite"
SEPARATOR = "---\n"

_MARK = re.compile(r'[ \t]*#! ([EWN]\d{4}) ("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True)
class Chunk:
    """A policy of a golden file: its text without marks, placed in the lines of that file, and what the marks say."""

    source: Source
    marks: Counter[tuple[int, str, str]]


def chunks(path: Path) -> Iterator[Chunk]:
    """Cut a golden file into its policies."""
    line = 1
    for text in path.read_text("utf-8").split(SEPARATOR):
        marks = Counter[tuple[int, str, str]]()
        for number, row in enumerate(text.split("\n"), start=line):
            marks.update((number, code, json.loads(message)) for code, message in _MARK.findall(row))
        yield Chunk(Source(path.name, "\n" * (line - 1) + _MARK.sub("", text)), marks)
        line += text.count("\n") + 1


def findings(source: Source) -> list[Diagnostic]:
    """Find what lint finds in a policy of one file: in it, and in the fixtures of its tests."""
    model, found = compile_sources([source])
    return sort([*found, *(check_tests(model) if model is not None else [])])


def compare(path: Path, text: str) -> None:
    """Compare a text with the file that holds the expected one, or write it there."""
    if REWRITES:
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bylaw")), ids=lambda path: path.stem)
def test_findings(path: Path) -> None:
    """Every policy has exactly the errors that its marks say, and at least the warnings and notes."""
    wrong = []
    for chunk in chunks(path):
        found = Counter((d.span.line, d.code, d.message) for d in findings(chunk.source))
        strict = Counter({key: n for key, n in found.items() if key[1].startswith("E") or key in chunk.marks})
        wrong += [
            f"{path.name}:{line}: {code} {json.dumps(m, ensure_ascii=False)}" for line, code, m in strict - chunk.marks
        ]
        wrong += [f"{path.name}:{line}: not found: {code} {m}" for line, code, m in chunk.marks - strict]

    assert wrong == []


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bylaw")), ids=lambda path: path.stem)
def test_rendering(path: Path) -> None:
    """A person sees of each error the place in its line, and the cure."""
    shown = [render(errors(findings(chunk.source))) for chunk in chunks(path) if chunk.marks]

    compare(path.with_suffix(".expected"), f"\n{SEPARATOR}".join(shown) + "\n")


@pytest.mark.parametrize("path", sorted((GOLDEN / "layout").glob("*.bylaw")), ids=lambda path: path.stem)
def test_layout(path: Path) -> None:
    """A text comes out in its canonical layout."""
    texts = path.read_text("utf-8").split(SEPARATOR)

    laid_out = [format_source(Source(path.name, text)) for text in texts]

    compare(path.with_suffix(".expected"), SEPARATOR.join(laid_out))
