"""Hints that something changed: to poll at once instead of a moment later. They may be lost, doubled or late; nothing
rests on them.

PostgreSQL tells by `LISTEN`; SQLite's `PRAGMA data_version` moves when another connection has written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
from sqlalchemy.engine import URL

from store.database import CONNECT_TIMEOUT_S, Database, identity
from store.queries import CHANNEL

#: How often SQLite is asked. It costs some microseconds, and no lock.
LOOK_S: Final = 0.02
#: After a connection is lost, until the next is tried.
RETRY_S: Final = 0.5

Wake = Callable[[], None]
_log = logging.getLogger("bylaw.hints")


async def listen(database: Database, wake: Wake) -> None:
    """Call `wake` whenever the database hints at a change, and whenever hints may have been lost. Never ends."""
    while True:
        try:
            if database.path is not None:
                await _watch_sqlite(database.path, wake)
            else:
                await _listen_postgres(database.url, wake)
        except (OSError, TimeoutError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.debug("no hints from the database: %s", type(error).__name__)
        await asyncio.sleep(RETRY_S)


async def _listen_postgres(url: URL, wake: Wake) -> None:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain, timeout=CONNECT_TIMEOUT_S)
    lost = asyncio.Event()
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, lambda *_: wake())
        wake()  # what was told before is lost
        await lost.wait()
    finally:
        connection.terminate()


async def _watch_sqlite(path: Path, wake: Wake) -> None:
    file, version = identity(path), None
    uri = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)) as connection:
        while identity(path) == file:  # not replaced by another
            found = connection.execute("PRAGMA data_version").fetchone()
            if found != version:
                version = found
                wake()
            await asyncio.sleep(LOOK_S)
