"""Requests per second over HTTP: Bylaw's `POST /check` beside Cerbos' `/api/check/resources`, by turns in one run.

    python -m bench.check_http [--cerbos PATH] [--rounds N] [--seconds N] [--rules N] [--users N]

All servers hold the same world (`scenario`) and run at the same time on core 0, one loaded and the others idle; wrk
runs on core 1. Bylaw runs twice: over a store (SQLite) with all defaults, and with everything on: callers known by a
key, the decision log to files, and its metrics scraped. It has the users and resources as facts and is asked by id;
Cerbos keeps no facts and is told what it needs. Before anything is timed each answers every question, and every answer
must be right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench import bylaw_text, cerbos, wrk
from bench.report import Goal
from bench.scenario import Question, World, make_world, questions
from bench.server import Server, ServerError, free_address, running

SERVER_CORE, CLIENT_CORE = 0, 1
CERBOS_INSTALL = "npm install cerbos (in a folder outside the repository, then --cerbos FOLDER)"
BYLAW, EVERYTHING, CERBOS = "bylaw", "everything", "cerbos"


class WrongAnswerError(AssertionError):
    """A server's answer is not the right one."""


@dataclass(slots=True)
class Contestant:
    """A running server, the script that loads it, its resident memory when idle, and the turns that it had."""

    server: Server
    script: Path
    idle_mib: float
    turns: list[wrk.Load] = field(default_factory=list)

    def per_s(self) -> float:
        """Tell the median of the turns, in requests per second."""
        return median(turn.per_s for turn in self.turns)

    def share(self, other: Contestant) -> float:
        """Tell the median of what its turns made of those of another beside them, in requests per second."""
        return median(mine.per_s / theirs.per_s for mine, theirs in zip(self.turns, other.turns, strict=True))

    def p50_ms(self) -> float:
        """Tell the median of the turns' medians."""
        return median(turn.p50_ms for turn in self.turns)

    def p99_ms(self) -> float:
        """Tell the median of the turns' 99th percentiles."""
        return median(turn.p99_ms for turn in self.turns)


