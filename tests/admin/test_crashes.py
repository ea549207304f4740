"""The service killed in the middle of writes, in short: `python -m tests.admin.crashes` does it for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from engine import Policy
from store.changes import Writer
from store.database import Database
from store.writes import platform_groups, principals
from tests.admin.crash_evidence import Entry, Trace, judge
from tests.admin.crashes import besiege
from tests.admin.service import Asking, fill, served, token
from tests.admin.walk import FACTS, POLICY
from tests.databases import StoreUrls, run

CLIENTS, LIVES, BETWEEN = 10, 2, 50


def test_crashes(store_urls: StoreUrls, tmp_path: Path) -> None:
    """Whatever the service is killed in the middle of: what was acknowledged is there, and nothing by halves."""
    siege = run(
        besiege(store_urls, tmp_path, clients=CLIENTS, seed=1, goes_on=lambda number: number < LIVES, between=BETWEEN)
    )

    assert siege.verdict.violations == []
    assert siege.crashes + siege.cut > 0
    assert siege.told["acknowledged"] > CLIENTS * LIVES


# --- what is seen by it ---------------------------------------------------------------------------------


MADE: Final = Trace(
    "g",
    "principal.made",
    {"principal": "user:c-1"},
    "principal:user:c-1",
    (),
    (("principals", "user", "c-1", "active"),),
)


HARM: Final = {
    "UPDATE principals SET status = 'suspended' WHERE id = 'c-1'": "rows:",
    "INSERT INTO memberships VALUES ('acme', 'user', 'c-1', 'active', '', NULL)": "rows:",
    "DELETE FROM pseudonyms WHERE ref = 'user:c-1'": "is lost",
    "UPDATE changes SET keys = '[]' WHERE stream = 'g'": "is not among the changes",
    "DELETE FROM changes WHERE stream = 'g'": "lost changes",
    "UPDATE revisions SET n = n + 1 WHERE stream = 'g'": "has gaps in its audit log",
    "UPDATE platform_audit_log SET entries = '[]'": "is lost",
    "UPDATE platform_audit_log SET hash = ''": "are not those of the audit log",
    "UPDATE idempotency_keys SET status = NULL": "its key say otherwise",
    "INSERT INTO presences (type, id, tenant_id) VALUES ('user', 'c-1', 'acme')": "presences",
}


def test_halves_are_seen(store_urls: StoreUrls) -> None:
    """What a write left by halves, in whatever table, is told; what it left whole is not."""

    async def look() -> tuple[list[str], dict[str, list[str]]]:
        async with _world(store_urls) as asking:
            said = await asking.ask("POST", "/users", {"id": "c-1"}, Idempotency_Key="k-1")
        journals = [[Entry(MADE, "acknowledged", said.headers["Bylaw-Revision"], "k-1")]]
        torn: dict[str, list[str]] = {}
        database = Database(store_urls.superuser, pool_size=1)
        try:
            async with database.changing() as connection:
                whole = await judge(connection, journals)
                for harm in HARM:
                    async with connection.begin_nested() as before:
                        await connection.execute(text(harm))
                        torn[harm] = (await judge(connection, journals)).violations
                        await before.rollback()
        finally:
            await database.close()
        return whole.violations, torn

    whole, torn = run(look())

    assert whole == []
    assert [harm for harm, told in HARM.items() if told not in " ".join(torn[harm])] == []


# --- what it found --------------------------------------------------------------------------------------


@asynccontextmanager
async def _world(urls: StoreUrls) -> AsyncIterator[Asking]:
    policy = Policy.parse(POLICY)
    key = await fill(policy, FACTS.encode(), urls.admin)
    async with served(policy, urls.admin, key) as asking:
        yield asking


async def _of(asking: Asking, path: str, **members: object) -> list[Any]:
    """List what has these members."""
    listed = (await asking.ask("GET", f"{path}?limit=100")).body["items"]
    return [each for each in listed if all(each[name] == value for name, value in members.items())]


def test_a_deletion_goes_on(store_urls: StoreUrls) -> None:
    """A deletion of a user that was cut off between two tenants goes on when it is asked for again, and once it is
    done, is refused as ever.

    It was refused at once, so that what he had in tenants stayed there."""

    async def ask() -> tuple[list[int], list[Any]]:
        async with _world(store_urls) as asking:
            async with Writer(asking.database).write() as write:
                await principals.delete(write, "user:emma")
            said = [await asking.ask("DELETE", "/users/emma") for _ in range(2)]
            return [each.status for each in said], await _of(asking, "/tenants/acme/memberships", id="user:emma")

    statuses, left = run(ask())

    assert statuses == [204, 409]
    assert left == []


def test_a_deletion_of_a_group_goes_on(store_urls: StoreUrls) -> None:
    """What a group of the platform holds is removed when its deletion is asked for again; a tenant's group keeps what
    it holds, whoever asks for one of the platform by its name."""

    async def ask() -> tuple[list[int], list[Any], list[Any]]:
        async with _world(store_urls) as asking:
            body = {"subject": "group:crew", "role": "viewer", "on": "org:acme"}
            await asking.ask("POST", "/tenants/acme/assignments", body)
            async with Writer(asking.database).write() as write:
                await platform_groups.delete(write, "crew")
            said = [await asking.ask("DELETE", f"/groups/{name}") for name in ("crew", "crew", "staff")]
            held = [
                await _of(asking, "/tenants/acme/assignments", subject=f"group:{name}") for name in ("crew", "staff")
            ]
            return [each.status for each in said], held[0], held[1]

    statuses, left, kept = run(ask())

    assert statuses == [204, 404, 404]
    assert (left, len(kept)) == ([], 1)


def test_an_invitation_is_accepted_once_more(store_urls: StoreUrls) -> None:
    """Who accepts with a key, and asks again because he heard no answer, is told what he was told.

    The token was looked for before the key, and was used up."""

    async def ask() -> list[tuple[int, Any]]:
        async with _world(store_urls) as asking:
            made = await asking.ask("POST", "/tenants/acme/invitations", {})
            body = {"token": made.body["token"]}
            asked = [("user:zoe", "k-1"), ("user:zoe", "k-1"), ("user:zoe", "k-2"), ("user:yan", "k-1")]
            said = [
                await asking.ask("POST", "/invitations/accept", body, who=token(who), Idempotency_Key=key)
                for who, key in asked
            ]
            return [(each.status, each.body.get("subject")) for each in said]

    assert run(ask()) == [(200, "user:zoe"), (200, "user:zoe"), (404, None), (404, None)]
