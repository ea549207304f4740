"""Searching the audit logs, and exports of them: what is looked for is found, and what was touched is named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, update

from engine.errors import RequestError
from store import tables
from store.audit import Break, Verdict, all_streams, export_lines, head_of, verify_lines, verify_stream
from store.audit_search import MAX_LIMIT, AuditEntry, AuditFilter, AuditPage, search_audit
from store.changes import Write, Writer, chained
from store.database import Database
from store.pseudonyms import erase, pseudonym
from store.streams import GLOBAL, NOWHERE, POLICIES, Position, tenant_of
from store.writes import assignments, groups, links, memberships, principals, resources, tenants
from tests.databases import StoreUrls, run
from tests.store.worlds import NOW

ACME = "t:acme"
LOG = tables.audit_log.c
SECOND = 1_000_000_000
DECOY = 'file:a"task:t1'


async def _fill(write: Write) -> None:
    for ref in ("user:ann", "user:bob"):
        await memberships.put(write, ref)
    for ref in ("project:p1", "project:p2"):
        await resources.make(write, ref)
    await resources.make(write, "task:t1", parent="project:p1")
    await groups.make(write, "b_team")
    await assignments.give(write, "user:bob", "project.viewer", "project:p2")


async def _work_of_ann(write: Write) -> None:
    await assignments.give(write, "user:bob", "project.viewer", "project:p1")


async def _work_of_mail(write: Write) -> None:
    await resources.make(write, "task:t2", parent="project:p1")
    await resources.make(write, DECOY, parent="project:p1")
    await groups.make(write, "d_team")


async def _work_of_bob(write: Write) -> None:
    await groups.nest(write, "d_team", "b_team")
    await assignments.take(write, "user:bob", "project.viewer", "project:p1")
    await assignments.give(write, "user:ann", "project.viewer", "project:p2")


@asynccontextmanager
async def worked_in(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store with six revisions of acme: it was made, filled, and linked into by eve of globex; then ann, mail
    and bob worked in it, a second after one another."""
    clock = FrozenClock(NOW)
    database = Database(urls.admin)
    writer = Writer(database, clock=clock)
    try:
        for tenant in ("acme", "globex"):
            async with writer.write(tenant=tenant, making=True) as write:
                await tenants.make(write)
        async with writer.write() as write:
            for ref in ("user:ann", "user:bob", "user:eve", "service:mail"):
                await principals.make(write, ref)
        async with writer.write(tenant="acme") as write:
            await _fill(write)
        async with writer.write(tenant="globex", shared=True, others=["acme"]) as write:
            await memberships.put(write, "user:eve")
            await links.make(write, "user:eve", "project.auditor", "project:p2", target="acme")
        for actor, work in (("user:ann", _work_of_ann), ("service:mail", _work_of_mail), ("user:bob", _work_of_bob)):
            clock.now += SECOND
            async with writer.write(tenant="acme", actor=actor) as write:
                await work(write)
        yield writer
    finally:
        await database.close()


@dataclass
class FrozenClock:
    """A clock that stands still until it is set."""

    now: int

    def __call__(self) -> int:
        return self.now


async def found(writer: Writer, wanted: AuditFilter, stream: str = ACME, **how: Any) -> AuditPage:
    async with writer.database.reading(tenant_of(stream)) as connection:
        return await search_audit(connection, stream, wanted, **how)


def numbers(page: AuditPage) -> list[int]:
    return [record.n for record in page.records]


async def forge(urls: StoreUrls, *statements: Any) -> None:
    """Change what no service may change."""
    database = Database(urls.superuser)
    try:
        async with database.changing("acme") as connection:
            for statement in statements:
                await connection.execute(statement)
    finally:
        await database.close()


# --- search -----------------------------------------------------------------------------------------------