def main(argv: Sequence[str] | None = None) -> int:
    """Start, check, load by turns, print; exit code 1 for a wrong answer or a failure, 2 if nothing can be measured."""
    arguments = _parser().parse_args(argv)
    bylaw, binary = arguments.bylaw or own_bylaw(), cerbos.find(arguments.cerbos)
    for line in _missing(bylaw, binary):
        print(line, file=sys.stderr)
    if not wrk.is_installed() or not (bylaw or binary):
        return 2
    try:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            contestants = list(_start(arguments, Path(folder), stack, bylaw, binary))
            _load(contestants, arguments.rounds, arguments.seconds)
            print("\n".join(_summary(contestants)))
    except (ServerError, WrongAnswerError, wrk.LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.check_http", description="Load Bylaw and Cerbos by turns.")
    parser.add_argument("--cerbos", metavar="PATH", help="Cerbos' binary, or the folder of its npm package")
    parser.add_argument("--bylaw", metavar="PATH", help="the command `bylaw` (default: this environment's, or on PATH)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a turn (default %(default)s)")
    parser.add_argument("--rules", type=int, default=10, help="rules of the policy (default %(default)s)")
    parser.add_argument("--users", type=int, default=1_000, help="users (default %(default)s)")
    return parser


def own_bylaw() -> str | None:
    """Find the command `bylaw` of this environment, or on PATH."""
    beside = Path(sys.executable).parent / "bylaw"
    return str(beside) if beside.exists() else shutil.which("bylaw")


def _missing(bylaw: str | None, binary: Path | None) -> Iterator[str]:
    """Say of all that is missing how it is installed, a line each."""
    if not wrk.is_installed():
        yield wrk.INSTALL
    if not bylaw:
        yield "bylaw is not installed and is skipped: pip install -e . (or --bylaw PATH)"
    if not binary:
        yield f"cerbos is not installed and is skipped: {CERBOS_INSTALL}"


def _start(
    arguments: argparse.Namespace, folder: Path, stack: ExitStack, bylaw: str | None, binary: Path | None
) -> Iterator[Contestant]:
    """Start what is there, one after the other, and check every answer of each."""
    world = make_world(arguments.rules, arguments.users)
    asked = mixed(world)
    if bylaw:
        yield _start_bylaw(world, asked, _subfolder(folder, BYLAW), stack, bylaw)
        yield _start_everything(world, asked, _subfolder(folder, EVERYTHING), stack, bylaw)
    if binary:
        yield _start_cerbos(world, asked, _subfolder(folder, CERBOS), stack, binary)


def _subfolder(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def mixed(world: World) -> list[Question]:
    """Mix the questions: of four, two that a role allows, one that a condition allows, one that is denied."""
    role, conditional, denied = (questions(world, kind) for kind in ("role", "conditional", "denied"))
    return list(chain.from_iterable(zip(role[::2], conditional, role[1::2], denied, strict=False))) or role


def _start_bylaw(world: World, asked: list[Question], folder: Path, stack: ExitStack, bylaw: str) -> Contestant:
    policies, database = fill(world, folder, bylaw)
    return _serve(
        BYLAW, [bylaw, "serve", "--policies", str(policies), "--database-url", database], asked, folder, stack
    )


def _start_everything(world: World, asked: list[Question], folder: Path, stack: ExitStack, bylaw: str) -> Contestant:
    """Start a service with what stands around a decision in earnest: callers known by a key, the log."""
    policies, database = fill(world, folder, bylaw)
    headers = {"Authorization": f"Bearer {make_key(bylaw, database)}"}
    command = [
        *(bylaw, "serve", "--policies", str(policies), "--database-url", database, "--callers", "token"),
        *("--decision-log", f"file:{folder / 'log.d'}", "--log-format", "json"),
    ]
    return _serve(EVERYTHING, command, asked, folder, stack, headers)


def fill(world: World, folder: Path, bylaw: str) -> tuple[Path, str]:
    """Make a store of the world; return the policy's folder and the store's URL."""
    policies, facts = bylaw_text.write(world, folder)
    database = f"sqlite+aiosqlite:///{folder / 'bylaw.db'}"
    _run([bylaw, "migrate", "up", "--database-url", database])
    _run([bylaw, "seed", str(facts), "--policies", str(policies), "--database-url", database])
    return policies, database


def make_key(bylaw: str, database: str) -> str:
    """Make a caller who may ask in all tenants; return his key."""
    made = _run([bylaw, "callers", "add", "bench", "--key", "--all-tenants", "--database-url", database, "--json"])
    key: str = json.loads(made)["key"]
    return key


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def _serve(
    name: str,
    command: Sequence[str],
    asked: list[Question],
    folder: Path,
    stack: ExitStack,
    headers: Mapping[str, str] | None = None,
) -> Contestant:
    http = free_address()
    server = stack.enter_context(
        running(
            name, [*command, "--http", http, "--grpc", "none"], http, "/ready", core=SERVER_CORE, log=folder / "log"
        )
    )
    idle_mib = server.resident_mib()
    bodies = [json.dumps(body_of(question)) for question in asked]
    _check(server, "/check", asked, bodies, lambda _, answer: answer["decision"] is True, headers)
    return Contestant(server, wrk.write_script(folder, name, "/check", bodies, headers), idle_mib)


def body_of(question: Question) -> dict[str, str]:
    """Write a question as the body of a check."""
    thing = question.thing
    action = f"{thing.kind}.{question.action}"
    return {"tenant": thing.tenant, "subject": f"user:{question.user.id}", "action": action, "resource": thing.key}


def _start_cerbos(world: World, asked: list[Question], folder: Path, stack: ExitStack, binary: Path) -> Contestant:
    http = free_address()
    command = cerbos.command(binary, world, folder, http, free_address())
    server = stack.enter_context(running(CERBOS, command, http, cerbos.READY, core=SERVER_CORE, log=folder / "log"))
    idle_mib = server.resident_mib()
    bodies = [json.dumps(cerbos.body(question)) for question in asked]
    _check(server, cerbos.PATH, asked, bodies, cerbos.allows)
    return Contestant(server, wrk.write_script(folder, CERBOS, cerbos.PATH, bodies), idle_mib)


def _check(
    server: Server,
    path: str,
    asked: Sequence[Question],
    bodies: Sequence[str],
    allows: Callable[[Question, Any], bool],
    headers: Mapping[str, str] | None = None,
) -> None:
    for question, answer in zip(asked, server.post(path, bodies, headers), strict=True):
        if allows(question, answer) is not question.expected:
            raise WrongAnswerError(f"{server.name} answers {answer} to {question}")


def _load(contestants: Sequence[Contestant], rounds: int, seconds: int) -> None:
    """Warm each up for a second, then give each its turn, `rounds` times over, printing every turn."""
    for contestant in contestants:
        wrk.run(contestant.script, contestant.server.address, core=CLIENT_CORE, seconds=1)
    print(_row("", "requests/s", "p50 ms", "p99 ms"))
    for _ in range(rounds):
        for contestant in contestants:
            load = wrk.run(contestant.script, contestant.server.address, core=CLIENT_CORE, seconds=seconds)
            contestant.turns.append(load)
            print(_row(contestant.server.name, f"{load.per_s:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}"))


def _summary(contestants: Sequence[Contestant]) -> Iterator[str]:
    """Print the medians of the turns, the memory, the ratios and a line for each goal."""
    yield from ("", "medians of the turns")
    for one in contestants:
        yield _row(one.server.name, f"{one.per_s():,.0f}", f"{one.p50_ms():.2f}", f"{one.p99_ms():.2f}")
    yield ""
    for one in contestants:
        loaded_mib = one.server.resident_mib()
        yield f"{one.server.name}: {one.idle_mib:.1f} MiB resident when idle, {loaded_mib:.1f} after the load"
    yield ""
    yield from (goal.line() for goal in _goals({one.server.name: one for one in contestants}))


def _goals(by_name: Mapping[str, Contestant]) -> Iterator[Goal]:
    bylaw, peer, everything = by_name.get(BYLAW), by_name.get(CERBOS), by_name.get(EVERYTHING)
    per_s = bylaw.share(peer) if bylaw and peer else None
    p99 = bylaw.p99_ms() / peer.p99_ms() if bylaw and peer else None
    share = everything.share(bylaw) if bylaw and everything else None
    yield Goal("requests per second, bylaw / cerbos", per_s, 10, at_most=False)
    yield Goal("p99, bylaw / cerbos", p99, 1 / 3, at_most=True)
    yield Goal("requests per second, everything on / defaults", share, 0.75, at_most=False)


def _row(name: str, *cells: str) -> str:
    return f"{name:<10}" + "".join(f"{cell:>14}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
