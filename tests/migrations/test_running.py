"""Migrations run up, down and up again; once, whole or not at all; and say in words what is wrong."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import insert, inspect, select, text

from store import migrating
from store.database import Database
from store.errors import StoreError, UnavailableError, UnfitError
from store.tables import OWNED, memberships, meta, revisions, store, tenants
from store.times import read_time
from tests.databases import Cluster, Postgres, StoreUrls, quiet, run, sqlite_urls

ROOT = Path(__file__).parents[2]
LATER = "29990101_0000"
ALL = tuple(sorted(path.name[:13] for path in (migrating.FOLDER / "versions").glob("[!_]*.py")))
EXTRA = '''"""Something that comes later."""
import os
import sqlalchemy as sa
from alembic import op
revision = "LATER"
down_revision = "HEAD"
def upgrade():
    op.create_table("extra", sa.Column("id", sa.Integer()))
    op.execute("INSERT INTO extra VALUES (1)")
    op.execute("DELETE FROM revisions")
    BODY
def downgrade():
    op.drop_table("extra")
'''.replace("LATER", LATER).replace("HEAD", migrating.head())
TENANT = insert(tenants).values(id="acme", status="active")
MEMBER = insert(memberships).values(tenant_id="acme", type="user", id="ann", status="active")
UP = [
    sys.executable,
    "-c",
    "import sys, asyncio; from store import migrating; asyncio.run(migrating.up(sys.argv[1], report=print))",
]
Extend = Callable[[str], Path]


@pytest.fixture
def extend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extend:
    """Add a migration, whose way up ends with the given statement, to a copy of the folder."""

    def add(body: str) -> Path:
        folder = tmp_path / "migrations"
        shutil.copytree(migrating.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / f"{LATER}_extra.py").write_text(EXTRA.replace("BODY", body))
        monkeypatch.setattr(migrating, "FOLDER", folder)
        return folder

    return add


async def fetch(url: str, statement: Any) -> list[Any]:
    database = Database(url)
    async with database.reading() as connection:
        rows = list((await connection.execute(statement)).all())
    await database.close()
    return rows


async def write(url: str, *statements: Any, tenant: str | None = None) -> None:
    database = Database(url)
    async with database.changing(tenant) as connection:
        for statement in statements:
            await connection.execute(statement)
    await database.close()


async def table_names(url: str) -> set[str]:
    database = Database(url)
    async with database.reading() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    await database.close()
    return set(names)


async def down_to_nothing(url: str, report: Callable[[str], None] = quiet, *, lose_facts: bool = False) -> list[str]:
    """Take all migrations back; return which, in order."""
    undone: list[str] = []
    while (step := await migrating.down(url, report=report, lose_facts=lose_facts)) is not None:
        undone.append(step)
    return undone


def refused(coroutine: Any) -> str:
    with pytest.raises(StoreError) as caught:
        run(coroutine)
    return f"{caught.value.code}: {caught.value}"


# --- up and down --------------------------------------------------------------------------------------


def test_up_down_up(empty_urls: StoreUrls) -> None:
    """Up makes every table, down leaves none, and up makes them again."""
    told: list[str] = []

    done = run(migrating.up(empty_urls.owner, report=told.append))
    there = run(table_names(empty_urls.owner))
    undone = run(down_to_nothing(empty_urls.owner, told.append))
    left = run(table_names(empty_urls.owner))
    again = run(migrating.up(empty_urls.owner, report=quiet))

    assert done == again == ALL
    assert undone == list(reversed(ALL))
    assert there == {*meta.tables, "alembic_version"}
    assert left == {"alembic_version"}
    assert [line.split()[0] for line in told] == [*ALL, *reversed(ALL)]


def test_each_step_back_is_taken_again(store_urls: StoreUrls) -> None:
    """The last step, taken back and done again, leaves what was there."""
    before = run(table_names(store_urls.owner))

    undone = run(migrating.down(store_urls.owner, report=quiet))
    between = run(table_names(store_urls.owner))
    done = run(migrating.up(store_urls.owner, report=quiet))

    assert (undone, done) == (ALL[-1], ALL[-1:])
    assert between < before == run(table_names(store_urls.owner))


def test_up_where_nothing_is_pending(store_urls: StoreUrls) -> None:
    """Up changes nothing where all is done."""
    assert run(migrating.up(store_urls.owner, report=pytest.fail)) == ()


def test_down_where_nothing_was_done(empty_urls: StoreUrls) -> None:
    """Down of an empty database has nothing to do."""
    assert run(migrating.down(empty_urls.owner, report=pytest.fail)) is None


def test_status(empty_urls: StoreUrls) -> None:
    """Status names what was done and what is pending."""
    before = run(migrating.status(empty_urls.owner))
    run(migrating.up(empty_urls.owner, report=quiet))
    after = run(migrating.status(empty_urls.owner))

    head = migrating.head()
    assert before == migrating.Status(None, head, ALL)
    assert after == migrating.Status(head, head, ())


def test_status_makes_no_file(tmp_path: Path) -> None:
    """Asking about an SQLite file that is not there does not make it."""
    run(migrating.status(sqlite_urls(tmp_path / "none.db").owner))

    assert list(tmp_path.iterdir()) == []


def test_a_history_begins(store_urls: StoreUrls) -> None:
    """A new database has an identity, and the streams of what all tenants share."""
    (row,) = run(fetch(store_urls.owner, select(store)))
    streams = run(fetch(store_urls.owner, select(revisions).order_by(revisions.c.stream)))

    assert (len(bytes.fromhex(row.uuid)), row.seq) == (16, 1)
    assert len(row.since) == len("2026-11-21T14:00:00.000000000Z")
    assert read_time(row.since) > 0
    assert [tuple(stream) for stream in streams] == [("g", 0, ""), ("p", 0, "")]


def test_two_databases_are_two_histories(tmp_path: Path) -> None:
    """No two databases that were migrated have one identity."""
    found = set()

    for name in ("a.db", "b.db"):
        url = sqlite_urls(tmp_path / name).owner
        run(migrating.up(url, report=quiet))
        found.add(run(fetch(url, select(store.c.uuid)))[0].uuid)

    assert len(found) == 2


def test_a_restored_history_gets_a_new_name(store_urls: StoreUrls) -> None:
    """After a restore the newest identity is a new one, and the one before is still told."""
    (before,) = run(fetch(store_urls.owner, select(store)))

    named = run(migrating.renew_identity(store_urls.owner, clock=lambda: 0))

    rows = run(fetch(store_urls.owner, select(store).order_by(store.c.seq)))
    assert [tuple(row) for row in rows] == [tuple(before), (named, 2, "1970-01-01T00:00:00.000000000Z")]


def test_an_empty_database_has_no_identity(empty_urls: StoreUrls) -> None:
    """Renewing the identity of a database without tables names the cure."""
    assert "bylaw migrate up" in refused(migrating.renew_identity(empty_urls.owner))


# --- at once, and cut off -----------------------------------------------------------------------------


def in_processes(*urls: str) -> list[str]:
    """Run up on each, in processes of their own at once; return what each reported."""
    running = [subprocess.Popen([*UP, url], cwd=ROOT, stdout=subprocess.PIPE, text=True) for url in urls]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(urls)
    return said


@pytest.mark.slow
def test_runs_at_once(empty_urls: StoreUrls) -> None:
    """Of processes that run at once all succeed, and one does the work."""
    said = in_processes(*[empty_urls.owner] * 3)

    assert sum(migrating.head() in each for each in said) == 1
    assert len(run(fetch(empty_urls.owner, select(store)))) == 1


def test_runs_at_once_in_one_process(empty_urls: StoreUrls, tmp_path: Path) -> None:
    """Of runs at once, on another database too, all succeed, and on each database one does the work."""
    other = sqlite_urls(tmp_path / "other.db").owner

    async def race() -> list[tuple[str, ...]]:
        urls = (empty_urls.owner, other, empty_urls.owner)
        return await asyncio.gather(*(migrating.up(url, report=quiet) for url in urls))

    ours, others, late = run(race())
    assert others == ALL
    assert sorted([ours, late]) == [(), ALL]


def test_roles_that_another_database_is_making(private_postgres: Cluster) -> None:
    """A role that is made for another database at this moment is waited for, and then taken as it is."""
    url = private_postgres.url("owner")
    run(down_to_nothing(url))
    private_postgres.execute("DROP ROLE bylaw_sidecar", "DROP ROLE bylaw_admin")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bylaw migrate' AND wait_event_type = 'Lock'"
    )

    async def race() -> tuple[str, ...]:
        other = await asyncpg.connect(private_postgres.url("postgres", "postgres").replace("+asyncpg", ""))
        watch = await asyncpg.connect(private_postgres.url("postgres", "postgres").replace("+asyncpg", ""))
        async with other.transaction():
            await other.execute("CREATE ROLE bylaw_sidecar")
            ours = asyncio.create_task(migrating.up(url, report=quiet))
            while not ours.done() and not await watch.fetchval(waiting):
                pass
        done = await ours
        await other.close()
        await watch.close()
        return done

    assert run(race()) == ALL


def test_waiting_for_another_run_ends(postgres: Postgres) -> None:
    """A run that goes on for too long is not waited for any longer, and said so."""
    urls = postgres.fresh(is_migrated=False)
    script = UP[2].replace("report=print", "report=print, wait_s=0")
    said: list[str] = []

    def meanwhile(_: str) -> None:
        other = subprocess.run([sys.executable, "-c", script, urls.owner], cwd=ROOT, capture_output=True, check=False)
        said.append(other.stderr.decode())

    run(migrating.up(urls.owner, report=meanwhile))

    assert "another `bylaw migrate` runs, and did not end within 0 s" in said[0]
    postgres.drop(urls)


def test_waiting_for_a_busy_file_ends(tmp_path: Path, sqlite_template: Path) -> None:
    """A file that another process writes is not waited for without end, nor looked at before it is free."""
    path = shutil.copy(sqlite_template, tmp_path / "bylaw.db")
    busy = sqlite3.connect(path, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")

    said = refused(migrating.up(sqlite_urls(path).owner, report=quiet, wait_s=0))

    busy.close()
    assert "another process writes" in said


def test_a_table_in_use(postgres_urls: StoreUrls, extend: Extend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that cannot have a table in time gives up, keeps nothing and says so."""
    extend("pass")
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT_S", 0.01)

    async def disturb() -> str:
        user = await asyncpg.connect(
            postgres_urls.superuser.replace("+asyncpg", ""),
            server_settings={"idle_in_transaction_session_timeout": "5s"},  # so that this test ends in any case
        )
        async with user.transaction():
            await user.execute("LOCK TABLE revisions IN SHARE MODE")
            said = await asyncio.to_thread(refused, migrating.up(postgres_urls.owner, report=quiet))
        await user.close()
        return said

    assert "a table was not free" in run(disturb())
    assert "extra" not in run(table_names(postgres_urls.owner))


