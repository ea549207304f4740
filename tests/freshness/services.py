"""What the tests of faults stand on: a small house of facts, who writes into it, and sidecars that decide on it.

    Pen       writes, from a thread that has no event loop, and keeps the tokens
    sidecar   a service in a thread; its parts can be reached into
    process   the same as a process of its own, to be frozen and killed
    Asker     asks one of them, over one connection that it keeps; an answer is a word: `allow`, `default`, `stale`,
              `503 stale`

The house: acme with ann (editor of p1), bob (in `team`, which is editor of p1), cat (member, holds nothing), project:p1
with task:t1, project:p2; globex with eve, who holds a link into acme. None of them may do what the house does not say.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select as waiting
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

from engine.facts import ALWAYS, NEVER
from sidecar import keeper
from sidecar.addresses import Address
from sidecar.keeper import Keeper
from sidecar.server import Service
from sidecar.settings import Settings
from store.changes import Hint, Write, Writer
from store.database import Database
from store.errors import UnavailableError
from store.hints import Wake
from store.settling import Receipts, Settled
from store.tokens import Token
from store.writes import assignments, groups, links, memberships, platform_groups, principals, resources, tenants
from tests.databases import Cluster, StoreUrls
from tests.sidecar.conftest import JSON, serve

ROOT: Final = Path(__file__).parents[2]
POLICY: Final = """
tenant organization { actions read }
resource project in organization { actions read, update attributes { label: string? } }
resource task in project { actions read }
principal user

role viewer on organization { can read, *.read }
role editor on project { can read, update, task.read }
role auditor on organization crossing { can *.read }
role root on system { can *.read }

allow crew: group "crew" to organization.read
"""
#: No test waits for longer than this.
PATIENCE_S: Final = 8.0
#: What is said while nothing can be: ask again.
STALE: Final = ("stale", "503 stale")
_GLANCE_S: Final = 0.005

Work = Callable[[Write], Awaitable[object]]


# --- writing ------------------------------------------------------------------------------------------


class Pen:
    """Writes facts one after the other, as the admin service does. For one thread."""

    def __init__(self, url: str, *, clock: Callable[[], int] = time.time_ns, hint: Hint | None = None) -> None:
        self.runner = asyncio.Runner()
        self.database = self.run(self._open(url))
        self.writer = Writer(self.database, clock=clock, hint=hint)
        self.receipts = Receipts(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.database.close())
        self.runner.close()

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def write(self, *work: Work, tenant: str | None = "acme", **how: Any) -> str:
        """Write, and return the token; `how` as `Writer.write` takes it."""
        return str(self.run(self._write(work, tenant, how)))

    def receipt(self, *work: Work, tenant: str | None = "acme", **how: Any) -> tuple[str, str]:
        """Write, and ask for a receipt; return the token and the receipt's name."""
        wanted: list[str] = []

        async def want(write: Write) -> None:
            wanted.append(write.want_receipt())

        return self.write(*work, want, tenant=tenant, **how), wanted[0]

    def settled(self, receipt: str, within_s: float = PATIENCE_S) -> Settled:
        """Wait for a receipt."""
        found: Settled = self.run(self.receipts.settled(receipt, timeout_s=within_s))
        return found

    def reconnect(self) -> None:
        """Leave the connections to a server that is gone."""
        self.run(self.database.close())

    async def _write(self, work: Iterable[Work], tenant: str | None, how: dict[str, Any]) -> Token | None:
        async with self.writer.write(tenant=tenant, **how) as write:
            for each in work:
                await each(write)
        return write.token

    async def _open(self, url: str) -> Database:
        return Database(url)


def grant(
    who: str = "user:ann",
    role: str = "project.editor",
    place: str = "project:p1",
    *,
    starts: int = ALWAYS,
    expires: int = NEVER,
) -> Work:
    return lambda write: assignments.give(write, who, role, place, starts=starts, expires=expires)


def revoke(who: str = "user:ann", role: str = "project.editor", place: str = "project:p1") -> Work:
    return lambda write: assignments.take(write, who, role, place)


