"""Migrations, without a configuration file: up, one step down, how far; and a new name for a history after a restore.

Each step is one transaction that reads which step is next, so that it is done or not begun, and two runs at once do it
once. On PostgreSQL they wait for each other by an advisory lock of the session: asked for again and again rather than
waited for, since a statement that waits holds a snapshot, for which `CREATE INDEX CONCURRENTLY` of the other run would
wait. On SQLite `BEGIN IMMEDIATE` is that lock. Within one process runs wait for each other whatever their databases,
since Alembic keeps what it works on in globals.

The migrations lie beside this package, in a checkout as where it is installed. Looking there, rather than importing
`migrations`, never finds the folder of that name that many an application has.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from asyncpg import InterfaceError as PostgresInterfaceError
from asyncpg import PostgresError
from sqlalchemy import event, func, insert, inspect, select, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

import store as package
from store.database import CONNECT_TIMEOUT_S, Database, parse_url, shown
from store.errors import StoreError, UnavailableError, UnfitError
from store.tables import store
from store.times import write_time

FOLDER = Path(package.__path__[0]).parent / "migrations"
#: How long a step may wait for a table: who asks for one behind it waits as long.
LOCK_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_S: Final = 15 * 60
#: How long a run waits for another one.
WAIT_S: Final = 60.0
_ASK_AGAIN_S: Final = 0.1
_ALONE: Final = threading.Lock()
_LOCK: Final = int.from_bytes(b"bylaw", "big")
#: With a row in one of these, going back loses facts.
FACTS: Final = (
    *("tenants", "principals", "memberships", "assignments", "resources", "platform_groups", "callers"),
    *("api_keys", "personal_data", "erasures"),
)

Report = Callable[[str], None]
#: Picks the steps to do, by the revisions that a database is at: a tuple, whatever Alembic's annotations say.
_Choose = Callable[[ScriptDirectory, Any], list[RevisionStep]]


@dataclass(frozen=True, slots=True)
class Status:
    """How far a database is.

    Attributes:
        current: the last migration that was done; None: none.
        head: the last that there is.
        pending: those to do, in order.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]


# --- what can be asked for ----------------------------------------------------------------------------


async def up(url: str, *, report: Report, wait_s: float = WAIT_S) -> tuple[str, ...]:
    """Do all migrations that are pending; return which.

    Args:
        report: is told of each when it is done.
        wait_s: how long to wait for another run.

    Raises:
        UnavailableError: the database cannot be reached, or is in use for too long.
        UnfitError: the login has not the rights, or the database is none of this version.
    """
    done: list[str] = []
    async with _alone(url, wait_s) as connection:
        while (step := await _one_up(connection)) is not None:
            report(f"{step.revision}  {step.doc}")
            done.append(step.revision)
    return tuple(done)


async def down(url: str, *, lose_facts: bool = False, report: Report, wait_s: float = WAIT_S) -> str | None:
    """Take the last migration back; return which, None if there is none.

    Facts are looked for in the transaction that drops them, so a way back cannot leave its transaction.

    Raises:
        UnavailableError, UnfitError: as above, and if there are facts, unless `lose_facts`.
    """
    async with _alone(url, wait_s) as connection, connection.begin():
        if not lose_facts:
            await _refuse_to_lose(connection)
        step = await connection.run_sync(_move, _last)
        await _refuse_broken_references(connection)
    if step is not None:
        report(f"{step.revision}  taken back: {step.doc}")
    return None if step is None else step.revision


async def status(url: str) -> Status:
    """Say how far a database is. An SQLite file that is not there is not made.

    Raises:
        UnavailableError, UnfitError: as above.
    """
    async with _opened(url) as database:
        current = None
        if database.path is None or database.path.exists():  # a local file system, as SQLite needs it
            async with database.reading() as connection:
                current = await connection.run_sync(_current)
        pending = [step.revision.revision for step in _next(_script(), (current,) if current else ())]
    return Status(current, head(), tuple(pending))


async def renew_identity(url: str, *, clock: Callable[[], int] = time.time_ns) -> str:
    """Give the history a new name, and return it: to be done after a restore, which lost the end of the old one.

    Tokens name their history, so those of what was lost are told apart from those of what happens instead.

    Raises:
        UnavailableError, UnfitError: as above.
    """
    named = uuid.uuid4().hex
    async with _opened(url) as database, database.changing() as connection:
        last = await connection.scalar(select(func.max(store.c.seq)))
        await connection.execute(insert(store).values(uuid=named, seq=(last or 0) + 1, since=write_time(clock())))
    return named


