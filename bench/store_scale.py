"""The decision service over a large world in PostgreSQL (`bench.generate`): statements, times, memory, polls.

    python -m bench.store_scale --folder FOLDER [--only PART …]

Every part runs in a process of its own, connected by the services' own logins, so the wall between tenants is up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import uvloop

from bench import postgres
from bench.postgres import Cluster
from bench.scale_checks import WrongAnswerError, checks, whale
from bench.scale_memory import memory
from bench.scale_polls import polls
from bench.store_world import World

PARTS = {
    "checks": "cold and warm checks",
    "whale": "a user who holds a million roles",
    "memory": "100,000 users answered for",
    "polls": "polls with 10,000 tenants in use",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure part by part; exit code 1 for a wrong answer, 2 if nothing can be measured."""
    arguments = _parser().parse_args(argv)
    if arguments.part:
        return uvloop.run(_show(arguments.part, Cluster(arguments.folder.resolve(), 0), World.load(arguments.folder)))
    try:
        with postgres.running(arguments.folder):
            codes = [_run(part, arguments.folder) for part in arguments.only or PARTS]
    except postgres.PostgresError as error:
        print(error, file=sys.stderr)
        return 2
    return max(codes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.store_scale", description="Decide over a large store.")
    parser.add_argument("--folder", type=Path, required=True, help="where `bench.generate` made the database")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these parts alone")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


def _run(part: str, folder: Path) -> int:
    print(f"\n== {PARTS[part]} (load average {os.getloadavg()[0]:.1f})", flush=True)
    command = [sys.executable, "-m", "bench.store_scale", "--folder", str(folder), "--part", part]
    return subprocess.run(command, check=False).returncode


async def _show(part: str, cluster: Cluster, world: World) -> int:
    try:
        async for line in _lines(part, cluster.url("sidecar"), cluster.url("admin"), world):
            print(line, flush=True)
    except WrongAnswerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _lines(part: str, url: str, admin_url: str, world: World) -> AsyncIterator[str]:
    made = {
        "checks": partial(checks, url, world),
        "whale": partial(whale, url, world),
        "memory": partial(memory, url, admin_url, world),
        "polls": partial(polls, url, admin_url, world),
    }
    return made[part]()


if __name__ == "__main__":
    sys.exit(main())