def suspend(who: str = "user:ann") -> Work:
    """In a write of what all tenants share."""
    return lambda write: principals.set_status(write, who, "suspended")


def admit(who: str = "user:ann") -> Work:
    """Take `suspend` back."""
    return lambda write: principals.set_status(write, who, "active")


def furnish(pen: Pen) -> str:
    """Write the house; return its last token."""
    for tenant in ("acme", "globex"):
        pen.write(tenants.make, tenant=tenant, making=True)
    pen.write(*(_person(name) for name in ("ann", "bob", "cat", "eve")), _crew, tenant=None)
    pen.write(_acme)
    return pen.write(_globex, tenant="globex", shared=True, others=["acme"])


def _person(name: str) -> Work:
    return lambda write: principals.make(write, f"user:{name}")


async def _crew(write: Write) -> None:
    await platform_groups.make(write, "crew")


async def _acme(write: Write) -> None:
    for name in ("ann", "bob", "cat"):
        await memberships.put(write, f"user:{name}")
    await groups.make(write, "team")
    await groups.add_member(write, "team", "user:bob")
    for name in ("p1", "p2"):
        await resources.make(write, f"project:{name}")
    await resources.make(write, "task:t1", parent="project:p1")
    await grant("user:ann")(write)
    await grant("group:team")(write)


async def _globex(write: Write) -> None:
    await memberships.put(write, "user:eve")
    await links.make(write, "user:eve", "organization.auditor", "organization:acme", target="acme")


@contextmanager
def house(urls: StoreUrls, **how: Any) -> Iterator[Pen]:
    """Open a furnished store for writing."""
    with Pen(urls.admin, **how) as pen:
        furnish(pen)
        yield pen


# --- asking -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: in one word, the state that it names, and how long it took."""

    word: str
    revision: str = ""
    took_s: float = 0.0

    @property
    def token(self) -> Token:
        return Token.parse(self.revision)


