"""The database is gone: killed, frozen, moved away. What is answered within the bound, past it, and once it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from store.tokens import Token
from tests.databases import DATABASE, Cluster, Postgres, StoreUrls, sqlite_urls
from tests.freshness.services import Asker, Process, Relay, Sidecar, grant, house, process, revoke, sidecar, until

pytestmark = pytest.mark.slow

COLD_S = 1.2
#: A request on a machine that others use, too.
SLACK_S = 0.5


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[Cluster]:
    """A PostgreSQL server of these tests alone."""
    with postgres.private() as cluster:
        yield cluster


@pytest.fixture
def broken(server: Cluster, request: pytest.FixtureRequest) -> Iterator[Broken]:
    """The same, with a database of one test: to be broken, and whole again after it."""
    name = f"db_{abs(hash(request.node.nodeid))}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE} OWNER owner STRATEGY FILE_COPY", database="postgres")
    yield Broken(server, server.urls(name))
    server.thaw()
    if server.pid is None:
        server.start()


@dataclass(frozen=True)
class Broken:
    """A server that a test may break, and its database there."""

    server: Cluster
    urls: StoreUrls


@dataclass(frozen=True)
class Outage:
    """A database, and how it goes and comes back."""

    name: str
    urls: StoreUrls
    begin: Callable[[], object]
    end: Callable[[], object]


def _move(path: Path, target: Path) -> None:
    """Move an SQLite database, with the files that belong to it."""
    for each in sorted(path.parent.glob(f"{path.name}*")):
        each.replace(target.with_name(each.name.replace(path.name, target.name)))


@pytest.fixture(params=("killed", "frozen", "moved"))
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    """Each way in which a database can be gone."""
    if request.param == "moved":
        path, away = tmp_path / "bylaw.db", tmp_path / "away.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        yield Outage(request.param, sqlite_urls(path), lambda: _move(path, away), lambda: _move(away, path))
        return
    broken: Broken = request.getfixturevalue("broken")
    server = broken.server
    if request.param == "killed":
        yield Outage(request.param, broken.urls, server.kill, server.start)
    else:
        yield Outage(request.param, broken.urls, server.freeze, server.thaw)


def beyond(token: str) -> str:
    """Name a state that is not reached yet."""
    known = Token.parse(token)
    return str(replace(known, t=known.t + 1))


def test_gone_within_the_bound(outage: Outage) -> None:
    """What is held is answered from memory at once, also from a token on that it has reached; what is not held is
    `stale`, and a state that is not reached a 503."""
    with house(outage.urls) as pen, sidecar(outage.urls.sidecar, max_staleness_s=10) as asked:
        token = asked.ask("user:ann").revision
        pen.run(pen.database.close())

        outage.begin()
        held = asked.ask("user:ann")
        reached = asked.ask("user:ann", "project.read", "project:p1", token)
        demanded = asked.ask("user:ann", "project.read", "project:p1", beyond(token))
        cold = asked.ask("user:bob")
        ready = asked.ready()
        outage.end()

        assert (held.word, reached.word, cold.word, demanded.word) == ("allow", "allow", "stale", "503 stale")
        assert held.took_s < SLACK_S
        assert reached.took_s < SLACK_S
        assert demanded.took_s < 0.15 + SLACK_S
        assert ready[0] == 200


def test_gone_within_the_bound_is_told(outage: Outage) -> None:
    """`/ready` is 200, degraded, before the bound is over."""
    with house(outage.urls) as pen, sidecar(outage.urls.sidecar, max_staleness_s=3) as asked:
        pen.run(pen.database.close())

        outage.begin()
        until(lambda: asked.ready() != (200, "ready"))
        ready = asked.ready()
        outage.end()

        assert ready == (200, "degraded")


def test_gone_past_the_bound(outage: Outage) -> None:
    """Past the bound all is `stale`, also what is held; a demanded state is a 503, and `/ready` says 503."""
    with house(outage.urls) as pen, sidecar(outage.urls.sidecar, max_staleness_s=1) as asked:
        token = asked.ask("user:ann").revision
        pen.run(pen.database.close())

        outage.begin()
        lasted_s = until(lambda: asked.word("user:ann") != "allow")
        held = asked.ask("user:ann")
        reached = asked.ask("user:ann", "project.read", "project:p1", token)
        ready = asked.ready()
        outage.end()

        assert lasted_s < 1 + SLACK_S
        assert (held.word, reached.word, ready) == ("stale", "503 stale", (503, "failed"))
        assert held.took_s < SLACK_S


def test_gone_and_back(outage: Outage) -> None:
    """Once the database is back, the sidecar goes on by itself, and follows what is written then."""
    with house(outage.urls) as pen, sidecar(outage.urls.sidecar, max_staleness_s=1) as asked:
        asked.word("user:ann")
        pen.run(pen.database.close())
        outage.begin()
        until(lambda: asked.word("user:ann") == "stale")

        outage.end()
        until(lambda: asked.word("user:ann") == "allow")
        until(lambda: asked.ready() == (200, "ready"))
        token = pen.write(revoke("user:ann"))

        assert asked.since(token) == "default"


def test_frozen_is_not_waited_for(broken: Broken) -> None:
    """Checks of what is not held end within 1.2 s while PostgreSQL stands still, however many they are; those of what
    is held do not wait at all."""
    urls, server = broken.urls, broken.server
    with house(urls), sidecar(urls.sidecar, max_staleness_s=10) as asked:
        asked.word("user:ann")

        def cold(number: int) -> float:
            with Asker(asked.port) as asker:
                return asker.ask("user:ann", what=f"project:cold{number}").took_s

        server.freeze()
        with ThreadPoolExecutor(12) as pool:
            slow = pool.map(cold, range(12))
            warm = [asked.ask("user:ann") for _ in range(50)]
            took_s = max(slow)
        server.thaw()

        assert {said.word for said in warm} == {"allow"}
        assert max(said.took_s for said in warm) < SLACK_S
        assert took_s < COLD_S + SLACK_S


def test_no_file_is_made(sqlite_template: Path, tmp_path: Path) -> None:
    """An SQLite file that is gone is not made anew by who only looks for it: what then comes to lie there would find a
    stranger's file in its place."""
    path = tmp_path / "bylaw.db"
    path.write_bytes(sqlite_template.read_bytes())
    urls = sqlite_urls(path)
    with house(urls) as pen, sidecar(urls.sidecar) as asked:
        pen.run(pen.database.close())

        _move(path, tmp_path / "away.db")
        until(lambda: asked.ready()[1] != "ready")

        assert not path.exists()


