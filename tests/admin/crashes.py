"""Many clients that write in two tenants while the service is killed again and again; then a look at what is stored.

    python -m tests.admin.crashes [--seconds 300] [--clients 50] [--postgres] [--seed 1]

A real `bylaw admin` over a store of its own is killed at moments picked by chance, and started again; on PostgreSQL its
connections are cut now and then instead. Each client goes through *lives* of things that nobody else touches: a person
comes, gets a role and leaves, a team, a folder, an invitation. It writes down what it was told of each request; one
that was cut off it sends again if it had an `Idempotency-Key`, or else leaves that life alone, so that it stays
unknown what became of it. What is stored is held against that by `crash_evidence`, and `bylaw audit verify` looks at
the chains.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from sqlalchemy import text

from engine import Policy
from store import migrating
from store.database import Database
from store.streams import GLOBAL, group_key, principal_key, resource_key, stream_of, subject_key
from tests.admin.crash_evidence import MARK, Entry, Row, Trace, Verdict, judge
from tests.admin.service import fill
from tests.admin.walk import FACTS, POLICY, TENANTS
from tests.databases import Postgres, StoreUrls, quiet, run, sqlite_urls

ROOT: Final = Path(__file__).parents[2]
ISSUER, AUDIENCE = "https://id.example", "admin"
START_S: Final = 60
#: Longer than the service takes for anything; what is not answered then is unknown.
PATIENCE_S: Final = 30.0
#: How long a client waits before it looks for the service again.
PAUSE_S: Final = 0.05
#: So many requests are sent between two disasters, on the average.
BETWEEN: Final = 400
SHOWN_ONCE: Final = "shown_once"

Json = dict[str, Any]


# --- the service ----------------------------------------------------------------------------------------


class Service:
    """A process of `bylaw admin`, to be killed and started again at the same place."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "policies").mkdir()
        (folder / "policies" / "walk.bylaw").write_text(POLICY, "utf-8")
        self.private = ed25519.Ed25519PrivateKey.generate()
        keys = {"keys": [{**OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True), "kid": "k"}]}
        (folder / "keys.json").write_text(json.dumps(keys), "utf-8")
        self.folder, self.url = folder, url
        self.place = f"127.0.0.1:{_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def token(self, who: str) -> str:
        """Sign a token of an end user."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": who, "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self.private, "EdDSA", headers={"kid": "k"})

    def start(self) -> None:
        """Start, and come back when it listens."""
        flags = {"admin": self.place, "database-url": self.url, "policies": "policies", "jwks": "keys.json"}
        flags |= {"issuer": ISSUER, "audience": AUDIENCE}
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = self._run("admin", *words, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        while b"listens" not in (line := _line(self._process.stdout)):
            assert line, (self.folder / "log").read_text()

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def verify(self) -> str | None:
        """Have the audit chains verified by the command; None: they are whole."""
        done = self._run(
            "audit", "verify", "--database-url", self.url, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = done.communicate(timeout=600)
        return None if done.returncode == 0 else said.decode()

    def _run(self, *words: str, **pipes: Any) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}
        command = [sys.executable, "-m", "bylaw", *words]
        return subprocess.Popen(command, cwd=self.folder, env={**environ, "PYTHONPATH": str(ROOT)}, **pipes)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _line(stream: Any) -> bytes:
    readable, _, _ = select.select([stream], [], [], START_S)
    assert readable, "it does not start"
    return bytes(stream.readline())


# --- lives ----------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A request of a life, and what it leaves if it is done. `who`: an end user; None: a key asks."""

    method: str
    path: str
    body: Json | None
    trace: Trace
    who: str | None = None


#: Goes on with what the step before was answered.
Life = Callable[[str, str, Random], Iterator[Step]]
_Life = Any


def person(name: str, tenant: str, rng: Random) -> _Life:
    """Somebody becomes a member, gets a role, and leaves: the tenant, or everything."""
    user, at, t = f"user:{name}", f"/tenants/{tenant}", stream_of(tenant)
    key, place = principal_key(user), f"org:{tenant}"
    him: Row = ("memberships", tenant, "user", name)
    held: Row = ("assignments", tenant, "user", name)
    yield _made_user(name)
    for method, path, status in (("POST", "", "active"), ("PATCH", f"/{user}", "guest")):
        body = {"status": status} | ({"subject": user} if method == "POST" else {})
        trace = _put_member(tenant, name, status)
        yield Step(method, f"{at}/memberships{path}", body, trace)
    given = Trace(
        t, "assignment.given", {"subject": user}, subject_key(user), (), ((*held, "org.viewer", "org", tenant),)
    )
    answer = yield Step("POST", f"{at}/assignments", {"subject": user, "role": "viewer", "on": place}, given)
    match rng.randrange(3):
        case 0 if "id" in answer:
            taken = Trace(t, "assignment.taken", {"subject": user}, subject_key(user), (held,))
            yield Step("DELETE", f"{at}/assignments/{answer['id']}", None, taken)
        case 1:
            ended = Trace(t, "membership.ended", {"principal": user}, key, (him, held))
            yield Step("DELETE", f"{at}/memberships/{user}", None, ended)
        case _:
            own: Row = ("principals", "user", name)
            deleted = Trace(
                GLOBAL, "principal.deleted", {"principal": user}, key, (own, him, held), ((*own, "deleted"),)
            )
            yield Step("DELETE", f"/users/{name}", None, deleted)


