"""Fill a PostgreSQL server with a large world.

    python -m bench.generate --folder FOLDER [--tenants N] [--users N] [--assignments N] [--whale N] [--changes N]

Rows are made one by one and go in by COPY, as the superuser, table after table, with every constraint and index in
place; memory stays as it is however many there are. Nothing is forced to disk meanwhile (`postgres.HASTE`). In the end
the tables are vacuumed, frozen and analysed, as those of a server are that has run for a while. What measures
afterwards takes the same `--folder`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from bench import postgres
from bench.postgres import Cluster
from bench.progress import Bar
from bench.store_world import AT, MAX_ROLES, Rows, World, history
from store.changes import SYSTEM_ACTOR


def main(argv: Sequence[str] | None = None) -> int:
    """Generate, and print how long it took and how large it is; exit code 2 if it cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        world = _world(arguments)
        postgres.make(arguments.folder)
        with postgres.running(arguments.folder, *postgres.HASTE) as cluster:
            postgres.prepare(cluster)
            print("\n".join(asyncio.run(_fill(cluster, world))))
            print(f"data directory: {cluster.disk_mib() / 1024:,.1f} GiB, its log of changes included")
        world.save(arguments.folder)
    except (postgres.PostgresError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description="Fill a server with a large world.")
    parser.add_argument("--folder", type=Path, required=True, help="where it is to be: a new folder, its path short")
    parser.add_argument("--tenants", type=int, default=10_000, help="(default %(default)s)")
    parser.add_argument("--users", type=int, default=1_000_000, help="in all (default %(default)s)")
    parser.add_argument("--assignments", type=int, default=10_000_000, help="of these users (default %(default)s)")
    parser.add_argument("--whale", type=int, default=1_000_000, help="of one user beside them (default %(default)s)")
    parser.add_argument("--changes", type=int, default=100, help="of each tenant in the log (default %(default)s)")
    return parser


def _world(arguments: argparse.Namespace) -> World:
    tenants, users, assignments = arguments.tenants, arguments.users, arguments.assignments
    if tenants < 1 or users % tenants or not users or assignments % users:
        raise ValueError("each tenant has as many users as the other, and each user as many assignments")
    if not 1 <= assignments // users <= MAX_ROLES:
        raise ValueError(f"a user has 1 to {MAX_ROLES} assignments")
    return World(tenants, users // tenants, assignments // users, arguments.whale, max(1, arguments.changes))


async def _fill(cluster: Cluster, world: World) -> list[str]:
    """Copy all rows; say what was done."""
    connection = await cluster.connect()
    began = monotonic()
    try:
        for rows in world.rows():
            await _copy(connection, rows)
        await _move_shared(connection)
        copied_s = monotonic() - began
        await _vacuum(connection, [rows.table for rows in world.rows()])
        taken_s = monotonic() - began
        return [*await _sizes(connection, world), *_times(world, copied_s, taken_s)]
    finally:
        await connection.close()


async def _copy(connection: Any, rows: Rows) -> None:
    made = Bar(rows.table, rows.count).over(rows.made())
    done = await connection.copy_records_to_table(rows.table, records=made, columns=list(rows.columns))
    if done != f"COPY {rows.count}":
        raise ValueError(f"{rows.table}: {rows.count} rows were announced, and it was {done}")


async def _move_shared(connection: Any) -> None:
    """Let what all tenants share be at its first revision, too."""
    ((_, _, head),) = history("g", 1)
    await connection.execute("UPDATE revisions SET n = 1, head = $1 WHERE stream = 'g'", head)
    await connection.execute(
        "INSERT INTO platform_audit_log (stream, n, at, actor, entries, before, hash)"
        " VALUES ('g', 1, $1, $2, '[]', '', $3)",
        *(AT, SYSTEM_ACTOR, head),
    )


async def _vacuum(connection: Any, tables: Sequence[str]) -> None:
    bar = Bar("vacuum, analyze", len(tables))
    for number, table in enumerate(tables, 1):
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
        bar.show(number, is_last=number == len(tables))
    await connection.execute("ANALYZE")
    await connection.execute("CHECKPOINT")


async def _sizes(connection: Any, world: World) -> list[str]:
    """Say of each table how many rows it has, and what it and its indexes take."""
    lines = [f"{'table':<18}{'rows':>14}{'table, MiB':>14}{'indexes, MiB':>14}"]
    for rows in world.rows():
        table, indexes = await connection.fetchrow(
            "SELECT pg_table_size(t) / 1048576.0, pg_indexes_size(t) / 1048576.0 FROM CAST($1::text AS regclass) AS t",
            rows.table,
        )
        lines.append(f"{rows.table:<18}{rows.count:>14,}{table:>14,.1f}{indexes:>14,.1f}")
    return lines


def _times(world: World, copied_s: float, taken_s: float) -> list[str]:
    rows = sum(each.count for each in world.rows())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        f"{rows:,} rows copied in {copied_s:,.0f} s ({rows / copied_s:,.0f} a second), vacuumed and analysed in "
        f"{taken_s - copied_s:,.0f} s; this process took at most {peak_mib:,.0f} MiB",
    ]


if __name__ == "__main__":
    sys.exit(main())