class Asker:
    """Asks one sidecar. For one thread."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        who: str = "user:ann",
        action: str = "project.read",
        what: str = "project:p1",
        *tokens: str,
        tenant: str = "acme",
    ) -> Said:
        """Ask a question, with the tokens that it must not be answered from before."""
        headers = {**JSON, "Bylaw-At-Least": ", ".join(tokens)} if tokens else JSON
        body = json.dumps({"tenant": tenant, "subject": who, "action": action, "resource": what})
        begun = time.monotonic()
        status, said = self._send("POST", "/check", body, headers)
        took_s = time.monotonic() - begun
        if status != 200:
            return Said(f"{status} {said.get('error')}", took_s=took_s)
        word = "allow" if said["decision"] else said["context"]["code"]
        return Said(word, said["context"].get("revision") or "", took_s)

    def word(self, who: str = "user:ann", action: str = "project.read", what: str = "project:p1", *tokens: str) -> str:
        return self.ask(who, action, what, *tokens).word

    def since(self, *tokens: str, who: str = "user:ann", action: str = "project.read", what: str = "project:p1") -> str:
        """Ask, from tokens on; again where what is known is too old, or they cannot be had in time: a busy machine is
        no fault."""
        found = "stale"
        deadline = time.monotonic() + PATIENCE_S
        while found in STALE and time.monotonic() < deadline:
            found = self.word(who, action, what, *tokens)
        return found

    def ready(self) -> tuple[int, str]:
        status, said = self._send("GET", "/ready", None, {})
        return status, said["status"]

    def close(self) -> None:
        self.connection.close()

    def send(self, who: str = "user:ann", action: str = "project.read", what: str = "project:p1") -> None:
        """Send a question, without waiting for what `hear` then reads."""
        body = json.dumps({"tenant": "acme", "subject": who, "action": action, "resource": what})
        self.connection.request("POST", "/check", body, JSON)

    def hear(self) -> str:
        said = json.loads(self.connection.getresponse().read())
        return "allow" if said["decision"] else str(said["context"]["code"])

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            return response.status, json.loads(response.read())
        except (HTTPException, OSError):
            self.connection.close()
            raise


def until(is_so: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
    """Look again and again until something is so; return how long it took."""
    begun, pause = time.monotonic(), threading.Event()
    while not is_so():
        assert time.monotonic() - begun < within_s, f"not so within {within_s} s"
        pause.wait(_GLANCE_S)
    return time.monotonic() - begun


# --- sidecars -----------------------------------------------------------------------------------------


@dataclass
class Sidecar(Asker):
    """A service in a thread of this process."""

    port: int
    service: Service

    def __post_init__(self) -> None:
        super().__init__(self.port)

    @property
    def keeper(self) -> Keeper:
        assert self.service.keeper is not None
        return self.service.keeper

    def poll(self) -> None:
        """Have polls made until one is applied that was sent from now on."""
        before = self.keeper.freshness.epoch

        def is_applied() -> bool:
            self.nudge()
            return self.keeper.freshness.epoch > before + 1  # the first may be on its way already

        until(is_applied)

    def nudge(self) -> None:
        """Hint that there is something to poll for."""
        self.keeper._tasks[0].get_loop().call_soon_threadsafe(self.keeper.freshness.wake.set)

    def set_clock(self, clock: Callable[[], int]) -> None:
        """Have decisions made at another instant."""
        self.service.policies.loaded.policy.clock = clock


async def _deaf(_: Database, __: Wake) -> None:
    await asyncio.Event().wait()


@contextmanager
def deafness() -> Iterator[None]:
    """Have sidecars that start in this process hear no hint."""
    with patch.object(keeper, "listen", _deaf):
        yield


@contextmanager
def sidecar(url: str, *, max_staleness_s: float = 1.0, **changes: Any) -> Iterator[Sidecar]:
    """Run a service over a store until the block ends; `changes` are settings."""
    with _policies() as folder:
        settings = Settings(
            folder, database_url=url, max_staleness_s=max_staleness_s, http=Address("127.0.0.1", 0), watch_s=0.02
        )
        with serve(replace(settings, **changes)) as client, Sidecar(client.port, client.service) as found:
            yield found


class Process(Asker):
    """A service in a process of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int) -> None:
        super().__init__(port)
        self.popen = popen
        self.port = port

    def freeze(self) -> None:
        """Stop it in the middle of what it does, and come back when it stands still."""
        self.popen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.popen.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self, within_s: float = PATIENCE_S) -> int:
        """Ask it to end; return the exit code."""
        self.popen.terminate()
        return self.popen.wait(within_s)


@contextmanager
def process(url: str, *, max_staleness: str = "1s", workers: int = 1) -> Iterator[Process]:
    """Run a service as a process over a store until the block ends; killed then, however it is."""
    with _policies() as folder:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}
        environ |= {"BYLAW_DATABASE_URL": url, "BYLAW_MAX_STALENESS": max_staleness}
        command = [
            sys.executable,
            "-m",
            "sidecar",
            "--policies",
            str(folder),
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "none",
            "--json",
        ]
        command += ["--workers", str(workers)]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as popen:
            try:
                with Process(popen, _port(popen)) as found:
                    yield found
            finally:
                popen.kill()


def _port(popen: subprocess.Popen[bytes]) -> int:
    """Wait until it listens; return where."""
    assert popen.stdout is not None
    readable, _, _ = waiting.select([popen.stdout], [], [], 30)
    assert readable, "it does not start"
    where: str = json.loads(popen.stdout.readline())["listening"]
    return int(where.rpartition(":")[2])


@contextmanager
def _policies() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bylaw-house-") as folder:
        Path(folder, "house.bylaw").write_text(POLICY)
        yield Path(folder)


# --- a wire that can be cut -----------------------------------------------------------------------------


