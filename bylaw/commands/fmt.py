"""`bylaw fmt [--check | --diff] PATH`: the one layout."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from pathlib import Path

from bylaw.output import count, print_json
from engine.formatter import format_source
from engine.loading import read_sources
from engine.source import Source


def run(args: argparse.Namespace) -> int:
    """Format the files of a policy in place. A file with a syntax error is left alone, and so are all others then."""
    root = Path(args.path)
    pairs = [(source, format_source(source)) for source in read_sources(root)]
    changed = [(source, text) for source, text in pairs if source.text != text]
    if args.diff:
        for source, text in changed:
            sys.stdout.writelines(_diff(source, text))
    elif not args.check:
        for source, text in changed:
            _write(root if root.is_file() else root / source.name, text)
    _tell(args, changed, len(pairs))
    return 1 if changed and (args.check or args.diff) else 0


def _tell(args: argparse.Namespace, changed: list[tuple[Source, str]], files: int) -> None:
    names = [source.name for source, _ in changed]
    if args.json:
        print_json({"changed": names, "files": files})
    elif not args.diff:
        for name in names:
            print(f"would reformat {name}" if args.check else f"reformatted {name}")
        if files > len(names):
            print(f"{count(files - len(names), 'file')} as {'it' if files - len(names) == 1 else 'they'} should be")


def _diff(source: Source, text: str) -> list[str]:
    before, after = source.text.splitlines(keepends=True), text.splitlines(keepends=True)
    return list(difflib.unified_diff(before, after, source.name, source.name))


def _write(path: Path, text: str) -> None:
    """Replace a file whole, keeping its mode: a crash leaves the old one or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, prefix=".fmt-", delete=False
    ) as file:
        file.write(text)
    os.chmod(file.name, path.stat().st_mode)  # a name, not a Path
    Path(file.name).replace(path)
