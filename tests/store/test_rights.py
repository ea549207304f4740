"""A service refuses a login that the wall does not hold, and tables of another version, and says the cure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from store import migrating
from store.database import Database
from store.errors import StoreError
from store.rights import ADMIN, SIDECAR, check_rights
from tests.databases import Postgres, StoreUrls, quiet, run, sqlite_urls

#: Rights to try, by a role to which they are given, so that no test changes what another one finds.
CASES = {
    "superuser": ("ALTER ROLE {} SUPERUSER", "{} is a superuser"),
    "bypassrls": ("ALTER ROLE {} BYPASSRLS", "ALTER ROLE {} NOBYPASSRLS"),
    "may bypass": ("GRANT strong TO {}", "REVOKE strong FROM {}"),
    "owner": ("ALTER TABLE resources OWNER TO {}", "{} owns the tables"),
    "may own": ("GRANT owner TO {}", "REVOKE owner FROM {}"),
    "may own, by SET ROLE": ("GRANT owner TO {} WITH INHERIT FALSE", "REVOKE owner FROM {}"),
    "truncate": ("GRANT TRUNCATE ON names TO {}", "REVOKE TRUNCATE ON names FROM {}"),
    "truncate by all": ("GRANT TRUNCATE ON audit_log TO PUBLIC", "REVOKE TRUNCATE ON audit_log FROM PUBLIC"),
    "truncate by a role": ("GRANT TRUNCATE ON changes TO bylaw_admin", "REVOKE TRUNCATE ON changes FROM bylaw_admin"),
    "no wall": (
        "ALTER TABLE groups DISABLE ROW LEVEL SECURITY",
        "groups is open to all tenants: ALTER TABLE groups ENABLE ROW LEVEL SECURITY",
    ),
    "not granted": ("REVOKE bylaw_admin FROM {}", "GRANT bylaw_sidecar TO {}"),
    "not inherited": ("GRANT bylaw_admin TO {} WITH INHERIT FALSE", "ALTER ROLE {} INHERIT"),
    "old tables": ("DROP TABLE presences", "the tables are not there, or old: run `bylaw migrate up`"),
    "no version": ("DELETE FROM alembic_version", "the tables are not there: run `bylaw migrate up`"),
    "old version": ("UPDATE alembic_version SET version_num = '20000101_0000'", "old (20000101_0000): run"),
    "new version": ("UPDATE alembic_version SET version_num = '29990101_0000'", "newer version of Bylaw"),
}


LOGIN = '"a login"'


async def check(url: str, role: str) -> None:
    database = Database(url)
    try:
        await check_rights(database, role)
    finally:
        await database.close()


def refusal(url: str, role: str) -> str:
    with pytest.raises(StoreError) as caught:
        run(check(url, role))
    return f"{caught.value.code}: {caught.value}"


@pytest.mark.parametrize(("login", "role"), [("sidecar", SIDECAR), ("admin", ADMIN), ("admin", SIDECAR)])
def test_services_logins_are_accepted(login: str, role: str, store_urls: StoreUrls) -> None:
    """A login with the role of its service may start; who administers may decide, too."""
    run(check(getattr(store_urls, login), role))


def test_a_sidecars_login_administers_nothing(postgres_urls: StoreUrls) -> None:
    """The role of the decision service is not enough for the management API."""
    assert "GRANT bylaw_admin TO sidecar" in refusal(postgres_urls.sidecar, ADMIN)


@pytest.fixture
def login(postgres: Postgres, postgres_urls: StoreUrls) -> Iterator[str]:
    """A login of this test, whose name needs quotes, with all that its service needs; and a role past the wall."""
    name = postgres.name_of(postgres_urls)
    postgres.cluster.execute(
        "CREATE ROLE strong BYPASSRLS", f"CREATE ROLE {LOGIN} LOGIN", f"GRANT bylaw_admin TO {LOGIN}"
    )
    yield LOGIN
    postgres.cluster.execute(
        f"REASSIGN OWNED BY {LOGIN} TO owner", f"DROP OWNED BY {LOGIN}", f"DROP ROLE {LOGIN}, strong", database=name
    )


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused(case: str, login: str, postgres: Postgres, postgres_urls: StoreUrls) -> None:
    """Each way past the wall, each right that lacks, and each other version is refused with its cure."""
    change, cure = CASES[case]
    url = postgres_urls.owner.replace("owner@", "a%20login@")
    run(check(url, SIDECAR))
    postgres.cluster.execute(change.format(login), database=postgres.name_of(postgres_urls))

    said = refusal(url, SIDECAR)

    assert cure.format(login) in said


def test_superuser_and_owner_are_refused(postgres_urls: StoreUrls) -> None:
    """The logins that are at hand first are refused, each with how to make another one."""
    for url in (postgres_urls.superuser, postgres_urls.owner):
        said = refusal(url, SIDECAR)

        assert said.startswith("unsafe_login")
        assert "CREATE ROLE bylaw_sidecar_login LOGIN; GRANT bylaw_sidecar TO bylaw_sidecar_login" in said


def test_a_login_with_a_role_set_for_it(login: str, postgres: Postgres, postgres_urls: StoreUrls) -> None:
    """A role that is set at the login hides nothing: what can be reset counts."""
    postgres.cluster.execute(f"ALTER ROLE {login} BYPASSRLS", f"ALTER ROLE {login} SET role = bylaw_admin")

    said = refusal(postgres_urls.owner.replace("owner@", "a%20login@"), SIDECAR)

    assert f"ALTER ROLE {login} NOBYPASSRLS" in said


def test_an_empty_database(postgres: Postgres) -> None:
    """Before any migration the cure is one."""
    urls = postgres.fresh(is_migrated=False)

    assert "run `bylaw migrate up`" in refusal(urls.sidecar, SIDECAR)
    postgres.drop(urls)


def test_an_sqlite_file_has_tables_or_not(tmp_path: Path, sqlite_template: Path) -> None:
    """On SQLite the tables are looked at, and nothing else is there to look at."""
    old = sqlite_urls(shutil.copy(sqlite_template, tmp_path / "old.db"))
    run(migrating.down(old.owner, report=quiet))

    for url in (old.owner, sqlite_urls(tmp_path / "none.db").owner):
        assert "run `bylaw migrate up`" in refusal(url, SIDECAR)


def test_it_is_asked_in_two_statements(postgres_urls: StoreUrls) -> None:
    """Looking costs two trips beside those of the transaction."""
    asked: list[str] = []

    async def count() -> None:
        database = Database(postgres_urls.sidecar)
        async with database.reading() as connection:
            await connection.execute(text("SELECT 1"))  # the pool has asked for what it asks new connections
        event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
        await check_rights(database, SIDECAR)
        await database.close()

    run(count())

    assert len(asked) == 2
