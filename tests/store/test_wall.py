"""The wall between tenants as PostgreSQL keeps it, and what each role may do at all.

A canary row of a tenant lies in every table under row-level security. Whoever asks without a tenant, or with another
one, neither sees nor changes it: not the services, and not the owner of the tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Table, insert, text

from store.changes import writing
from store.database import Database
from store.reading import Snapshot
from store.tables import (
    OWNED,
    audit_log,
    groups,
    memberships,
    meta,
    refusals,
    revisions,
    tenant_profiles,
    tenants,
)
from store.views import Views, Wanted
from tests.databases import Postgres, StoreUrls, run

TENANTS = ("acme", "globex")
LOGINS = ("owner", "admin", "sidecar")
SELECT, INSERT = "SELECT * FROM {}", "INSERT INTO {} ({}) VALUES ({})"
UPDATE, DELETE = "UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}"
MOVE = "UPDATE {} SET tenant_id = 'globex'"
#: What who decides never reads, and so may not.
ADMINISTRATION = {
    *("api_keys", "invitation_tokens", "invitations", "approvals"),
    *("idempotency_keys", "personal_data", "erasures"),
    *("retention_periods", "departures", "circumstances"),
    *("refusals", "platform_refusals", "refusal_heads", "tenant_security"),
}
FACTS = {*meta.tables} - {
    *ADMINISTRATION,
    *("store", "revisions", "changes", "sidecars", "settle", "settle_acks"),
    *("names", "presences", "pseudonyms", "audit_log", "platform_audit_log", "policies", "publications"),
}
READ, ALL = {"SELECT"}, {"SELECT", "INSERT", "UPDATE", "DELETE"}
ADD, KEEP = {"SELECT", "INSERT"}, {"SELECT", "INSERT", "UPDATE"}
RIGHTS: dict[str, dict[str, set[str]]] = {
    "sidecar": {
        **dict.fromkeys({*FACTS, "alembic_version", "store", "revisions", "changes", "settle"}, READ),
        **dict.fromkeys({"policies", "publications"}, READ),
        "sidecars": ALL,
        "settle_acks": {"SELECT", "INSERT", "DELETE"},
    },
    "admin": {
        **dict.fromkeys({*FACTS, "revisions", "changes", "sidecars", "settle", "settle_acks", "presences"}, ALL),
        **dict.fromkeys({"store", "names", "audit_log", "platform_audit_log", "refusals", "platform_refusals"}, ADD),
        **dict.fromkeys({"policies", "publications"}, ADD),
        **dict.fromkeys(
            {"pseudonyms", "api_keys", "erasures", "retention_periods", "departures", "refusal_heads"}, KEEP
        ),
        **dict.fromkeys(
            {"invitations", "approvals", "circumstances", "idempotency_keys", "personal_data", "tenant_security"}, ALL
        ),
        "invitation_tokens": {"SELECT", "INSERT", "DELETE"},
        "alembic_version": READ,
    },
}


def row_of(table: Table, tenant: str) -> dict[str, Any]:
    """Make a row with something in every column that needs it."""
    needed = [column for column in table.columns if not column.nullable and column.server_default is None]
    return {c.name: tenant if c.name == "tenant_id" else 1 if c.type.python_type is int else "x" for c in needed}


@pytest.fixture(scope="module")
def world(postgres: Postgres) -> Iterator[StoreUrls]:
    """Two tenants, `acme` with a row in each of its tables, `globex` with none."""
    urls = postgres.fresh()
    run(_fill(urls.superuser))
    yield urls
    postgres.drop(urls)


async def _fill(url: str) -> None:
    database = Database(url)
    async with database.changing() as connection:
        await connection.execute(insert(tenants), [{"id": name, "status": "active"} for name in TENANTS])
        await connection.execute(insert(revisions), [row_of(revisions, "") | {"stream": f"t:{n}"} for n in TENANTS])
        for table in OWNED:
            await connection.execute(insert(table).values(row_of(table, "acme")))
    await database.close()


async def do(url: str, statement: str, tenant: str | None = None) -> tuple[int, int]:
    """Run a statement in a transaction that is taken back; return how many rows came, and how many were changed."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    transaction = connection.transaction()
    await transaction.start()
    try:
        if tenant is not None:
            await connection.execute("SELECT set_config('bylaw.tenant', $1, true)", tenant)
        prepared = await connection.prepare(statement)
        rows = await prepared.fetch()
        return len(rows), int(prepared.get_statusmsg().split()[-1])
    finally:
        await transaction.rollback()
        await connection.close()


def url_of(urls: StoreUrls, login: str) -> str:
    found: str = getattr(urls, login)
    return found


def is_allowed(login: str, table: Table, right: str) -> bool:
    return login == "owner" or right in RIGHTS[login].get(table.name, set())


