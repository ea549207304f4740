"""The failure table of the architecture, a test for each row: the thing is really broken under a running service, and
all columns are asked of it at once: `/check`, a check with `Bylaw-At-Least`, Envoy's question over HTTP, `/ready`.

The house of `tests/freshness` is decided on, with one route. What Envoy gets is written as status and code: of failures
the status is 403, for it takes 5xx for an error, which it may be set to let through.
"""

from __future__ import annotations

import http.server
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from bylaw.cli import main
from sidecar.addresses import Address
from sidecar.settings import Settings
from store.redis_port import Redis as Port
from store.tokens import Token
from tests.databases import DATABASE, Cluster, Postgres, Redis, StoreUrls, sqlite_urls
from tests.freshness.services import POLICY, Pen, Sidecar, deafness, grant, house, revoke, until
from tests.freshness.test_faults_restore import Server
from tests.sidecar.conftest import Client, serve
from tests.sidecar.exposition import read as read_metrics
from tests.sidecar.lanes.answers import Answer, read_answers
from tests.sidecar.test_identity import EC, RULES

pytestmark = pytest.mark.slow

ROUTE: Final = 'route GET "/projects/{project}" to project.read\n'
P1: Final = "/envoy/projects/p1"
QUESTION: Final = ("project.read", "project:p1")
KEY: Final = "k" * 32
#: A request on a machine that others use, too.
SLACK_S: Final = 0.5
#: What a check waits for facts, and what Envoy's waits for anything.
REACH_S: Final = 0.15


@dataclass(frozen=True, slots=True)
class Row:
    """What the columns say at one moment.

    Args:
        check, at_least: a word, as `Asker` has them.
        envoy: status and code; no code: it may pass.
        ready: status and word.
    """

    check: str
    at_least: str
    envoy: tuple[int, str]
    ready: tuple[int, str]


ALLOWED: Final = (200, "")
STALE: Final = (403, "stale")
WELL: Final = Row("allow", "allow", ALLOWED, (200, "ready"))
LOST: Final = Row("stale", "503 stale", STALE, (503, "failed"))


def token_of(name: str, kid: str | None = None) -> str:
    """Make a token of a person in acme, by the key that there is, or by one of another name."""
    header = EC.header() if kid is None else EC.header(kid=kid)
    return EC.token(header, sub=name, tenant_id="acme", exp=time.time() + 3600)


@dataclass(frozen=True, slots=True)
class Scene:
    """A running service, and who asks it."""

    client: Client
    asked: Sidecar

    def row(self, at_least: str, name: str = "ann") -> Row:
        """Ask for all columns, on behalf of a person."""
        who = f"user:{name}"
        return Row(
            self.asked.word(who),
            self.asked.word(who, *QUESTION, at_least),
            self.envoy(token_of(name)),
            self.asked.ready(),
        )

    def envoy(self, token: str) -> tuple[int, str]:
        """Ask whether the bearer of a token may read p1."""
        answer = self.client.get(P1, Authorization=f"Bearer {token}")
        return answer.status, "" if answer.status == 200 else answer.json["error"]

    def nudged(self) -> tuple[int, str]:
        """Have a poll sent, and ask whether it is ready."""
        self.asked.nudge()
        return self.asked.ready()


@contextmanager
def running(url: str, folder: Path, report: Callable[[str], None] = lambda _: None, **changes: Any) -> Iterator[Scene]:
    """Run a service over a store until the block ends, with its policy in `folder / "house"`, and the key of end users'
    tokens beside it; `changes` are settings."""
    policies, keys = folder / "house", folder / "keys.json"
    policies.mkdir()
    (policies / "house.bylaw").write_text(POLICY + ROUTE, encoding="utf-8")
    keys.write_text(json.dumps({"keys": [EC.jwk()]}), encoding="utf-8")
    usual = Settings(
        policies,
        database_url=url,
        http=Address("127.0.0.1", 0),
        jwks=str(keys),
        issuer=RULES.issuer,
        audience=RULES.audience,
        watch_s=0.02,
    )
    with serve(replace(usual, **changes), report) as client, Sidecar(client.port, client.service) as asked:
        yield Scene(client, asked)


