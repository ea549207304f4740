"""The connection to a database, and its two kinds of transaction: reading, one snapshot; writing, one revision.

PostgreSQL through asyncpg, SQLite through aiosqlite. What differs between the two stands in this file and in `queries`.

The tenant of a transaction is set when it begins, in one hook, and dies with it: pooled connections keep nothing, and a
transaction that names no tenant sees no rows that a tenant owns.

SQLAlchemy with SQLite's driver begins a transaction at the first write, so reads before it, or without any, are torn:
here every transaction begins explicitly, a writing one with `BEGIN IMMEDIATE`, since two that read first and write then
would end in `database is locked`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg
from asyncpg import InterfaceError as PostgresInterfaceError
from asyncpg import PostgresError
from sqlalchemy import event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InvalidatePoolError,
    InvalidRequestError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from store.errors import StoreError, UnavailableError, UnfitError

#: A transaction under way, for those who hand it on and know no library.
Connection = AsyncConnection
DRIVERS: Final = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
#: Execution options by which a transaction tells the hook how it begins.
TENANT_OPTION, BEGIN_OPTION = "bylaw_tenant", "bylaw_begin"
CONNECT_TIMEOUT_S = 5.0
BUSY_TIMEOUT_MS = 5000
#: How long connections may take to say goodbye.
CLOSE_TIMEOUT_S: Final = 1.0
#: Every statement here finds a few rows by their keys, however large a tenant is, and lists come in as JSON, of which
#: PostgreSQL knows no size. Left to itself it now and then reads a tenant's million rows to join them with one; so it
#: joins as is written, by index, as it planned once. Compiling costs more than these statements do.
_PLANNING: Final = {
    "plan_cache_mode": "force_generic_plan",
    "join_collapse_limit": "1",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "jit": "off",
}
_UNDEFINED: Final = {"42P01", "42703"}  # a table, a column
_NO_RIGHT: Final = "42501"


def parse_url(written: str) -> URL:
    """Read a database URL.

    Raises:
        UnfitError: it is none, or of a database that is not known here.
    """
    try:
        url = make_url(written)
    except ArgumentError as error:
        raise UnfitError("bad_url", f"a database URL looks like {DRIVERS['postgresql']}://user@host/name") from error
    name = url.get_backend_name()
    if name not in DRIVERS:
        raise UnfitError("bad_url", f"{shown(url)}: known are {' and '.join(DRIVERS.values())}")
    return url.set(drivername=DRIVERS[name])


def shown(url: URL) -> str:
    """Write a URL without its credentials."""
    query = {name: value for name, value in url.query.items() if name == "host"}
    return URL.create(
        url.drivername, host=url.host, port=url.port, database=url.database, query=query
    ).render_as_string()


class Database:
    """One database. Make it in the loop that uses it; `close` it there."""

    def __init__(self, written: str, *, pool_size: int = 8, statement_timeout_s: float = 5.0) -> None:
        self.url = parse_url(written)
        self.shown = shown(self.url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.path = Path(self.url.database) if self.is_sqlite and self.url.database else None
        self.engine = self._make_engine(pool_size, statement_timeout_s)
        self._file: tuple[int, int] | None = None
        self._idle: set[Any] = set()
        self._writers = asyncio.Semaphore(max(1, pool_size - 1))

    def _make_engine(self, pool_size: int, statement_timeout_s: float) -> AsyncEngine:
        if self.is_sqlite:
            if self.path is None or str(self.path) == ":memory:":
                raise UnfitError("bad_url", "an SQLite database in memory cannot be shared: name a file")
            engine = create_async_engine(
                self.url.set(database=f"file:{quote(str(self.path))}", query={"uri": "true", "mode": "rw"}),
                pool_size=pool_size,
                max_overflow=0,
                connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
            )
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        else:
            engine = create_async_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=CONNECT_TIMEOUT_S,
                connect_args={
                    "timeout": CONNECT_TIMEOUT_S,
                    "connection_class": _PostgresConnection,
                    "server_settings": {
                        "application_name": "bylaw",
                        "statement_timeout": str(int(statement_timeout_s * 1000)),
                        "idle_in_transaction_session_timeout": "60000",
                        **_PLANNING,
                    },
                },
            )
            event.listen(engine.sync_engine, "checkout", self._take_out)
            event.listen(engine.sync_engine, "checkin", self._take_in)
            event.listen(engine.sync_engine, "close", lambda connection, _: self._idle.discard(connection))
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    def watch(self, told: Callable[[str, float], None], clock: Callable[[], float] = time.perf_counter) -> None:
        """Have each statement told from now on once it is over, well or not: its text without values, and for how many
        seconds it was waited for."""

        def begin(_: object, __: object, ___: str, ____: object, context: Any, _____: bool) -> None:
            context.bylaw_began = clock()

        def end(_: object, __: object, statement: str, ___: object, context: Any, ____: bool) -> None:
            told(statement, clock() - context.bylaw_began)

        def fail(failure: ExceptionContext) -> None:
            began = getattr(failure.execution_context, "bylaw_began", None)
            if began is not None and failure.statement is not None:
                told(failure.statement, clock() - began)

        event.listen(self.engine.sync_engine, "before_cursor_execute", begin)
        event.listen(self.engine.sync_engine, "after_cursor_execute", end)
        event.listen(self.engine.sync_engine, "handle_error", fail)

    @asynccontextmanager
    async def reading(self, tenant: str | None = None) -> AsyncIterator[AsyncConnection]:
        """Open one snapshot, read only.

        Args:
            tenant: whose rows it sees beside those of all tenants; None: nobody's.

        Raises:
            UnavailableError: the database cannot be reached, or does not answer in time.
        """
        options: dict[str, Any] = {TENANT_OPTION: tenant, BEGIN_OPTION: "BEGIN"}
        if not self.is_sqlite:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        async with self._connected(options) as connection:
            yield connection

    @asynccontextmanager
    async def changing(self, tenant: str | None = None) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes, committed at the end. Facts are written through `changes.writing` alone.

        One connection of the pool is left to those that read: a write may need a snapshot beside itself, and would
        wait for ever for those who wait for its lock.

        Raises:
            UnavailableError: as above.
        """
        options: dict[str, Any] = {TENANT_OPTION: tenant, BEGIN_OPTION: "BEGIN IMMEDIATE"}
        if not self.is_sqlite:
            options |= {"isolation_level": "READ COMMITTED", "postgresql_readonly": False}
        with failing_clearly(self.shown):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._writers.acquire()
        try:
            async with self._connected(options) as connection:
                yield connection
        finally:
            self._writers.release()

    @asynccontextmanager
    async def _connected(self, options: dict[str, Any]) -> AsyncIterator[AsyncConnection]:
        with failing_clearly(self.shown):
            await self._follow_the_file()
            async with self.engine.connect() as plain:
                connection = await plain.execution_options(**options)
                try:
                    transaction = await connection.begin()
                    try:
                        yield connection
                        await transaction.commit()
                    except Exception:
                        await transaction.rollback()
                        raise
                except asyncio.CancelledError:
                    await self._abandon(connection)
                    raise

    async def _follow_the_file(self) -> None:
        """Leave connections to an SQLite file that was replaced by another under the same name.

        Raises:
            UnavailableError: there is none.
        """
        if self.path is None:
            return
        try:
            found = identity(self.path)
        except FileNotFoundError as error:
            raise UnavailableError(f"{self.shown}: there is no such file: run `bylaw migrate up`") from error
        if found != self._file:
            if self._file is not None:
                await self.engine.dispose()
            self._file = found

    # --- connections that may be dead ----------------------------------------------------------------

    # A server that stands still, or a network that lost a connection, is noticed only by an answer that does not come.
    # Then a word of goodbye is not answered either, and the next connection in the pool is likely as dead.

    async def _abandon(self, connection: AsyncConnection) -> None:
        """Leave a connection that was cut off in the middle, and with it those that stand idle, without a word."""
        for each in self._idle:
            _hang_up(each)
        if not connection.invalidated:
            await connection.invalidate()

    def _take_out(self, connection: Any, *_: object) -> None:
        """Have connections replaced that are known to be closed."""
        self._idle.discard(connection)
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError

    def _take_in(self, connection: Any, _: object) -> None:
        if connection is not None:
            self._idle.add(connection)

    async def close(self) -> None:
        """Close all connections. Whoever does not answer is not waited for."""
        idle = list(self._idle)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.engine.dispose()
        except TimeoutError:
            for each in idle:
                _hang_up(each)
            await self.engine.dispose()