SEARCHES = [
    (AuditFilter(), [6, 5, 4, 3, 2, 1]),
    (AuditFilter(actor="user:ann"), [4]),
    (AuditFilter(actor="service:mail"), [5]),
    (AuditFilter(actor="system:system"), [3, 2, 1]),
    (AuditFilter(actor="user:nobody"), []),
    (AuditFilter(action="assignment.given"), [6, 4, 2]),
    (AuditFilter(action="assignment."), [6, 4, 2]),
    (AuditFilter(action="assignment"), []),
    (AuditFilter(action="assignment.give"), []),
    (AuditFilter(action="ASSIGNMENT.given"), []),
    (AuditFilter(action="tenant.made"), [1]),
    (AuditFilter(names="user:bob"), [6, 4, 2]),
    (AuditFilter(names="user:eve"), [3]),
    (AuditFilter(names="project:p1"), [6, 5, 4, 2]),
    (AuditFilter(names="task:t1"), [2]),
    (AuditFilter(names="task:T1"), []),
    (AuditFilter(names="task:_1"), []),
    (AuditFilter(names="task:%"), []),
    (AuditFilter(names="task:t"), []),
    (AuditFilter(names=DECOY), [5]),
    (AuditFilter(names="group:d_team"), [6, 5]),
    (AuditFilter(names="group:b_team"), [6, 2]),
    (AuditFilter(names="project.viewer"), [6, 4, 2]),
    (AuditFilter(action="assignment.given", names="user:bob"), [4, 2]),
    (AuditFilter(action="assignment.", names="user:bob"), [6, 4, 2]),
    (AuditFilter(actor="user:bob", names="user:ann"), [6]),
    (AuditFilter(since=NOW + SECOND), [6, 5, 4]),
    (AuditFilter(until=NOW + SECOND), [3, 2, 1]),
    (AuditFilter(since=NOW + SECOND, until=NOW + 2 * SECOND), [4]),
    (AuditFilter(since=NOW + SECOND + 1, names="project:p1"), [6, 5]),
]


def test_what_is_looked_for_is_found(store_urls: StoreUrls) -> None:
    """Each filter finds the rows that it describes, newest first, and no others, whatever stands in their texts."""

    async def scene() -> list[tuple[AuditFilter, list[int]]]:
        async with worked_in(store_urls) as writer:
            return [(wanted, numbers(await found(writer, wanted))) for wanted, _ in SEARCHES]

    assert run(scene()) == SEARCHES


def test_persons_are_named(store_urls: StoreUrls) -> None:
    """Rows come back with names in the place of pseudonyms, of who wrote and of whom it is told."""

    async def scene() -> tuple[AuditPage, AuditPage]:
        async with worked_in(store_urls) as writer:
            return await found(writer, AuditFilter(actor="user:ann")), await found(
                writer, AuditFilter(names="user:ann"), GLOBAL
            )

    page, shared = run(scene())
    (record,) = page.records

    assert (record.n, record.at, record.actor) == (4, "2001-09-09T01:46:41.000000000Z", "user:ann")
    said = {"subject": "user:bob", "role": "project.viewer", "on": "project:p1", "tenant": "acme"}
    assert record.entries == (AuditEntry("assignment.given", said),)
    assert page.cursor is None
    assert "user:ann" in {entry.details.get("principal") for each in shared.records for entry in each.entries or ()}


def test_who_was_erased_stays_a_pseudonym(store_urls: StoreUrls) -> None:
    """After erasure nobody is found by the name; by the pseudonym the rows are, and every chain and export is whole."""

    async def scene() -> tuple[str, AuditPage, AuditPage, list[str], list[str], list[Break | None]]:
        async with worked_in(store_urls) as writer:
            before = await exported(writer, ACME)
            async with writer.write(tenant="acme") as write:
                hidden = f"user:{await pseudonym(write, 'user:eve')}"
            async with writer.write(others=["acme", "globex"]) as write:
                await principals.delete(write, "user:eve")
            async with writer.write() as write:
                await erase(write, "user:eve")
            by_name = await found(writer, AuditFilter(names="user:eve"))
            by_pseudonym = await found(writer, AuditFilter(names=hidden))
            async with writer.database.reading() as connection:
                streams = await all_streams(connection)
            faults = []
            for stream in streams:
                async with writer.database.reading(tenant_of(stream)) as connection:
                    faults.append((await verify_stream(connection, stream)).fault)
            return hidden, by_name, by_pseudonym, before, await exported(writer, ACME), faults

    hidden, by_name, by_pseudonym, before, after, faults = run(scene())

    assert numbers(by_name) == []
    assert 3 in numbers(by_pseudonym)
    entries = by_pseudonym.records[-1].entries or ()
    assert {entry.details["subject"] for entry in entries if entry.action == "link.made"} == {hidden}
    assert after[: len(before)] == before
    assert faults == [None] * 4
    assert verify_lines(after)[0].fault is None