@pytest.fixture
def urls(sqlite_template: Path, tmp_path: Path) -> StoreUrls:
    """A database for what does not fail by it."""
    return sqlite_urls(shutil.copy(sqlite_template, tmp_path / "bylaw.db"))


@pytest.fixture(scope="module")
def cluster(postgres: Postgres) -> Iterator[Cluster]:
    """A PostgreSQL server that these tests may kill."""
    with postgres.private() as found:
        yield found


@pytest.fixture(params=("killed", "frozen"))
def outage(
    request: pytest.FixtureRequest, cluster: Cluster
) -> Iterator[tuple[StoreUrls, Callable[[], None], Callable[[], None]]]:
    """A database, and how it goes and comes back."""
    name = f"db_{abs(hash(request.node.nodeid))}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE} OWNER owner STRATEGY FILE_COPY", database="postgres")
    is_killed = request.param == "killed"
    yield (cluster.urls(name), *((cluster.kill, cluster.start) if is_killed else (cluster.freeze, cluster.thaw)))
    cluster.thaw()
    if cluster.pid is None:
        cluster.start()


@pytest.fixture(scope="module")
def primary(postgres: Postgres) -> Iterator[Server]:
    """A PostgreSQL server that may be put back, and fall over."""
    with postgres.private() as found:
        yield Server(found)


@pytest.fixture
def history(primary: Server) -> Server:
    """The same as it was at first."""
    primary.kept = primary.first
    primary.restore()
    return primary


# --- what the facts stand on --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_hints_lost_redis_gone_or_slow(postgres_urls: StoreUrls, redis: Redis, tmp_path: Path, how: str) -> None:
    """Where no hint comes and Redis is gone or answers nothing, a write is seen at once by who demands it and by the
    next poll for all others, Envoy too; it is degraded, and well again by itself."""
    port = Port(redis.url)
    begin, end = (redis.kill, redis.start) if how == "killed" else (redis.freeze, redis.thaw)
    with (
        deafness(),
        house(postgres_urls, hint=port.publish) as pen,
        running(postgres_urls.sidecar, tmp_path, redis_url=redis.url, cache_key=KEY, max_staleness_s=2) as scene,
    ):
        asked = scene.asked
        until(lambda: asked.ready() == (200, "ready"))
        before = scene.row(asked.ask().revision)

        begin()
        until(lambda: asked.ready() == (200, "degraded"))
        token = pen.write(revoke())
        demanded = asked.since(token)
        during = scene.row(token)
        pen.write(grant())
        took_s = until(lambda: scene.envoy(token_of("ann")) == ALLOWED)
        again = asked.word()
        end()
        until(lambda: asked.ready() == (200, "ready"))
        pen.run(port.close())

    assert before == WELL
    assert demanded == "default"
    assert during == Row("default", "default", (403, "default"), (200, "degraded"))
    assert (again, took_s < 2 / 4 + SLACK_S) == ("allow", True)


def test_database_gone_within_the_bound(
    outage: tuple[StoreUrls, Callable[[], None], Callable[[], None]], tmp_path: Path
) -> None:
    """Within the bound what is held is answered from memory in every column; what is not held is `stale`, what is not
    reached a 503, and to Envoy a deny before it gives up; it is degraded."""
    urls, begin, end = outage
    with house(urls) as pen, running(urls.sidecar, tmp_path, max_staleness_s=8) as scene:
        reached = scene.asked.ask().revision
        known = Token.parse(reached)
        beyond = str(replace(known, t=known.t + 1))
        before = scene.row(reached)
        pen.run(pen.database.close())

        begin()
        until(lambda: scene.nudged() == (200, "degraded"))
        held = scene.row(reached)
        cold = scene.row(beyond, "bob")
        begun = time.monotonic()
        cold_envoy = scene.envoy(token_of("cat"))
        took_s = time.monotonic() - begun
        end()

    assert before == WELL
    assert held == replace(WELL, ready=(200, "degraded"))
    assert cold == Row("stale", "503 stale", STALE, (200, "degraded"))
    assert (cold_envoy, took_s < REACH_S + SLACK_S) == (STALE, True)