class _PostgresConnection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """One that SQLAlchemy gives up, which it tells by a time limit, says no goodbye: that would take this time."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as it was
        if timeout is not None:
            self.terminate()
        else:
            await super().close()


def _hang_up(connection: Any) -> None:
    """Close a connection to PostgreSQL without waiting for an answer."""
    connection.driver_connection.terminate()


def identity(path: Path) -> tuple[int, int]:
    """Tell a file from another under the same name.

    Raises:
        OSError: there is none.
    """
    said = path.stat()  # a local file system, as SQLite needs it
    return said.st_dev, said.st_ino


@contextmanager
def failing_clearly(where: str) -> Iterator[None]:
    """Turn what drivers raise into errors of the store; their text never leaves."""
    try:
        yield
    except StoreError:
        raise
    except (IntegrityError, DataError):
        raise  # the statement's fault, for who wrote it to answer
    except (ProgrammingError, OperationalError) as error:
        if _says_no_table(error):
            raise UnfitError(
                "no_schema", f"{where}: the tables are not there, or old: run `bylaw migrate up`"
            ) from error
        if getattr(error.orig, "sqlstate", "") == _NO_RIGHT:
            raise UnfitError("no_rights", f"{where}: this login may not do that") from error
        raise _unavailable(where, error) from error
    except (DBAPIError, PoolTimeoutError, OSError, TimeoutError, PostgresError, PostgresInterfaceError) as error:
        raise _unavailable(where, error) from error
    except InvalidRequestError as error:  # connections that are closed as soon as they are opened, for one
        raise _unavailable(where, error) from error


def _says_no_table(error: DBAPIError) -> bool:
    said = str(error.orig)
    return "no such table" in said or "no such column" in said or getattr(error.orig, "sqlstate", "") in _UNDEFINED


def _unavailable(where: str, error: BaseException) -> UnavailableError:
    cause = getattr(error, "orig", None) or error
    return UnavailableError(f"{where}: the database does not answer ({type(cause).__name__})")


def _begin(connection: SyncConnection) -> None:
    """Begin a transaction, for the tenant that its options name. The only place where the tenant is set."""
    options = connection.get_execution_options()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(options.get(BEGIN_OPTION, "BEGIN"))
        return
    tenant = options.get(TENANT_OPTION)
    if tenant is not None:
        connection.exec_driver_sql("SELECT set_config('bylaw.tenant', $1, true)", (tenant,))


def _prepare_sqlite(dbapi_connection: Any, _: object) -> None:
    dbapi_connection.isolation_level = None  # transactions are begun by `_begin`
    cursor = dbapi_connection.cursor()
    # WAL: readers and the writer do not wait for each other. FULL: what was acknowledged survives the loss of power.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
