"""What was refused stands in chains of its own, bounded, and behind pseudonyms; who is not known is told to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text

from admin.attempts import FORGET_S, FREE, MAX_ADDRESSES, Attempts, neighbourhood
from admin.refusals import MINUTE, ROWS, ROWS_OF_ONE, Refusal, Refusals
from bylaw.cli import main
from engine.values import SECOND
from store import tables
from store.audit import verify_stream
from store.database import Database
from store.keys import new_key
from store.refusals import Refused, append
from store.streams import REFUSED, refused_in
from store.writes import principals, tenants
from tests.admin.auditing import make_small_world
from tests.admin.service import NOBODY, Asking, World, token
from tests.databases import StoreUrls, run
from tests.store.worlds import NOW, opened

AUDIT: Final = "/tenants/acme/audit"
PATH: Final = "/tenants/acme/assignments"
ROLE: Final = {"subject": "user:bob", "role": "editor", "on": "organization:acme"}
ADA, BOB, EVE, ROB = (token(f"user:{name}") for name in ("ada", "bob", "eve", "rob"))
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_small_world(tmp_path_factory.mktemp("small"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


async def refused(asking: Asking, path: str = AUDIT, **how: str) -> Any:
    wish = "&".join(f"{name}={value}" for name, value in {"outcome": "refused", **how}.items())
    return (await asking.ask("GET", f"{path}?{wish}")).body["items"]


def said_in(row: Any) -> Any:
    (entry,) = row["entries"]
    return entry["action"], entry["details"]


# --- what is taken down -------------------------------------------------------------------------------------


def test_a_refused_write_is_taken_down(play: Callable[[Play], Any]) -> None:
    """Who wished what, by which path, and why not, is there; what the path and the body named is not."""

    async def talk(asking: Asking) -> Any:
        request = "0123456789abcdef"
        said = await asking.ask("POST", PATH, ROLE, who=BOB, X_Request_ID=request)
        return said.status, said.body["error"], await refused(asking)

    status, code, (row,) = play(talk)

    assert (status, row["actor"], row["revision"]) == (403, "user:bob", 1)
    assert said_in(row) == (
        "request.refused",
        {
            "method": "POST",
            "path": "/tenants/{tenant}/assignments",
            "code": code,
            "request": "0123456789abcdef",
        },
    )


def test_nothing_of_a_person_or_a_secret_is_stored(play: Callable[[Play], Any]) -> None:
    """Who asked stands behind his pseudonym, and a request id that may be anything is left out."""

    async def talk(asking: Asking) -> Any:
        body = {**ROLE, "subject": "user:secret"}
        await asking.ask("POST", PATH, body, who=BOB, X_Request_ID="user:secret")
        await asking.ask("DELETE", "/tenants/acme/memberships/user:ada", who=BOB)
        async with asking.database.reading("acme") as connection:
            return [str(tuple(row)) for row in await connection.execute(text("SELECT * FROM refusals"))]

    rows = play(talk)

    assert len(rows) == 2
    assert not any(word in row for row in rows for word in ("secret", "bob", "user:ada"))


def test_the_line_of_the_policy_is_told(tmp_path: Path) -> None:
    """Where an `assign` refused, the row names its line."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.bylaw").write_text(
        "tenant org { actions read }\nprincipal user\nrole chief on org { can read }\n"
        "assign org.chief by org.chief { not self }\n",
        "utf-8",
    )
    (tmp_path / "facts.yaml").write_text(
        "tenants: { acme: {} }\nusers: { ann: { members: { acme: active } } }\n"
        "assignments: [{ subject: user:ann, role: chief, on: 'org:acme' }]\n",
        "utf-8",
    )
    world = make_small_world_of(tmp_path)

    async def scene() -> Any:
        async with world.asked(tmp_path) as asking:
            wish = {"subject": "user:ann", "role": "chief", "on": "org:acme", "expires": "2200-01-01T00:00:00Z"}
            said = await asking.ask("POST", PATH, wish, who=token("user:ann"))
            return said, await refused(asking)

    said, (row,) = asyncio.run(scene())

    assert said.status == 403
    assert said_in(row)[1]["at"] == said.body["details"]["assign"]


