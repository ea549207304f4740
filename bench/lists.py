"""A list of the administration API in a tenant of a million memberships, against the same in a tenant of a thousand.

    python -m bench.lists --folder FOLDER [--members 1000000] [--requests 400]

Rows go in by COPY into a new server in the folder; then a real `bylaw admin` is asked over HTTP, on one connection, by
turns in the large tenant and in the small one: the first page, a page in the middle, by its cursor, and the first of
those whose membership ends. Every answer is looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple
from urllib.parse import urlencode

from admin.paging import MAX_LIMIT, write_cursor
from bench import postgres
from bench.postgres import Cluster
from bench.progress import Bar
from bench.quantiles import Times, table
from bench.report import Goal
from bench.server import Server, ServerError, free_address, running
from store.changes import Writer
from store.database import Database
from store.keys import new_key
from store.writes import api_keys, tenants

ROOT: Final = Path(__file__).parents[1]
POLICY: Final = ROOT / "policies" / "studio"
LARGE, SMALL = "large", "small"
SMALL_MEMBERS: Final = 1000
#: What the first page is to stay below, for all but one request in a hundred, in ms.
AIM_MS: Final = 25.0
WARM_UP: Final = 20
SERVER_CORE: Final = 0
#: Every so many members have a membership that ends.
ENDING: Final = 1000
ENDS: Final = "2027-01-01T00:00:00.000000000Z"


class Asked(NamedTuple):
    """A list, as it is asked for in one tenant, and who must come first."""

    name: str
    path: str
    first: str


def main(argv: Sequence[str] | None = None) -> int:
    """Fill, ask and print; exit code 1 for a wrong answer, 2 if nothing can be measured."""
    given = _parser().parse_args(argv)
    try:
        postgres.make(given.folder)
        with ExitStack() as rest:
            cluster = rest.enter_context(postgres.running(given.folder))
            postgres.prepare(cluster)
            key = asyncio.run(_fill(cluster, given.members))
            server = rest.enter_context(_served(cluster, given.folder))
            print("\n".join(_measured(server, key, given.members, given.requests)))
    except (postgres.PostgresError, ServerError) as error:
        print(error, file=sys.stderr)
        return 2
    except WrongAnswerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description="Ask for pages of a long list.")
    parser.add_argument("--folder", type=Path, required=True, help="where the data are to be: new, its path short")
    parser.add_argument("--members", type=int, default=1_000_000, help="of the large tenant (default %(default)s)")
    parser.add_argument("--requests", type=int, default=400, help="of each kind (default %(default)s)")
    return parser


class WrongAnswerError(AssertionError):
    """A page is not the one that was asked for."""


# --- rows ---------------------------------------------------------------------------------------------


async def _fill(cluster: Cluster, members: int) -> str:
    """Make two tenants with members, and a key that may read them; return the key."""
    database = Database(cluster.url("admin"), pool_size=1)
    key = new_key()
    try:
        for name in (LARGE, SMALL):
            async with Writer(database).write(tenant=name, making=True) as write:
                await tenants.make(write)
        async with Writer(database).write() as write:
            await api_keys.make(write, key, "bench", scopes=["facts"])
    finally:
        await database.close()
    connection = await cluster.connect()
    try:
        for name, count in ((LARGE, members), (SMALL, SMALL_MEMBERS)):
            columns = ["tenant_id", "type", "id", "status", "starts", "expires"]
            rows = Bar(f"memberships of {name}", count).over(_rows(name, count))
            await connection.copy_records_to_table("memberships", records=rows, columns=columns)
        await connection.execute("VACUUM (FREEZE, ANALYZE) memberships")
    finally:
        await connection.close()
    return key


def _rows(tenant: str, count: int) -> Iterator[tuple[object, ...]]:
    for number in range(count):
        yield tenant, "user", _name(number), "active", "", None if number % ENDING else ENDS


def _name(number: int) -> str:
    return f"u{number:08}"


# --- asking -------------------------------------------------------------------------------------------


@contextmanager
def _served(cluster: Cluster, folder: Path) -> Iterator[Server]:
    """Run the administration service on one core."""
    address = free_address()
    command = [sys.executable, "-m", "bylaw", "admin", "--admin", address, "--policies", str(POLICY)]
    command += ["--database-url", cluster.url("admin")]
    with running("bylaw admin", command, address, "/ready", core=SERVER_CORE, log=folder / "admin.log") as server:
        yield server


def _lists(tenant: str, members: int) -> Iterator[Asked]:
    path = f"/admin/v1/tenants/{tenant}/memberships?"
    middle = members // 2
    behind = write_cursor("memberships", ["user", _name(middle)])
    for limit in (25, MAX_LIMIT):
        yield Asked(f"first page of {limit}", path + urlencode({"limit": limit}), _name(0))
        deep = urlencode({"limit": limit, "cursor": behind})
        yield Asked(f"page of {limit} in the middle", path + deep, _name(middle + 1))
    ending = urlencode({"sort": "expires", "limit": 1})
    yield Asked("first that ends", path + ending, _name(0))


def _measured(server: Server, key: str, members: int, requests: int) -> Iterator[str]:
    """Ask by turns, and say what it took."""
    yield f"load average {os.getloadavg()[0]:.1f}"
    connection = HTTPConnection(server.address, timeout=30)
    timed: list[tuple[Times, Times]] = []
    for pair in zip(_lists(LARGE, members), _lists(SMALL, SMALL_MEMBERS), strict=True):
        times = Times(f"{pair[0].name}, {members:,}"), Times(f"{pair[1].name}, {SMALL_MEMBERS:,}")
        for number in range(WARM_UP + requests):
            for asked, each in zip(pair, times, strict=True):
                took_s = _ask(connection, key, asked)
                if number >= WARM_UP:
                    each.seconds.append(took_s)
        timed.append(times)
    connection.close()
    yield from table(each for pair in timed for each in pair)
    for large, small in timed:
        yield f"{large.name} / {SMALL_MEMBERS:,}: {large.p50_ms / small.p50_ms:.2f}, medians"
    first = timed[0][0]
    yield Goal("first page, p99 in ms", first.quantile_ms(0.99), AIM_MS, at_most=True).line()


def _ask(connection: HTTPConnection, key: str, asked: Asked) -> float:
    """Ask once; return how long it took, in seconds.

    Raises:
        WrongAnswerError: it is another page.
    """
    began = perf_counter()
    connection.request("GET", asked.path, headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    text = answer.read()
    took_s = perf_counter() - began
    if answer.status != 200 or json.loads(text)["items"][0]["id"] != f"user:{asked.first}":
        raise WrongAnswerError(f"{asked.path}: {answer.status} {text[:300]!r}")
    return took_s


if __name__ == "__main__":
    sys.exit(main())
