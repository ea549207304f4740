"""How the administration service is watched: what it logs, counts and tells probes, and what its audit log tells of who
asked."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import select

from admin.app import create_app
from admin.endpoints import ENDPOINTS
from admin.health import Probe
from admin.manners import Manners
from admin.metrics import Metrics
from admin.services import Services
from admin.watching import watch_statements
from bylaw.administration import Limits
from engine.errors import BylawError
from store.changes import Writer
from store.database import Database
from store.errors import StoreError
from store.settling import Receipts
from store.tables import tenants
from tests.admin.service import NOBODY, Asking, Said, World, following, make_world, token
from tests.databases import StoreUrls, run
from tests.sidecar.exposition import Exposition, read

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ACME: Final = "/tenants/acme"
ID: Final = "0123456789abcdef"
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("operation"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(work: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await work(asking)

    return lambda work: asyncio.run(served(work))


# --- the audit log ----------------------------------------------------------------------------------------------------


async def last_entries(asking: Asking, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Read what the newest row of a log tells."""
    said = await asking.ask("GET", f"{path}?limit=1")
    (row,) = said.body["items"]
    return [(each["action"], each["details"]) for each in row["entries"]]


@pytest.mark.parametrize(("sent", "told"), [(ID, ID), ("ann's", None), ("secret-secret-secret", None)])
def test_the_request_stands_in_the_audit_log(play: Callable[[Play], Any], sent: str, told: str | None) -> None:
    """A write that was done tells for which request, unless its id may be a name or a secret."""

    async def work(asking: Asking) -> Any:
        await asking.ask("POST", f"{ACME}/groups", {"id": "team"}, X_Request_ID=sent)
        return await last_entries(asking, f"{ACME}/audit")

    ((action, details),) = play(work)

    assert (action, details.get("request")) == ("group.made", told)


def test_all_writes_of_a_request_tell_of_it(play: Callable[[Play], Any]) -> None:
    """What a request does in several writes, as a deletion does, tells of the request in each log."""

    async def work(asking: Asking) -> list[Any]:
        said = await asking.ask("DELETE", "/users/vic", X_Request_ID=ID)
        assert said.status == 204
        return [await last_entries(asking, path) for path in ("/audit", f"{ACME}/audit")]

    found = play(work)

    assert {details["request"] for entries in found for _, details in entries} == {ID}
    assert [entries[-1][0] for entries in found] == ["principal.deleted", "membership.ended"]


@pytest.mark.parametrize(
    ("method", "path", "log"),
    [
        ("PATCH", "/users/vic", "/audit"),
        ("PATCH", "/tenants/globex", "/tenants/globex/audit"),
        ("PATCH", f"{ACME}/memberships/user:vic", f"{ACME}/audit"),
    ],
)
def test_a_change_of_status_shows_both(play: Callable[[Play], Any], method: str, path: str, log: str) -> None:
    """Who changes a status leaves in the log what it was before."""

    async def work(asking: Asking) -> Any:
        assert (await asking.ask(method, path, {"status": "suspended"})).status == 200
        return await last_entries(asking, log)

    details = next(details for _, details in play(work) if "was" in details)

    assert (details["status"], details["was"]) == ("suspended", "active")


# --- probes -----------------------------------------------------------------------------------------------------------


class Pinged:
    """Redis as it says that it is."""

    def __init__(self, status: str) -> None:
        self._status = status

    def status(self) -> Mapping[str, str]:
        return {"url": "redis://there", "status": self._status}


def services_of(asking: Asking, world: World, redis: Pinged | None = None) -> Services:
    database, policies = asking.database, asking.policies
    return Services(database, Writer(database), Receipts(database), lambda: world.policy, policies, redis=redis)