def team(name: str, tenant: str, rng: Random) -> _Life:
    """A group is made, somebody is put into it, taken out, or sent away with it."""
    base, t, user = f"/tenants/{tenant}/groups", stream_of(tenant), f"user:{name}"
    inside: Row = ("group_members", tenant, "user", name, name)
    row: Row = ("groups", tenant, name)
    yield _made_user(name)
    yield Step(
        "POST", base, {"id": name}, Trace(t, "group.made", {"group": name}, group_key(name), (), ((*row, False),))
    )
    put = Trace(t, "group.member_added", {"group": name}, principal_key(user), (), (inside,))
    yield Step("POST", f"{base}/{name}/members", {"subject": user}, put)
    if rng.random() < 0.5:
        taken = Trace(t, "group.member_removed", {"group": name}, principal_key(user), (inside,))
        yield Step("DELETE", f"{base}/{name}/members/{user}", None, taken)
    gone = Trace(t, "group.deleted", {"group": name}, group_key(name), (row, inside), ((*row, True),))
    yield Step("DELETE", f"{base}/{name}", None, gone)


def folder(name: str, tenant: str, rng: Random) -> _Life:
    """Two folders are made, one is moved into the other, and both are deleted."""
    base, t = f"/tenants/{tenant}/resources", stream_of(tenant)
    outer, inner = f"{name}-o", f"{name}-i"
    for each in (outer, inner):
        yield _made_folder(tenant, each)
    row: Row = ("resources", tenant, "folder", inner)
    ref = f"folder:{inner}"
    moved = Trace(t, "resource.moved", {"resource": ref}, resource_key(ref), (row,), ((*row, outer, False),))
    yield Step("PATCH", f"{base}/{ref}", {"parent": f"folder:{outer}"}, moved)
    above: Row = ("resources", tenant, "folder", outer)
    ref = f"folder:{outer}"
    rows = ((*above, None, True), (*row, outer, True))
    deleted = Trace(t, "resource.deleted", {"resource": ref}, resource_key(ref), (row, above), rows)
    yield Step("DELETE", f"{base}/{ref}", None, deleted)


def guest(name: str, tenant: str, rng: Random) -> _Life:
    """Somebody is invited to a folder, and accepts, or the invitation is withdrawn."""
    base, t, place, user = f"/tenants/{tenant}/invitations", stream_of(tenant), f"folder:{name}", f"user:{name}"
    row: Row = ("invitations", tenant, place)
    offered = [{"role": "folder.reader", "on": place}]
    yield _made_folder(tenant, name)
    made = Trace(t, "invitation.made", {"roles": offered}, None, (), ((*row, "open"),))
    answer = yield Step("POST", base, {"roles": [{"role": "reader", "on": place}]}, made)
    if "token" not in answer:
        return
    if rng.random() < 0.3:
        withdrawn = Trace(t, "invitation.withdrawn", {"invitation": answer["id"]}, None, (row,), ((*row, "withdrawn"),))
        yield Step("DELETE", f"{base}/{answer['id']}", None, withdrawn)
        return
    rows: tuple[Row, ...] = (
        (*row, "accepted"),
        ("principals", "user", name, "active"),
        ("memberships", tenant, "user", name, "active"),
        ("assignments", tenant, "user", name, "folder.reader", "folder", name),
    )
    accepted = Trace(t, "invitation.accepted", {"principal": user}, principal_key(user), (row,), rows)
    yield Step("POST", "/invitations/accept", {"token": answer["token"]}, accepted, name)


def _made_user(name: str) -> Step:
    ref, row = f"user:{name}", ("principals", "user", name, "active")
    return Step(
        "POST",
        "/users",
        {"id": name},
        Trace(GLOBAL, "principal.made", {"principal": ref}, principal_key(ref), (), (row,)),
    )


def _put_member(tenant: str, name: str, status: str) -> Trace:
    row: Row = ("memberships", tenant, "user", name)
    said = {"principal": f"user:{name}", "status": status}
    key = principal_key(f"user:{name}")
    return Trace(stream_of(tenant), "membership.put", said, key, (row,), ((*row, status),))