def test_connections_that_died_in_silence(broken: Broken) -> None:
    """Where connections are cut without a word (a partition, a balancer that forgot them), and new ones work, the
    sidecar is back within twice its bound."""
    with (
        Relay(broken.server) as relay,
        house(broken.urls) as pen,
        sidecar(relay.reach(broken.urls.sidecar), max_staleness_s=1) as asked,
    ):
        _fill_the_pool(asked)

        relay.hush()
        token = pen.write(revoke("user:ann"))
        try:
            until(lambda: asked.word("user:ann") != "allow", within_s=1 + SLACK_S)
            until(lambda: asked.word("user:ann") == "default", within_s=2 + SLACK_S)
        finally:
            relay.cut()

        assert asked.since(token) == "default"


def _fill_the_pool(asked: Sidecar | Process) -> None:
    """Have as many connections opened as there can be snapshots."""

    def cold(number: int) -> str:
        with Asker(asked.port) as asker:
            return asker.word("user:ann", what=f"project:cold{number}")

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(cold, range(24))) == {"unknown_resource"}
    assert asked.word("user:ann") == "allow"


@pytest.mark.parametrize("statement", ["settle_acks", "UPDATE sidecars"])
def test_following_outlives_a_statement_that_never_ends(broken: Broken, statement: str) -> None:
    """A connection that falls silent in the middle of a receipt, or of a sign of life, does not stop the polls."""
    with (
        Relay(broken.server) as relay,
        house(broken.urls) as pen,
        sidecar(relay.reach(broken.urls.sidecar), max_staleness_s=1) as asked,
    ):
        assert asked.word("user:ann") == "allow"

        relay.hush_at(statement)
        asked.keeper._seen -= 3600  # it is time for a sign of life
        pen.receipt(grant("user:cat"))
        until(lambda: relay.hushed > 0)
        token = pen.write(revoke("user:ann"))
        try:
            until(lambda: asked.word("user:ann") == "default", within_s=3)
        finally:
            relay.cut()

        assert asked.since(token) == "default"


def test_a_snapshot_for_one_answer_is_not_waited_for(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every load was overtaken by a change, and what is needed is read for this answer alone, PostgreSQL that
    stands still is not waited for either."""
    urls, server = broken.urls, broken.server

    async def overtaken(*_: object) -> None:
        """Keep nothing of what was loaded."""

    with house(urls), sidecar(urls.sidecar, max_staleness_s=10) as asked, ThreadPoolExecutor(1) as pool:
        assert asked.word("user:ann") == "allow"
        monkeypatch.setattr(asked.keeper.loader, "load", overtaken)

        server.freeze()
        cold = pool.submit(asked.ask, "user:cat")
        done, _ = wait([cold], timeout=COLD_S + SLACK_S)
        server.thaw()

        assert cold in done


def test_sigterm_while_the_database_stands_still(broken: Broken) -> None:
    """A sidecar that is told to end does so within its time, though the database answers nothing."""
    urls, server = broken.urls, broken.server
    with house(urls), process(urls.sidecar) as asked:
        _fill_the_pool(asked)

        server.freeze()
        begun = time.monotonic()
        try:
            code = asked.stop(within_s=6)
        finally:
            server.thaw()
        took_s = time.monotonic() - begun

        assert (code, took_s < 6) == (0, True)