def test_database_gone_past_the_bound(
    outage: tuple[StoreUrls, Callable[[], None], Callable[[], None]], tmp_path: Path
) -> None:
    """Past the bound nothing is answered from memory, not even what is held, and it is not ready; once the database is
    back all goes on by itself."""
    urls, begin, end = outage
    with house(urls) as pen, running(urls.sidecar, tmp_path, max_staleness_s=1) as scene:
        reached = scene.asked.ask().revision
        before = scene.row(reached)
        pen.run(pen.database.close())

        begin()
        until(lambda: scene.asked.ready()[0] == 503)
        found = scene.row(reached)
        end()
        until(lambda: scene.asked.ready() == (200, "ready"))
        after = scene.row(reached)

    assert (before, found, after) == (WELL, LOST, WELL)


def test_connected_to_a_replica(history: Server, tmp_path: Path) -> None:
    """A replica is not answered from, however short the time: it may lag behind by any."""
    cluster = history.cluster
    with running(cluster.urls().sidecar, tmp_path, max_staleness_s=60) as scene:
        reached = scene.asked.ask().revision
        before = scene.row(reached)

        cluster.become_replica()
        until(lambda: scene.nudged()[0] == 503)
        found = scene.row(reached)
        cluster.promote()
        until(lambda: scene.nudged() == (200, "ready"))
        demanded = scene.asked.since(reached)
        after = scene.row(scene.asked.ask().revision)

    assert (before, found, demanded, after) == (WELL, LOST, "allow", WELL)


@pytest.mark.parametrize("how", ["failover", "restore"])
def test_failover_that_lost_commits_and_restore(history: Server, tmp_path: Path, how: str) -> None:
    """All that was held of the lost history is dropped in every column at the next poll, a token of it is satisfied by
    that poll, and it is ready."""
    urls = history.cluster.urls()
    with running(urls.sidecar, tmp_path, max_staleness_s=60) as scene:
        history.keep()
        with Pen(urls.admin) as pen:
            lost = pen.write(revoke("user:ann"), grant("user:cat"))
        scene.asked.poll()
        before = scene.row(lost), scene.row(lost, "cat")

        if how == "failover":
            history.fail_over()
        else:
            history.restore()
            assert main(["migrate", "up", "--restored", "--database-url", urls.owner]) == 0
        with Pen(urls.admin) as pen:
            pen.write(grant("user:bob", "project.editor", "project:p2"))
        scene.asked.poll()
        demanded = scene.asked.since(lost)
        after = scene.row(scene.asked.ask().revision), scene.row(scene.asked.ask("user:cat").revision, "cat")

    denied = Row("default", "default", (403, "default"), (200, "ready"))
    assert before == (denied, WELL)
    assert demanded == "allow"
    assert after == (WELL, denied)


# --- what else is needed ------------------------------------------------------------------------------


def _break(policies: Path, _: Path) -> None:
    (policies / "more.bylaw").write_text("allow oops: anyone to project.fly\n", encoding="utf-8")


def _empty(policies: Path, _: Path) -> None:
    (policies / "house.bylaw").unlink()


def _put_half(policies: Path, folder: Path) -> None:
    """Put what allows everything there, without the file that denies: as when a copy stops in the middle."""
    whole = folder / "whole"
    whole.mkdir()
    (whole / "house.bylaw").write_text(POLICY + ROUTE + "allow all: public to project.*\n", encoding="utf-8")
    (whole / "more.bylaw").write_text("deny none: public to project.*\n", encoding="utf-8")
    assert main(["bundle", "build", "--version", "1", str(whole)]) == 0
    for name in ("bylaw.lock", "house.bylaw"):
        shutil.copy(whole / name, policies / name)