def test_ready(play: Callable[[Play], Any], world: World) -> None:
    """Whoever asks is told what the service stands on, without a key, and not where that is."""

    async def work(asking: Asking) -> Any:
        async with asking.client.get("/ready") as response:
            return response.status, await response.json()

    status, said = play(work)

    policies = {"status": "ok", "policy": world.policy.digest}
    assert status == 200
    assert said == {"status": "ready", "checks": {"database": {"status": "ok"}, "policies": policies}}


@pytest.mark.parametrize(("redis", "overall"), [("ok", "ready"), ("degraded", "degraded")])
def test_ready_tells_of_redis(play: Callable[[Play], Any], world: World, redis: str, overall: str) -> None:
    """Where there is Redis it is one of the checks, and nothing rests on it."""
    found = play(lambda asking: Probe(services_of(asking, world, Pinged(redis))).look())

    assert (found.is_up, found.said["status"], found.said["checks"]["redis"]) == (True, overall, {"status": redis})


def test_not_ready_without_a_database(play: Callable[[Play], Any]) -> None:
    """Where the database does not answer nobody is to be sent here, and no driver speaks."""

    async def work(asking: Asking) -> Any:
        assert asking.database.path is not None
        asking.database.path.unlink()
        async with asking.client.get("/ready") as response:
            return response.status, await response.text()

    status, text = play(work)

    said = json.loads(text)
    assert (status, said["status"], said["checks"]["database"]["error"]) == (503, "failed", "unavailable")
    assert "sqlite" not in text.lower()


def test_not_ready_while_the_database_hangs(world: World, tmp_path: Path) -> None:
    """A probe is answered within its time, though the database never answers."""

    class Hanging(Database):
        @asynccontextmanager
        async def reading(self, tenant: str | None = None) -> Any:
            await asyncio.Event().wait()
            yield

    async def work() -> Any:
        database = Hanging(f"sqlite+aiosqlite:///{tmp_path}/none.db")
        policies = following(world.policy, database)
        made = Services(database, Writer(database), Receipts(database), lambda: world.policy, policies)
        return await Probe(made).look()

    found = asyncio.run(work())

    assert (found.is_up, found.said["checks"]["database"]["status"]) == (False, "failed")


def test_ready_is_degraded_by_a_policy(play: Callable[[Play], Any]) -> None:
    """A policy that is published and cannot be loaded makes it degraded, and says why; the one before is named."""

    async def work(asking: Asking) -> Any:
        asking.policies.problem = BylawError("unsigned", "nobody signed it")
        async with asking.client.get("/ready") as response:
            return response.status, (await response.json())["checks"]["policies"]

    status, said = play(work)

    assert (status, said["status"], said["error"], said["message"]) == (200, "degraded", "unsigned", "nobody signed it")
    assert said["policy"].startswith("sha256:")


def test_ready_takes_what_was_published(play: Callable[[Play], Any], world: World) -> None:
    """A policy that was published meanwhile is taken by the probe, though nobody asked anything, and named."""

    async def work(asking: Asking) -> Any:
        files = {path.name: path.read_text("utf-8") for path in sorted(STUDIO.glob("*.bylaw"))}
        made = await asking.ask("POST", "/policies", {"files": files})
        assert made.status == 201, made
        published = await asking.ask("POST", f"/policies/{made.body['id']}/publish")
        assert published.status == 200, published
        fresh = following(world.policy, asking.database)
        database = asking.database
        made_anew = Services(database, Writer(database), Receipts(database), lambda: world.policy, fresh)
        found = await Probe(made_anew).look()
        return made.body["id"], found.said["checks"]["policies"]

    identity, said = play(work)

    assert (said["status"], said["published"]) == ("ok", identity)