def _made_folder(tenant: str, name: str) -> Step:
    ref, row = f"folder:{name}", ("resources", tenant, "folder", name, None, False)
    trace = Trace(stream_of(tenant), "resource.made", {"resource": ref}, resource_key(ref), (), (row,))
    return Step("POST", f"/tenants/{tenant}/resources", {"id": ref}, trace)


LIVES: Final = (person, person, team, folder, guest)


# --- clients --------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What came of a request. `status` 0: nothing was answered. `is_sent`: it may have been read."""

    status: int
    body: Json
    token: str | None = None
    is_sent: bool = True


@dataclass
class Clients:
    """What all clients share.

    Args:
        goes_on: says of each life whether it is to be begun, by its number.
        sent, told, wrong: how many requests, what came of them, and what should not have come.
        moved: a request was sent, or it is over.
    """

    service: Service
    session: aiohttp.ClientSession
    key: str
    goes_on: Callable[[int], bool]
    sent: int = 0
    told: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    async def ask(self, step: Step, key: str | None = None) -> Told:
        """Send a request once."""
        bearer = self.key if step.who is None else self.service.token(step.who)
        headers = {"Authorization": f"Bearer {bearer}"} | ({"Idempotency-Key": key} if key is not None else {})
        self.sent += 1
        self.moved.set()
        where = f"http://{self.service.place}/admin/v1{quote(step.path, safe='/:')}"
        try:
            async with self.session.request(step.method, where, json=step.body, headers=headers) as answer:
                body = await answer.json() if answer.content_length else {}
                return Told(answer.status, body, answer.headers.get("Bylaw-Revision"))
        except aiohttp.ClientConnectorError:
            return Told(0, {}, is_sent=False)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return Told(0, {})


class Client:
    """One client, which writes down what it is told."""

    def __init__(self, number: int, seed: int, clients: Clients) -> None:
        self.journal: list[Entry] = []
        self._name = f"{MARK}{number}"
        self._rng = Random(f"{seed} {number}")
        self._clients = clients

    async def live(self) -> None:
        """Go through lives, one after the other."""
        number = 0
        while self._clients.goes_on(number):
            life = self._rng.choice(LIVES)(f"{self._name}-{number}", self._rng.choice(TENANTS), self._rng)
            await self._go_through(life, number)
            number += 1

    async def _go_through(self, life: Any, number: int) -> None:
        answer: Json | None = None
        for count in range(100):
            try:
                step = life.send(answer) if count else next(life)
            except StopIteration:
                return
            is_keyed = step.method == "POST" and self._rng.random() < 0.5
            told = await self._do(step, f"{self._name}-{number}-{count}" if is_keyed else None)
            if told is None:
                return
            answer = told

    async def _do(self, step: Step, key: str | None) -> Json | None:
        """Send a request, and again while that is of use; None: nobody knows what became of it."""
        clients, entry = self._clients, Entry(step.trace, "unknown", key=key)
        self.journal.append(entry)
        is_repeated = False
        while True:
            told = await clients.ask(step, key)
            if not told.is_sent or (key is not None and told.status in (0, 503)):
                is_repeated = is_repeated or told.is_sent
                await asyncio.sleep(PAUSE_S)  # until the service is there again
                continue
            break
        clients.told["repeated"] += is_repeated
        if told.status in (0, 503):
            clients.told["unknown"] += 1
            return None
        is_shown = told.status == 409 and told.body.get("error") == SHOWN_ONCE and is_repeated
        if not is_shown and told.status >= 300:
            clients.wrong.append(f"{step.method} {step.path} {step.body}: {told.status} {told.body}")
            return None
        clients.told["acknowledged"] += 1
        entry.outcome, entry.token = "acknowledged", told.token
        if key is not None and self._rng.random() < 0.2:
            await self._repeat(step, key, told)
        return {} if is_shown else told.body

    async def _repeat(self, step: Step, key: str, told: Told) -> None:
        """Send once more what was acknowledged: the same must be answered."""
        again = await self._clients.ask(step, key)
        is_shown = again.body.get("error") == SHOWN_ONCE
        if again.status in (0, 503) or is_shown:
            return
        self._clients.told["again"] += 1
        if again != told:
            self._clients.wrong.append(f"{step.path} with a key: {told}, and then {again}")


# --- the siege ------------------------------------------------------------------------------------------


