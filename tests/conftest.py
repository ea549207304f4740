"""Real databases for every test that wants one. What they can do is in `databases.py`.

    store_urls         a migrated database, once on SQLite and once on PostgreSQL, as `StoreUrls`
    empty_urls         the same, with nothing in it
    postgres_urls      a migrated database on PostgreSQL alone
    postgres           the session's server, `Postgres`: `fresh()` makes more databases
    private_postgres   a server of this test alone, `Cluster`, to be killed, frozen or restored
    redis              a server of this test alone, `Redis`

A server starts when the first test wants it. Tests on PostgreSQL are marked `postgres` by what they ask for.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import migrating
from tests.databases import Cluster, Postgres, Redis, StoreUrls, quiet, run, sqlite_urls

BOTH = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a PostgreSQL server."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL of the session."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "bylaw.db"
    run(migrating.up(sqlite_urls(path).owner, report=quiet))
    return path


@pytest.fixture
def postgres_urls(postgres: Postgres) -> Iterator[StoreUrls]:
    """A migrated PostgreSQL database."""
    urls = postgres.fresh()
    yield urls
    postgres.drop(urls)


@pytest.fixture(params=BOTH)
def store_urls(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUrls:
    """A migrated database of either kind."""
    if request.param == "postgres":
        urls: StoreUrls = request.getfixturevalue("postgres_urls")
        return urls
    return sqlite_urls(shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "bylaw.db"))


@pytest.fixture(params=BOTH)
def empty_urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreUrls]:
    """A database of either kind with nothing in it; of SQLite not even the file."""
    if request.param == "sqlite":
        yield sqlite_urls(tmp_path / "bylaw.db")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    urls = postgres.fresh(is_migrated=False)
    yield urls
    postgres.drop(urls)


@pytest.fixture
def private_postgres(postgres: Postgres) -> Iterator[Cluster]:
    """A PostgreSQL server of one test, with the migrated database of `cluster.urls()`."""
    with postgres.private() as cluster:
        yield cluster


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis server of one test."""
    with Redis() as server:
        server.start()
        yield server
