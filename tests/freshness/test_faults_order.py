"""Revisions are numbered in the order of their commits, without gaps, whoever writes at once and dies of it."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from contextlib import suppress

import pytest
from sqlalchemy import select

from store.audit import Break, verify_chain
from store.database import Database
from store.streams import tenant_of
from store.tables import changes, revisions
from tests.databases import StoreUrls
from tests.freshness.services import children, house

pytestmark = pytest.mark.slow

STREAMS = ("g", "t:acme", "t:globex")
WRITES = 10
GLANCE_S = 0.02
ENDS = ("well", "well", "middle", "end", "well", "middle", "end", "well")


async def look(database: Database) -> tuple[dict[str, int], dict[str, list[int]], dict[str, list[str]]]:
    """Read, in one snapshot, how far each stream is, the revisions of its changes, and their keys."""
    async with database.reading() as connection:
        at = await connection.execute(select(revisions.c.stream, revisions.c.n).where(revisions.c.stream.in_(STREAMS)))
        rows = await connection.execute(select(changes.c.stream, changes.c.n, changes.c["keys"]).order_by(changes.c.n))
        numbers: dict[str, list[int]] = defaultdict(list)
        keys: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            numbers[row.stream].append(row.n)
            keys[row.stream] += json.loads(row.keys)
        return {row.stream: row.n for row in at}, numbers, keys


async def verified(database: Database) -> dict[str, Break | None]:
    found = {}
    for stream in STREAMS:
        async with database.reading(tenant_of(stream)) as connection:
            found[stream] = await verify_chain(connection, stream)
    return found


def test_revision_is_commit_order(store_urls: StoreUrls) -> None:
    """Eight processes write at once, take writes back, and are killed in the middle: whoever looks, at any time, sees
    each stream without a gap; in the end each commit is there once, with all its keys, and the chains verify."""
    writers = [("scribble", seed, WRITES, end) for seed, end in enumerate(ENDS)]
    with house(store_urls) as pen, children(store_urls.admin, *writers) as parent:
        _, _, before = pen.run(look(pen.database))

        seen = []
        while parent.poll() is None:
            at, numbers, _ = pen.run(look(pen.database))
            seen += [numbers[stream] == list(range(1, at[stream] + 1)) for stream in STREAMS]
            with suppress(subprocess.TimeoutExpired):
                parent.wait(GLANCE_S)
        *said, codes = (json.loads(line) for line in parent.communicate()[0].splitlines())
        at, numbers, after = pen.run(look(pen.database))

        assert all(seen)
        assert codes == [0 if end == "well" else -9 for end in ENDS]
        for stream in STREAMS:
            committed = [key for made in said for where, key in made if where == stream]
            assert numbers[stream] == list(range(1, at[stream] + 1))
            assert sorted(after[stream][len(before[stream]) :]) == sorted(committed)
        assert pen.run(verified(pen.database)) == dict.fromkeys(STREAMS)
