"""Audit logs and the feed of changes through HTTP: who sees what, whole, and nothing of another tenant's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientPayloadError
from sqlalchemy import text

from admin.errors import forbidden
from store.audit import verify_lines
from store.changes import Writer
from store.keys import new_key
from store.streams import Position
from store.writes import api_keys
from tests.admin.auditing import make_small_world
from tests.admin.service import Asking, World, token

AUDIT: Final = "/tenants/acme/audit"
ADA, BOB, EVE, GIL, ROB = (token(f"user:{name}") for name in ("ada", "bob", "eve", "gil", "rob"))
HOUR_NS: Final = 3600 * 10**9
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


async def give(asking: Asking, subject: str, role: str = "editor", tenant: str = "acme") -> Any:
    said = {"subject": subject, "role": role, "on": f"organization:{tenant}"}
    return await asking.ask("POST", f"/tenants/{tenant}/assignments", said)


async def key_of(asking: Asking, *scopes: str) -> str:
    key = new_key()
    async with Writer(asking.database).write() as write:
        await api_keys.make(write, key, "a test", scopes=scopes)
    return key


async def lines_of(asking: Asking, path: str, who: str | None = None) -> tuple[int, str, dict[str, str]]:
    headers = {"Authorization": f"Bearer {who or asking.key}"}
    async with asking.client.get(f"/admin/v1{path}", headers=headers) as response:
        return response.status, await response.text(), dict(response.headers)


# --- who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/verify", "/export"])
def test_who_may_read_a_log(play: Callable[[Play], Any], end: str) -> None:
    """The policy's `read_audit` of that very tenant, or of the system, lets end users in; nobody else gets a word."""

    async def talk(asking: Asking) -> Any:
        own = [(await lines_of(asking, AUDIT + end, who))[:2] for who in (ADA, BOB, EVE, GIL, ROB)]
        shared = [(await lines_of(asking, f"/audit{end}", who))[:2] for who in (ROB, ADA, GIL)]
        return own, shared

    own, shared = play(talk)

    assert [status for status, _ in own] == [200, 403, 403, 403, 403]
    assert [status for status, _ in shared] == [200, 403, 403]
    assert not any("assignment" in said for status, said in own + shared if status != 200)


def test_scopes_of_keys(play: Callable[[Play], Any]) -> None:
    """`audit` reads all logs, a tenant's key its own, and a key for facts none."""

    async def talk(asking: Asking) -> Any:
        found = []
        for scope in ("audit", "tenant:acme", "tenant:globex", "facts", "policies"):
            key = await key_of(asking, scope)
            found.append([(await asking.ask("GET", path, who=key)).status for path in (AUDIT, "/audit")])
        return found

    assert play(talk) == [[200, 200], [200, 403], [403, 403], [403, 403], [403, 403]]


def test_an_unknown_tenant_has_no_log(play: Callable[[Play], Any]) -> None:
    """A key is told that there is no such log; an end user no more than anywhere else."""

    async def talk(asking: Asking) -> Any:
        paths = [f"/tenants/nowhere/audit{end}" for end in ("", "/verify", "/export")]
        return [(await lines_of(asking, each, who))[0] for each in paths for who in (None, ADA)]

    assert play(talk) == [404, 403] * 3


# --- searching ----------------------------------------------------------------------------------------------


def test_searching(play: Callable[[Play], Any]) -> None:
    """Each filter finds what it says, newest first, with persons by name."""

    async def talk(asking: Asking) -> Any:
        for name in ("kim", "lou"):
            await give(asking, f"service:{name}")
        wishes = ("action=assignment.", "names=service:kim", "actor=user:ada", "since=2200-01-01T00:00:00Z", "limit=1")
        return {each: (await asking.ask("GET", f"{AUDIT}?{each}", who=ADA)).body for each in wishes}

    found = play(talk)
    given = [row["entries"][0]["details"]["subject"] for row in found["action=assignment."]["items"]]

    assert given[:2] == ["service:lou", "service:kim"]
    assert [row["entries"][0]["action"] for row in found["names=service:kim"]["items"]] == ["assignment.given"]
    assert found["actor=user:ada"]["items"] == found["since=2200-01-01T00:00:00Z"]["items"] == []
    assert found["limit=1"]["next"] is not None


def test_pages_hold_every_row_once(play: Callable[[Play], Any]) -> None:
    """From cursor to cursor every revision comes once, down to the first."""

    async def talk(asking: Asking) -> Any:
        for number in range(5):
            await give(asking, f"service:s{number}")
        path, found = f"{AUDIT}?limit=2", []
        while path:
            body = (await asking.ask("GET", path)).body
            found += [row["revision"] for row in body["items"]]
            path = f"{AUDIT}?limit=2&cursor={body['next']}" if body["next"] else ""
        return found

    found = play(talk)

    assert found == list(range(found[0], 0, -1))
    assert len(found) > 5