def make_small_world_of(folder: Path) -> World:
    from tests.admin.service import make_world

    return make_world(folder / "policies", folder / "facts.yaml", folder)


def test_what_is_no_refusal_is_not_there(play: Callable[[Play], Any]) -> None:
    """Neither what was done, nor a slip of the pen, nor a reading that was refused, makes a row."""

    async def talk(asking: Asking) -> Any:
        asked = [
            await asking.ask("POST", PATH, ROLE | {"subject": "service:kim"}),
            await asking.ask("POST", PATH, {"subject": "x"}, who=BOB),
            await asking.ask("GET", AUDIT, who=BOB),
            await asking.ask("DELETE", f"{PATH}/none"),
        ]
        return [each.status for each in asked], await refused(asking), await refused(asking, "/audit")

    assert play(talk) == ([201, 400, 403, 404], [], [])


def test_items_of_a_bulk_are_taken_down(play: Callable[[Play], Any]) -> None:
    """An item that is refused in a request of many leaves the row that a request of its own would."""

    async def talk(asking: Asking) -> Any:
        items = [{"subject": "user:gil"}, {"subject": "user:rob"}]
        found = []
        for end in ("", "?atomic=true"):
            said = await asking.ask("POST", f"/tenants/acme/memberships/bulk{end}", {"items": items}, who=BOB)
            found.append(said.status)
        return found, await refused(asking)

    statuses, rows = play(talk)

    assert statuses == [200, 409]
    assert len(rows) == 4
    assert {said_in(row)[1]["path"] for row in rows} == {"/tenants/{tenant}/memberships/bulk"}


@pytest.mark.parametrize("path", ["/tenants", "/tenants/nowhere/memberships"])
def test_what_names_no_tenant_is_the_platforms(play: Callable[[Play], Any], path: str) -> None:
    """A path without a tenant, or with one that is not there, leaves its row in the platform's chain."""

    async def talk(asking: Asking) -> Any:
        key = (await asking.ask("POST", "/keys", {"name": "k", "scopes": ["tenant:acme"]})).body["key"]
        said = await asking.ask("POST", path, {"id": "x"}, who=key)
        return said.status, await refused(asking, "/audit"), await refused(asking)

    status, shared, own = play(talk)

    assert (status, len(shared), own) == (403, 1, [])


def test_scopes_of_keys_too(play: Callable[[Play], Any]) -> None:
    """A key that reaches beyond its scopes leaves a row by its id, in the chain of the tenant it reached for."""

    async def talk(asking: Asking) -> Any:
        key = (await asking.ask("POST", "/keys", {"name": "k", "scopes": ["tenant:globex"]})).body
        await asking.ask("POST", PATH, ROLE, who=key["key"])
        return key["id"], await refused(asking)

    identity, (row,) = play(talk)

    assert row["actor"] == f"key:{identity}"


# --- who sees it --------------------------------------------------------------------------------------------


