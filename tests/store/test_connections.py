"""Connections that are dead: replaced where new ones work, and a clear error where none does."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from store import database as module
from store.database import Database
from store.errors import UnavailableError
from tests.databases import StoreUrls, run


async def ask(database: Database) -> int:
    async with database.reading() as connection:
        found: int = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return found


def test_a_connection_that_was_closed(postgres_urls: StoreUrls) -> None:
    """What was closed while it stood idle is replaced before anybody notices."""

    async def story() -> tuple[int, int]:
        database = Database(postgres_urls.sidecar)
        first = await ask(database)
        for each in list(database._idle):
            module._hang_up(each)
        second = await ask(database)
        await database.close()
        return first, second

    first, second = run(story())

    assert first != second


def test_connections_that_close_at_once(postgres_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each new connection is closed as soon as it is there, the database does not answer, and that is said."""
    take_out = Database._take_out

    def closed(database: Database, connection: Any, *rest: object) -> None:
        module._hang_up(connection)
        take_out(database, connection, *rest)

    monkeypatch.setattr(Database, "_take_out", closed)

    async def story() -> None:
        database = Database(postgres_urls.sidecar)
        try:
            await ask(database)
        finally:
            await database.close()

    with pytest.raises(UnavailableError, match="does not answer"):
        run(story())