@dataclass
class Siege:
    """What came of it.

    Args:
        told: how many requests were acknowledged, unknown, sent again. violations: what must not be.
    """

    crashes: int
    cut: int
    told: Counter[str]
    verdict: Verdict

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        told, verdict = self.told, self.verdict
        yield (
            f"{told['acknowledged']:,} writes acknowledged, {told['repeated']} of them when sent again with their key; "
            f"{told['again']:,} repeated for nothing"
        )
        yield f"{self.crashes} crashes; connections to the database cut {self.cut} times"
        yield f"{told['unknown']} unknown: {verdict.done} done, {verdict.undone} not"
        yield f"violations: {len(verdict.violations)}"
        yield from verdict.violations[:20]


async def besiege(
    urls: StoreUrls, folder_: Path, *, clients: int, seed: int, goes_on: Callable[[int], bool], between: int = BETWEEN
) -> Siege:
    """Let clients live through crashes.

    Args:
        urls: of a store that is migrated and empty.
        goes_on: says of each life whether it is to be begun, by its number.
        between: how many requests are sent between two disasters, on the average.
    """
    key = await fill(Policy.parse(POLICY), FACTS.encode(), urls.admin)
    service = Service(folder_, urls.admin)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    limit = aiohttp.ClientTimeout(total=PATIENCE_S)
    try:
        await asyncio.to_thread(service.start)
        async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
            session._retry_connection = False  # it would send a DELETE that was cut off again, and tell nobody
            shared = Clients(service, session, key, goes_on)
            all_ = [Client(number, seed, shared) for number in range(clients)]
            disasters = asyncio.create_task(_break(service, shared, urls, Random(seed), between))
            await asyncio.gather(*(each.live() for each in all_))
            shared.is_over = True
            shared.moved.set()
            crashes, cut = await disasters
            await _finish(shared, all_)
        service.kill()
        verdict = await _judged(urls, all_, shared)
        verdict.want((broken := service.verify()) is None, "bylaw audit verify:", broken)
        return Siege(crashes, cut, shared.told, verdict)
    finally:
        service.kill()


async def _break(service: Service, clients: Clients, urls: StoreUrls, rng: Random, between: int) -> tuple[int, int]:
    """Kill the service, or cut its connections, after so many requests, until it is over; say how often."""
    crashes = cut = 0
    following = rng.randrange(1, 2 * between)
    while not clients.is_over:
        await clients.moved.wait()
        clients.moved.clear()
        if clients.sent < following:
            continue
        await asyncio.sleep(rng.uniform(0, 0.05))  # so that it falls between any two statements
        if urls.is_postgres and rng.random() < 0.4:
            await _cut(urls)
            cut += 1
        else:
            service.kill()
            crashes += 1
            await asyncio.to_thread(service.start)
        following = clients.sent + rng.randrange(1, 2 * between)
    return crashes, cut


async def _cut(urls: StoreUrls) -> None:
    """End the connections that the service has to PostgreSQL."""
    database = Database(urls.superuser, pool_size=1)
    ending = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'admin'")
    try:
        async with database.reading() as connection:
            await connection.execute(ending)
    finally:
        await database.close()


async def _finish(clients: Clients, all_: Sequence[Client]) -> None:
    """Ask again for deletions that were cut off: they are several writes."""
    for each in all_:
        for entry in each.journal:
            if entry.outcome == "unknown" and entry.trace.action == "principal.deleted":
                name = str(entry.trace.said["principal"]).removeprefix("user:")
                await clients.ask(Step("DELETE", f"/users/{name}", None, entry.trace))


async def _judged(urls: StoreUrls, all_: Sequence[Client], clients: Clients) -> Verdict:
    database = Database(urls.superuser, pool_size=1, statement_timeout_s=60)
    try:
        async with database.reading() as connection:
            verdict = await judge(connection, [each.journal for each in all_])
    finally:
        await database.close()
    verdict.violations += clients.wrong
    return verdict


@contextmanager
def _store(is_postgres: bool) -> Iterator[tuple[StoreUrls, Path]]:
    """Make a migrated store, and a folder."""
    with ExitStack() as rest:
        scratch = Path(tempfile.mkdtemp(prefix="bylaw-crashes-"))
        rest.callback(shutil.rmtree, scratch)
        if is_postgres:
            server = Postgres()
            rest.callback(server.close)
            yield server.fresh(), scratch
        else:
            urls = sqlite_urls(scratch / "bylaw.db")
            run(migrating.up(urls.owner, report=quiet))
            yield urls, scratch


def main(arguments: Sequence[str] | None = None) -> int:
    """Besiege; exit code 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.admin.crashes", description="kill the service again and again"
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL; without it, on SQLite")
    given = parser.parse_args(arguments)
    with _store(given.postgres) as (urls, scratch):
        until = time.monotonic() + given.seconds
        work = besiege(
            urls, scratch, clients=given.clients, seed=given.seed, goes_on=lambda _: time.monotonic() < until
        )
        siege = run(work)
    print(*siege.lines(), sep="\n")
    return 1 if siege.verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