def head() -> str:
    """Name the last migration that there is."""
    found = _script().get_current_head()
    if found is None:
        raise UnfitError("no_migrations", f"there are no migrations in {FOLDER}")
    return found


def scripts() -> Config:
    """Say to Alembic where the migrations are, and how a new one is named."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


# --- one step -----------------------------------------------------------------------------------------


async def _one_up(connection: AsyncConnection) -> Script | None:
    if connection.dialect.name != "sqlite":
        return await connection.run_sync(_move, _next)  # begins and commits by itself, and may leave its transaction
    async with connection.begin():
        step = await connection.run_sync(_move, _next)
        await _refuse_broken_references(connection)
    return step


async def _refuse_broken_references(connection: AsyncConnection) -> None:
    """On SQLite, check what is not checked while tables may be rebuilt."""
    if connection.dialect.name != "sqlite":
        return
    if (await connection.exec_driver_sql("PRAGMA foreign_key_check")).first() is not None:
        raise UnfitError("migration_failed", "rows point to rows that are not there; nothing of this step was kept")


def _next(script: ScriptDirectory, at: Any) -> list[RevisionStep]:
    return script._upgrade_revs("head", at)  # as Alembic's manual has it, for lack of a public name


def _last(script: ScriptDirectory, at: Any) -> list[RevisionStep]:
    return script._downgrade_revs("-1", at) if at else []


def _move(connection: Connection, choose: _Choose) -> Script | None:
    """Run the first step of those chosen; return it."""
    script, chosen = _script(), list[RevisionStep]()

    def first(at: Any, _: MigrationContext) -> list[RevisionStep]:
        chosen.extend(choose(script, at)[:1])
        return chosen

    config = scripts()
    config.attributes["connection"] = connection
    with EnvironmentContext(config, script, fn=first):
        script.run_env()
    return chosen[0].revision if chosen else None


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(scripts())


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def _refuse_to_lose(connection: AsyncConnection) -> None:
    """Refuse if there are facts, those that are hidden from the owner included."""
    tables = await connection.run_sync(lambda c: sorted({*inspect(c).get_table_names()}.intersection(FACTS)))
    if not tables:
        return
    hidden = await _lock_and_show(connection, tables) if connection.dialect.name != "sqlite" else []
    for table in tables:
        if (await connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1"))).first() is not None:  # noqa: S608  # ours
            raise UnfitError(
                "facts_at_stake",
                f"there are facts, in `{table}` at least, which going back would lose: make a backup, then run "
                "`bylaw migrate down --lose-facts`",
            )
    for table in hidden:
        await connection.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))


async def _lock_and_show(connection: AsyncConnection, tables: list[str]) -> list[str]:
    """Keep writers out until the end, and show the owner all rows; return the tables where they were hidden."""
    await connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
    forced = await connection.scalars(
        text("SELECT relname FROM pg_class WHERE relforcerowsecurity AND oid = ANY(CAST(:names AS regclass[]))"),
        {"names": tables},
    )
    hidden = list(forced)
    for table in hidden:
        await connection.execute(text(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"))
    return hidden


# --- connections --------------------------------------------------------------------------------------


@asynccontextmanager
async def _opened(written: str) -> AsyncIterator[Database]:
    database = Database(written, pool_size=1)
    try:
        with _explaining(database.shown):
            if database.path is not None and database.path.exists():  # a local file system, as SQLite needs it
                _try_file(database.path)
            yield database
    finally:
        await database.close()


@asynccontextmanager
async def _alone(written: str, wait_s: float) -> AsyncIterator[AsyncConnection]:
    """Open a connection that may change tables, while no other run does."""
    url = parse_url(written)
    engine = _engine(url, wait_s)
    try:
        with _explaining(shown(url)):
            if url.get_backend_name() == "sqlite":
                _try_file(Path(url.database or ""))
            async with _alone_in_the_process(wait_s), engine.connect() as connection:
                if connection.dialect.name != "sqlite":
                    await _until(partial(_lock, connection), wait_s)
                yield connection
    finally:
        await engine.dispose()


def _engine(url: URL, wait_s: float) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UnfitError("bad_url", "an SQLite database in memory cannot be shared: name a file")
        engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": wait_s})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    settings = {
        "application_name": "bylaw migrate",
        "lock_timeout": f"{LOCK_TIMEOUT_S}s",
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    }
    return create_async_engine(
        url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT_S, "server_settings": settings}
    )


def _prepare_sqlite(dbapi_connection: Any, _: object) -> None:
    """Leave beginning to `_begin_sqlite`, and let tables be rebuilt: foreign keys cannot be turned off later."""
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _try_file(path: Path) -> None:
    """Open a file and close it: the asynchronous driver leaves a thread behind where it cannot."""
    sqlite3.connect(path).close()


@asynccontextmanager
async def _alone_in_the_process(wait_s: float) -> AsyncIterator[None]:
    async def take() -> bool:
        return _ALONE.acquire(blocking=False)

    await _until(take, wait_s)
    try:
        yield
    finally:
        _ALONE.release()


async def _lock(connection: AsyncConnection) -> bool:
    """Take the lock if nobody has it. It is the session's and ends with it, however it ends."""
    is_ours = await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK})
    await connection.commit()
    return bool(is_ours)


