"""What row-level security costs: the same loads of facts with the wall between tenants and without, by turns.

    python -m bench.store_rls --folder FOLDER [--loads N]

`bench.generate` made the database, best with a million assignments. Both logins have the rights of the decision
service; one has BYPASSRLS beside, which the service itself would refuse. Each user picked by chance is loaded by both,
in an order picked by chance, through the store's own reading; what is timed is the one statement that reads facts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any, Final

import uvloop
from sqlalchemy import event

from bench import postgres
from bench.postgres import Cluster
from bench.quantiles import Times, spread, table
from bench.report import Goal
from bench.store_world import PROJECTS, World
from store.database import Database
from store.reading import Reader
from store.streams import ANYONE_KEY, TENANT, principal_key, resource_key, tenant_key
from store.views import Wanted

BOUND: Final = 1.05
WARM_UP: Final = 100
BLOCKS: Final = 20
WALLED, OPEN = "sidecar", "unwalled"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 2 if nothing can be measured."""
    arguments = _parser().parse_args(argv)
    try:
        with postgres.running(arguments.folder) as cluster:
            _make_login(cluster)
            world = World.load(arguments.folder)
            print("\n".join(uvloop.run(_measure(cluster, world, arguments.loads))))
    except postgres.PostgresError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.store_rls", description="Load with the wall and without.")
    parser.add_argument("--folder", type=Path, required=True, help="where `bench.generate` made the database")
    parser.add_argument("--loads", type=int, default=6_000, help="by each login (default %(default)s)")
    return parser


def _make_login(cluster: Cluster) -> None:
    cluster.execute(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OPEN}')"
        f" THEN CREATE ROLE {OPEN} LOGIN BYPASSRLS; GRANT bylaw_sidecar TO {OPEN}; END IF; END $$"
    )


async def _measure(cluster: Cluster, world: World, count: int) -> list[str]:
    lanes = [_Lane(login, cluster.url(login)) for login in (WALLED, OPEN)]
    chance = Random(13)
    try:
        for number in range(-WARM_UP, count):
            user, project = chance.randrange(world.user_count), chance.randrange(PROJECTS)
            for lane in chance.sample(lanes, 2):
                await lane.load(world, user, project, is_timed=number >= 0)
    finally:
        await asyncio.gather(*(lane.database.close() for lane in lanes))
    return list(_summary(world, *lanes))


class _Lane:
    """Loads as one login."""

    def __init__(self, login: str, url: str) -> None:
        self.database = Database(url, pool_size=1)
        self.times = Times(login)
        self._reader = Reader(self.database, login)
        self._began = self._taken_s = 0.0
        engine = self.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", self._end)

    async def load(self, world: World, user: int, project: int, *, is_timed: bool) -> None:
        """Load what a first question of a user takes."""
        tenant = f"t{world.tenant_of(user)}"
        key = principal_key(f"user:u{user}")
        wanted = Wanted({key, tenant_key(tenant)}, {key, TENANT, ANYONE_KEY, resource_key(f"project:p{project}")})
        async with self._reader.snapshot(tenant) as snapshot:
            loaded = await snapshot.load(wanted)
        assert loaded.own[key] is not None
        if is_timed:
            self.times.seconds.append(self._taken_s)

    def _begin(self, *_: Any) -> None:
        self._began = perf_counter()

    def _end(self, *_: Any) -> None:
        self._taken_s = perf_counter() - self._began  # the last statement counts, which is the load


def _summary(world: World, walled: _Lane, unwalled: _Lane) -> Iterator[str]:
    yield f"{world.assignment_count:,} assignments; load average {os.getloadavg()[0]:.1f}"
    yield from table([walled.times, unwalled.times])
    ratio = median(walled.times.seconds) / median(unwalled.times.seconds)
    _, low, high = spread(list(_ratios(walled.times.seconds, unwalled.times.seconds)))
    yield f"with the wall / without: {ratio:.3f}; of {BLOCKS} parts of the run half lie in {low:.3f}–{high:.3f}"
    yield Goal("load with row-level security / without, medians", ratio, BOUND, at_most=True).line()


def _ratios(walled: Sequence[float], unwalled: Sequence[float]) -> Iterator[float]:
    size = max(1, len(walled) // BLOCKS)
    for start in range(0, size * BLOCKS, size):
        yield median(walled[start : start + size]) / median(unwalled[start : start + size])


if __name__ == "__main__":
    sys.exit(main())
