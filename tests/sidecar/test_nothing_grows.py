"""The invariant `nothing_grows`: whatever a service is asked, its memory, tables of counters, caches, connections and
tasks stay bounded.

One service with all that it can have (a store, Redis, callers by key, limits, a decision log, end users' tokens) is
asked rounds of things that never came before: ids, tenants, actions, request ids, headers, paths, tokens, keys. Its
bounds are set low, so that a round goes past each of them. `MARK` stands in all that is made up, so that it is found
wherever it has no business.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import shutil
import socket
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

import psutil  # type: ignore[import-untyped]  # comes with the PostgreSQL package
import pytest

from engine import Facts, Policy, Request, authorizer, program, routing, space
from sidecar import fast_lane, limits, log_options, tokens, views
from sidecar.addresses import Address
from sidecar.fast_lane import FastLane
from sidecar.gate import Gate
from sidecar.limits import Limiter
from sidecar.server import Service
from sidecar.settings import Settings
from sidecar.tokens import Verifier
from store.changes import Write
from store.keys import digest_of
from store.redis_port import Redis as Port
from store.tokens import Line, Token
from store.writes import callers, memberships, principals, resources, tenants
from tests.databases import Redis, run, sqlite_urls
from tests.freshness.services import POLICY, Pen, Work, furnish, grant, revoke, until
from tests.sidecar.conftest import JSON, Client, serve
from tests.sidecar.exposition import Exposition
from tests.sidecar.exposition import read as read_metrics
from tests.sidecar.test_identity import EC, RULES, STRANGER

pytestmark = pytest.mark.slow

MARK: Final = "zq7"
ROUTES: Final = 'route GET "/projects/{project}" to project.read\nroute GET "/healthz" public\n'
ASKED: Final[dict[str, Any]] = {
    "tenant": "acme", "subject": "user:ann", "action": "project.read", "resource": "project:p1"
}  # fmt: skip
KEYS: Final = {name: f"bylaw_{name * 43}" for name in "abc"}
#: What each bound is set to, and how many of each thing a round asks: more than that.
BOUND: Final = 12
#: That of views. One view for each tenant in use would be too few to decide by.
VIEWS: Final = 6 * BOUND
TIMES: Final = 30
#: Users, projects and tenants that are there, beside the house: more than a bound, too.
STORED: Final = 40
TENANTS: Final = ("acme", "globex", *(f"t{number}" for number in range(STORED)))
#: That of memos, which go with each tenant that goes out of use; and how many one decision may add to them.
MEMOS: Final = 3
MEMOS_OF_ONE: Final = 4
#: Rounds before the first look, and between the two.
WARMING: Final = 2
ROUNDS: Final = 4
FILE_BYTES: Final = 64 * 1024
TOTAL_BYTES: Final = 2 * FILE_BYTES
#: Objects of one class that may come between two looks: less than one for each thing that never came before.
SLACK: Final = 2 * TIMES
#: Files and tasks that may: pools of connections to the store and to Redis fill up when they need to.
POOLED: Final = 8


@dataclass(frozen=True, slots=True)
class Scene:
    """A service that has everything.

    Args:
        pen: writes into its store.
        redis: what it shares with other processes.
        log: where the decision log lies.
    """

    client: Client
    pen: Pen
    redis: Redis
    log: Path

    @property
    def service(self) -> Service:
        return self.client.service

    @property
    def lane(self) -> FastLane:
        return self.service._lanes[0]

    @property
    def gate(self) -> Gate:
        return self.lane.gate

    @property
    def limiter(self) -> Limiter:
        assert isinstance(self.gate.limits, Limiter)
        return self.gate.limits

    @property
    def verifier(self) -> Verifier:
        assert self.lane.envoy is not None
        assert self.lane.envoy.verifier is not None
        return self.lane.envoy.verifier

    def metrics(self) -> Exposition:
        return read_metrics(self.client.get("/metrics").text)

    def tasks(self) -> int:
        """Count the tasks of its loop."""
        assert self.service.keeper is not None
        loop = self.service.keeper._tasks[0].get_loop()
        return len(asyncio.all_tasks(loop))


def _add(name: str, rate: str | None = None) -> Work:
    async def work(write: Write) -> None:
        await callers.add(
            write, name, key_digest=digest_of(KEYS[name]), prefix=KEYS[name][:8], tenants=None,
            scopes=("check", "claims"), rate=rate,
        )  # fmt: skip

    return work


def _fill(pen: Pen) -> None:
    """Write callers, and more of everything than may be held."""
    furnish(pen)
    pen.write(_add("a"), _add("b", "1000000/1s"), _add("c", "100000/1s,10000000/1m"), tenant=None)
    pen.write(*(partial(principals.make, ref=f"user:u{number}") for number in range(STORED)), tenant=None)
    pen.write(*(partial(memberships.put, ref=f"user:u{number}") for number in range(STORED)))
    pen.write(*(partial(resources.make, ref=f"project:q{number}") for number in range(STORED)))
    for name in TENANTS[2:]:
        pen.write(tenants.make, tenant=name, making=True)


@contextmanager
def low_bounds() -> Iterator[None]:
    """Set the bounds of what is remembered low."""
    with (
        patch.object(views, "MAX_ABSENT", BOUND),
        patch.object(views, "MAX_TENANTS", BOUND),
        patch.object(views, "MAX_CHANGED", BOUND),
        patch.object(fast_lane, "MAX_HEADS", BOUND),
        patch.object(routing, "MAX_PATHS", BOUND),
        patch.object(tokens, "MAX_KNOWN", BOUND),
        patch.object(authorizer, "MAX_MEMOS", MEMOS),
        patch.object(limits, "MAX_COUNTS", BOUND),
        patch.object(log_options.LogOptions, "parse", _small_files),
    ):
        yield


def _small_files(place: str, **_: object) -> log_options.LogOptions:
    return log_options.LogOptions(place, file_bytes=FILE_BYTES, total_bytes=TOTAL_BYTES)


@pytest.fixture
def scene(sqlite_template: Path, redis: Redis, tmp_path: Path) -> Iterator[Scene]:
    """The service."""
    urls = sqlite_urls(shutil.copy(sqlite_template, tmp_path / "bylaw.db"))
    policies, keys, log = tmp_path / "house", tmp_path / "keys.json", tmp_path / "log"
    policies.mkdir()
    (policies / "house.bylaw").write_text(POLICY + ROUTES, encoding="utf-8")
    keys.write_text(json.dumps({"keys": [EC.jwk()]}), encoding="utf-8")
    settings = Settings(
        policies,
        database_url=urls.sidecar,
        redis_url=redis.url,
        cache_key="k" * 32,
        http=Address("127.0.0.1", 0),
        jwks=str(keys),
        issuer=RULES.issuer,
        audience=RULES.audience,
        callers="token",
        rate_limit="1000000/1s",
        decision_log=f"file:{log}",
        max_staleness_s=60,
        body_timeout_s=1,
    )
    with Pen(urls.admin) as pen:
        _fill(pen)
        with low_bounds(), serve(settings) as client:
            assert client.service.keeper is not None
            client.service.keeper.cache.max_views = VIEWS
            yield Scene(client, pen, redis, log)


class Round:
    """Asks a round of things that never came before."""

    numbers = count()

    def __init__(self, scene: Scene) -> None:
        self.port = scene.client.port
        self.pen = scene.pen
        self.statuses: Counter[int] = Counter()
        self.kept = HTTPConnection("127.0.0.1", self.port, timeout=20)

    def play(self) -> Counter[int]:
        """Ask; return how often which status came back."""
        with closing(self.kept):
            for _ in range(TIMES // 4):
                self.drop()
                self.pen.write(grant("user:u1"))
                self.pen.write(revoke("user:u1"))
            for number in range(TIMES):
                self.checks(number)
                self.envoys(number)
                self.strangers(number)
                self.others(number)
        return self.statuses

    def fresh(self) -> str:
        return f"{MARK}{next(self.numbers)}"

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.kept.request(method, path, body, named)
        answer = self.kept.getresponse()
        answer.read()
        self.statuses[answer.status] += 1

    def post(self, body: object, path: str = "/check", key: str = "a", **headers: str) -> None:
        sent = {"Content_Type": JSON["Content-Type"], "Authorization": f"Bearer {KEYS[key]}", **headers}
        self.send("POST", path, json.dumps(body).encode(), **sent)

    def checks(self, number: int) -> None:
        """Ask for decisions on what is there, and on what is not: of each part of a question one that is made up."""
        good: dict[str, Any] = {
            "tenant": "acme",
            "subject": "user:ann",
            "action": "project.read",
            "resource": "project:p1",
        }
        key = "abc"[number % 3]
        self.post(good, key=key)
        for name, begin in ("subject", "user:u"), ("resource", "project:q"), ("tenant", "t"):
            self.post(good | {name: f"{begin}{number % STORED}"}, key=key)
        made_up: list[dict[str, Any]] = [
            {"tenant": self.fresh()},
            {"subject": f"user:{self.fresh()}"},
            {"subject": f"{self.fresh()}:ann"},
            {"action": f"project.{self.fresh()}"},
            {"action": self.fresh()},
            {"resource": f"project:{self.fresh()}"},
            {"resource": f"{self.fresh()}:p1"},
            {"context": {self.fresh(): self.fresh()}},
            {self.fresh(): self.fresh()},
        ]
        for each in made_up:
            self.post(good | each, key=key)
        self.post({"tenant": "acme", "evaluations": [good | each for each in made_up]}, key=key)
        kinds = {
            "subject": {"type": self.fresh(), "id": "ann", "properties": {"roles": [self.fresh()]}},
            "action": {"name": self.fresh()},
            "resource": {"type": "project", "id": self.fresh()},
        }
        self.post(kinds | {"tenant": "acme"}, "/access/v1/evaluation", key)
        self.post({"evaluations": [kinds] * 3} | kinds, "/access/v1/evaluations", key)
        self.post(good, key=key, X_Request_ID=self.fresh())
        self.post(good, key=key, traceparent=f"00-{number:032x}-{number:016x}-01")
        self.post(good, key=key, Bylaw_At_Least=self.fresh())
        self.post(good, key=key, Bylaw_At_Least=str(Token(Line(uuid4().hex), number, number)))
        self.post(good, key=key, User_Agent=self.fresh())  # in the fast lane: a head that is remembered
        self.post(good, key=key, **{f"X_{self.fresh()}": self.fresh()})
        self.post(good, key=key, **{self.fresh(): self.fresh()})  # in the other lane

    def envoys(self, number: int) -> None:
        """Ask as Envoy does: with tokens that are good once, with bad ones, about any path."""
        key, soon = f"Bearer {KEYS['a']}", time.time() + 3600
        for token in (
            EC.token(sub="ann", tenant_id="acme", exp=soon, jti=self.fresh()),
            EC.token(sub=self.fresh(), tenant_id=self.fresh(), exp=soon),
            EC.token(EC.header(kid=self.fresh()), sub="ann", exp=soon),
            STRANGER.token(sub=self.fresh(), exp=soon),
            self.fresh(),
        ):
            self.send("GET", "/envoy/projects/p1", Bylaw_Caller_Key=KEYS["a"], Authorization=f"Bearer {token}")
        for path in ("/projects/{}", "/{}", "/{}/%2e%2e/x", "//{}", "/projects/{}?a=%ff", "/%{}", "/" + "{}" * 200):
            self.send("GET", "/envoy" + path.replace("{}", self.fresh()), Bylaw_Caller_Key=KEYS["a"])
        self.send("GET", "/envoy/healthz", Bylaw_Caller_Key=self.fresh())
        self.send("GET", "/envoy/healthz", Authorization=key)
        self.send(self.fresh().upper(), f"/envoy/{self.fresh()}", Bylaw_Caller_Key=KEYS["a"])
        self.send("GET", f"/envoy/{number}", Bylaw_Caller_Key=KEYS["a"], X_Forwarded_For=f"192.0.2.{number}")

    def strangers(self, number: int) -> None:
        """Come with keys that are nobody's, or with none."""
        self.post({}, Authorization=f"Bearer {self.fresh()}")
        self.post({}, Authorization=f"{self.fresh()} x")
        self.send("GET", f"/{self.fresh()}", X_Request_ID=self.fresh())

    def others(self, number: int) -> None:
        """Ask for what is not there, and in ways that are none."""
        key = f"Bearer {KEYS['a']}"
        self.send("GET", f"/{self.fresh()}/{self.fresh()}?{self.fresh()}", Authorization=key)
        self.send("PUT", "/check", b"", Authorization=key)
        self.send(self.fresh().upper(), "/check", Authorization=key)
        self.send("POST", "/check", b"{", Content_Type="application/json", Authorization=key)
        self.send("POST", "/check", b"{}", Content_Type=f"application/{self.fresh()}", Authorization=key)
        self.send("GET", f"/ready?{self.fresh()}", Host=f"{self.fresh()}.example")

    def drop(self) -> None:
        """Open connections, say a part of something, and leave."""
        body = f"Content-Type: application/json\r\nAuthorization: Bearer {KEYS['a']}\r\nContent-Length: 90\r\n\r\n"
        check = f"POST /check HTTP/1.1\r\nHost: localhost\r\n{body}"
        slow = f"POST /check HTTP/1.1\r\nHost: localhost\r\nX_{self.fresh()}: 1\r\n{body}"
        for said in (
            "",
            "POST /che",
            check[:60],
            check,
            check + '{"tenant"',
            slow[:60],
            slow,
            slow + "{",
            "\0\1",
            "GET",
        ):
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
                wire.sendall(said.encode())


