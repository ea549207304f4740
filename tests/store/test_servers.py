"""The servers of the tests do what tests of faults rely on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # comes with the PostgreSQL package
import pytest

from store import migrating
from store.database import Database
from store.errors import UnavailableError
from store.queries import read_line
from store.tokens import Line
from tests.databases import Cluster, Postgres, Redis, StoreUrls, run, sqlite_urls


async def line(url: str) -> Line:
    database = Database(url)
    async with database.reading() as connection:
        found = await read_line(connection)
    await database.close()
    return found


def test_every_login_reaches_its_database(store_urls: StoreUrls) -> None:
    """Owner, services and superuser read the one store."""
    urls = (store_urls.owner, store_urls.admin, store_urls.sidecar, store_urls.superuser)

    assert len({run(line(url)) for url in urls}) == 1


def test_databases_are_apart(postgres: Postgres, postgres_urls: StoreUrls) -> None:
    """What one test writes, another does not find."""
    other = postgres.fresh()
    run(migrating.renew_identity(other.owner))

    assert run(line(other.owner)) != run(line(postgres_urls.owner))
    postgres.drop(other)


def test_nothing_listens_on_a_port(private_postgres: Cluster, redis: Redis) -> None:
    """Servers are reached over their Unix sockets alone."""
    for server in (private_postgres, redis):
        assert server.pid is not None
        assert psutil.Process(server.pid).net_connections("inet") == []


def test_a_killed_postgres_loses_nothing(private_postgres: Cluster) -> None:
    """A kill ends every process and connection; what was committed is there after the start."""
    named = run(migrating.renew_identity(private_postgres.urls().owner))

    private_postgres.kill()
    with pytest.raises(UnavailableError):
        run(line(private_postgres.urls().owner))
    private_postgres.start()

    assert run(line(private_postgres.urls().sidecar)).store == named


def test_a_frozen_postgres_answers_later(private_postgres: Cluster) -> None:
    """While it is frozen a statement waits; when it is thawed the answer comes."""

    async def ask() -> tuple[bool, int]:
        connection = await asyncpg.connect(private_postgres.urls().sidecar.replace("+asyncpg", ""))
        private_postgres.freeze()
        asked = asyncio.ensure_future(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait([asked], timeout=0.05)
        private_postgres.thaw()
        found: int = await asked
        await connection.close()
        return bool(done), found

    assert run(ask()) == (False, 1)


def test_a_restored_postgres_is_as_it_was(private_postgres: Cluster) -> None:
    """A restore brings back what was there at the backup, and loses what came after."""
    owner = private_postgres.urls().owner
    before = run(line(owner))
    kept = private_postgres.keep()
    run(migrating.renew_identity(owner))

    private_postgres.restore(kept)

    assert run(line(owner)) == before


def test_a_promoted_replica_is_on_another_timeline(private_postgres: Cluster) -> None:
    """A replica takes no writes; when it is promoted it does, on a timeline of its own."""
    urls = private_postgres.urls()
    before = run(line(urls.owner))
    private_postgres.become_replica()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        private_postgres.execute("DELETE FROM settle")

    private_postgres.promote()

    after = run(line(urls.owner))
    private_postgres.execute("DELETE FROM settle")
    assert (after.store, after.timeline != before.timeline) == (before.store, True)


def test_a_closed_server_leaves_nothing(postgres: Postgres) -> None:
    """Processes and directory are gone, frozen or killed as they may have been."""
    servers: list[Cluster | Redis] = [postgres.private(), postgres.private(), Redis()]
    servers[2].start()
    processes = [psutil.Process(server.pid) for server in servers]
    servers[0].kill()
    servers[1].freeze()

    for server in servers:
        server.close()

    assert not any(process.is_running() for process in processes)
    assert not any(server.home.exists() for server in servers)


def test_redis_answers_is_killed_frozen_and_started(redis: Redis) -> None:
    """A real Redis: it can be lost, be slow and come back, empty."""

    def ask(words: bytes, timeout_s: float = 5) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(str(redis.path))
            client.sendall(words + b"\r\n")
            return client.recv(64)

    assert ask(b"SET a 1") == b"+OK\r\n"
    redis.freeze()
    with pytest.raises(TimeoutError):
        ask(b"GET a", timeout_s=0.05)
    redis.thaw()
    assert ask(b"GET a") == b"$1\r\n1\r\n"
    redis.kill()
    with pytest.raises(ConnectionRefusedError):
        ask(b"GET a")
    redis.start()
    assert ask(b"GET a") == b"$-1\r\n"


@pytest.mark.parametrize("store_urls", ["sqlite"], indirect=True)
def test_an_sqlite_file_is_a_copy(sqlite_template: Path, store_urls: StoreUrls) -> None:
    """A test's file may be changed without that others see it."""
    before = run(line(sqlite_urls(sqlite_template).owner))

    run(migrating.renew_identity(store_urls.owner))

    assert run(line(sqlite_urls(sqlite_template).owner)) == before
    assert run(line(store_urls.owner)) != before
