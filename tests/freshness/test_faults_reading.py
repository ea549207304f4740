"""Reading one's writes, and how old an answer may be: whatever becomes of the hints, the clocks and the writers."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sidecar import keeper
from store.answers import Polled
from store.database import Database
from store.hints import Wake, listen
from store.reading import Reader
from store.tokens import Token
from tests.databases import Cluster, Postgres, StoreUrls, sqlite_urls
from tests.freshness.services import (
    Asker,
    Pen,
    admit,
    children,
    deafness,
    grant,
    house,
    revoke,
    sidecar,
    suspend,
    until,
)

pytestmark = pytest.mark.slow

MAX_STALENESS_S = 1.0
#: A write is applied by the next poll, and that takes a moment on a machine that others use, too.
POLL_S = 0.5
HOUR_NS = 3600 * 1_000_000_000


async def storm(database: Database, wake: Wake) -> None:
    """Double every hint, and hint at every turn of the loop where there is nothing to tell."""

    async def blow() -> None:
        while True:
            wake()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(listen(database, wake))
        group.create_task(listen(database, wake))
        group.create_task(blow())


# --- read your writes ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("deaf")
def test_read_your_writes(store_urls: StoreUrls) -> None:
    """Whoever names the token of a write is answered from that write on, right after it, by any sidecar, though every
    hint is lost and no poll would come for a long time."""
    dice = random.Random(1)
    held = {"ann": True, "bob": False, "cat": False}
    with (
        house(store_urls) as pen,
        sidecar(store_urls.sidecar, max_staleness_s=60) as one,
        sidecar(store_urls.sidecar, max_staleness_s=60) as other,
    ):
        pen.write(revoke("group:team"))
        for _ in range(40):
            who = dice.choice(sorted(held))
            token = pen.write((revoke if held[who] else grant)(f"user:{who}"))
            held[who] = not held[who]
            asked = dice.choice((one, other))
            name = dice.choice(sorted(held))

            assert asked.since(token, who=f"user:{name}") == ("allow" if held[name] else "default")


@pytest.mark.usefixtures("deaf")
def test_read_your_writes_of_what_all_share(store_urls: StoreUrls) -> None:
    """The same for writes of what all tenants share, asked for in one tenant; and of both with two tokens."""
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=60) as asked:
        assert asked.word("user:ann") == "allow"
        for _ in range(5):
            suspended = pen.write(suspend(), tenant=None)
            own = pen.write(grant("user:cat"))
            said = asked.since(suspended), asked.since(own, suspended, who="user:cat"), asked.since(own)
            admitted = pen.write(admit(), tenant=None)
            own = pen.write(revoke("user:cat"))

            assert said == ("principal_inactive", "allow", "principal_inactive")
            assert (asked.since(admitted), asked.since(own, admitted, who="user:cat")) == ("allow", "default")


def test_decision_is_a_cut(store_urls: StoreUrls) -> None:
    """While somebody writes without pause, in both streams, each answer is of one state that was there, and names
    it."""
    assert _answers_under_load(store_urls, has_tokens=False) == []


def test_never_older_than_asked(store_urls: StoreUrls) -> None:
    """And it is no older than the token that was asked with."""
    assert _answers_under_load(store_urls, has_tokens=True) == []


def _answers_under_load(urls: StoreUrls, *, has_tokens: bool) -> list[str]:
    """Ask two sidecars while the facts change; return what is wrong with the answers."""
    states: dict[tuple[int, int], bool] = {}
    newest: list[str] = []
    done = threading.Event()

    def look(asker: Asker) -> list[str]:
        faults: list[str] = []
        with asker:
            while not done.is_set():
                token = newest[-1]
                said = asker.ask("user:ann", "project.read", "project:p1", *([token] if has_tokens else []))
                if said.word not in ("stale", "503 stale"):
                    least = Token.parse(token) if has_tokens else None
                    faults += _faults(said.token, least, said.word, states)
        return faults

    with house(urls) as pen, ExitStack() as stack:
        newest.append(pen.write(revoke()))
        _note(states, newest[-1], is_held=False)
        ports = [stack.enter_context(sidecar(urls.sidecar)).port for _ in range(2)]
        with ThreadPoolExecutor(4) as pool:
            looks: list[Future[list[str]]] = [pool.submit(look, Asker(port)) for port in ports * 2]
            for number in range(40):
                _turn(pen, states, newest, number)
            done.set()
        return [fault for each in looks for fault in each.result()]


def _turn(pen: Pen, states: dict[tuple[int, int], bool], newest: list[str], number: int) -> None:
    """Write one of a cycle of changes, in both streams; the state is known before it can be seen."""
    work, is_held = ((grant(), True), (suspend(), False), (admit(), True), (revoke(), False))[number % 4]
    before = Token.parse(newest[-1])
    is_shared = number % 4 in {1, 2}
    states[before.g + is_shared, before.t + (not is_shared)] = is_held
    token = pen.write(work, tenant=None if is_shared else "acme")
    newest.append(token if not is_shared else str(_with_own(Token.parse(token), before)))


def _with_own(token: Token, before: Token) -> Token:
    """Name a state of all tenants together with that of the tenant, which did not move."""
    return Token(token.line, token.p, token.g, before.tenant, before.t)


def _note(states: dict[tuple[int, int], bool], token: str, *, is_held: bool) -> None:
    known = Token.parse(token)
    states[known.g, known.t] = is_held


def _faults(said: Token, asked: Token | None, word: str, states: dict[tuple[int, int], bool]) -> Iterator[str]:
    if asked is not None and ((said.g, said.t) < (asked.g, asked.t) or said.t < asked.t):
        yield f"asked from {asked.g, asked.t}, answered from {said.g, said.t}"
    if (said.g, said.t) not in states:
        yield f"{said.g, said.t} never was"
    elif (word == "allow") != states[said.g, said.t]:
        yield f"{word} at {said.g, said.t}"


def test_a_tenant_that_comes_into_use_meanwhile(store_urls: StoreUrls) -> None:
    """A state that can be had is had, also where the tenant came into use while a poll that did not ask for it was on
    its way, and so goes out of use again with its answer."""
    with deafness(), house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=60) as asked:
        gate = Gate(asked.keeper.reader)
        asked.keeper.freshness._poller = gate
        with Asker(asked.port) as early, ThreadPoolExecutor(1) as pool:
            asked.nudge()
            gate.is_waiting.wait()
            loading = early.word()
            token = pen.write(revoke())
            demanding = pool.submit(asked.word, "user:ann", "project.read", "project:p1", token)
            until(lambda: asked.keeper.freshness._queued is not None)
            gate.is_open.set()

            assert (loading, demanding.result()) == ("allow", "default")


class Gate:
    """Holds the answer to the first poll back."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.is_waiting, self.is_open = threading.Event(), threading.Event()

    async def poll(self, known: str) -> Polled:
        polled = await self.reader.poll(known)
        if not self.is_waiting.is_set():
            self.is_waiting.set()
            await asyncio.to_thread(self.is_open.wait)
        return polled