@dataclass(frozen=True, slots=True)
class Held:
    """What a service holds when it has nothing to do.

    Args:
        objects: by class.
        blocks: of memory.
        series: of metrics.
    """

    objects: Counter[str]
    blocks: int
    series: int
    files: int
    tasks: int


async def _shared(redis: Redis) -> list[str]:
    """List the names of all that stands in Redis."""
    port = Port(redis.url)
    names = [str(name, "utf-8") for name in await port._client.keys("*") if isinstance(name, bytes)]
    await port.close()
    assert names, "nothing was shared"
    return names


def _wires(port: int) -> list[object]:
    """List the connections of the service that are not closed."""
    found = psutil.Process().net_connections("tcp")
    return [each for each in found if each.laddr.port == port and each.status != psutil.CONN_LISTEN]


def _is_dead(found: object) -> bool:
    """Say whether something is a weak reference to what is gone: `sqlite3` sweeps up its own after some hundred."""
    return isinstance(found, weakref.ref) and found() is None


def rest(scene: Scene) -> Held:
    """Wait until nothing is under way, and count what there is."""
    service = scene.service
    keeper, log = service.keeper, service.log
    assert keeper is not None
    assert keeper.second is not None
    assert log is not None
    second = keeper.second
    until(lambda: scene.gate.traffic.count == 0)
    until(lambda: not scene.lane.connections)
    until(lambda: not keeper.loader._flights and not scene.limiter._flights)
    until(lambda: not second._pending and log.queued == 0)
    series = sum(len(each) for each in scene.metrics().series.values())
    until(lambda: not _wires(scene.client.port))
    until(lambda: scene.gate.traffic.count == 0 and not scene.lane.connections)
    gc.collect()
    objects = Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects() if not _is_dead(each)
    )
    return Held(objects, sys.getallocatedblocks(), series, psutil.Process().num_fds(), scene.tasks())