def test_pages_go_on_where_the_one_before_ended(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the cursor every row comes once. However rare a thing is, one search looks at a window of rows, and says where
    to go on until the log has ended."""

    async def pages(writer: Writer, wanted: AuditFilter, **how: Any) -> list[tuple[list[int], int | None]]:
        page = await found(writer, wanted, **how)
        seen = [(numbers(page), page.cursor)]
        while page.cursor is not None:
            page = await found(writer, wanted, before=page.cursor, **how)
            seen.append((numbers(page), page.cursor))
        return seen

    async def scene() -> tuple[object, object]:
        async with worked_in(store_urls) as writer:
            many = await pages(writer, AuditFilter(), limit=2)
            monkeypatch.setattr("store.audit_search.WINDOW", 2)
            return many, await pages(writer, AuditFilter(action="tenant.made"))

    many, rare = run(scene())

    assert many == [([6, 5], 5), ([4, 3], 3), ([2, 1], None)]
    assert rare == [([], 5), ([], 3), ([1], None)]


def test_the_number_of_statements_is_bounded(store_urls: StoreUrls) -> None:
    """A page of many rows and persons takes as many statements as one of few."""

    async def scene() -> list[int]:
        counts = []
        async with worked_in(store_urls) as writer:
            asked: list[str] = []
            event.listen(writer.database.engine.sync_engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
            for limit in (1, 2, MAX_LIMIT):
                asked.clear()
                await found(writer, AuditFilter(actor="user:bob", names="user:ann"), limit=limit)
                counts.append(sum(each.startswith("SELECT") and "set_config" not in each for each in asked))
        return counts

    assert run(scene()) == [4, 4, 4]


def test_a_row_that_was_damaged_is_shown(store_urls: StoreUrls) -> None:
    """What nobody can read is no reason to find nothing: it is shown as such, beside the others."""

    async def scene() -> tuple[AuditPage, AuditPage]:
        async with worked_in(store_urls) as writer:
            await forge(store_urls, update(tables.audit_log).where(LOG.n == 4).values(entries='[["project:p1"'))
            await forge(store_urls, update(tables.audit_log).where(LOG.n == 5).values(entries='[["a", "project:p1"]]'))
            return await found(writer, AuditFilter()), await found(writer, AuditFilter(names="project:p1"))

    everything, named = run(scene())

    assert numbers(everything) == [6, 5, 4, 3, 2, 1]
    assert [record.n for record in everything.records if record.entries is None] == [5, 4]
    assert numbers(named) == [6, 5, 4, 2]


def test_a_row_that_is_nested_without_end_is_shown(store_urls: StoreUrls) -> None:
    """However deep somebody nests what a row says, a search shows the row, and the others beside it."""
    depths = range(100, 1100, 7)
    deep = [_put({**ROWS[0], "n": n, "entries": _nested(depth)}) for n, depth in enumerate(depths, 1)]

    async def scene() -> AuditPage:
        await forge(store_urls, *deep)
        database = Database(store_urls.admin)
        try:
            async with database.reading("acme") as connection:
                return await search_audit(connection, ACME, AuditFilter(names="user:ann"), limit=MAX_LIMIT)
        finally:
            await database.close()

    page = run(scene())

    assert len(page.records) == len(depths)
    assert page.records[0].entries is None


def _nested(depth: int) -> str:
    return '[["made",{"of":' + "[" * depth + '"user:ann"' + "]" * depth + "}]]"


def test_a_tenant_sees_its_own_rows(store_urls: StoreUrls) -> None:
    """A search of one stream finds nothing of another."""

    async def scene() -> list[list[int]]:
        async with worked_in(store_urls) as writer:
            wanted = AuditFilter(names="project:p1")
            return [numbers(await found(writer, wanted, stream)) for stream in ("t:globex", GLOBAL, POLICIES, "t:no")]

    assert run(scene()) == [[], [], [], []]


def test_the_wall_stands_in_a_search(postgres_urls: StoreUrls) -> None:
    """In a transaction of another tenant, or of none, the log is empty, whatever stream is named."""

    async def scene() -> list[AuditPage]:
        async with worked_in(postgres_urls) as writer:
            pages = []
            for tenant in ("globex", None):
                async with writer.database.reading(tenant) as connection:
                    pages.append(await search_audit(connection, ACME))
            return pages

    assert run(scene()) == [AuditPage((), None)] * 2


REFUSED: list[tuple[AuditFilter, dict[str, Any], str]] = [
    (AuditFilter(actor=""), {}, "actor: write a name"),
    (AuditFilter(action="\0"), {}, "action: write a name"),
    (AuditFilter(names="task:\ud800"), {}, "names: write a name"),
    (AuditFilter(names="x" * 1025), {}, "names: write a name"),
    (AuditFilter(since=5, until=5), {}, "since, until: "),
    (AuditFilter(), {"limit": 0}, "limit: write a number from 1 to 1000"),
    (AuditFilter(), {"limit": MAX_LIMIT + 1}, "limit: "),
    (AuditFilter(), {"before": 0}, "cursor: "),
    (AuditFilter(), {"before": 2**63}, "cursor: "),
]


def test_what_cannot_be_looked_for_is_refused(store_urls: StoreUrls) -> None:
    """A filter that no row can fit, or that a database would stumble over, is a bad request that names the place."""

    async def scene() -> None:
        database = Database(store_urls.admin)
        try:
            async with database.reading("acme") as connection:
                for wanted, how, said in REFUSED:
                    with pytest.raises(RequestError, match=said):
                        await search_audit(connection, ACME, wanted, **how)
                assert await search_audit(connection, ACME, AuditFilter(names="x" * 1024)) == AuditPage((), None)
        finally:
            await database.close()

    run(scene())


# --- exports ----------------------------------------------------------------------------------------------


async def exported(writer: Writer, stream: str) -> list[str]:
    async with writer.database.reading(tenant_of(stream)) as connection:
        return [line async for line in export_lines(connection, stream)]


def test_an_export_verifies_elsewhere(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported, page by page, holds all that is needed to compute the chain again, and no person's name."""
    monkeypatch.setattr("store.audit.PAGE", 2)

    async def scene() -> tuple[list[str], Position | None]:
        async with worked_in(store_urls) as writer:
            lines = await exported(writer, ACME)
            async with writer.database.reading("acme") as connection:
                return lines, await head_of(connection, ACME)

    lines, head = run(scene())

    assert head is not None
    assert [json.loads(line)["n"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {*json.loads(lines[0])} == {"stream", "n", "at", "actor", "entries", "before", "hash"}
    assert not any(name in line for line in lines for name in ("user:ann", "user:bob", "user:eve"))
    assert verify_lines(lines, {ACME: head}) == [Verdict(ACME, head, 6, None)]


def chain(stream: str, length: int) -> list[dict[str, Any]]:
    """Make the rows of a stream."""
    rows: list[dict[str, Any]] = []
    before = ""
    for n in range(1, length + 1):
        said = {"at": "2001-09-09T01:46:40.000000000Z", "actor": "service:mail", "entries": f'[["made",{{"of":{n}}}]]'}
        made = chained(before, stream, n, *said.values())
        rows.append({"stream": stream, "n": n, **said, "before": before, "hash": made})
        before = made
    return rows


ROWS = chain(ACME, 5)
HEAD = Position(5, ROWS[-1]["hash"])
OTHER = {**ROWS[2], "entries": "[]"}
#: A row in the place of another, as a careful forger would write it.
FORGED = {**OTHER, "hash": chained(ROWS[1]["hash"], ACME, 3, OTHER["at"], OTHER["actor"], "[]")}


def lines(rows: Sequence[Any]) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row) for row in rows]


def at(n: int) -> Position:
    return Position(n, ROWS[n - 1]["hash"]) if n else NOWHERE


@pytest.mark.parametrize(
    ("rows", "last", "fault"),
    [
        ([*ROWS[:2], OTHER, *ROWS[3:]], 2, Break(3, "the row was changed")),
        ([*ROWS[:2], {**ROWS[2], "n": 4}, *ROWS[3:]], 2, Break(3, "the row is missing")),
        ([*ROWS[:2], {**ROWS[2], "hash": "0" * 64}, *ROWS[3:]], 2, Break(3, "the row was changed")),
        ([*ROWS[:2], *ROWS[3:]], 2, Break(3, "the row is missing")),
        (ROWS[1:], 0, Break(1, "the row is missing")),
        ([*ROWS[:3], ROWS[2], *ROWS[3:]], 3, Break(3, "the row is one too many, or out of order")),
        ([{**ROWS[0], "n": 0}, *ROWS], 0, Break(0, "the row is one too many, or out of order")),
        ([*ROWS[:2], {**FORGED, "before": "0" * 64}, *ROWS[3:]], 2, Break(3, "it does not follow the row before")),
        ([ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]], 1, Break(2, "the row is missing")),
        ([*ROWS[:2], {**ROWS[2], "note": "x"}, *ROWS[3:]], 2, Break(3, "line 3 is no row of an audit log")),
        ([*ROWS[:2], "{", *ROWS[3:]], 2, Break(3, "line 3 is no row of an audit log")),
        ([*ROWS[:4], json.dumps(ROWS[4])[:-9]], 4, Break(5, "line 5 is no row of an audit log")),
        ([*ROWS[:4], json.dumps({**ROWS[4]})[:-1] + ',"n":5}'], 4, Break(5, "line 5 is no row of an audit log")),
        ([*ROWS[:4], {**ROWS[4], "n": True}], 4, Break(5, "line 5 is no row of an audit log")),
        ([*ROWS[:4], {**ROWS[4], "actor": None}], 4, Break(5, "line 5 is no row of an audit log")),
        ([*ROWS[:4], "[" * 100_000], 4, Break(5, "line 5 is no row of an audit log")),
        ([*ROWS[:4], "5"], 4, Break(5, "line 5 is no row of an audit log")),
    ],
)
def test_what_was_done_to_an_export_is_named(rows: Sequence[Any], last: int, fault: Break) -> None:
    """A row that was changed, removed, put in or put elsewhere, and a line that is none, are found without a head."""
    assert verify_lines(lines(rows)) == [Verdict(ACME, at(last), 0, fault)]