# --- how old an answer may be -------------------------------------------------------------------------


@pytest.mark.usefixtures("deaf")
def test_stale_is_bounded(store_urls: StoreUrls) -> None:
    """With every hint lost a write is applied after a quarter of the bound and a poll, at the latest."""
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=MAX_STALENESS_S) as asked:
        assert asked.word() == "allow"

        took_s = []
        for work, word in ((revoke(), "default"), (grant(), "allow"), (revoke(), "default")):
            pen.write(work)
            took_s.append(_until_word(asked, word))

        assert max(took_s) < MAX_STALENESS_S / 4 + POLL_S


def _until_word(asked: Asker, word: str) -> float:
    return until(lambda: asked.word() == word)


def test_hints_make_it_quick(store_urls: StoreUrls) -> None:
    """A hint has a write applied long before the next poll would come."""
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=60) as asked:
        assert asked.word() == "allow"

        pen.write(revoke())

        assert _until_word(asked, "default") < POLL_S


def test_doubled_hints_do_no_harm(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints doubled and without reason cost polls, and change nothing in what is answered."""
    monkeypatch.setattr(keeper, "listen", storm)
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=60) as asked:
        for _ in range(5):
            revoked = pen.write(revoke())
            assert (asked.since(revoked), asked.ready()) == ("default", (200, "ready"))
            granted = pen.write(grant())
            assert asked.since(granted) == "allow"

        assert asked.keeper.freshness.epoch > 20


def test_a_listener_that_was_cut_comes_back(postgres_urls: StoreUrls, postgres: Postgres) -> None:
    """Where PostgreSQL ends the connection that hints come over, another is opened, and what was told meanwhile is
    polled for."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    listening = "query ILIKE 'LISTEN%'"
    with house(postgres_urls) as pen, sidecar(postgres_urls.sidecar, max_staleness_s=60) as asked:
        assert asked.word() == "allow"

        postgres.cluster.execute(f"{cut} AND {listening}", database=postgres.name_of(postgres_urls))
        pen.write(revoke())

        assert _until_word(asked, "default") < 2


def test_a_restart_is_noticed(private_postgres: Cluster) -> None:
    """After a restart of PostgreSQL, which cuts every connection, what was written meanwhile is applied at once and not
    with the next poll that would come anyway."""
    urls = private_postgres.urls()
    with house(urls) as pen, sidecar(urls.sidecar, max_staleness_s=60) as asked:
        assert asked.word() == "allow"
        pen.run(pen.database.close())

        private_postgres.restart()
        pen.write(revoke())

        until(lambda: asked.word() == "default", within_s=3)


def test_hints_come_back_after_a_restore(sqlite_template: Path, tmp_path: Path) -> None:
    """Where another SQLite file takes the place of the one that was read, its changes are hinted at like before."""
    path = Path(shutil.copy(sqlite_template, tmp_path / "bylaw.db"))
    urls = sqlite_urls(path)
    with house(urls) as pen:
        pen.run(pen.database.close())
        with sidecar(urls.sidecar, max_staleness_s=60) as asked:
            assert asked.word() == "allow"

            replace_file(path)
            asked.poll()
            pen.write(revoke())

            until(lambda: asked.word() == "default", within_s=2)


def replace_file(path: Path) -> None:
    """Put another SQLite file with the same facts in the place of one."""
    beside = path.with_name("next.db")
    with closing(sqlite3.connect(path)) as reading, closing(sqlite3.connect(beside)) as writing:
        reading.backup(writing)
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    beside.replace(path)


# --- a writer that dies -------------------------------------------------------------------------------


@pytest.mark.usefixtures("deaf")
def test_writers_that_die(store_urls: StoreUrls) -> None:
    """A writer killed between its commit and its hint has written, and the write is applied within the bound; one
    killed before its commit has not, and keeps nobody from writing."""
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=MAX_STALENESS_S) as asked:
        before = asked.word("user:ann"), asked.word("user:cat")

        dying = [("die_writing", "before the commit"), ("die_writing", "before the hint")]
        with children(store_urls.admin, *dying) as parent:
            ended = json.loads(parent.communicate()[0])
        took_s = until(lambda: asked.word("user:cat") == "allow")
        token = pen.write(grant("user:bob", "project.editor", "project:p2"))

        assert (before, ended) == (("allow", "default"), [-9, -9])
        assert took_s < MAX_STALENESS_S / 4 + POLL_S
        assert (asked.since(token), asked.since(token, who="user:bob", what="project:p2")) == ("allow", "allow")