def test_nothing_grows(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """After rounds that went past every bound each cache is within its own, nothing is left under way, no label of a
    metric came from outside, and more rounds leave no more objects, memory, files and tasks than there were."""
    caplog.set_level(logging.CRITICAL, "bylaw")  # what is captured would grow

    statuses = [Round(scene).play() for _ in range(WARMING)]
    before = rest(scene)
    statuses += [Round(scene).play() for _ in range(ROUNDS)]
    after = rest(scene)

    service, metrics = scene.service, scene.client.get("/metrics").text
    assert service.keeper is not None
    questioner = service.policies.loaded.facts.questioner
    cache = service.keeper.cache
    sizes = {
        **cache.counts(),
        "heads": len(scene.lane.heads._known),
        "shapes": len(scene.lane.heads._shapes),
        "paths": len(service.policies.loaded.policy.program.router._known),
        "tokens": len(scene.verifier._known),
        "limits": len(scene.limiter._counts),
        "own limits": len(scene.limiter._own),
        "memos": questioner.tally.count,
        "spaces": len(questioner.spaces),
        "shown": sum(map(len, cache._shown)),
    }
    bounds = dict.fromkeys(sizes, BOUND) | {
        "views": VIEWS,
        "memos": MEMOS + MEMOS_OF_ONE,
        "spaces": BOUND + 1,  # that of no tenant
        "shown": 2 * len(TENANTS),  # in two tables
    }
    assert {name: size for name, size in sizes.items() if size > bounds[name]} == {}
    assert cache.evictions > VIEWS
    assert sum(each.stat().st_size for each in scene.log.iterdir()) <= TOTAL_BYTES + FILE_BYTES
    assert MARK not in metrics
    assert not any(MARK in name for name in run(_shared(scene.redis)))
    assert after.series == before.series
    assert after.files - before.files <= POOLED
    assert after.tasks - before.tasks <= POOLED
    assert {name: n for name, n in (after.objects - before.objects).items() if n > SLACK} == {}
    assert after.blocks - before.blocks < sum(map(Counter.total, statuses[WARMING:]))
    assert [set(each) for each in statuses] == [{200, 400, 401, 403, 404, 405, 503}] * len(statuses)


# --- what a claim chooses -----------------------------------------------------------------------------

CLAIMABLE: Final = 12
CLAIMING: Final = "\n".join(
    (
        "tenant organization { actions read }",
        "resource project in organization { actions read }",
        "principal user",
        *(f"role r{number} on organization claimable {{ can project.read }}" for number in range(CLAIMABLE)),
    )
)


def test_nothing_grows_by_claims(tmp_path: Path) -> None:
    """Of the sets of roles that may be claimed, as many as there are subsets, no more than the bound are remembered, by
    the policy and by a tenant with roles of its own; and what they give stays what it is."""
    (tmp_path / "claiming.bylaw").write_text(CLAIMING, encoding="utf-8")
    (tmp_path / "facts.yaml").write_text(
        "tenants: { acme: {} }\nusers: { ann: { members: { acme: active } } }\n"
        "resources: { project:p1: { parent: organization:acme } }\n"
        "custom_roles: [{ tenant: acme, name: helper, on: organization, can: [read] }]\n"
        "assignments: [{ subject: user:ann, role: custom.helper, on: organization:acme }]\n",
        encoding="utf-8",
    )
    policy = Policy.load(tmp_path)
    facts = Facts.load(tmp_path / "facts.yaml", policy)
    subsets = [[f"r{bit}" for bit in range(CLAIMABLE) if number >> bit & 1] for number in range(8 * BOUND)]

    with patch.object(program, "MAX_ROLE_SETS", BOUND), patch.object(space, "MAX_OWN_ROLE_SETS", BOUND):
        allowed = [
            policy.decide(
                Request("acme", who, "read", "project:p1", subject_properties={"roles": roles}), facts
            ).allowed
            for roles in subsets
            for who in ("user:ann", "user:eve")
        ]

    found = facts.questioner
    assert allowed == [bool(roles) for roles in subsets for _ in range(2)]
    assert len(found.program.role_sets) <= BOUND
    assert all(len(each.own_role_sets) <= BOUND for each in found.spaces.values())