def test_what_cannot_be_loaded_is_tried_once(play: Callable[[Play], Any], world: World) -> None:
    """Whoever probes again and again, without a key, has nothing loaded again and again."""

    async def work(asking: Asking) -> Any:
        files = {path.name: path.read_text("utf-8") for path in sorted(STUDIO.glob("*.bylaw"))}
        made = await asking.ask("POST", "/policies", {"files": files})
        await asking.ask("POST", f"/policies/{made.body['id']}/publish")
        database, policies = asking.database, following(world.policy, asking.database)
        tried = 0

        async def catch_up() -> None:
            nonlocal tried
            tried += 1

        policies.catch_up = catch_up  # type: ignore[method-assign]  # as if it could not be loaded
        probe = Probe(Services(database, Writer(database), Receipts(database), lambda: world.policy, policies))
        found = [await probe.look() for _ in range(3)]
        return tried, {(each.is_up, each.said["status"], each.said["checks"]["policies"]["error"]) for each in found}

    assert play(work) == (1, {(True, "degraded", "no_policy")})


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "bylaw.admin.requests")
    return lambda: [each.getMessage() for each in caplog.records if each.name == "bylaw.admin.requests"]


@pytest.mark.parametrize(
    ("method", "path", "who", "line"),
    [
        ("GET", f"{ACME}/memberships?prefix=user:an", None, r"GET …/memberships: 200 in [0-9.]+ ms, key:[0-9a-f-]{36}"),
        ("GET", f"{ACME}/memberships", token("user:olga", "acme"), r"GET …/memberships: \d+ in [0-9.]+ ms, user"),
        ("GET", f"{ACME}/memberships", NOBODY, r"GET …/memberships: 401 in [0-9.]+ ms, nobody"),
        ("GET", f"{ACME}/nothing/ann", None, r"GET none: 404 in [0-9.]+ ms, nobody"),
        ("LOCK", f"{ACME}/memberships", None, r"other none: 405 in [0-9.]+ ms, nobody"),
    ],
)
def test_a_line_for_each_request(
    play: Callable[[Play], Any], lines: Callable[[], list[str]], method: str, path: str, who: str | None, line: str
) -> None:
    """Each request has a line of its own, which names no person, no tenant and nothing of the query."""
    play(lambda asking: asking.ask(method, path, who=who, X_Request_ID=ID))

    (found,) = lines()
    expected = line.replace("…", re.escape("/admin/v1/tenants/{tenant}"))
    assert re.fullmatch(f"{expected}, request {ID}", found)


def test_probes_have_no_line(play: Callable[[Play], Any], lines: Callable[[], list[str]]) -> None:
    """Probes that were answered well are not logged; those that were not are."""

    async def work(asking: Asking) -> None:
        for path in ("/health", "/ready", "/metrics"):
            async with asking.client.get(path):
                pass
        assert asking.database.path is not None
        asking.database.path.unlink()
        async with asking.client.get("/ready"):
            pass

    play(work)

    assert [each.partition(" in ")[0] for each in lines()] == ["GET /ready: 503"]


