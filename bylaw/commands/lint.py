"""`bylaw lint PATH`: every finding of every file, in one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bylaw.output import BOLD, GREEN, count, has_colour, paint, print_json
from engine.diagnostics import Diagnostic, concise, render, sort
from engine.fixtures import check_tests
from engine.loading import compile_sources, read_sources


def run(args: argparse.Namespace) -> int:
    """Check a policy; exit 0 where it is clean. Notes never fail, warnings do with `--strict`."""
    sources = read_sources(args.path)
    model, found = compile_sources(sources)
    if model is not None and model.tests:
        found = sort([*found, *check_tests(model)])
    failing = [d for d in found if d.severity == "error" or (args.strict and d.severity == "warning")]
    if args.json:
        print_json({"diagnostics": [d.as_json() for d in found]})
    else:
        _print(found, args, len(sources))
    return 1 if failing else 0


def _print(found: Sequence[Diagnostic], args: argparse.Namespace, files: int) -> None:
    shown = [d for d in found if args.notes or d.severity != "note"]
    if shown:
        print(concise(shown) if args.concise else render(shown, colour=has_colour(sys.stdout)) + "\n")
    numbers = {kind: sum(d.severity == kind for d in found) for kind in ("error", "warning", "note")}
    told = [count(numbers[kind], kind) for kind in ("error", "warning") if numbers[kind]]
    notes = f", {count(numbers['note'], 'note')}" if numbers["note"] else ""
    hint = " (--notes shows them)" if numbers["note"] and not args.notes else ""
    if args.concise:
        return
    if told:
        print(paint(f"{count(files, 'file')}: {', '.join(told)}", BOLD) + f"{notes}{hint}")
    else:
        print(paint(f"{count(files, 'file')}: clean", GREEN) + f"{notes}{hint}")