def cursor(*said: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "wish",
    [
        "?actor=",
        "?cursor=x",
        f"?cursor={cursor('audit', 2**70)}",
        f"?cursor={cursor('audit', 'x')}",
        f"/verify?cursor={cursor('audit.verify', 1, 2)}",
        f"?cursor={cursor('audit', 0)}",
        "?since=1",
        "?since=0001-01-01T00:00:00%2B14:00",
        "?until=9999-12-31T23:59:59-14:00",
        "?since=2027-01-01T00:00:00Z&until=2026-01-01T00:00:00Z",
        "?names=a%00b",
        "?limit=101",
        "?shape=round",
        "?log=p",
        "/export?limit=1",
    ],
)
def test_bad_wishes(play: Callable[[Play], Any], wish: str) -> None:
    """What is no wish is refused with its place, and nothing breaks."""

    async def talk(asking: Asking) -> Any:
        return await asking.ask("GET", AUDIT + wish)

    said = play(talk)

    assert said.status == 400
    assert "query" in said.body["message"]


# --- whose facts --------------------------------------------------------------------------------------------


def test_a_link_stands_in_both_logs(play: Callable[[Play], Any]) -> None:
    """Each side's log, and the platform's, has what was linked and ended, and names the other side."""

    async def talk(asking: Asking) -> Any:
        link = {"subject": "user:eve", "home": "globex", "role": "visitor", "on": "organization:acme"}
        made = await asking.ask("POST", "/tenants/acme/links", link)
        await asking.ask("DELETE", f"/tenants/acme/links/{made.body['id']}")
        paths = (AUDIT, "/tenants/globex/audit", "/audit")
        return [(await asking.ask("GET", f"{path}?action=link.")).body["items"] for path in paths]

    found = play(talk)
    said = [[entry for row in rows for entry in row["entries"]] for rows in found]

    assert said[0] == said[1] == said[2]
    assert [entry["action"] for entry in said[0]] == ["link.ended", "link.made"]
    assert {(entry["details"]["home"], entry["details"]["tenant"]) for entry in said[0]} == {("globex", "acme")}


def test_no_log_tells_of_another_tenant(world: World, tmp_path: Path) -> None:
    """What a write does in its own tenant stands in no other stream that moves with it, and all chains hold."""

    async def scene() -> Any:
        async with world.asked(tmp_path) as asking:
            async with Writer(asking.database).write(tenant="acme", others=["globex"], shared=True) as write:
                write.record("secret.done", subject="service:kim")
            paths = (AUDIT, "/tenants/globex/audit", "/audit")
            rows = [(await asking.ask("GET", f"{path}?limit=1")).body["items"][0] for path in paths]
            whole = [(await asking.ask("GET", f"{path}/verify")).body["whole"] for path in paths]
            return [[entry["action"] for entry in row["entries"]] for row in rows], whole

    assert asyncio.run(scene()) == ([["secret.done"], [], []], [True] * 3)


# --- verifying and exporting --------------------------------------------------------------------------------