def test_a_forged_row_breaks_the_next() -> None:
    """Who computes the hash of a changed row anew is found at the row after it."""
    assert verify_lines(lines([*ROWS[:2], FORGED, *ROWS[3:]]))[0].fault == Break(4, "it does not follow the row before")


@pytest.mark.parametrize(
    ("rows", "head", "verdict"),
    [
        (ROWS, HEAD, Verdict(ACME, HEAD, 5, None)),
        (ROWS[:3], HEAD, Verdict(ACME, at(3), 0, Break(4, "the row is missing"))),
        ([], HEAD, Verdict(ACME, NOWHERE, 0, Break(1, "the row is missing"))),
        ([*ROWS[:2], FORGED], at(3), Verdict(ACME, at(2), 0, Break(3, "the stream has another head"))),
        (ROWS, at(3), Verdict(ACME, HEAD, 3, None)),
        (ROWS[:3], None, Verdict(ACME, at(3), 0, None)),
    ],
)
def test_a_head_shows_what_is_missing(rows: Sequence[Any], head: Position | None, verdict: Verdict) -> None:
    """With a head, rows missing at the end or a whole other history are found; without one the end is not proven."""
    assert verify_lines(lines(rows), {ACME: head} if head else {}) == [verdict]


def test_streams_are_verified_apart() -> None:
    """An export may hold several streams, mixed; one of them may break, and a row of another does not count for it."""
    mixed = [row for pair in zip(ROWS, chain(GLOBAL, 5), strict=True) for row in pair]
    broken = [row for row in mixed if (row["stream"], row["n"]) != (GLOBAL, 2)]
    moved = [{**row, "stream": "t:globex"} for row in ROWS]

    assert [(each.stream, each.fault) for each in verify_lines(lines(broken))] == [
        (ACME, None),
        (GLOBAL, Break(2, "the row is missing")),
    ]
    assert verify_lines(lines(moved)) == [Verdict("t:globex", NOWHERE, 0, Break(1, "the row was changed"))]
    assert verify_lines(["", "no line"]) == [Verdict("", NOWHERE, 0, Break(1, "line 2 is no row of an audit log"))]


