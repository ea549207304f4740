"""Policy files → model: reading, parsing and checking, without anything that decides.

`bylaw lint` needs no more than this, and starts the faster for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from engine import diagnostics
from engine.checker import check
from engine.diagnostics import Diagnostic
from engine.errors import PolicyError
from engine.lints import lint
from engine.model import Model
from engine.parser import parse
from engine.source import Source

#: No file of a policy is larger, since all together are not.
MAX_FILE: Final = 4 << 20


def read_sources(path: str | Path) -> list[Source]:
    """Read a policy: a directory of `*.bylaw`, recursively, or one such file. Names that begin with a point are
    skipped.

    Raises:
        PolicyError: there is no such path, no policy in it, or a file is no UTF-8.
    """
    root = Path(path)
    if root.is_file():
        return [_read(root, root.name)]
    if not root.is_dir():
        raise PolicyError("unreadable", f"{root}: no such file or directory")
    names = sorted(_names(root))
    if not names:
        raise PolicyError("empty", f"{root}: no *.bylaw in it")
    return [_read(root / name, name.as_posix()) for name in names]


def _names(root: Path) -> Iterator[Path]:
    """List the files of a policy. A folder that cannot be read is an error: the denies in it must not be missed."""
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.endswith(".bylaw") and not name.startswith("."):
                yield Path(folder, name).relative_to(root)


def _refuse(error: OSError) -> None:
    raise PolicyError("unreadable", f"{error.filename}: {error.strerror}") from error


def _read(path: Path, name: str) -> Source:
    try:
        with path.open("rb") as file:
            read = file.read(MAX_FILE + 1)
        if len(read) > MAX_FILE:
            raise PolicyError("too_large", f"{path}: a policy holds at most {MAX_FILE >> 20} MiB of text")
        return Source(name, read.decode("utf-8-sig"))
    except OSError as error:
        raise PolicyError("unreadable", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError("not_utf8", f"{path}: byte {error.start} is no UTF-8") from error


def compile_sources(sources: Iterable[Source]) -> tuple[Model | None, list[Diagnostic]]:
    """Parse and check a policy; the model, unless there are errors, and everything that was found, warnings and notes
    too."""
    parsed = [(source, *parse(source)) for source in sources]
    syntax = [d for _, _, found in parsed for d in found]
    model, found = check([(source, module) for source, module, _ in parsed], syntax)
    if model is not None:
        found = diagnostics.sort([*found, *lint(model)])
    return model, found
