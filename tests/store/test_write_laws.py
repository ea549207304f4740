"""Laws that hold however writes meet each other: of shapes, of numbers, and of the wall between tenants."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from store import tables
from store.changes import Write, Writer
from store.database import Database
from store.errors import RefusedError, StoreError
from store.streams import GLOBAL
from store.writes import (
    assignments,
    custom_roles,
    groups,
    links,
    memberships,
    platform_groups,
    principals,
    resources,
    tenants,
)
from tests.databases import StoreUrls, run
from tests.store.worlds import CASES, Work, inhabited, opened, refusal, rows_of

# --- shapes and presences -------------------------------------------------------------------------------

NODES = st.integers(0, 4)
STEPS = st.lists(st.tuples(NODES, NODES), max_size=12)
EXAMPLES = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.property
@pytest.mark.parametrize("kind", ["resources", "groups", "platform_groups"])
def test_cycle_never_stored(store_urls: StoreUrls, kind: str) -> None:
    """However two writers nest and move at once, what lies in what never closes into a circle.

    Each write was done upon what all before it left: done again one by one, in the order of their revisions, none of
    them closes a circle either, and they end in what is stored.
    """
    numbers = itertools.count()

    @EXAMPLES
    @given(STEPS, STEPS)
    def law(mine: list[tuple[int, int]], yours: list[tuple[int, int]]) -> None:
        edges, history = run(_walk(store_urls, kind, f"w{next(numbers)}", [mine, yours]))

        replayed: set[tuple[str, str]] = set()
        for inner, outer in history:
            if kind == "resources":
                replayed = {edge for edge in replayed if edge[0] != inner}
            replayed.add((inner, outer))
            assert not _has_cycle(replayed)
        assert edges == replayed

    law()


async def _walk(
    urls: StoreUrls, kind: str, tenant: str, walks: list[list[tuple[int, int]]]
) -> tuple[set[tuple[str, str]], list[tuple[str, str]]]:
    """Let writers go at once through five things of a new tenant; return what lies in what, and how it came about."""
    how = {"tenant": None} if kind == "platform_groups" else {"tenant": tenant}
    async with opened(urls) as writer:
        async with writer.write(tenant=tenant, making=True) as write:
            await tenants.make(write)
        async with writer.write(**how) as write:
            for node in range(5):
                await _make(write, kind, f"{tenant}-{node}")

        async def walk(steps: list[tuple[int, int]]) -> None:
            for inner, outer in steps:
                work = partial(_put_in, kind=kind, inner=f"{tenant}-{inner}", outer=f"{tenant}-{outer}")
                assert await refusal(writer, work, **how) in ("done", "cycle", "taken")

        await asyncio.gather(*map(walk, walks))
    return await _edges(urls, kind, tenant), await _history(urls, kind, tenant)


async def _make(write: Write, kind: str, name: str) -> None:
    if kind == "resources":
        await resources.make(write, f"box:{name}")
    else:
        await (groups if kind == "groups" else platform_groups).make(write, name)


async def _put_in(write: Write, kind: str, inner: str, outer: str) -> None:
    if kind == "resources":
        await resources.move(write, f"box:{inner}", f"box:{outer}")
    else:
        await (groups if kind == "groups" else platform_groups).nest(write, inner, outer)


async def _edges(urls: StoreUrls, kind: str, tenant: str) -> set[tuple[str, str]]:
    table = {"resources": "resources", "groups": "group_nestings", "platform_groups": "platform_nestings"}[kind]
    rows = (await rows_of(urls, table))[table]
    inner, outer = {"resources": (2, 4), "groups": (1, 2), "platform_groups": (0, 1)}[kind]
    return {(row[inner], row[outer]) for row in rows if row[inner].startswith(f"{tenant}-") and row[outer] is not None}


async def _history(urls: StoreUrls, kind: str, tenant: str) -> list[tuple[str, str]]:
    """Read from the audit log what was put into what, in the order of revisions."""
    log = "platform_audit_log" if kind == "platform_groups" else "audit_log"
    rows = sorted((await rows_of(urls, log))[log], key=lambda row: row[1])
    said = [entry for row in rows for entry in json.loads(row[4]) if row[0] in (tenant, GLOBAL)]
    found = []
    for action, detail in said:
        if action == "resource.moved":
            found.append((detail["resource"][4:], detail["parent"][4:]))
        elif action.endswith(".nested") and detail["group"].startswith(f"{tenant}-"):
            found.append((detail["group"], detail["into"]))
    return found


def _has_cycle(edges: Iterable[tuple[str, str]]) -> bool:
    """Take away what lies in nothing until nothing can be taken: what is left is a circle."""
    left = set(edges)
    while left:
        inner = {edge[0] for edge in left}
        kept = {edge for edge in left if edge[1] in inner}
        if kept == left:
            return True
        left = kept
    return False


@pytest.mark.property
@pytest.mark.parametrize("seed", range(3))
def test_presences_are_right(store_urls: StoreUrls, seed: int) -> None:
    """After each of many writes `presences` names exactly who has a row in which tenant."""

    async def scene() -> None:
        chance = random.Random(seed)
        async with inhabited(store_urls) as writer:
            for _ in range(40):
                await refusal(writer, _some_write(chance), tenant="acme", shared=True)

                rows = await rows_of(store_urls, "presences", "memberships", "group_members", "assignments")
                owned = [row for name in ("memberships", "group_members", "assignments") for row in rows[name]]
                known = {(row[1], row[2], row[0]) for row in owned if row[1] in ("user", "service")}
                assert rows["presences"] == known

    run(scene())


def _some_write(chance: random.Random) -> Work:
    """Choose a write that gives somebody a row in a tenant, or takes rows away."""
    ref, group = chance.choice(("user:ann", "user:bob", "user:zed")), chance.choice(("b_team", "c_team"))
    role, place = "project.viewer", chance.choice(("project:p1", "task:t1"))
    common: list[Work] = [
        lambda write: memberships.put(write, ref),
        lambda write: memberships.end(write, ref),
        lambda write: groups.add_member(write, group, ref),
        lambda write: groups.remove_member(write, group, ref),
        lambda write: assignments.give(write, ref, role, place),
        lambda write: assignments.take(write, ref, role, place),
    ]
    rare: list[Work] = [lambda write: groups.delete(write, group), lambda write: resources.delete(write, place)]
    return chance.choice(common * 4 + rare)


@pytest.mark.slow
def test_revision_is_commit_order(store_urls: StoreUrls) -> None:
    """With eight writers at once, some of whom take their writes back, revisions have no gaps and appear in order."""
    seen: list[dict[str, int]] = []

    async def scene() -> tuple[int, dict[str, int]]:
        async with inhabited(store_urls) as writer:
            start = await _positions(writer.database)
            done = asyncio.Event()
            watcher = asyncio.create_task(_watch(writer.database, done, seen))
            counts = await asyncio.gather(*(_write_some(writer, number) for number in range(8)))
            done.set()
            await watcher
            end = await _positions(writer.database)
            return sum(counts), {stream: end[stream] - start[stream] for stream in end}

    written, moved = run(scene())

    assert moved == {GLOBAL: 16, "p": 0, "t:acme": 8, "t:globex": 8, "t:initech": 0}
    assert written == 16
    assert all(before[stream] <= after[stream] for before, after in itertools.pairwise(seen) for stream in before)


async def _write_some(writer: Writer, number: int) -> int:
    """Write to a tenant and to what all share, taking one write back; return how many were kept."""
    tenant, kept = ("acme", "globex")[number % 2], 0
    for step in range(3):
        try:
            async with writer.write(tenant=tenant, shared=True) as write:
                await principals.make(write, f"user:u{number}-{step}")
                await memberships.put(write, f"user:u{number}-{step}")
                if step == 1:
                    raise RefusedError("undone", "taken back")
            kept += 1
        except RefusedError:
            continue
    return kept


async def _watch(database: Database, done: asyncio.Event, seen: list[dict[str, int]]) -> None:
    """Read, while others write, how far streams are: all changes up to there must be there, too."""
    while not done.is_set():
        async with database.reading() as connection:
            at = {row.stream: row.n for row in await connection.execute(select(tables.revisions))}
            rows = await connection.execute(select(tables.changes.c.stream, tables.changes.c.n))
            logged: dict[str, list[int]] = {stream: [] for stream in at}
            for row in rows:
                logged[row.stream].append(row.n)
        assert {stream: sorted(found) for stream, found in logged.items()} == {
            stream: list(range(1, n + 1)) for stream, n in at.items()
        }
        seen.append(at)


async def _positions(database: Database) -> dict[str, int]:
    async with database.reading() as connection:
        return {row.stream: row.n for row in await connection.execute(select(tables.revisions))}


# --- the wall ---------------------------------------------------------------------------------------------

OWNED = [table.name for table in tables.OWNED if table.name != "audit_log"]
CANARIES = ("acme", "globex")
#: What changes rows of a tenant, by its case, and not only those of all.
SHARED = (
    *("principals", "platform_groups", "tokens", "callers", "api_keys", "idempotency", "personal_data"),
    "policies",
)
INSIDE = {case.of for case in CASES if case.of.partition(".")[0] not in SHARED} - {
    *("tenants.make", "tenants.set_status", "assignments.give_system", "assignments.take_system"),
    *("links.make", "links.end", "retention.put_periods", "retention.sweep_links"),
}


def test_a_twin_is_left_alone(store_urls: StoreUrls) -> None:
    """What is done in one tenant does nothing in another where everything has the same ids."""

    async def scene() -> tuple[object, object]:
        async with inhabited(store_urls) as writer:
            await _make_twin(writer)
            before = await _rows_in(store_urls, "twin")
            for case in sorted(CASES, key=lambda case: case.of.endswith((".delete", ".end"))):
                if case.how.get("tenant") == "acme":
                    await refusal(writer, case.call, **case.how)
            return before, await _rows_in(store_urls, "twin")

    before, after = run(scene())

    assert after == before


def test_trees_of_tenants_are_apart(store_urls: StoreUrls) -> None:
    """Where a resource lies in one tenant says nothing of one with the same id in another."""

    async def scene() -> tuple[list[str], set[str]]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="globex") as write:
                await resources.make(write, "project:p1")
                await resources.make(write, "project:p2", parent="project:p1")
                await resources.make(write, "folder:f1")
                await resources.delete(write, "folder:f1")
            steps: list[Work] = [
                lambda write: resources.make(write, "task:t9", parent="task:t1"),
                lambda write: resources.move(write, "project:p1", "project:p2"),
                lambda write: resources.move(write, "project:p1", None),
                lambda write: resources.delete(write, "project:p1"),
            ]
            between = {"tenant": "acme", "shared": True, "others": ["globex"]}
            codes = [await refusal(writer, step, **between) for step in steps]
            rows = (await rows_of(store_urls, "resources"))["resources"]
            return codes, {f"{row[0]} {row[2]}" for row in rows if not row[-1]}

    assert run(scene()) == (["done"] * 4, {"acme p2", "globex p1", "globex p2"})


async def _make_twin(writer: Writer) -> None:
    """Make a tenant that has what `acme` has; and below it what would be found by who mixes the two up."""
    async with writer.write(tenant="twin", making=True) as write:
        await tenants.make(write)
        for ref in ("user:ann", "user:bob", "service:mail"):
            await memberships.put(write, ref)
            await assignments.give(write, ref, "task.viewer", "task:t1")
        await resources.make(write, "project:p1")
        await resources.make(write, "folder:f1", parent="project:p1")
        await resources.make(write, "task:t1", parent="folder:f1")
        await resources.make(write, "task:t7", parent="task:t1")
        await resources.make(write, "project:p2")
        await custom_roles.make(write, "helper", "project", ["task.read"])
        await assignments.give(write, "user:bob", "custom.helper", "project:p2")
        await assignments.give(write, "group:staff", "project.viewer", "project:p2")
        await assignments.give(write, "anyone", "organization.viewer", "organization:acme")
    async with writer.write(tenant="globex", shared=True, others=["twin"]) as write:
        await links.make(write, "user:eve", "folder.auditor", "folder:f1", target="twin")
        await links.make(write, "user:eve", "group.auditor", "group:c_team", target="twin")


async def _rows_in(urls: StoreUrls, tenant: str) -> dict[str, set[tuple[Any, ...]]]:
    rows = await rows_of(urls, *OWNED, "audit_log", "presences", "links", "tenants")
    return {name: {row for row in found if tenant in row} for name, found in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("tenant", ["initech", None])
def test_rls_by_canary(store_urls: StoreUrls, tenant: str | None) -> None:
    """Every function, called for another tenant's rows in a write of the wrong tenant or of none, changes none of them.

    That is the first wall: each statement names the write's own tenant. Who is deleted loses his links, whosever his
    home is.
    """
    assert run(_reaching(store_urls, tenant, is_forged=False)) == {"principals.delete": {"links"}}


@pytest.mark.slow
@pytest.mark.parametrize("tenant", ["initech", None])
def test_rls_by_canary_alone(store_urls: StoreUrls, tenant: str | None) -> None:
    """Even if each statement named the other tenant, row-level security shows and changes none of its rows.

    That is the second wall: here the write says that it is the canary's, while its transaction is another's. SQLite has
    no such wall, and shows that the canary would die without it.
    """
    reached = run(_reaching(store_urls, tenant, is_forged=True))

    owned = {name for name, changed in reached.items() if changed - {"links"}}
    assert owned == (set() if store_urls.is_postgres else INSIDE)


async def _reaching(urls: StoreUrls, tenant: str | None, *, is_forged: bool) -> dict[str, set[str]]:
    """Do each case in a write of a tenant; return in which tables rows of the canaries changed, by function.

    Args:
        is_forged: the write takes itself for one of the case's own tenant, though its transaction is not.
    """
    found: dict[str, set[str]] = {}
    async with inhabited(urls) as writer:
        before = await _canaries(urls)
        for case in sorted(CASES, key=lambda case: case.of.endswith((".delete", ".end"))):
            with contextlib.suppress(StoreError, RuntimeError):
                async with writer.write(tenant=tenant, shared=True, others=CANARIES) as write:
                    write.tenant = case.how.get("tenant", tenant) if is_forged else tenant
                    await case.call(write)
                    write.tenant = tenant
            after = await _canaries(urls)
            found.setdefault(case.of, set()).update(name for name in after if after[name] != before[name])
            before = after
    return {name: changed for name, changed in found.items() if changed}


async def _canaries(urls: StoreUrls) -> dict[str, set[tuple[Any, ...]]]:
    rows = await rows_of(urls, *OWNED, "links")
    found = {name: {row for row in rows[name] if row[0] in CANARIES} for name in OWNED}
    return found | {"links": {row for row in rows["links"] if row[2] in CANARIES}}