def test_a_failing_step_leaves_what_was(store_urls: StoreUrls, extend: Extend) -> None:
    """A migration that fails in the middle leaves tables, rows and revision as they were."""
    extend('op.execute("SELECT nonsense FROM nowhere")')
    before = run(table_names(store_urls.owner))

    refused(migrating.up(store_urls.owner, report=quiet))

    assert run(table_names(store_urls.owner)) == before
    assert len(run(fetch(store_urls.owner, select(revisions)))) == 2
    assert run(migrating.status(store_urls.owner)).pending == (LATER,)


def test_a_mistake_in_a_migration_is_shown_as_such(store_urls: StoreUrls, extend: Extend) -> None:
    """What is no fault of the database comes through as it is, and changes nothing."""
    extend('raise ZeroDivisionError("a bug")')
    before = run(table_names(store_urls.owner))

    with pytest.raises(ZeroDivisionError):
        run(migrating.up(store_urls.owner, report=quiet))

    assert run(table_names(store_urls.owner)) == before


def test_a_killed_run_leaves_what_was(empty_urls: StoreUrls, extend: Extend) -> None:
    """A process that dies in the middle of its second step leaves the first done, the second not begun."""
    folder = extend("os._exit(9)")
    elsewhere = UP[2].replace(
        "migrating;", "migrating; from pathlib import Path; migrating.FOLDER = Path(sys.argv[2]);"
    )

    ended = subprocess.run([*UP[:2], elsewhere, empty_urls.owner, str(folder)], cwd=ROOT, check=False)

    assert ended.returncode == 9
    assert run(table_names(empty_urls.owner)) == {*meta.tables, "alembic_version"}
    assert len(run(fetch(empty_urls.owner, select(revisions)))) == 2
    assert run(migrating.status(empty_urls.owner)).pending == (LATER,)


