"""What migrations make is what the code believes to be there, down to collations, defaults and the order of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from store.database import Database
from store.tables import OWNED, meta
from tests.databases import Postgres, StoreUrls, run, sqlite_urls

CATALOG = """
    SELECT c.relname, a.attname, a.attnum::int, format_type(a.atttypid, a.atttypmod), l.collname, a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
    UNION ALL
    SELECT conrelid::regclass::text, conname, 0, pg_get_constraintdef(oid), NULL, NULL, NULL
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
    UNION ALL
    SELECT tablename, indexname, 0, indexdef, NULL, NULL, NULL
    FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    ORDER BY 1, 2, 3, 4
"""
MASTER = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY 1, 2"


async def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    database = Database(url)
    async with database.reading() as connection:
        found = [tuple(row) for row in await connection.execute(text(statement))]
    await database.close()
    return found


async def create_all(url: str) -> None:
    """Make the tables as the code describes them, without migrations."""
    database = Database(url)
    async with database.changing() as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        await connection.run_sync(meta.create_all)
    await database.close()


def differences(connection: Connection) -> list[Any]:
    # On SQLite Alembic takes `''` for another default than the empty text; the statements are compared below.
    options = {"compare_type": True, "compare_server_default": connection.dialect.name != "sqlite"}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), meta))


def test_models_match_migrations(store_urls: StoreUrls) -> None:
    """Alembic would have nothing to add, change or remove."""

    async def compare() -> list[Any]:
        database = Database(store_urls.owner)
        async with database.reading() as connection:
            found = await connection.run_sync(differences)
        await database.close()
        return found

    assert run(compare()) == []


def test_catalogs_match_on_postgres(postgres: Postgres, postgres_urls: StoreUrls) -> None:
    """Columns, collations, defaults, constraints and partial indexes are those that the models would make."""
    made = postgres.fresh(is_migrated=False)
    run(create_all(made.owner))

    migrated, modelled = run(rows(postgres_urls.owner, CATALOG)), run(rows(made.owner, CATALOG))

    assert migrated == modelled
    postgres.drop(made)


def test_statements_match_on_sqlite(sqlite_template: Path, tmp_path: Path) -> None:
    """Every table and index is made by the statement that the models would make it by."""
    (tmp_path / "made.db").touch()
    made = sqlite_urls(tmp_path / "made.db").owner
    run(create_all(made))

    migrated, modelled = run(rows(sqlite_urls(sqlite_template).owner, MASTER)), run(rows(made, MASTER))

    assert [tuple(map(squeezed, row)) for row in migrated] == [tuple(map(squeezed, row)) for row in modelled]


def squeezed(value: str | None) -> str:
    return " ".join((value or "").split())


def test_every_text_compares_by_byte(postgres_urls: StoreUrls) -> None:
    """No text of ours depends on the collation of the database."""
    texts = [row for row in run(rows(postgres_urls.owner, CATALOG)) if row[3] == "text"]

    assert {row[4] for row in texts} == {"C"}
    assert len(texts) > 100


def test_keys_of_owned_tables_begin_with_the_tenant() -> None:
    """Every key of a tenant's table begins with the tenant, so that none reaches over the wall."""
    for table in OWNED:
        keys = [list(table.primary_key.columns)]
        keys += [list(constraint.columns) for constraint in table.foreign_key_constraints]
        keys += [list(index.columns) for index in table.indexes]

        assert {key[0].name for key in keys} == {"tenant_id"}, table.name