# --- the log itself ---------------------------------------------------------------------------------------


def _put(row: Mapping[str, Any]) -> Any:
    said = {name: value for name, value in row.items() if name != "stream"}
    return insert(tables.audit_log).values(tenant_id="acme", **said)


def _moved(old: int, new: int) -> Any:
    return update(tables.audit_log).where(LOG.tenant_id == "acme", LOG.n == old).values(n=new)


TOUCHED: list[tuple[str, list[Any], int, Break | None]] = [
    ("left alone", [], 5, None),
    ("changed", [update(tables.audit_log).where(LOG.n == 3).values(actor="x")], 2, Break(3, "the row was changed")),
    ("removed", [delete(tables.audit_log).where(LOG.n == 3)], 2, Break(3, "the row is missing")),
    ("put in before", [_put({**ROWS[0], "n": 0})], 0, Break(0, "the row is one too many, or out of order")),
    ("put in after", [_put(chain(ACME, 6)[5])], 6, Break(6, "the row comes after the head of the stream")),
    ("reordered", [_moved(3, 99), _moved(4, 3), _moved(99, 4)], 2, Break(3, "it does not follow the row before")),
    ("cut off", [delete(tables.audit_log).where(LOG.n > 3)], 3, Break(4, "the row is missing")),
    ("without a counter", [delete(tables.revisions).where(tables.revisions.c.stream == ACME)], 5,
     Break(5, "the stream has no head")),
    ("gone", [delete(tables.audit_log), delete(tables.revisions).where(tables.revisions.c.stream == ACME)], 0,
     Break(0, "the stream has no head")),
]  # fmt: skip