def test_going_on_after_a_crash(store_urls: StoreUrls, extend: Extend) -> None:
    """When the mistake is mended the step is done, and can be taken back alone."""
    folder = extend("1 / 0")
    with pytest.raises(ZeroDivisionError):
        run(migrating.up(store_urls.owner, report=quiet))
    (folder / "versions" / f"{LATER}_extra.py").write_text(EXTRA.replace("BODY", "pass"))

    done = run(migrating.up(store_urls.owner, report=quiet))
    undone = run(migrating.down(store_urls.owner, report=quiet))

    assert (done, undone) == ((LATER,), LATER)
    assert run(table_names(store_urls.owner)) == {*meta.tables, "alembic_version"}


def test_a_step_that_breaks_references(tmp_path: Path, sqlite_template: Path, extend: Extend) -> None:
    """Foreign keys are off while SQLite's tables are rebuilt, and checked before the step is kept."""
    url = sqlite_urls(shutil.copy(sqlite_template, tmp_path / "bylaw.db")).owner
    extend("op.execute(\"INSERT INTO settle_acks VALUES ('nothing', 'nobody')\")")

    said = refused(migrating.up(url, report=quiet))

    assert "rows point to rows that are not there" in said
    assert "extra" not in run(table_names(url))


def test_an_index_is_made_while_others_write(postgres_urls: StoreUrls, extend: Extend) -> None:
    """A step may leave its transaction for what PostgreSQL does outside of one, and is done then."""
    extend(
        "with op.get_context().autocommit_block():\n"
        "        op.execute('CREATE INDEX CONCURRENTLY ix_extra_id ON extra (id)')"
    )

    done = run(migrating.up(postgres_urls.owner, report=quiet))

    assert done == (LATER,)
    assert run(migrating.status(postgres_urls.owner)).current == LATER