# --- rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", [None, "", "globex", "nowhere"])
@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("table", OWNED, ids=lambda table: table.name)
def test_rls_by_canary(table: Table, login: str, tenant: str | None, world: StoreUrls) -> None:
    """Without a tenant, or with another one, nobody sees, changes or removes a row, nor brings one in."""
    url = url_of(world, login)

    for statement in (SELECT, UPDATE, DELETE):
        if is_allowed(login, table, statement.split()[0]):
            assert run(do(url, statement.format(table.name), tenant)) == (0, 0), statement
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                run(do(url, statement.format(table.name), tenant))


@pytest.mark.parametrize("tenant", [None, "", "globex"])
@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("table", [table for table in OWNED if table is not audit_log], ids=lambda table: table.name)
def test_no_row_is_brought_in(table: Table, login: str, tenant: str | None, world: StoreUrls) -> None:
    """Without a tenant, or with another one, nobody makes a row of a tenant, nor one of nobody."""
    for owner in ("acme", ""):
        row = row_of(table, owner)
        statement = INSERT.format(table.name, ", ".join(row), ", ".join(repr(value) for value in row.values()))

        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            run(do(url_of(world, login), statement, tenant))


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("table", OWNED, ids=lambda table: table.name)
def test_a_tenant_sees_its_own(table: Table, login: str, world: StoreUrls) -> None:
    """A transaction of the tenant sees its row, where its role may read the table."""
    if is_allowed(login, table, "SELECT"):
        assert run(do(url_of(world, login), SELECT.format(table.name), "acme")) == (1, 1)