def test_a_slow_statement_is_told(store_urls: StoreUrls, caplog: pytest.LogCaptureFixture) -> None:
    """A statement above 100 ms is warned of, with its text and without its values; one that fails is counted, too."""

    async def work() -> Exposition:
        database, metrics, moment, step_s = Database(store_urls.admin), Metrics(()), 0.0, [0.01]

        def clock() -> float:
            nonlocal moment
            moment += step_s[0]
            return moment

        watch_statements(database, metrics, clock)
        async with database.reading() as connection:
            step_s[0] = 0.15
            await connection.scalar(select(tenants.c.status).where(tenants.c.id == "a secret"))
            step_s[0] = 0.01
        with suppress(StoreError):
            async with database.reading() as connection:
                step_s[0] = 2.0
                await connection.exec_driver_sql("SELECT id FROM no_such_table")
        await database.close()
        return read(metrics.written().decode())

    found = run(work())

    slow, failed = [each.getMessage() for each in caplog.records if each.name == "bylaw.admin"]
    assert re.fullmatch(
        r"a statement took 150 ms: SELECT tenants\.status FROM tenants WHERE tenants\.id = .{1,40}", slow
    )
    assert "a secret" not in caplog.text
    assert failed == "a statement took 2000 ms: SELECT id FROM no_such_table"
    assert found.value("bylaw_admin_statement_seconds_bucket", le="0.25") >= 1
    assert found.value("bylaw_admin_statement_seconds_count") > found.value(
        "bylaw_admin_statement_seconds_bucket", le="0.25"
    )


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics(play: Callable[[Play], Any]) -> None:
    """What was asked, written and refused is counted, by words of the description and never by names."""

    async def work(asking: Asking) -> str:
        await asking.ask("POST", f"{ACME}/groups", {"id": "team"})
        await asking.ask("POST", f"{ACME}/groups", {"id": "other"}, who=token("user:vic", "acme"))
        await asking.ask("GET", f"{ACME}/audit", who=token("user:vic", "acme"))
        await asking.ask("GET", f"{ACME}/groups", who=NOBODY)
        await asking.ask("GET", "/nothing")
        async with asking.client.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            return await response.text()

    text = play(work)

    found = read(text)
    groups = "/admin/v1/tenants/{tenant}/groups"
    assert found.value("bylaw_admin_requests_total", method="POST", route=groups, status="2xx") == 1
    assert found.value("bylaw_admin_requests_total", method="POST", route=groups, status="4xx") == 1
    assert found.value("bylaw_admin_requests_total", method="POST", route=groups, status="5xx") == 0
    assert found.value("bylaw_admin_requests_total", method="GET", route="none", status="4xx") == 1
    assert found.value("bylaw_admin_writes_total", collection="groups") == 1
    assert sum(found.of("bylaw_admin_refusals_total").values()) == 2
    assert found.value("bylaw_admin_failed_authentications_total", result="refused") == 1
    assert found.value("bylaw_admin_request_seconds_count", method="GET") == 3
    assert sum(found.of("bylaw_admin_statement_seconds_count").values()) > 5
    assert not re.search(r"\b(acme|vic|team)\b|_created", text)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_nothing_of_a_browser_is_needed(play: Callable[[Play], Any]) -> None:
    """Every answer takes from a page that shows it what browsers could let it do."""
    said: Said = play(lambda asking: asking.ask("GET", "/tenants"))

    powers = said.headers["Permissions-Policy"].split(", ")
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(powers)
    assert all(each.endswith("=()") for each in powers)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_no_user_is_called_find(play: Callable[[Play], Any], method: str) -> None:
    """Where one finds a user nobody else is: what is no question is answered by 405, and is about no user."""
    body: object = {} if method == "PATCH" else None

    said: Said = play(lambda asking: asking.ask(method, "/users/find", body))

    assert (said.status, said.headers["Allow"]) == (405, "OPTIONS, POST")


def test_a_bulk_counts_by_its_items(play: Callable[[Play], Any], world: World) -> None:
    """As much is let through in a bulk as one by one; what is too much is refused whole, and says so."""

    async def work(asking: Asking) -> list[Any]:
        limits = Limits("4/1h", clock=lambda: 0.0)
        app = create_app(services_of(asking, world), ENDPOINTS, version="test", manners=Manners(limits=limits))
        async with TestClient(TestServer(app)) as client:
            limited = Asking(client, asking.key, asking.database, asking.ahead, asking.policies)
            answers = [await limited.ask("POST", f"{ACME}/resources/bulk", items(name)) for name in ("ab", "xyz", "c")]
            answers.append(await limited.ask("POST", f"{ACME}/resources/bulk", items("d")))
        kept = await asking.ask("GET", f"{ACME}/resources?prefix=project:new")
        return [[(each.status, each.body.get("error")) for each in answers], answers[1].body["message"], kept.body]

    statuses, message, kept = play(work)

    assert statuses == [(200, None), (429, "rate_limited"), (200, None), (429, "rate_limited")]
    assert "send fewer items at once" in message
    assert [each["id"] for each in kept["items"]] == ["project:newa", "project:newb", "project:newc"]


def items(names: str) -> dict[str, Any]:
    return {"items": [{"id": f"project:new{name}"} for name in names]}
