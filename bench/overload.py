"""A service that is asked twice what it can answer: what it answers, how fast, and what it holds.

    python -m bench.overload [--seconds 600] [--unloaded 30]

A service with everything on (store, callers by key, limits, the decision log to files) runs on core 0, the load on
core 1. First its capacity is measured by wrk, with batches of `ITEMS` questions; then half of that, and twice that,
come by a load that does not wait for answers (`open_loop`). In the end one of two workers is killed under load: what
was lost is at most what it held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop

from bench import wrk
from bench.check_http import BYLAW, WrongAnswerError, body_of, fill, make_key, mixed, own_bylaw
from bench.open_loop import OpenLoad, Outcome
from bench.report import Goal
from bench.scenario import make_world
from bench.server import Server, ServerError, free_address, running

#: Questions of a batch: the load is made by Python, which cannot ask single ones twice as fast as they are answered.
ITEMS: Final = 20
SERVER_CORE, CLIENT_CORE = 0, 1
#: How often memory is looked at.
LOOK_S: Final = 10.0
#: Growth of memory that is none: what an allocator keeps.
SLACK_MIB: Final = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Start, load, kill, print; exit code 1 where something went wrong, 2 if nothing can be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload")
    parser.add_argument("--seconds", type=int, default=600, help="of the overload (default %(default)s)")
    parser.add_argument("--unloaded", type=int, default=30, help="seconds of half the load (default %(default)s)")
    arguments = parser.parse_args(argv)
    bylaw = own_bylaw()
    if bylaw is None or not wrk.is_installed():
        print(wrk.INSTALL, file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {CLIENT_CORE})
    try:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            lines = _measure(arguments, Path(folder), stack, bylaw)
            for line in lines:
                print(line, flush=True)
    except (ServerError, WrongAnswerError, wrk.LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(arguments: argparse.Namespace, folder: Path, stack: ExitStack, bylaw: str) -> Iterator[str]:
    world = make_world(10, 1000)
    policies, database = fill(world, folder, bylaw)
    key = make_key(bylaw, database)
    command = [
        *(bylaw, "serve", "--policies", str(policies), "--database-url", database, "--callers", "token"),
        *("--rate-limit", "900000000/1h", "--decision-log", f"file:{folder / 'log.d'}", "--grpc", "none"),
    ]
    questions = mixed(world)
    bodies = [
        json.dumps({"evaluations": [body_of(each) for each in questions[start : start + ITEMS]]})
        for start in range(0, ITEMS * 50, ITEMS)
    ]
    headers = {"Authorization": f"Bearer {key}"}
    http = free_address()
    with running(BYLAW, [*command, "--http", http], http, "/ready", core=SERVER_CORE, log=folder / "log") as server:
        script = wrk.write_script(folder, "batch", "/check", bodies, headers)
        wrk.run(script, http, core=CLIENT_CORE, seconds=2)
        capacity = wrk.run(script, http, core=CLIENT_CORE, seconds=5).per_s
        yield f"capacity: {capacity:,.0f} batches of {ITEMS} a second"
        load = OpenLoad(http, [_request(http, key, body) for body in bodies])
        calm, full, seen = uvloop.run(_load(load, server, capacity, arguments.unloaded, arguments.seconds))
    yield _told("half the capacity", calm)
    yield _told("twice the capacity", full)
    yield f"memory over it, MiB: {', '.join(f'{each:.0f}' for each in seen)}"
    yield from (goal.line() for goal in _goals(calm, full, seen))
    yield from _kill(command, folder, script, [_request("", key, body) for body in bodies], capacity)


def _request(http: str, key: str, body: str) -> bytes:
    head = f"POST /check HTTP/1.1\r\nHost: {http or 'localhost'}\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def _load(
    load: OpenLoad, server: Server, capacity: float, calm_s: float, full_s: float
) -> tuple[Outcome, Outcome, list[float]]:
    calm = await load.run(capacity / 2, calm_s)
    seen: list[float] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            seen.append(server.resident_mib())

    looking = asyncio.create_task(look())
    full = await load.run(capacity * 2, full_s)
    looking.cancel()
    await load.close()
    return calm, full, seen


def _told(name: str, outcome: Outcome) -> str:
    statuses = ", ".join(f"{status or 'broken'}: {count:,}" for status, count in sorted(outcome.statuses.items()))
    took = f"p50 {outcome.ms(0.5):.2f} ms, p99 {outcome.ms(0.99):.2f} ms"
    return f"{name}: {statuses}; unsent {outcome.unsent:,}; of those answered {took}"


def _goals(calm: Outcome, full: Outcome, seen: Sequence[float]) -> Iterator[Goal]:
    others = sum(count for status, count in full.statuses.items() if status not in (200, 503))
    yield Goal(
        "p99 of what is answered, overloaded / at half the capacity", full.ms(0.99) / calm.ms(0.99), 3, at_most=True
    )
    yield Goal("answers that are neither 200 nor 503", others, 0, at_most=True)
    yield Goal("503 without Retry-After", full.without_retry_after, 0, at_most=True)
    if len(seen) > 3:
        growth = max(seen[len(seen) // 2 :]) - max(seen[: len(seen) // 2])
        yield Goal("MiB that the second half held more than the first", growth, SLACK_MIB, at_most=True)


def _kill(command: list[str], folder: Path, script: Path, requests: Sequence[bytes], capacity: float) -> Iterator[str]:
    """Kill one of two workers, once both have their facts, under a load that leaves room for the next to start."""
    http = free_address()
    whole = [*command, "--http", http, "--workers", "2"]
    with running("two workers", whole, http, "/ready", core=SERVER_CORE, log=folder / "log2") as server:
        wrk.run(script, http, core=CLIENT_CORE, seconds=5)
        load = OpenLoad(http, [each.replace(b"localhost", http.encode()) for each in requests])
        outcome, held = uvloop.run(_load_and_kill(load, server, capacity / 8))
    lost = outcome.statuses[0]
    yield _told("one of two workers killed", outcome)
    yield Goal("requests lost, of those that the worker held", lost, held, at_most=True).line()


async def _load_and_kill(load: OpenLoad, server: Server, per_s: float) -> tuple[Outcome, int]:
    held = 0

    async def kill() -> None:
        nonlocal held
        await asyncio.sleep(2)
        held = load.count  # each connection has at most one request under way
        os.kill(server.children()[0], signal.SIGKILL)

    killing = asyncio.create_task(kill())
    outcome = await load.run(per_s, 5)
    await killing
    await load.close()
    return outcome, max(held, 1)


if __name__ == "__main__":
    sys.exit(main())