class Relay:
    """Stands between clients and a PostgreSQL server, and can fall silent: connections stay open and nothing comes
    through, as when packets are lost on the way."""

    def __init__(self, cluster: Cluster) -> None:
        self.hushed = 0
        self._cluster = cluster
        self._home = tempfile.TemporaryDirectory(prefix="bylaw-relay-")
        self._wires: list[_Wire] = []
        self._mark: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._home.cleanup()

    def reach(self, url: str) -> str:
        """Write the URL by which a database of the server is reached through here."""
        return url.replace(str(self._cluster.home), self._home.name)

    def hush(self) -> None:
        """Let nothing more through on the connections that there are; new ones work."""
        for wire in list(self._wires):
            self._hush(wire)

    def cut(self) -> None:
        """End the connections that fell silent."""
        for wire in list(self._wires):
            if wire.is_silent:
                self._loop.call_soon_threadsafe(wire.cut)

    def hush_at(self, text: str) -> None:
        """Let nothing more through on the next connection that says this, from there on."""
        self._mark = text.encode()

    def _hush(self, wire: _Wire) -> None:
        if not wire.is_silent:
            wire.is_silent = True
            self.hushed += 1

    async def _listen(self) -> None:
        name = ".s.PGSQL.5432"
        self._target = str(self._cluster.home / name)
        self._server = await asyncio.start_unix_server(self._connect, f"{self._home.name}/{name}")

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        wire = _Wire([writer, far_writer])
        self._wires.append(wire)
        await asyncio.gather(self._carry(wire, reader, far_writer), self._carry(wire, far_reader, writer))
        self._wires.remove(wire)

    async def _carry(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if self._mark is not None and self._mark in piece:
                    self._mark = None
                    self._hush(wire)
                if not wire.is_silent:
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False)
class _Wire:
    ends: list[asyncio.StreamWriter]
    is_silent: bool = False

    def cut(self) -> None:
        for end in self.ends:
            end.close()


# --- writers in processes of their own ------------------------------------------------------------------


@contextmanager
def children(url: str, *calls: tuple[Any, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """Run functions of this module in processes of their own, all at once: name and arguments after the URL. They are
    forked by one that has imported everything. In the last line that is written stand their exit codes."""
    program = f"from tests.freshness.services import fork; fork({url!r}, {calls!r})"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def fork(url: str, calls: Iterable[tuple[Any, ...]]) -> None:
    """Be the one that forks."""
    found = []
    for name, *arguments in calls:
        if (child := os.fork()) == 0:
            globals()[name](url, *arguments)
            os._exit(0)
        found.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in found]), flush=True)


def die_writing(url: str, moment: str) -> None:
    """Give cat a role and be killed `before the hint`, or take ann's away and be killed `before the commit`."""
    with Pen(url, hint=_die) as pen:
        pen.write(*([revoke(), _finish_and_die] if moment == "before the commit" else [grant("user:cat")]))


async def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _finish_and_die(write: Write) -> None:
    await write.finish()
    await _die()


class UndoneError(Exception):
    """Takes a write back at its end."""


async def _undo(_: Write) -> None:
    raise UndoneError


def scribble(url: str, seed: int, count: int, end: str) -> None:
    """Write beside others: in one tenant, in another, in what all share, in several at once; take some back; print the
    keys of what was committed. Then end `well`, or killed in the `middle` of a write or at its `end`."""
    dice = random.Random(seed)
    with Pen(url) as pen:
        for number in range(count):
            made = _scribble_once(pen, dice, f"s{seed}n{number}")
            os.write(1, json.dumps(made).encode() + b"\n")  # at once, and whole
        if end != "well":
            pen.write(_make(f"s{seed}killed"), _die if end == "middle" else _finish_and_die)


def _scribble_once(pen: Pen, dice: random.Random, name: str) -> list[tuple[str, str]]:
    """Make a project, a person or both; return what was committed: stream and key."""
    tenant, what, ending = dice.choice(("acme", "globex")), dice.randrange(3), [_undo] if dice.random() < 0.25 else []
    project, person = (f"t:{tenant}", f"resource:project:{name}"), ("g", f"principal:user:{name}")
    while True:
        try:
            if what == 0:
                pen.write(_make(name), *ending, tenant=tenant)
                return [project]
            if what == 1:
                pen.write(_person(name), *ending, tenant=None)
                return [person]
            pen.write(_make(name), _person(name), *ending, tenant=tenant, shared=True)
            return [project, person]
        except UnavailableError:  # eight at one SQLite file may wait for too long
            continue
        except UndoneError:
            return []


def _make(name: str) -> Work:
    return lambda write: resources.make(write, f"project:{name}")