@pytest.mark.parametrize(
    "table",
    [table for table in OWNED if table not in {audit_log, groups, refusals, tenant_profiles}],
    ids=lambda table: table.name,
)
def test_a_tenant_changes_its_own(table: Table, world: StoreUrls) -> None:
    """A transaction of the tenant changes and removes its row, as the administrator, and moves it to nobody else."""
    assert run(do(world.admin, UPDATE.format(table.name), "acme")) == (0, 1)
    assert run(do(world.admin, DELETE.format(table.name), "acme")) == (0, 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run(do(world.admin, MOVE.format(table.name), "acme"))


def test_every_owned_table_is_behind_the_wall(world: StoreUrls) -> None:
    """Row-level security is on, for the owner too, on exactly the tables of one tenant."""

    async def forced() -> set[str]:
        connection = await asyncpg.connect(world.owner.replace("+asyncpg", ""))
        rows = await connection.fetch("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        await connection.close()
        return {row["relname"] for row in rows}

    assert run(forced()) == {table.name for table in OWNED}


def test_a_connection_keeps_no_tenant(world: StoreUrls) -> None:
    """What comes out of the pool after a transaction of a tenant, kept or taken back, sees nothing of it."""

    async def ask() -> list[int]:
        database = Database(world.admin, pool_size=1)
        seen = []
        for tenant in ("acme", None, "acme", "globex"):
            async with database.reading(tenant) as connection:
                seen.append(len((await connection.execute(memberships.select())).all()))
        with contextlib.suppress(ZeroDivisionError):
            async with database.changing("acme") as connection:
                await connection.execute(memberships.select())
                raise ZeroDivisionError
        async with database.changing() as connection:
            seen.append(len((await connection.execute(memberships.select())).all()))
        await database.close()
        return seen

    assert run(ask()) == [1, 0, 1, 0, 0]


@pytest.mark.parametrize("login", ["owner", "admin"])
@pytest.mark.parametrize("table", OWNED, ids=lambda table: table.name)
def test_no_row_has_an_empty_tenant(table: Table, login: str, world: StoreUrls) -> None:
    """An empty setting, as a connection has it that had a tenant before, is nobody's: no row can be written that it
    would show."""
    names = ", ".join(column.name for column in table.c)
    values = names.replace("tenant_id", "''", 1)
    statement = f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {table.name}"  # noqa: S608  # names of ours

    assert run(_outcome(url_of(world, login), statement, "")) == "no rows"
    assert run(_outcome(url_of(world, login), statement, "acme")) == "refused"


async def _outcome(url: str, statement: str, tenant: str) -> str:
    try:
        _, changed = await do(url, statement, tenant)
    except asyncpg.InsufficientPrivilegeError:
        return "refused"
    return "rows" if changed else "no rows"


def test_a_savepoint_does_not_change_the_tenant(world: StoreUrls) -> None:
    """A tenant that was set within a savepoint is gone when that is taken back."""

    async def ask() -> int:
        database = Database(world.sidecar)
        async with database.reading() as connection:
            savepoint = await connection.begin_nested()
            await connection.execute(text("SELECT set_config('bylaw.tenant', 'acme', true)"))
            await savepoint.rollback()
            seen = len((await connection.execute(memberships.select())).all())
        await database.close()
        return seen

    assert run(ask()) == 0


@pytest.mark.parametrize("named", ["", "acme", "globex"])
@pytest.mark.parametrize("tenant", [None, "acme", "globex"])
def test_a_load_names_the_tenant_of_its_transaction(tenant: str | None, named: str, world: StoreUrls) -> None:
    """Facts of a tenant come where the load and the transaction name the same, and from nowhere else."""
    wanted = Wanted(own={"principal:x:x", "resource:x:x"})

    async def load() -> Views:
        database = Database(world.sidecar)
        async with database.reading(tenant) as connection:
            found = await Snapshot(connection, named).load(wanted)
        await database.close()
        return found.own

    held = {key for key, view in run(load()).items() if view is not None}

    assert held == ({"principal:x:x", "group:x", "resource:x:x"} if tenant == named == "acme" else set())


# --- audit --------------------------------------------------------------------------------------------


def test_a_write_audits_in_two_chains(postgres_urls: StoreUrls) -> None:
    """A write that concerns two tenants leaves a row in the chain of each, which only its own tenant reads."""

    async def write() -> list[int]:
        await _fill(postgres_urls.superuser)
        database = Database(postgres_urls.admin)
        async with writing(database, tenant="acme", others=["globex"], shared=True) as change:
            change.record("tried")
        seen = []
        for tenant in ("acme", "globex", None):
            async with database.reading(tenant) as connection:
                seen.append(len((await connection.execute(audit_log.select())).all()))
        await database.close()
        return seen

    assert run(write()) == [2, 1, 0]


@pytest.mark.parametrize("table", ["audit_log", "platform_audit_log"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("login", ["admin", "sidecar"])
def test_audit_rows_stay(login: str, statement: str, table: str, world: StoreUrls) -> None:
    """No service changes or removes an audit row, its own tenant's or another's."""
    for tenant in (None, "acme"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            run(do(url_of(world, login), statement.format(table), tenant))


@pytest.mark.parametrize("statement", [UPDATE, DELETE])
def test_audit_rows_stay_for_the_owner(statement: str, world: StoreUrls) -> None:
    """Not even who owns the audit log changes or removes a row with plain statements."""
    assert run(do(world.owner, SELECT.format("audit_log"), "acme")) == (1, 1)
    assert run(do(world.owner, statement.format("audit_log"), "acme")) == (0, 0)


# --- rights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["sidecar", "admin"])
@pytest.mark.parametrize("table", sorted([*meta.tables, "alembic_version"]))
def test_a_role_may_do_what_is_listed(table: str, login: str, world: StoreUrls) -> None:
    """A role has the rights that its service needs, and no others."""

    async def rights() -> set[str]:
        connection = await asyncpg.connect(url_of(world, login).replace("+asyncpg", ""))
        rows = await connection.fetch(
            "SELECT r FROM unnest($1::text[]) r WHERE has_table_privilege($2, r)", EVERY, table
        )
        await connection.close()
        return {row["r"] for row in rows}

    assert run(rights()) == RIGHTS[login].get(table, set())


EVERY = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"]


@pytest.mark.parametrize("login", ["sidecar", "admin"])
def test_a_role_makes_no_tables(login: str, world: StoreUrls) -> None:
    """A service's login neither makes tables nor takes the wall down."""
    for statement in ("CREATE TABLE mine ()", "ALTER TABLE memberships DISABLE ROW LEVEL SECURITY"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            run(do(url_of(world, login), statement))


# --- cost ---------------------------------------------------------------------------------------------


def test_the_wall_is_cheap(postgres_urls: StoreUrls) -> None:
    """The tenant of the transaction is looked up in the index; a question that names its tenant pays once for it."""
    many = (
        "INSERT INTO assignments SELECT 't' || t, 'user', 'u' || u, 'task', 'k', 'r', '', NULL "
        "FROM generate_series(1, 50) t, generate_series(1, 200) u"
    )
    question = "SELECT * FROM assignments WHERE subject_type = 'user' AND subject_id = 'u7'"

    async def plans() -> list[str]:
        owner = Database(postgres_urls.superuser)
        async with owner.changing() as connection:
            await connection.execute(text(many))
            await connection.execute(text("ANALYZE assignments"))
        await owner.close()
        database = Database(postgres_urls.sidecar)
        found = []
        async with database.reading("t7") as connection:
            for asked in (question, f"{question} AND tenant_id = 't7'"):
                rows = await connection.execute(text(f"EXPLAIN {asked}"))
                found.append("\n".join(row[0] for row in rows))
        await database.close()
        return found

    unnamed, named = run(plans())
    assert "Index Cond: ((tenant_id = current_setting('bylaw.tenant'" in unnamed
    assert "One-Time Filter: ((current_setting('bylaw.tenant'" in named
    assert "Index Cond: ((tenant_id = 't7'" in named