def test_who_may_read_refusals(play: Callable[[Play], Any]) -> None:
    """It takes what the audit log takes, and one tenant's are not another's."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", PATH, ROLE, who=BOB)
        ends = [f"{AUDIT}{end}?outcome=refused" for end in ("", "/verify")]
        statuses = [(await asking.ask("GET", path, who=who)).status for path in ends for who in (ADA, BOB, EVE)]
        return statuses, await refused(asking, "/tenants/globex/audit"), await refused(asking, "/audit")

    assert play(talk) == ([200, 403, 403] * 2, [], [])


def test_searching_and_pages(play: Callable[[Play], Any]) -> None:
    """Filters and pages are those of the audit log, and a cursor of the one list is none of the other."""

    async def talk(asking: Asking) -> Any:
        for who in (BOB, EVE, BOB):
            await asking.ask("POST", PATH, ROLE, who=who)
        by_bob = await refused(asking, actor="user:bob")
        first = (await asking.ask("GET", f"{AUDIT}?outcome=refused&limit=1")).body
        second = (await asking.ask("GET", f"{AUDIT}?outcome=refused&limit=1&cursor={first['next']}")).body
        foreign = await asking.ask("GET", f"{AUDIT}?cursor={first['next']}")
        return len(by_bob), [page["items"][0]["revision"] for page in (first, second)], foreign.status

    assert play(talk) == (2, [3, 2], 400)


def test_the_chain_is_verified(play: Callable[[Play], Any]) -> None:
    """It verifies like a log, before anything was refused too, and a changed row is found."""

    async def talk(asking: Asking) -> Any:
        async def verified() -> Any:
            return (await asking.ask("GET", f"{AUDIT}/verify?outcome=refused")).body

        found = [await verified()]
        for _ in range(2):
            await asking.ask("POST", PATH, ROLE, who=BOB)
        found.append(await verified())
        async with asking.database.changing("acme") as connection:
            await connection.execute(text("UPDATE refusals SET actor = 'user:x' WHERE n = 1"))
        return [*found, await verified()]

    empty, whole, broken = play(talk)

    assert (empty["whole"], empty["revision"]) == (True, 0)
    assert (whole["whole"], whole["revision"]) == (True, 2)
    assert (broken["whole"], broken["fault"]) == (False, {"revision": 1, "why": "the row was changed"})


def test_an_export_of_refusals(play: Callable[[Play], Any]) -> None:
    """It is exported like a log."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", PATH, ROLE, who=BOB)
        headers = {"Authorization": f"Bearer {ADA}"}
        async with asking.client.get(f"/admin/v1{AUDIT}/export?outcome=refused", headers=headers) as response:
            return await response.text()

    (line,) = play(talk).splitlines()

    assert json.loads(line)["stream"] == "r:acme"


# --- how much -----------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = NOW - NOW % MINUTE

    def __call__(self) -> int:
        return self.now


def refusal(actor: str, tenant: str | None = "acme") -> Refusal:
    return Refusal(actor, tenant, "POST", "/tenants/{tenant}/links", "forbidden", None, "r")


@asynccontextmanager
async def taking(urls: StoreUrls) -> AsyncIterator[tuple[Refusals, Clock, Database]]:
    async with opened(urls) as writer:
        async with writer.write(tenant="acme", making=True) as write:
            await tenants.make(write)
        async with writer.write() as write:
            await principals.make(write, "user:ann")
        clock = Clock()
        yield Refusals(writer.database, clock), clock, writer.database


async def details(database: Database, tenant: str | None) -> list[Any]:
    table = tables.platform_refusals if tenant is None else tables.refusals
    async with database.reading(tenant) as connection:
        rows = await connection.execute(table.select().order_by(table.c.n))
        return [json.loads(row.entries)[0][1] for row in rows]


def test_one_actor_cannot_fill_the_log(store_urls: StoreUrls) -> None:
    """Past so many rows a minute his refusals are counted, and the next row in that chain says how many there were."""

    async def scene() -> list[Any]:
        async with taking(store_urls) as (refusals, clock, database):
            for _ in range(ROWS_OF_ONE + 5):
                await refusals.note(refusal("user:ann"))
            await refusals.note(refusal("user:bob"))
            clock.now += MINUTE
            await refusals.note(refusal("user:ann"))
            return await details(database, "acme")

    found = run(scene())

    assert [each.get("left_out", 0) for each in found] == [0] * ROWS_OF_ONE + [5, 0]


