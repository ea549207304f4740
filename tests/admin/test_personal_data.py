"""What is known of persons, through HTTP: kept encrypted, found by an address, exported, and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from admin.encryption import KeyRing, generate_key_line, parse_key_ring
from store.audit import verify_chain
from store.streams import GLOBAL
from store.tables import personal_data, platform_audit_log, pseudonyms
from tests.admin.service import Asking, World, make_world, token

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ADDRESS: Final = "Ann.Smith@Example.org"
DATA: Final = "/users/ann/personal-data"
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture
def ring() -> KeyRing:
    return parse_key_ring("\n".join(generate_key_line(name) for name in ("first", "index")), place="test")


@pytest.fixture
def play(world: World, tmp_path: Path, ring: KeyRing) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path, ring=ring) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


async def put(asking: Asking, user: str = "ann", value: str = ADDRESS, field: str = "email") -> Any:
    return await asking.ask("PUT", f"/users/{user}/personal-data/{field}", {"value": value})


def test_what_is_known_is_stored_so_that_nobody_reads_it(play: Callable[[Play], Any]) -> None:
    """A value reads back through the API, and stands in no row."""

    async def talk(asking: Asking) -> Any:
        await put(asking)
        async with asking.database.reading() as connection:
            stored = (await connection.execute(select(personal_data))).all()
            log = (await connection.execute(select(platform_audit_log))).all()
        return (await asking.ask("GET", DATA)).body, str(stored) + str(log)

    known, stored = play(talk)

    assert known == {"id": "ann", "fields": {"email": ADDRESS}}
    assert "smith" not in stored.lower()


def test_an_address_is_found_however_it_is_written(play: Callable[[Play], Any]) -> None:
    """Case does not count; an address is one user's alone; what is not known is not found."""

    async def talk(asking: Asking) -> Any:
        await put(asking)
        found = await asking.ask("POST", "/users/find", {"email": "ANN.SMITH@example.ORG"})
        missing = await asking.ask("POST", "/users/find", {"email": "bob@example.org"})
        return found, missing, await put(asking, "bob", "ann.smith@example.org")

    found, missing, other = play(talk)

    assert (found.status, found.body["id"]) == (200, "ann")
    assert (missing.status, other.status) == (404, 409)


def test_only_the_platform_reads_of_persons(play: Callable[[Play], Any]) -> None:
    """Neither a tenant's key, nor one that keeps facts, nor an end user without that right."""

    async def talk(asking: Asking) -> Any:
        keys = [
            (await asking.ask("POST", "/keys", {"name": scope, "scopes": [scope]})).body["key"]
            for scope in ("tenant:acme", "facts", "audit", "policies")
        ]
        return [(await asking.ask("GET", DATA, who=who)).status for who in (*keys, token("user:ann", "acme"))]

    assert play(talk) == [403] * 5


def test_an_export_holds_everything(play: Callable[[Play], Any]) -> None:
    """Facts, tenants, roles, groups, and what is known."""

    async def talk(asking: Asking) -> Any:
        await put(asking)
        return (await asking.ask("GET", "/users/ann/export")).body

    found = play(talk)

    assert found["personal_data"] == {"email": ADDRESS}
    acme = next(each for each in found["tenants"] if each.get("tenant") == "acme")
    assert acme["membership"]["status"] == "active"
    assert acme["roles"]


def test_who_is_forgotten_is_forgotten(play: Callable[[Play], Any]) -> None:
    """Nothing is known, nothing is held, no audit row says who it was, all chains hold, and the register says so."""

    async def talk(asking: Asking) -> Any:
        await put(asking)
        await asking.ask("PATCH", "/users/ann", {"attributes": {}})
        erased = await asking.ask("POST", "/users/ann/erasure")
        async with asking.database.reading() as connection:
            known = (await connection.execute(select(personal_data))).all()
            named = (await connection.execute(select(pseudonyms).where(pseudonyms.c.ref == "user:ann"))).all()
            broken = await verify_chain(connection, GLOBAL)
        listed = await asking.ask("GET", "/erasures")
        user = await asking.ask("GET", "/users/ann")
        member = await asking.ask("GET", "/tenants/acme/memberships/user:ann")
        return erased, known, named, broken, listed, user, member

    erased, known, named, broken, listed, user, member = play(talk)

    assert erased.status == 204, erased.body
    assert (known, named, broken) == ([], [], None)
    assert [each["done_at"] is not None for each in listed.body["items"]] == [True]
    assert (user.body["status"], user.body["attributes"], member.status) == ("deleted", {}, 404)


def test_without_keys_nothing_is_kept(world: World, tmp_path: Path) -> None:
    """Where no keys are set what would have to be encrypted is refused, and the cure is said."""

    async def talk() -> Any:
        async with world.asked(tmp_path) as asking:
            return await put(asking)

    said = asyncio.run(talk())

    assert (said.status, said.body["error"]) == (409, "no_keys")
