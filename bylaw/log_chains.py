"""Is a decision log whole? Files come in, findings go out, and every line that holds in itself.

Lines are looked at once and forgotten, however many there are; what is kept is where each chain stands. Several chains
may be mixed in one file, and one may go on over several files, in the order in which they are given. What a line must
be like is in `sidecar.log_lines`.

Only the end of a chain may be missing unseen, and one thing is forgiven: a last line that was cut off, as a process
leaves it that is killed while it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bylaw.output import BOLD, paint
from engine.errors import BylawError

if TYPE_CHECKING:
    from sidecar.log_lines import Line

#: More findings than these are only counted.
MAX_SHOWN: Final = 100
SUFFIX: Final = ".jsonl"
BROKEN: Final = "broken"


def files_of(path: Path) -> list[Path]:
    """List the files of a log: a file itself, or those of a directory, in the order in which a chain wrote them.

    Raises:
        OSError: there is no such file. BylawError: the directory has no log in it.
    """
    if not path.is_dir():
        path.stat()
        return [path]
    found = sorted((file for file in path.iterdir() if file.suffix == SUFFIX), key=_order)
    if not found:
        raise BylawError("no_log", f"{path}: no *{SUFFIX} in this directory")
    return found


def _order(file: Path) -> tuple[str, int, str]:
    name, _, number = file.stem.rpartition("-")
    return (name, int(number), "") if number.isascii() and number.isdigit() else (file.stem, 0, "")


class Findings:
    """What is wrong, each with its place; shown as it is found.

    Attributes:
        broken: places where a chain is broken.
        kept: the first findings, for `--json`.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._count = 0
        self.broken = 0
        self.kept: list[dict[str, Any]] = []

    @property
    def more(self) -> int:
        """How many are only counted."""
        return max(self._count - MAX_SHOWN, 0)

    def add(self, kind: str, place: Place, message: str) -> None:
        """Take what was found."""
        self._count += 1
        self.broken += kind == BROKEN
        if self._count > MAX_SHOWN:
            return
        message = printable(message)
        self.kept.append({"kind": kind, "file": str(place.file), "line": place.line, "message": message})
        if self._is_shown:
            print(f"{paint(str(place), BOLD)}: {message}")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class Chain:
    """How far a chain has been followed.

    Attributes:
        begin: where its first line stands that is here, and that line's `n`.
        n, hash: of its last line so far.
        removed: the `n` up to which rotation removed lines, as the chain says. dropped: decisions that it lacks.
        cut: where its last line was cut off.
    """

    begin: tuple[Place, int]
    n: int = 0
    hash: str | None = None
    removed: int = 0
    dropped: int = 0
    is_closed: bool = False
    cut: Place | None = None


class Verifier:
    """Follows chains, line by line.

    Attributes:
        lines: how many have held.
    """

    def __init__(self, found: Findings) -> None:
        self._found = found
        self.lines = 0
        self.chains: dict[str, Chain] = {}

    def verify(self, files: Sequence[Path]) -> Iterator[tuple[Place, Line]]:
        """Follow the chains through files; return the lines that were written so, wherever they stand now."""
        from sidecar.log_lines import BrokenLineError, is_cut_off, unseal

        for file in files:
            name = ""  # of the chain whose line came last
            for place, raw in lines_of(file):
                if not raw.endswith(b"\n") and is_cut_off(raw):
                    self._cut(place, raw, name)
                    continue
                try:
                    line = unseal(raw.removesuffix(b"\n"))
                except BrokenLineError as error:
                    self._found.add(BROKEN, place, str(error))
                    continue
                name = line.chain
                self._follow(place, line)
                yield place, line
        self._end()

    def _follow(self, place: Place, line: Line) -> None:
        """Take the next line of a chain."""
        chain = self.chains.setdefault(line.chain, Chain((place, line.n), line.n - 1, line.before))
        fault = self._fault(chain, line)
        if fault is not None:
            self._found.add(BROKEN, place, f"{fault}, chain {line.chain}")
        if chain.cut is not None:
            self._found.add(BROKEN, chain.cut, "this line was cut off, and yet its chain goes on")
            chain.cut = None
        if line.n <= chain.n:
            return
        self.lines += 1
        chain.n, chain.hash = line.n, line.hash
        chain.removed = max(chain.removed, positive(line.said.get("removed")))
        chain.dropped += positive(line.said.get("dropped"))
        chain.is_closed = line.said.get("closed") is True

    def _fault(self, chain: Chain, line: Line) -> str | None:
        if chain.is_closed:
            return "this line comes after the one that closed its chain"
        if line.n <= chain.n:
            return f"line {line.n} stands here again, or too late"
        if line.n > chain.n + 1:
            return f"{_lines(chain.n + 1, line.n - 1)} missing before line {line.n}"
        if line.before != chain.hash or (line.n == 1 and line.before is not None):
            return f"line {line.n} does not follow the line before it"
        return None

    def _cut(self, place: Place, raw: bytes, name: str) -> None:
        """Take the beginning of a line, as a process leaves it that is killed while it writes: once, as the last."""
        from sidecar.log_lines import chain_of

        chain = self.chains.setdefault(chain_of(raw) or name, Chain((place, 1)))
        if chain.is_closed:
            self._found.add(BROKEN, place, "something comes after the line that closed its chain")
        chain.cut = place

    def _end(self) -> None:
        """Look at where chains begin, of which lines that come later may tell."""
        for name, chain in self.chains.items():
            place, first = chain.begin
            if first - 1 > chain.removed:
                what = f"{_lines(1, first - 1)} missing, and no line says that rotation removed them"
                self._found.add(BROKEN, place, f"{what}, chain {name}")


def lines_of(file: Path) -> Iterator[tuple[Place, bytes]]:
    """Read a file line by line; of one that is too long to be of a log, an empty line stands for it."""
    from sidecar.log_lines import MAX_LINE

    with file.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_LINE):
            number += 1
            rest = raw
            while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                rest, raw = stream.readline(MAX_LINE), b"\n"
            yield Place(file, number), raw


def _lines(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"


def positive(value: object) -> int:
    """Return a number that counts something; 0 for whatever else stands there."""
    return value if type(value) is int and value > 0 else 0


def printable(text: str) -> str:
    """Take out what would mean something to a terminal: a log may hold what somebody wants it to show."""
    return "".join(each if each.isprintable() else "?" for each in text)