def test_all_together_cannot(store_urls: StoreUrls) -> None:
    """However many actors are refused, a minute has so many rows; the sum is told once it is over."""

    async def scene() -> tuple[int, list[Any]]:
        async with taking(store_urls) as (refusals, clock, database):
            for number in range(ROWS + 7):
                await refusals.note(refusal(f"service:s{number}"))
            before = len(await details(database, "acme"))
            clock.now += MINUTE
            await refusals.tell()
            return before, await details(database, "acme")

    before, found = run(scene())

    assert before == ROWS
    assert found[ROWS:] == [{"left_out": 7}]


def test_strangers_are_summed_up(store_urls: StoreUrls) -> None:
    """Attempts of nobody known make one row a minute, with how many came from how many addresses."""

    async def scene() -> tuple[list[Any], list[Any]]:
        async with taking(store_urls) as (refusals, clock, database):
            for number in range(30):
                refusals.note_stranger(f"192.0.2.{number % 3}", is_limited=number >= 20)
            await refusals.tell()
            before = await details(database, None)
            clock.now += MINUTE
            await refusals.tell()
            await refusals.tell()
            return before, await details(database, None)

    before, after = run(scene())

    assert (before, after) == ([], [{"count": 30, "limited": 10, "addresses": 3}])


def test_the_end_of_the_service_loses_nothing(store_urls: StoreUrls) -> None:
    """What was counted is told when the service stops."""

    async def scene() -> list[Any]:
        async with taking(store_urls) as (refusals, _, database):
            async with refusals.telling():
                refusals.note_stranger("192.0.2.1", is_limited=False)
            return await details(database, None)

    assert [each["count"] for each in run(scene())] == [1]


def test_a_refusal_stays_one_where_it_cannot_be_written(play: Callable[[Play], Any]) -> None:
    """Without a chain to write to the answer is the same, and the next row tells what is missing."""

    async def talk(asking: Asking) -> Any:
        async with asking.database.changing() as connection:
            await connection.execute(text("ALTER TABLE refusal_heads RENAME TO away"))
        lost = await asking.ask("POST", PATH, ROLE, who=BOB)
        async with asking.database.changing() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO refusal_heads"))
        kept = await asking.ask("POST", PATH, ROLE, who=BOB)
        return lost, kept, await refused(asking)

    lost, kept, (row,) = play(talk)

    assert (lost.status, lost.body["error"]) == (kept.status, kept.body["error"]) == (403, kept.body["error"])
    assert said_in(row)[1]["left_out"] == 1


def test_two_processes_write_one_chain(store_urls: StoreUrls) -> None:
    """Rows that are written at once follow each other, and the chain holds."""

    async def scene() -> tuple[Any, int]:
        async with taking(store_urls) as (_, clock, database):
            one = Refused("request.refused", {})
            await asyncio.gather(*(append(database, "acme", [one], now=clock(), actor="user:ann") for _ in range(8)))
            async with database.reading("acme") as connection:
                verdict = await verify_stream(connection, refused_in("acme"))
            return verdict.fault, verdict.proven

    assert run(scene()) == (None, 8)