# --- facts at stake -----------------------------------------------------------------------------------


def test_down_refuses_to_lose_facts(store_urls: StoreUrls) -> None:
    """Where there are facts, down changes nothing and names the cure."""
    run(write(store_urls.superuser, TENANT))

    said = refused(migrating.down(store_urls.owner, report=pytest.fail))

    assert said.startswith("facts_at_stake")
    assert "`bylaw migrate down --lose-facts`" in said
    assert len(run(fetch(store_urls.owner, select(tenants)))) == 1


def test_down_sees_facts_that_are_hidden_from_the_owner(store_urls: StoreUrls) -> None:
    """Facts of a tenant, which the wall hides from the owner too, are not lost for that."""
    run(write(store_urls.superuser, MEMBER))

    said = refused(migrating.down(store_urls.owner, report=pytest.fail))

    assert "`memberships`" in said
    assert run(migrating.status(store_urls.owner)).pending == ()


def test_the_wall_stands_after_down_was_refused(postgres_urls: StoreUrls) -> None:
    """Looking for facts leaves no table open to the owner."""
    forced = text("SELECT relname FROM pg_class WHERE relforcerowsecurity ORDER BY 1")
    before = run(fetch(postgres_urls.owner, forced))
    run(write(postgres_urls.superuser, MEMBER))

    refused(migrating.down(postgres_urls.owner, report=pytest.fail))

    assert run(fetch(postgres_urls.owner, forced)) == before
    assert len(before) == len(OWNED)


def test_the_wall_stands_after_a_step_back(postgres_urls: StoreUrls, extend: Extend) -> None:
    """A step back that leaves a table leaves its wall."""
    extend("pass")
    forced = text("SELECT relname FROM pg_class WHERE relforcerowsecurity ORDER BY 1")
    before = run(fetch(postgres_urls.owner, forced))
    run(migrating.up(postgres_urls.owner, report=quiet))

    run(migrating.down(postgres_urls.owner, report=quiet))

    assert run(fetch(postgres_urls.owner, forced)) == before


def test_down_loses_facts_when_told_to(store_urls: StoreUrls) -> None:
    """Told to lose facts, down goes back."""
    run(write(store_urls.superuser, TENANT, MEMBER))

    undone = run(down_to_nothing(store_urls.owner, lose_facts=True))

    assert undone == list(reversed(ALL))
    assert run(table_names(store_urls.owner)) == {"alembic_version"}


def test_down_leaves_the_roles_without_rights(private_postgres: Cluster) -> None:
    """Down takes back all that this database gave the roles, so that they could be dropped."""
    run(down_to_nothing(private_postgres.url("owner")))

    private_postgres.execute("DROP ROLE bylaw_sidecar", "DROP ROLE bylaw_admin")


# --- what is said -------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", [migrating.up, migrating.down])
def test_a_login_without_rights(move: Callable[..., Any], postgres_urls: StoreUrls, extend: Extend) -> None:
    """A service's login cannot migrate, and is told whose can."""
    extend("pass")

    said = refused(move(postgres_urls.sidecar, report=quiet))

    assert said.startswith("not_the_owner")
    assert "BYLAW_MIGRATE_URL must be the owner's login" in said


