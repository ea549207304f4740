"""The feed of changes: whole from a known revision on, or no answer; and audit entries only where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import delete

from engine import Policy
from engine.facts_file import parse_document
from store import tables
from store.audit import export_page, head_of, verify_lines, verify_part
from store.changes import KEEP_NS
from store.feed import Change, read_changes
from store.seed import seed
from store.streams import GLOBAL, NOWHERE
from store.writes import links, memberships, resources
from tests.databases import StoreUrls, run
from tests.store.worlds import NOW, inhabited, opened, rows_of

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
Told = dict[str, list[str]]
Page = tuple[tuple[Change, ...], bool] | None


async def told(urls: StoreUrls) -> dict[tuple[str, int], list[str]]:
    """Read of each row of the logs what it tells."""
    rows = await rows_of(urls, "audit_log", "platform_audit_log")
    return {
        (stream, n): [action for action, _ in json.loads(entries)]
        for found in rows.values()
        for stream, n, _, _, entries, *_ in found
    }


def newest(rows: dict[tuple[str, int], list[str]]) -> Told:
    """Keep of each stream what its last row tells."""
    return {stream: said for (stream, _), said in sorted(rows.items())}


# --- what a log tells ---------------------------------------------------------------------------------------


def test_each_log_tells_its_own(store_urls: StoreUrls) -> None:
    """Of one write the home's log has the membership, the target's the link alone, and the platform's both's link."""

    async def scene() -> Told:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="globex", shared=True, others=["acme"]) as write:
                await memberships.put(write, "user:bob")
                await links.make(write, "user:bob", "task.auditor", "task:t1", target="acme")
            return newest(await told(store_urls))

    said = run(scene())

    assert said["globex"] == ["membership.put", "link.made"]
    assert said["acme"] == said[GLOBAL] == ["link.made"]


def test_what_a_tenant_does_to_links_is_told_to_all(store_urls: StoreUrls) -> None:
    """That a membership took its links along, and that what it is changed in them, stands in the log of the other side
    and of the platform, too."""

    async def scene() -> list[Told]:
        async with inhabited(store_urls) as writer:
            found = []
            await writer.run(lambda write: memberships.put(write, "user:eve", "guest"), tenant="globex")
            found.append(newest(await told(store_urls)))
            await writer.run(lambda write: memberships.end(write, "user:eve"), tenant="globex")
            return [*found, newest(await told(store_urls))]

    changed, ended = run(scene())

    assert (changed["globex"], changed["acme"]) == (["membership.put"], ["link.membership"])
    assert changed[GLOBAL] == ["link.membership"]
    assert ended["globex"] == ["link.cut", "link.cut", "membership.ended"]
    assert ended["acme"] == ended[GLOBAL] == ["link.cut", "link.cut"]


def test_a_log_is_told_nothing_unless_its_stream_moves(store_urls: StoreUrls) -> None:
    """An entry for a stream that the write has not locked is a mistake, and undoes the write."""

    async def scene() -> None:
        async with inhabited(store_urls) as writer, writer.write(tenant="acme") as write:
            write.record("tried", "t:globex")

    with pytest.raises(RuntimeError, match="stream t:globex was not locked"):
        run(scene())


def test_seeding_tells_a_target_of_its_links_alone(store_urls: StoreUrls) -> None:
    """A batch of links tells each tenant into which they lead how many do, and of nothing else."""
    policy = Policy.load(STUDIO)
    text = (STUDIO / "facts.yaml").read_bytes()

    async def scene() -> list[object]:
        async with opened(store_urls) as writer:
            await seed(writer.database, policy, parse_document(text, "facts"))
            rows = (await rows_of(store_urls, "audit_log"))["audit_log"]
            entries = [entry for row in rows if row[0] == "acme" for entry in json.loads(row[4])]
            return [detail["rows"] for _, detail in entries if detail.get("home") == "globex"]

    assert run(scene()) == [{"links": 1}]


# --- verifying and exporting in parts -----------------------------------------------------------------------


def test_parts_make_a_whole(store_urls: StoreUrls) -> None:
    """A chain verified, and exported, part by part is the chain; what a part says is vouched for by no head."""

    async def scene() -> tuple[list[tuple[int, int, bool]], list[str]]:
        async with inhabited(store_urls) as writer, writer.database.reading() as connection:
            at, more, found, lines, after = NOWHERE, True, [], list[str](), 0
            while more:
                verdict, more = await verify_part(connection, GLOBAL, after=at, limit=2)
                at = verdict.last
                found.append((at.n, verdict.proven, verdict.fault is None))
            while after < at.n:
                page, after = await export_page(connection, GLOBAL, after=after, until=after + 2)
                lines += page
            return found, lines

    found, lines = run(scene())
    (whole,) = verify_lines(lines)

    assert all(proven == 0 and is_sound for _, proven, is_sound in found[:-1])
    assert found[-1] == (whole.last.n, whole.last.n, True)
    assert (whole.fault, len(lines)) == (None, whole.last.n)


# --- the feed -----------------------------------------------------------------------------------------------


def test_the_feed_is_whole_or_none(store_urls: StoreUrls) -> None:
    """Behind a known revision nothing is left out; where something would be, or nothing was yet, there is no feed."""

    async def scene() -> list[Page]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await resources.make(write, "project:p9")
            async with writer.database.reading("acme") as connection:
                head = await head_of(connection, "t:acme")
                assert head is not None
                last = await read_changes(connection, "t:acme", after=head.n - 1, limit=9, now=NOW)
                none = await read_changes(connection, "t:acme", after=head.n, limit=9, now=NOW)
                page = await read_changes(connection, "t:acme", after=0, limit=1, now=NOW)
                early = await read_changes(connection, "t:acme", after=head.n + 1, limit=9, now=NOW)
                nowhere = await read_changes(connection, "t:nowhere", after=0, limit=9, now=NOW)
            async with writer.database.changing("acme") as connection:
                c = tables.changes.c
                await connection.execute(delete(tables.changes).where(c.stream == "t:acme", c.n == head.n - 1))
            async with writer.database.reading("acme") as connection:
                gone = await read_changes(connection, "t:acme", after=head.n - 2, limit=9, now=NOW)
            return [last, none, page, early, nowhere, gone]

    last, none, page, early, nowhere, gone = run(scene())

    assert last is not None
    assert [change.keys for change in last[0]] == [("resource:project:p9",)]
    assert none == ((), False)
    assert page is not None
    assert ([change.n for change in page[0]], page[1]) == ([1], True)
    assert (early, nowhere, gone) == (None, None, None)


def test_the_feed_goes_back_an_hour(store_urls: StoreUrls) -> None:
    """What is older is gone though its row is still there; who needs none of it follows on."""

    async def scene() -> list[Page]:
        async with inhabited(store_urls) as writer, writer.database.reading("acme") as connection:
            head = await head_of(connection, "t:acme")
            assert head is not None
            return [
                await read_changes(connection, "t:acme", after=head.n - behind, limit=9, now=NOW + KEEP_NS + late)
                for behind, late in ((1, 0), (1, 1), (0, 1))
            ]

    in_time, late, current = run(scene())

    assert in_time is not None
    assert len(in_time[0]) == 1
    assert (late, current) == (None, ((), False))