def test_the_command_line_verifies_refusals(
    store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bylaw audit verify` looks at chains of refusals too, and finds a head that was taken away with rows left."""
    monkeypatch.setenv("BYLAW_DATABASE_URL", store_urls.admin)

    async def fill() -> None:
        async with taking(store_urls) as (refusals, _, _database):
            await refusals.note(refusal("user:ann"))
            await refusals.note(refusal("user:ann", None))

    async def forge() -> None:
        database = Database(store_urls.superuser)
        async with database.changing() as connection:
            await connection.execute(text("DELETE FROM refusal_heads WHERE stream = 'r'"))
        await database.close()

    run(fill())
    whole = main(["audit", "verify", "--json"]), json.loads(capsys.readouterr().out)
    run(forge())
    broken = main(["audit", "verify", "--json"]), json.loads(capsys.readouterr().out)

    assert whole[0] == 0
    assert {each["stream"]: each["rows"] for each in whole[1]["streams"] if each["stream"][0] == "r"} == {
        REFUSED: 1,
        "r:acme": 1,
    }
    assert broken[0] == 1
    assert [each["stream"] for each in broken[1]["streams"] if each["fault"]] == [REFUSED]


# --- who is not known ---------------------------------------------------------------------------------------


def test_failures_are_limited_and_a_good_key_is_not(play: Callable[[Play], Any]) -> None:
    """After a few failures an address is told to wait; who has a good key is let in from there at any time."""

    async def talk(asking: Asking) -> Any:
        failed = [await asking.ask("GET", "/tenants", who=new_key()) for _ in range(FREE)]
        failed += [await asking.ask("GET", "/tenants", who=NOBODY) for _ in range(2)]
        good = await asking.ask("GET", "/tenants")
        asking.ahead[0] = FORGET_S * SECOND
        later = await asking.ask("GET", "/tenants", who=NOBODY)
        return [each.status for each in failed], failed[-1], good.status, later.status

    statuses, last, good, later = play(talk)

    assert statuses == [401] * FREE + [429] * 2
    assert (last.body["error"], last.headers["Retry-After"]) == ("too_many_failures", "1")
    assert (good, later) == (200, 401)


def test_who_shows_nothing_is_not_counted(play: Callable[[Play], Any]) -> None:
    """A request without any key is no attempt."""

    async def talk(asking: Asking) -> Any:
        found = []
        for _ in range(FREE + 2):
            async with asking.client.get("/admin/v1/tenants") as response:
                found.append(response.status)
        return found

    assert set(play(talk)) == {401}


def test_failed_attempts_are_in_the_platforms_chain(play: Callable[[Play], Any]) -> None:
    """What was counted of strangers is found there once the minute is over."""

    async def talk(asking: Asking) -> Any:
        for _ in range(3):
            await asking.ask("GET", "/tenants", who=NOBODY)
        asking.ahead[0] = MINUTE
        await asking.ask("POST", "/tenants", {"id": "x"}, who=ADA)
        return await refused(asking, "/audit", action="authentication.failed")

    (row,) = play(talk)

    assert said_in(row) == ("authentication.failed", {"count": 3, "limited": 0, "addresses": 1})


def test_delays_grow_and_end() -> None:
    """Each failure past the free ones doubles the wait, up to a bound; after a while without one all is forgotten."""
    clock = Clock()
    attempts = Attempts(clock)

    def fail_once_more() -> int:
        """Wait as told, fail, and return what the next is told."""
        wait = attempts.fail("192.0.2.1")
        if wait is not None:
            clock.now += wait * SECOND
            assert attempts.fail("192.0.2.1") is None
        return attempts.fail("192.0.2.1") or 0

    for _ in range(FREE - 1):
        assert attempts.fail("192.0.2.1") is None
    waits = [fail_once_more() for _ in range(12)]
    clock.now += FORGET_S * SECOND

    assert waits == [min(2**n, 900) for n in range(12)]
    assert [attempts.fail("192.0.2.1") for _ in range(FREE)] == [None] * FREE


def test_addresses_are_apart_and_bounded() -> None:
    """One address does not wait for another's failures; there is room for so many, and the oldest makes it."""
    attempts = Attempts(Clock())
    for _ in range(FREE):
        attempts.fail("192.0.2.1")

    other = attempts.fail("192.0.2.2")
    waits = attempts.fail("192.0.2.1")
    for number in range(MAX_ADDRESSES):
        attempts.fail(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert (other, waits) == (None, 1)
    assert attempts.fail("192.0.2.1") is None


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        (None, "", True),
    ],
)
def test_what_counts_as_one_address(one: str | None, other: str, is_same: bool) -> None:
    """Of IPv6 a network of 64 bits is one; IPv4 is the same however it is written."""
    assert (neighbourhood(one) == neighbourhood(other)) is is_same
