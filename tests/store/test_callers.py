"""Callers in the store: what is kept of them, what is refused, what a load shows, and what the logs say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import NEVER
from sidecar.callers import ALL_SCOPES
from store import tables
from store.audit import verify_chain
from store.changes import Write, Writer
from store.database import Database
from store.keys import digest_of
from store.queries import dialect_of, load_statement
from store.reading import Reader, _parameters
from store.streams import CALLERS, GLOBAL
from store.views import CallerFact, CallersView, Views, Wanted, dump, undump
from store.writes import callers, tenants
from tests.databases import StoreUrls, run
from tests.store.worlds import DAY, NOW, Work, changed, opened, refusal, rows_of

KEY = "bylaw_" + "k" * 43
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
MESH = "uri:spiffe://example.org/mesh"

shop = partial(callers.add, name="shop", key_digest=DIGEST, prefix=KEY[:8], tenants=["acme"], scopes=["check"])
mesh = partial(callers.add, name="mesh", certificate=MESH, tenants=None, scopes=["check", "claims"], expires=NOW + DAY)


@asynccontextmanager
async def settled(urls: StoreUrls, *works: Callable[[Write], Any]) -> AsyncIterator[Writer]:
    """Open a store with two tenants, one of them deleted, in which this was done."""
    async with opened(urls) as writer:
        for tenant in ("acme", "globex", "gone"):
            async with writer.write(tenant=tenant, making=True) as write:
                await tenants.make(write)
        async with writer.write(tenant="gone", shared=True) as write:
            await tenants.set_status(write, "deleted")
        for work in works:
            async with writer.write() as write:
                await work(write)
        yield writer


async def loaded(urls: StoreUrls, wanted: Wanted) -> Views:
    """Load as a process that decides does."""
    database = Database(urls.sidecar)
    try:
        async with Reader(database, "me").snapshot("") as snapshot:
            return (await snapshot.load(wanted)).shared
    finally:
        await database.close()


# --- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_stored_nowhere(store_urls: StoreUrls) -> None:
    """In no table stands more of a key than its first eight characters."""

    async def scene() -> str:
        async with settled(store_urls, shop):
            return repr(await rows_of(store_urls, *tables.meta.tables))

    stored = run(scene())

    assert DIGEST in stored
    assert KEY[:8] in stored
    assert KEY[:9] not in stored


def test_the_services_know_the_same_scopes() -> None:
    """What can be given is what the decision service asks for; and both make the same digest of a key."""
    assert set(callers.SCOPES) == ALL_SCOPES
    assert digest_of(KEY) == DIGEST


# --- rows ---------------------------------------------------------------------------------------------


def test_what_is_kept(store_urls: StoreUrls) -> None:
    """A caller is one row, which lists show as it was written; removed, nothing is left of him."""

    async def scene() -> list[Any]:
        async with settled(store_urls) as writer:
            many = partial(shop, tenants=["globex", "acme", "acme"], scopes=["search", "check", "check"], rate="9/1s")
            _, made = await changed(store_urls, writer, many)
            await changed(store_urls, writer, mesh)
            _, listed = await callers.read_all(writer.database)
            gone, _ = await changed(store_urls, writer, partial(callers.remove, name="shop"))
            return [made, listed, gone, (await callers.read_all(writer.database))[1]]

    made, listed, gone, left = run(scene())

    assert list(made) == list(gone) == ["callers"]
    assert made == gone
    assert listed == (
        callers.Caller("mesh", "", MESH, None, ("check", "claims"), None, NOW + DAY, NOW),
        callers.Caller("shop", KEY[:8], None, ("acme", "globex"), ("check", "search"), "9/1s", NEVER, NOW),
    )
    assert left == listed[:1]


def test_a_name_may_be_given_again(store_urls: StoreUrls) -> None:
    """Names of callers are free once nobody has them; so a key can be replaced under the same name."""

    async def scene() -> str:
        async with settled(store_urls, shop, partial(callers.remove, name="shop")) as writer:
            return await refusal(writer, partial(shop, key_digest="0" * 64))

    assert run(scene()) == "done"


#: What is refused where `shop` and `mesh` are: the code, and what is done.
REFUSED: list[tuple[str, Work]] = [
    ("taken", partial(shop, key_digest="0" * 64)),
    ("taken", partial(shop, name="shop2")),
    ("taken", partial(mesh, name="mesh2")),
    ("bad_id", partial(shop, name="")),
    ("bad_id", partial(shop, name="the shop")),
    ("bad_id", partial(shop, name="x" * 257)),
    ("bad_caller", partial(shop, name="a", certificate=MESH)),
    ("bad_caller", partial(shop, name="a", key_digest=None)),
    ("bad_caller", partial(mesh, name="a", certificate=None)),
    ("bad_key", partial(shop, name="a", key_digest=KEY)),
    ("bad_key", partial(shop, name="a", key_digest="0" * 63)),
    ("bad_key", partial(shop, name="a", key_digest="0" * 63 + "A")),
    ("bad_key", partial(shop, name="a", key_digest="0" * 64 + "\n")),
    ("bad_key", partial(shop, name="a", key_digest="0" * 64, prefix=KEY)),
    ("bad_certificate", partial(mesh, name="a", certificate="spiffe://example.org/mesh")),
    ("bad_certificate", partial(mesh, name="a", certificate="uri:")),
    ("bad_certificate", partial(mesh, name="a", certificate="")),
    ("bad_id", partial(mesh, name="a", certificate="uri:spiffe://example.org/a b")),
    ("bad_id", partial(mesh, name="a", certificate="dns:a\n")),
    ("unknown", partial(mesh, name="a", certificate="dns:a", tenants=["acme", "nowhere"])),
    ("deleted", partial(mesh, name="a", certificate="dns:a", tenants=["gone"])),
    ("bad_id", partial(mesh, name="a", certificate="dns:a", tenants=["\udc80"])),
    ("bad_tenants", partial(mesh, name="a", certificate="dns:a", tenants=[])),
    ("bad_tenants", partial(mesh, name="a", certificate="dns:a", tenants=[f"t{n}" for n in range(1001)])),
    ("bad_scope", partial(mesh, name="a", certificate="dns:a", scopes=["check", "admin"])),
    ("bad_scope", partial(mesh, name="a", certificate="dns:a", scopes=[])),
    ("bad_id", partial(mesh, name="a", certificate="dns:a", rate="")),
    ("bad_times", partial(mesh, name="a", certificate="dns:a", expires=NOW)),
    ("not_there", partial(callers.remove, name="nobody")),
    ("bad_id", partial(callers.remove, name="\udc80")),
]


def test_what_is_refused(store_urls: StoreUrls) -> None:
    """What contradicts itself, or what is stored, is refused with its code, and nothing is changed by it."""

    async def scene() -> tuple[list[str], bool]:
        async with settled(store_urls, shop, mesh) as writer:
            before = await rows_of(store_urls, "callers", "changes", "platform_audit_log")
            found = [await refusal(writer, work) for _, work in REFUSED]
            return found, before == await rows_of(store_urls, "callers", "changes", "platform_audit_log")

    found, is_unchanged = run(scene())

    assert found == [code for code, _ in REFUSED]
    assert is_unchanged


def test_there_are_so_many_and_no_more(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound one is added only where another was removed."""
    monkeypatch.setattr(callers, "MAX_CALLERS", 2)

    async def scene() -> list[str]:
        another = partial(shop, name="another", key_digest="0" * 64)
        async with settled(store_urls, shop, mesh) as writer:
            return [await refusal(writer, work) for work in (another, partial(callers.remove, name="mesh"), another)]

    assert run(scene()) == ["too_many", "done", "done"]


