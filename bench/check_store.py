"""Requests per second of warm checks: facts in a store beside facts in a file, by turns in one run.

    python -m bench.check_store --folder FOLDER [--rounds N] [--seconds N] [--rules N] [--users N]

The same service, policy and facts (`scenario`) three times: over a facts file, over SQLite, and over PostgreSQL, which
is made in FOLDER and has nothing else in it. `bylaw seed` puts the facts into the stores. All services run on core 0,
one loaded and the others idle, and wrk on core 1. Before anything is timed each answers every question, and every
answer must be right; so all that is asked is held afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench import bylaw_text, postgres, wrk
from bench.quantiles import spread
from bench.report import Goal
from bench.scenario import Question, World, make_world, questions
from bench.server import Server, ServerError, free_address, running

FILE, SQLITE, POSTGRES = "file", "sqlite", "postgresql"
BOUND: Final = 0.9
SERVER_CORE, OTHER_CORE = 0, 1
LOGINS: Final = {"migrate": "owner", "seed": "admin", "serve": "sidecar"}


class WrongAnswerError(AssertionError):
    """A server's answer is not the right one."""


@dataclass(slots=True)
class Contestant:
    """A running service, the script that loads it, and its turns in requests per second."""

    server: Server
    script: Path
    turns: list[wrk.Load] = field(default_factory=list)

    def per_s(self) -> float:
        """Tell the median of the turns."""
        return median(turn.per_s for turn in self.turns)


def main(argv: Sequence[str] | None = None) -> int:
    """Start, fill, check, load by turns, print; exit code 1 for a wrong answer or a failure, 2 if wrk is not there."""
    arguments = _parser().parse_args(argv)
    if not wrk.is_installed():
        print(wrk.INSTALL, file=sys.stderr)
        return 2
    try:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            contestants = list(_start(arguments, Path(folder), stack))
            _load(contestants, arguments.rounds, arguments.seconds)
            print("\n".join(_summary(contestants)))
    except (ServerError, WrongAnswerError, wrk.LoadError, postgres.PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.check_store", description="Load services by turns.")
    parser.add_argument("--folder", type=Path, required=True, help="where PostgreSQL is made: new, its path short")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a turn (default %(default)s)")
    parser.add_argument("--rules", type=int, default=10, help="rules of the policy (default %(default)s)")
    parser.add_argument("--users", type=int, default=1_000, help="users (default %(default)s)")
    return parser


def _start(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> Iterator[Contestant]:
    """Start all three, one after the other, and check every answer of each."""
    world = make_world(arguments.rules, arguments.users)
    policies, facts = bylaw_text.write(world, folder)
    asked = _mixed(world)
    postgres.make(arguments.folder)
    cluster = stack.enter_context(postgres.running(arguments.folder))
    postgres.prepare(cluster)
    sqlite = f"sqlite+aiosqlite:///{folder / 'bylaw.db'}"
    urls = {SQLITE: dict.fromkeys(LOGINS, sqlite), POSTGRES: {do: cluster.url(name) for do, name in LOGINS.items()}}
    yield _serve(FILE, ["dev", "--facts", str(facts)], policies, asked, folder, stack)
    for name, of in urls.items():
        _bylaw("migrate", "up", "--database-url", of["migrate"])
        _bylaw("seed", str(facts), "--policies", str(policies), "--database-url", of["seed"])
        yield _serve(name, ["serve", "--database-url", of["serve"]], policies, asked, folder, stack)


def _bylaw(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bylaw", *arguments], capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise ServerError(f"bylaw {' '.join(arguments)}:\n{done.stderr}")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}


def _serve(
    name: str, command: Sequence[str], policies: Path, asked: list[Question], folder: Path, stack: ExitStack
) -> Contestant:
    address = free_address()
    whole = [sys.executable, "-m", "bylaw", *command, "--policies", str(policies), "--http", address]
    log = folder / f"{name}.log"
    server = stack.enter_context(running(name, whole, address, "/ready", core=SERVER_CORE, log=log))
    bodies = [json.dumps(_body(question)) for question in asked]
    for question, answer in zip(asked, server.post("/check", bodies), strict=True):
        if answer["decision"] is not question.expected:
            raise WrongAnswerError(f"{name} answers {answer} to {question}")
    return Contestant(server, wrk.write_script(folder, name, "/check", bodies))


def _mixed(world: World) -> list[Question]:
    """Mix the questions: of four, two that a role allows, one that a condition allows, one that is denied."""
    role, conditional, denied = (questions(world, kind) for kind in ("role", "conditional", "denied"))
    return list(chain.from_iterable(zip(role[::2], conditional, role[1::2], denied, strict=False))) or role


def _body(question: Question) -> dict[str, str]:
    thing = question.thing
    action = f"{thing.kind}.{question.action}"
    return {"tenant": thing.tenant, "subject": f"user:{question.user.id}", "action": action, "resource": thing.key}


def _load(contestants: Sequence[Contestant], rounds: int, seconds: int) -> None:
    """Warm each up for a second, then give each its turn, `rounds` times over."""
    for contestant in contestants:
        wrk.run(contestant.script, contestant.server.address, core=OTHER_CORE, seconds=1)
    for _ in range(rounds):
        for contestant in contestants:
            load = wrk.run(contestant.script, contestant.server.address, core=OTHER_CORE, seconds=seconds)
            contestant.turns.append(load)


def _summary(contestants: Sequence[Contestant]) -> Iterator[str]:
    turns = len(contestants[0].turns)
    yield f"{'facts in':<12}{'requests/s':>14}{'p50 ms':>10}{'p99 ms':>10}   medians of {turns} turns"
    for one in contestants:
        p50_ms, p99_ms = median(turn.p50_ms for turn in one.turns), median(turn.p99_ms for turn in one.turns)
        yield f"{one.server.name:<12}{one.per_s():>14,.0f}{p50_ms:>10.2f}{p99_ms:>10.2f}"
    file, *stores = contestants
    for store in stores:
        pairs = [mine.per_s / its.per_s for mine, its in zip(store.turns, file.turns, strict=True)]
        ratio, (_, low, high) = store.per_s() / file.per_s(), spread(pairs)
        yield f"{store.server.name} / file: {ratio:.3f}; half of the turns lie in {low:.3f}–{high:.3f}"
        yield Goal(f"requests per second, {store.server.name} / file", ratio, BOUND, at_most=False).line()


if __name__ == "__main__":
    sys.exit(main())