def test_an_owner_who_may_not_make_roles(private_postgres: Cluster) -> None:
    """Where roles are missing, the owner's login must be one that may make them."""
    run(down_to_nothing(private_postgres.url("owner")))
    private_postgres.execute("DROP ROLE bylaw_sidecar", "DROP ROLE bylaw_admin", "ALTER ROLE owner NOCREATEROLE")

    said = refused(migrating.up(private_postgres.url("owner"), report=quiet))

    assert "may make roles" in said
    assert run(table_names(private_postgres.url("owner"))) == {"alembic_version"}


def test_an_owner_needs_no_right_to_make_roles_that_are_there(private_postgres: Cluster) -> None:
    """Roles that an administrator made serve as well."""
    run(down_to_nothing(private_postgres.url("owner")))
    private_postgres.execute("ALTER ROLE owner NOCREATEROLE")

    assert run(migrating.up(private_postgres.url("owner"), report=quiet)) == ALL


def test_a_schema_of_its_own(private_postgres: Cluster) -> None:
    """In a schema that is not open to all, the roles may find the tables, and no more after down."""
    url = private_postgres.url("owner")
    run(down_to_nothing(url))
    private_postgres.execute(
        "CREATE SCHEMA bylaw AUTHORIZATION owner", *(f"ALTER ROLE {login} SET search_path = bylaw" for login in LOGINS)
    )

    run(migrating.up(url, report=quiet))
    found = run(fetch(private_postgres.url("sidecar"), select(tenants)))
    run(down_to_nothing(url))

    assert found == []
    private_postgres.execute("DROP ROLE bylaw_sidecar", "DROP ROLE bylaw_admin")


LOGINS = ("owner", "admin", "sidecar")


def test_tables_of_somebody_else(empty_urls: StoreUrls) -> None:
    """Tables that no migration made are neither touched nor built upon."""
    database = Database(empty_urls.owner)
    if database.path is not None:
        database.path.touch()

    async def make() -> None:
        async with database.changing() as connection:
            await connection.execute(text("CREATE TABLE groups (mine integer)"))
        await database.close()

    run(make())

    assert refused(migrating.up(empty_urls.owner, report=quiet)).startswith("not_ours")
    assert run(table_names(empty_urls.owner)) == {"groups"}


def test_a_database_of_a_newer_version(store_urls: StoreUrls) -> None:
    """A revision that this version does not know is left alone."""
    run(write(store_urls.superuser, text("UPDATE alembic_version SET version_num = '29990101_0000'")))

    for ask in (migrating.up(store_urls.owner, report=quiet), migrating.status(store_urls.owner)):
        assert refused(ask).startswith("unknown_revision")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("owner@", "nobody_at_all@"), "bad_login"),
        (("@/db_", "@/none_"), "no_database"),
        (("/bylaw-pg-", "/none-"), "unavailable"),
    ],
)
def test_a_server_that_does_not_let_in(change: tuple[str, str], code: str, postgres_urls: StoreUrls) -> None:
    """A wrong login, database or server is told apart."""
    url = postgres_urls.owner.replace(*change)

    assert refused(migrating.up(url, report=quiet)).startswith(code)
    assert refused(migrating.status(url)).startswith(code)


def test_a_replica_is_not_migrated(private_postgres: Cluster, extend: Extend) -> None:
    """A server that follows another one takes no migration."""
    extend("pass")
    private_postgres.become_replica()

    assert refused(migrating.up(private_postgres.url("owner"), report=quiet)).startswith("read_only")


def test_files_that_are_no_database(tmp_path: Path) -> None:
    """A directory that is not there and a file of something else are told apart."""
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at " * 20)

    assert "is its directory there" in refused(
        migrating.up(sqlite_urls(tmp_path / "none" / "b.db").owner, report=quiet)
    )
    assert "no SQLite database" in refused(migrating.up(sqlite_urls(tmp_path / "text.db").owner, report=quiet))


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://localhost/x", "sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"]
)
def test_urls_that_are_none(url: str) -> None:
    """A URL of nothing that could be migrated is refused before anything is opened."""
    assert refused(migrating.up(url, report=quiet)).startswith("bad_url")


def test_errors_are_of_the_store() -> None:
    """What cannot be reached is unavailable; what must not be used is unfit."""
    with pytest.raises(UnavailableError):
        run(migrating.up("postgresql://owner@/bylaw?host=/nowhere", report=quiet))
    with pytest.raises(UnfitError):
        run(migrating.up("nonsense", report=quiet))