# --- the view -----------------------------------------------------------------------------------------


def test_a_load_shows_all_of_them(store_urls: StoreUrls) -> None:
    """The view of callers holds each, those included whose time is over; it is there where there are none."""

    async def scene() -> list[Views]:
        wanted = Wanted(shared={CALLERS})
        async with settled(store_urls) as writer:
            found = [await loaded(store_urls, wanted)]
            for work in (shop, mesh):
                async with writer.write() as write:
                    await work(write)
            return [*found, await loaded(store_urls, wanted)]

    empty, full = run(scene())

    assert empty == {CALLERS: CallersView()}
    view = full[CALLERS]
    assert isinstance(view, CallersView)
    assert set(view.callers) == {
        CallerFact(f"key:{DIGEST}", "shop", ("acme",), ("check",)),
        CallerFact(f"certificate:{MESH}", "mesh", None, ("check", "claims"), None, NOW + DAY),
    }


def test_nobody_is_shown_unasked(store_urls: StoreUrls) -> None:
    """A load of something else brings no callers along."""

    async def scene() -> Views:
        async with settled(store_urls, shop):
            return await loaded(store_urls, Wanted(shared={"principal:user:ann"}, own={"tenant"}))

    assert run(scene()) == {"principal:user:ann": None}


def test_who_does_not_ask_pays_nothing(postgres_urls: StoreUrls) -> None:
    """A load of something else does not look at the table of callers at all."""

    async def scene() -> list[str]:
        async with settled(postgres_urls, shop):
            pass
        database = Database(postgres_urls.sidecar)
        async with database.reading() as connection:
            found = [await plan(connection, wanted) for wanted in (Wanted({"principal:user:ann"}), Wanted({CALLERS}))]
        await database.close()
        return found

    unasked, asked = run(scene())

    assert " on callers " in unasked
    assert "(never executed)" in unasked
    assert "(never executed)" not in asked