async def _until(is_done: Callable[[], Awaitable[bool]], wait_s: float) -> None:
    """Wait for other runs to end."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while not await is_done():
        if asyncio.get_running_loop().time() >= deadline:
            raise UnavailableError(f"another `bylaw migrate` runs, and did not end within {wait_s:g} s")
        await asyncio.sleep(_ASK_AGAIN_S)


# --- errors -------------------------------------------------------------------------------------------

#: What to say to a state of PostgreSQL, or to an error of SQLite by its name.
_UNFIT: Final[dict[str, tuple[str, str]]] = {
    "42501": (
        "not_the_owner",
        "this login may not do that: BYLAW_MIGRATE_URL must be the owner's login, which owns the tables or may make "
        "them, and may make roles (or finds `bylaw_sidecar` and `bylaw_admin` made)",
    ),
    "42P07": (
        "not_ours",
        "there are tables by these names that no migration made: use a database, or a schema, of its own",
    ),
    "28000": ("bad_login", "the server refuses this login"),
    "28P01": ("bad_login", "the server refuses this login or its password"),
    "3D000": ("no_database", "there is no such database: make it first, with CREATE DATABASE"),
    "3F000": ("no_schema", "there is no schema to make tables in: see the login's search_path"),
    "25006": ("read_only", "nothing can be written here: it is a copy that follows another server, or set so"),
    "SQLITE_READONLY": ("read_only", "this file cannot be written"),
    "SQLITE_CANTOPEN": ("bad_url", "this file cannot be opened: is its directory there, and may it be read?"),
    "SQLITE_NOTADB": ("bad_url", "this file is no SQLite database"),
}
_IN_USE: Final = {
    "55P03": f"a table was not free within {LOCK_TIMEOUT_S} s; nothing of this step was kept: try again",
    "57014": f"a statement took longer than {STATEMENT_TIMEOUT_S} s; nothing of this step was kept",
    "SQLITE_BUSY": "another process writes, and did not end in time; nothing of this step was kept: try again",
}


@contextmanager
def _explaining(where: str) -> Iterator[None]:
    """Turn what drivers and Alembic raise into errors of the store, with the cure where it is known."""
    try:
        yield
    except CommandError as error:
        raise UnfitError(
            "unknown_revision", f"{where}: the tables are of another version of Bylaw than this one ({error})"
        ) from error
    except (SQLAlchemyError, sqlite3.Error, StoreError, PostgresError, PostgresInterfaceError, OSError) as error:
        explained = _explain(where, error)
        if explained is None:
            raise
        raise explained from error


def _explain(where: str, error: Exception) -> StoreError | None:
    """Make the error to raise instead; None: it says all that there is to say."""
    state = _state(error)
    if state in _UNFIT:
        code, sentence = _UNFIT[state]
        return UnfitError(code, f"{where}: {sentence}")
    if state in _IN_USE:
        return UnavailableError(f"{where}: {_IN_USE[state]}")
    if isinstance(error, StoreError):
        return None
    cause = getattr(error, "orig", None) or error
    if isinstance(error, DBAPIError) and not error.connection_invalidated and state is not None:
        return UnfitError("migration_failed", f"{where}: a statement failed ({state}); nothing of this step was kept")
    return UnavailableError(f"{where}: the database does not answer ({type(cause).__name__})")


def _state(error: BaseException | None) -> str | None:
    """Find what the driver said, in short: the state of PostgreSQL, the name of SQLite's error."""
    while error is not None:
        if (state := getattr(error, "sqlstate", None)) is not None:
            return str(state)
        if (name := getattr(error, "sqlite_errorname", None)) is not None:
            is_taken = name == "SQLITE_ERROR" and "already exists" in str(error)
            return "42P07" if is_taken else "_".join(name.split("_")[:2])  # without what kind of BUSY it is
        error = getattr(error, "orig", None) or error.__cause__
    return None