# --- clocks -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("deaf")
def test_wall_clocks_that_leap(store_urls: StoreUrls) -> None:
    """Freshness rests on no wall clock: writers and sidecars whose clocks leap by days, backwards too, change nothing
    in what is applied and when; old changes that are thrown away by such a clock are read anew."""
    dice = random.Random(2)

    def clock() -> int:
        return time.time_ns() + dice.randrange(-72, 72) * HOUR_NS

    with house(store_urls, clock=clock) as pen, sidecar(store_urls.sidecar, max_staleness_s=MAX_STALENESS_S) as asked:
        asked.keeper.reader._clock = clock
        asked.keeper._seen = float("-inf")  # the next poll says that it lives
        for number in range(72):  # old changes are looked for at every 64th
            token = pen.write((revoke, grant)[number % 2]())
            if number % 10 < 2:
                assert asked.since(token) == ("default", "allow")[number % 2]
        assert asked.ready() == (200, "ready")

        pen.write(revoke())

        assert _until_word(asked, "default") < MAX_STALENESS_S / 4 + POLL_S


def test_expiry_goes_by_the_wall_clock(store_urls: StoreUrls) -> None:
    """What expires does so by the wall clock, the one clock that those who grant and those who decide share; freshness
    stays as it is while that is set an hour back."""
    now = time.time_ns()
    with house(store_urls) as pen, sidecar(store_urls.sidecar) as asked:
        token = pen.write(grant("user:cat", expires=now - HOUR_NS // 2))
        assert asked.since(token, who="user:cat") == "default"

        asked.set_clock(lambda: time.time_ns() - HOUR_NS)
        was = asked.word("user:cat")
        revoked = pen.write(revoke("user:ann"))

        assert was == "allow"
        assert (asked.since(revoked), asked.ready()) == ("default", (200, "ready"))