async def plan(connection: AsyncConnection, wanted: Wanted) -> str:
    """Run a load as the driver has it planned once for all; return the step that reads callers."""
    statement = load_statement(dialect_of(connection)).compile(dialect=connection.dialect)
    parameters = _parameters("", wanted)
    given = ", ".join(f"'{parameters[name]}'" for name in statement.positiontup or ())
    await connection.exec_driver_sql(f"PREPARE load AS {statement}")
    rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE load({given})")
    lines = [str(row[0]) for row in rows]
    await connection.exec_driver_sql("DEALLOCATE load")
    return next(line for line in lines if " on callers " in line)


@pytest.mark.parametrize(
    "view",
    [
        CallersView(),
        CallersView((CallerFact("key:0", "a", None, ()), CallerFact("key:1", "b", ("t",), ("check",), "1/1s", 5))),
    ],
)
def test_written_and_read(view: CallersView) -> None:
    """What processes share of the view, written as JSON, is read as what it was."""
    assert undump(json.loads(json.dumps(dump(view)))) == view


@pytest.mark.parametrize("said", [["callers"], ["callers", [["key:0"]]], ["callers", 5], ["callers", [[1, 2, 3]]]])
def test_what_is_no_view_is_refused(said: list[object]) -> None:
    """What was written otherwise is an error of those that readers expect, not half a view."""
    with pytest.raises((ValueError, TypeError, IndexError)):
        undump(said)


# --- logs ---------------------------------------------------------------------------------------------


def test_changes_name_the_view(store_urls: StoreUrls) -> None:
    """Adding and removing touch the one view of callers, move what all tenants share, and nothing else."""

    async def scene() -> dict[str, set[tuple[Any, ...]]]:
        async with settled(store_urls, shop, partial(callers.remove, name="shop")):
            return await rows_of(store_urls, "changes", "revisions")

    found = run(scene())

    of_callers = {row[:2] for row in found["changes"] if row[4] == json.dumps([CALLERS])}
    assert of_callers == {(GLOBAL, 5), (GLOBAL, 6)}
    assert {(row[0], row[1]) for row in found["revisions"]} == {
        *((GLOBAL, 6), ("p", 0), ("t:acme", 1), ("t:globex", 1), ("t:gone", 2))
    }


def test_the_audit_log_tells(store_urls: StoreUrls) -> None:
    """Who was let in, by what, where and what for, and who was put out, stands in the chain, which is whole."""

    async def scene() -> tuple[list[Any], object]:
        async with settled(store_urls, shop, partial(callers.remove, name="shop")) as writer:
            rows = sorted((await rows_of(store_urls, "platform_audit_log"))["platform_audit_log"])
            async with writer.database.reading() as connection:
                fault = await verify_chain(connection, GLOBAL)
            return [entry for row in rows[-2:] for entry in json.loads(row[4])], fault

    entries, fault = run(scene())

    known = {"caller": "shop", "id": f"key:{DIGEST}"}
    assert entries == [
        ["caller.added", {**known, "tenants": ["acme"], "scopes": ["check"], "rate": None, "expires": None}],
        ["caller.removed", known],
    ]
    assert fault is None


def test_the_list_names_its_state(store_urls: StoreUrls) -> None:
    """A list tells of which state it is: that of the last write that it knows of."""

    async def scene() -> tuple[object, object]:
        async with settled(store_urls) as writer:
            async with writer.write() as write:
                await shop(write)
            return write.token, (await callers.read_all(writer.database))[0]

    written, listed = run(scene())

    assert written == listed