def test_what_was_done_to_a_log_is_named(store_urls: StoreUrls) -> None:
    """A row that was changed, removed, put in or put elsewhere is found, and so is a log that lost its counter."""
    whole = [
        delete(tables.audit_log),
        delete(tables.revisions).where(tables.revisions.c.stream == ACME),
        insert(tables.revisions).values(stream=ACME, n=HEAD.n, head=HEAD.head),
        *map(_put, ROWS),
    ]
    named = insert(tables.names).values(kind="tenant", id="acme")

    async def scene() -> tuple[list[tuple[str, Verdict]], list[str]]:
        found = []
        await forge(store_urls, named)
        database = Database(store_urls.admin)
        try:
            for what, statements, _, _ in TOUCHED:
                await forge(store_urls, *whole, *statements)
                async with database.reading("acme") as connection:
                    found.append((what, await verify_stream(connection, ACME)))
            async with database.reading() as connection:
                return found, await all_streams(connection)
        finally:
            await database.close()

    found, streams = run(scene())

    proven = {"left alone": 5, "put in after": 0}
    sixth = Position(6, chain(ACME, 6)[5]["hash"])
    assert found == [
        (what, Verdict(ACME, at(last) if last < 6 else sixth, proven.get(what, 0), fault))
        for what, _, last, fault in TOUCHED
    ]
    assert streams == [GLOBAL, POLICIES, ACME]  # though its counter is gone