@pytest.mark.parametrize("spoil", [_break, _empty, _put_half])
def test_a_policy_that_does_not_compile_or_half_a_directory(
    urls: StoreUrls, tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    """The policy before goes on deciding in every column; log, metric and `/ready` say so, until it is mended."""
    reported: list[str] = []
    with house(urls), running(urls.sidecar, tmp_path, reported.append) as scene:
        policies = tmp_path / "house"
        revision = scene.asked.ask().revision
        before = scene.row(revision), scene.asked.word("user:cat")

        spoil(policies, tmp_path)
        until(lambda: scene.asked.ready() != (200, "ready"))
        during = scene.row(revision), scene.asked.word("user:cat")
        said = scene.client.get("/ready").json["checks"]["policies"]
        metric = read_metrics(scene.client.get("/metrics").text).value("bylaw_policy_degraded")
        for each in policies.iterdir():
            each.unlink()
        (policies / "house.bylaw").write_text(POLICY + ROUTE, encoding="utf-8")
        until(lambda: scene.asked.ready() == (200, "ready"))
        after = scene.row(revision), scene.asked.word("user:cat")

    assert before == after == (WELL, "default")
    assert during == (replace(WELL, ready=(200, "degraded")), "default")
    assert (said["status"], metric) == ("degraded", 1.0)
    assert said["message"]
    assert "goes on deciding" in reported[0]


class KeyServer:
    """A key server of this machine. `asked`: how often it was; while it is `silent` it answers nobody."""

    def __init__(self) -> None:
        self.asked = 0
        self.talks = threading.Event()
        self.talks.set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                server.talks.wait()
                body = json.dumps({"keys": [EC.jwk()]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/keys"

    def silence(self) -> None:
        self.talks.clear()

    def stop(self) -> None:
        self.talks.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_key_server_down(urls: StoreUrls, tmp_path: Path, how: str) -> None:
    """The keys that are there go on verifying; tokens that name others are denied soon, and cost one fetch however many
    they are; it is ready, which `/ready` tells with what is wrong."""
    server = KeyServer()
    try:
        with house(urls), running(urls.sidecar, tmp_path, jwks=server.url) as scene:
            keys = scene.client.service.keys
            assert keys is not None
            revision = scene.asked.ask().revision
            before, fetches = scene.row(revision), keys.fetches

            (server.stop if how == "stopped" else server.silence)()
            begun = time.monotonic()
            unknown = {scene.envoy(token_of("ann", f"key-{number}")) for number in range(12)}
            took_s = time.monotonic() - begun
            during = scene.row(revision)
            fetched = keys.fetches - fetches
            told = scene.client.get("/ready").json["checks"]["keys"]
            server.talks.set()
    finally:
        server.stop()

    assert before == WELL
    assert unknown <= {(401, "unauthenticated"), STALE}
    assert took_s < 12 * REACH_S + 2 * SLACK_S
    assert replace(during, ready=(200, "")) == replace(WELL, ready=(200, ""))
    assert during.ready == (200, "degraded" if how == "stopped" else "ready")  # the silent one may answer yet
    assert (fetched, told["keys"]) == (1, 1)


# --- too much, and bugs -------------------------------------------------------------------------------

WIRES: Final = 24
PAIRS: Final = 100


def _pairs() -> bytes:
    """Write a check and Envoy's question, again and again; the last ends the connection."""
    body = json.dumps(
        {"tenant": "acme", "subject": "user:ann", "action": "project.read", "resource": "project:p1"}
    ).encode()
    check = b"POST /check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    envoy = f"GET {P1} HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer {token_of('ann')}\r\n"
    pair = check % (len(body), body) + envoy.encode() + b"\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return pair * PAIRS + last


def _flood(wire: socket.socket, start: threading.Barrier, sent: bytes) -> tuple[Answer, ...]:
    """Send everything at once with all others, and read what comes back."""
    start.wait()
    sender = threading.Thread(target=wire.sendall, args=(sent,))
    sender.start()
    said = b"".join(iter(lambda: wire.recv(65536), b""))
    sender.join()
    return read_answers(said)


def test_overload(urls: StoreUrls, tmp_path: Path) -> None:
    """Where more is asked at once than can be answered soon, each request is answered, some with 503 and `Retry-After`,
    or a deny to Envoy; who watches is told all the while that it is ready, and then it is as before."""
    with house(urls), running(urls.sidecar, tmp_path, max_staleness_s=60) as scene:
        revision = scene.asked.ask().revision
        before = scene.row(revision)

        start = threading.Barrier(WIRES + 1)
        wires = [scene.client.raw() for _ in range(WIRES)]
        with ThreadPoolExecutor(WIRES) as pool:
            floods = [pool.submit(_flood, wire, start, _pairs()) for wire in wires]
            start.wait()
            watched = [scene.asked.ready()]
            while not all(each.done() for each in floods):
                watched.append(scene.asked.ready())
        for wire in wires:
            wire.close()
        answers = [each.result() for each in floods]
        after, in_flight = scene.row(revision), scene.client.service.traffic.count

    checks = [each for found in answers for each in found[:-1:2]]
    envoys = [each for found in answers for each in found[1:-1:2]]
    refused = [each for each in checks if each.status == 503]
    denied = [each for each in envoys if each.status == 403]
    assert len(checks) == len(envoys) == WIRES * PAIRS
    assert {each.status for each in checks} == {200, 503}
    assert {each.status for each in envoys} == {200, 403}
    assert {(each.header("Retry-After"), json.loads(each.body)["error"]) for each in refused} == {("1", "overloaded")}
    assert {json.loads(each.body)["error"] for each in denied} == {"overloaded"}
    assert set(watched) == {(200, "ready")}
    assert (before, after, in_flight) == (WELL, WELL, 0)


SECRET: Final = "postgresql://bylaw:secret@db"


def test_a_bug_in_one_request(urls: StoreUrls, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody expected is a 500 under the caller's request id, or one that is made; a deny to Envoy; nothing of it
    leaves, the log has it under that id, and the process answers the next request."""

    def fails() -> int:
        raise RuntimeError(SECRET)

    with house(urls), running(urls.sidecar, tmp_path) as scene:
        revision = scene.asked.ask().revision
        before = scene.row(revision)
        usual = scene.client.service.policies.loaded.policy.clock

        scene.asked.set_clock(fails)
        with caplog.at_level(logging.ERROR, "bylaw.sidecar"):
            during = scene.row(revision)
            body = {"tenant": "acme", "subject": "user:ann", "action": "project.read", "resource": "project:p1"}
            named = scene.client.post(body, X_Request_ID="r-1")
            nameless = scene.client.post(body)
            envoy = scene.client.get(P1, X_Request_ID="r-2")
        scene.asked.set_clock(usual)
        after = scene.row(revision)

    ids = {"r-1", "r-2", nameless.json["requestId"]}
    assert (before, after) == (WELL, WELL)
    assert during == Row("500 internal", "500 internal", (403, "internal"), (200, "ready"))
    assert (named.status, named.json["requestId"], named.headers["x-request-id"]) == (500, "r-1", "r-1")
    assert (nameless.status, len(nameless.json["requestId"])) == (500, 32)
    assert (envoy.status, envoy.json["requestId"]) == (403, "r-2")
    assert not any("secret" in each.text for each in (named, nameless, envoy))
    assert ids <= {record.request_id for record in caplog.records if hasattr(record, "request_id")}
