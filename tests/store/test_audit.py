"""The audit logs: whole as they are written, broken wherever somebody touches them, and without names of persons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Row, delete, select, update

from store import tables
from store.audit import Break, verify_chain
from store.changes import Write, chained
from store.database import Database
from store.pseudonyms import erase, pseudonym
from store.streams import GLOBAL, tenant_of
from store.writes import memberships, principals
from tests.databases import StoreUrls, run
from tests.store.worlds import inhabited, rows_of

STREAMS = (GLOBAL, "p", "t:acme", "t:globex", "t:initech")


async def verified(urls: StoreUrls, *streams: str) -> dict[str, Break | None]:
    """Verify chains, as the admin service does: each in a snapshot of its own tenant."""
    database = Database(urls.admin)
    found = {}
    try:
        for stream in streams or STREAMS:
            async with database.reading(tenant_of(stream)) as connection:
                found[stream] = await verify_chain(connection, stream)
    finally:
        await database.close()
    return found


async def forge(urls: StoreUrls, *statements: Any) -> None:
    """Change what no service may change."""
    database = Database(urls.superuser)
    try:
        async with database.changing("acme") as connection:
            for statement in statements:
                await connection.execute(statement)
    finally:
        await database.close()


def test_chains_are_whole(store_urls: StoreUrls) -> None:
    """What the store writes verifies, in every stream, those without any row included."""

    async def scene() -> Mapping[str, Break | None]:
        async with inhabited(store_urls):
            return await verified(store_urls)

    assert run(scene()) == dict.fromkeys(STREAMS)


LOG = tables.audit_log.c
_THIRD = (LOG.tenant_id == "acme") & (LOG.n == 2)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"actor": "user:nobody"}, Break(2, "the row was changed")),
        ({"entries": "[]"}, Break(2, "the row was changed")),
        ({"at": "2001-01-01T00:00:00.000000000Z"}, Break(2, "the row was changed")),
        ({"hash": "0" * 64}, Break(2, "the row was changed")),
        ({"before": "0" * 64}, Break(2, "it does not follow the row before")),
        ({"n": 9}, Break(2, "the row is missing")),
        (None, Break(2, "the row is missing")),
    ],
)
def test_a_changed_row_is_found(store_urls: StoreUrls, values: dict[str, Any] | None, found: Break) -> None:
    """Whatever of a row is changed, and if it is removed, the chain says where."""
    change = delete(tables.audit_log) if values is None else update(tables.audit_log).values(**values)

    async def scene() -> Mapping[str, Break | None]:
        async with inhabited(store_urls):
            await forge(store_urls, change.where(_THIRD))
            return await verified(store_urls)

    assert run(scene()) == dict.fromkeys(STREAMS) | {"t:acme": found}


def test_rows_cut_off_at_the_end_are_found(store_urls: StoreUrls) -> None:
    """A chain that was made shorter, or whose last row was made anew with a right hash, does not fit its head."""

    async def last() -> Row[Any]:
        database = Database(store_urls.superuser)
        async with database.reading("acme") as connection:
            newest = select(tables.audit_log).where(LOG.tenant_id == "acme").order_by(LOG.n.desc()).limit(1)
            row = (await connection.execute(newest)).one()
        await database.close()
        return row

    async def scene() -> tuple[int, Break | None, Break | None]:
        async with inhabited(store_urls):
            row = await last()
            this = (LOG.tenant_id == "acme") & (LOG.n == row.n)
            made = chained(row.before, "t:acme", row.n, row.at, row.actor, "[]")
            await forge(store_urls, update(tables.audit_log).where(this).values(entries="[]", hash=made))
            anew = await verified(store_urls, "t:acme")
            await forge(store_urls, delete(tables.audit_log).where(this))
            shorter = await verified(store_urls, "t:acme")
            return row.n, anew["t:acme"], shorter["t:acme"]

    n, anew, shorter = run(scene())

    assert anew == Break(n, "the stream has another head")
    assert shorter == Break(n, "the row is missing")


def test_another_tenant_sees_no_chain(postgres_urls: StoreUrls) -> None:
    """To a transaction of another tenant a log is empty, and so is not taken for whole."""

    async def scene() -> Break | None:
        async with inhabited(postgres_urls) as writer, writer.database.reading("globex") as connection:
            return await verify_chain(connection, "t:acme")

    assert run(scene()) == Break(1, "the row is missing")


# --- pseudonyms -------------------------------------------------------------------------------------------


def test_no_person_is_named_in_a_log(store_urls: StoreUrls) -> None:
    """Who did something, and to whom, is a pseudonym in the logs; services keep their names."""

    async def scene() -> tuple[str, dict[str, set[tuple[Any, ...]]]]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme", actor="user:ann") as write:
                await memberships.put(write, "user:bob")
                await memberships.put(write, "service:mail")
            rows = await rows_of(store_urls, "audit_log", "platform_audit_log", "pseudonyms")
            said = json.dumps([[*row] for name in ("audit_log", "platform_audit_log") for row in rows[name]])
            return said, rows

    said, rows = run(scene())
    names = {ref: name for name, ref in rows["pseudonyms"]}

    assert set(names) == {"user:ann", "user:bob", "user:eve"}
    assert not any(ref in said for ref in names)
    assert {row[3] for row in rows["audit_log"]} == {"system:system", f"user:{names['user:ann']}"}
    assert f"user:{names['user:bob']}" in said
    assert "service:mail" in said


def test_a_person_has_one_pseudonym(store_urls: StoreUrls) -> None:
    """Whoever asks for the pseudonym of a user gets the one that the logs have."""

    async def scene() -> tuple[str, str, set[tuple[Any, ...]]]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                mine = await pseudonym(write, "user:ann")
            async with writer.write(tenant="globex") as write:
                yours = await pseudonym(write, "user:ann")
            return mine, yours, (await rows_of(store_urls, "pseudonyms"))["pseudonyms"]

    mine, yours, rows = run(scene())

    assert mine == yours
    assert (mine, "user:ann") in rows


def test_erasure_breaks_no_chain(store_urls: StoreUrls) -> None:
    """Once a person is erased nothing says any more who it was, and all chains verify."""

    async def work(write: Write) -> list[bool]:
        return [await erase(write, "user:eve"), await erase(write, "user:eve")]

    async def scene() -> tuple[list[bool], object, Mapping[str, Break | None]]:
        async with inhabited(store_urls) as writer:
            async with writer.write(others=["acme", "globex"]) as write:
                await principals.delete(write, "user:eve")
            async with writer.write() as write:
                erased = await work(write)
            refs = {row[1] for row in (await rows_of(store_urls, "pseudonyms"))["pseudonyms"]}
            return erased, refs, await verified(store_urls)

    erased, refs, chains = run(scene())

    assert erased == [True, False]
    assert refs == {"user:ann", "user:bob", None}
    assert chains == dict.fromkeys(STREAMS)