def test_verifying_in_parts(play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is verified part by part, and only the last part says that it is whole."""
    monkeypatch.setattr("admin.audit.service.PART", 2)

    async def talk(asking: Asking) -> Any:
        for number in range(4):
            await give(asking, f"service:s{number}")
        found = [(await asking.ask("GET", f"{AUDIT}/verify")).body]
        while found[-1]["next"]:
            found.append((await asking.ask("GET", f"{AUDIT}/verify?cursor={found[-1]['next']}")).body)
        newest = (await asking.ask("GET", f"{AUDIT}?limit=1")).body["items"][0]
        return found, newest

    found, newest = play(talk)

    assert [each["whole"] for each in found] == [False] * (len(found) - 1) + [True]
    assert len(found) > 2
    assert (found[-1]["revision"], found[-1]["hash"]) == (newest["revision"], newest["hash"])


@pytest.mark.parametrize(("n", "digest"), [(2, "f" * 64), (10_000, "f" * 64)])
def test_a_made_up_place_verifies_nothing(play: Callable[[Play], Any], n: int, digest: str) -> None:
    """Who begins behind a row that is not there, or with another hash, is told so."""

    async def talk(asking: Asking) -> Any:
        await give(asking, "service:kim")
        return await asking.ask("GET", f"{AUDIT}/verify?cursor={cursor('audit.verify', n, digest)}")

    said = play(talk)

    assert (said.status, said.body["whole"]) == (200, False)
    assert said.body["fault"]["why"]


def test_a_changed_row_is_found(play: Callable[[Play], Any]) -> None:
    """Whoever changes a row is found out, and where."""

    async def talk(asking: Asking) -> Any:
        await give(asking, "service:kim")
        async with asking.database.changing("acme") as connection:
            triggers = await connection.execute(
                text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'")
            )
            for name in list(triggers.scalars()):
                await connection.execute(text(f"DROP TRIGGER {name}"))
            await connection.execute(text("UPDATE audit_log SET actor = 'user:x' WHERE tenant_id = 'acme' AND n = 2"))
        return (await asking.ask("GET", f"{AUDIT}/verify")).body

    found = play(talk)

    assert (found["whole"], found["fault"]) == (False, {"revision": 2, "why": "the row was changed"})


def test_an_export_verifies_elsewhere(play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An export, in however many pages it was read, has the whole chain, and names no person."""
    monkeypatch.setattr("store.audit.PAGE", 2)

    async def talk(asking: Asking) -> Any:
        for number in range(4):
            await give(asking, f"service:s{number}")
        return await lines_of(asking, f"{AUDIT}/export", ADA), (await asking.ask("GET", f"{AUDIT}/verify")).body

    (status, said, headers), verified = play(talk)
    (verdict,) = verify_lines(said.splitlines(), {"t:acme": Position(verified["revision"], verified["hash"])})

    assert (status, headers["Content-Type"]) == (200, "application/jsonl")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (verdict.fault, verdict.proven) == (None, verified["revision"])
    assert len(said.splitlines()) == verified["revision"]
    assert "user:ada" not in said


def test_an_export_that_breaks_off_does_not_look_whole(
    play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the right to read a log is lost between two pages, the reader sees that the rest is missing."""
    monkeypatch.setattr("store.audit.PAGE", 1)
    asked = 0

    async def lose(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise forbidden("he may not any more")

    monkeypatch.setattr("admin.audit.handlers.want", lose)

    async def talk(asking: Asking) -> None:
        await give(asking, "service:kim")
        await lines_of(asking, f"{AUDIT}/export", ADA)

    with pytest.raises(ClientPayloadError):
        play(talk)


# --- the feed -----------------------------------------------------------------------------------------------

FEED: Final = "/tenants/acme/changes"


def test_following(play: Callable[[Play], Any]) -> None:
    """Who follows from page to page sees each revision once, with what it touched."""

    async def talk(asking: Asking) -> Any:
        place = (await asking.ask("GET", FEED)).body["next"]
        for number in range(3):
            await give(asking, f"service:s{number}")
        pages = []
        for _ in range(3):
            pages.append((await asking.ask("GET", f"{FEED}?after={place}&limit=2")).body)
            place = pages[-1]["next"]
        return pages

    pages = play(talk)
    keys = [key for page in pages for each in page["items"] for key in each["keys"]]

    assert [len(page["items"]) for page in pages] == [2, 1, 0]
    assert [page["more"] for page in pages] == [True, False, False]
    assert keys == [f"principal:service:s{number}" for number in range(3)]


def test_following_on_from_a_write(play: Callable[[Play], Any]) -> None:
    """The revision of a write is a place in the feed: what comes behind it is given, and not the write."""

    async def talk(asking: Asking) -> Any:
        place = (await give(asking, "service:s1")).headers["Bylaw-Revision"]
        await give(asking, "service:s2")
        return (await asking.ask("GET", f"{FEED}?after={place}")).body["items"]

    assert [each["keys"] for each in play(talk)] == [["principal:service:s2"]]


def test_what_is_forgotten_is_said_to_be(play: Callable[[Play], Any]) -> None:
    """Where changes were left out there is no page, but a clear error; the same for a place that is yet to come."""

    async def talk(asking: Asking) -> Any:
        place = (await asking.ask("GET", FEED)).body["next"]
        await give(asking, "service:s1")
        ahead = (await give(asking, "service:s2")).headers["Bylaw-Revision"]
        async with asking.database.changing("acme") as connection:
            await connection.execute(
                text("DELETE FROM changes WHERE n = (SELECT max(n) - 1 FROM changes WHERE stream = 't:acme')")
            )
        early = await asking.ask("GET", f"{FEED}?after={place}")
        async with asking.database.changing("acme") as connection:
            await connection.execute(text("UPDATE revisions SET n = n - 1 WHERE stream = 't:acme'"))
        return early, await asking.ask("GET", f"{FEED}?after={ahead}")

    found = play(talk)

    assert [(each.status, each.body["error"]) for each in found] == [(410, "changes_gone")] * 2


def test_who_may_follow(play: Callable[[Play], Any]) -> None:
    """It takes `read_access`, and a place of this very tenant."""

    async def talk(asking: Asking) -> Any:
        statuses = [(await asking.ask("GET", FEED, who=who)).status for who in (ADA, BOB, EVE, GIL)]
        theirs = (await give(asking, "service:s1", "auditor", "globex")).headers["Bylaw-Revision"]
        bad = [(await asking.ask("GET", f"{FEED}?after={each}")).status for each in (theirs, "x", "1")]
        return statuses, bad

    assert play(talk) == ([200, 403, 403, 403], [400, 400, 400])
