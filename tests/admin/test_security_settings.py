"""Security settings of tenants through HTTP: who sets them, and that they hold where they are said to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from admin.encryption import generate_key_line, parse_key_ring
from tests.admin.service import Asking, World, make_world, token

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
SECURITY: Final = "/tenants/acme/security"
FREE: Final = {"invitation_days": 7, "invited_domains": None, "max_link_days": None, "max_key_days": None}
VIEWER: Final = [{"role": "viewer", "on": "organization:acme"}]
RING: Final = parse_key_ring(f"{generate_key_line('one')}\n{generate_key_line('index')}", place="a test")
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path, ring=RING) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


async def put(asking: Asking, **settings: object) -> Any:
    return await asking.ask("PUT", SECURITY, settings)


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def outcome(said: Any) -> tuple[int, str | None]:
    return said.status, said.body.get("details", {}).get("setting")


# --- setting them -------------------------------------------------------------------------------------------


def test_they_are_read_and_set_whole(play: Callable[[Play], Any]) -> None:
    """Without settings there is the usual; what a PUT does not say is as without settings; the log tells it."""

    async def talk(asking: Asking) -> Any:
        before = await asking.ask("GET", SECURITY)
        await put(asking, invitation_days=2, max_link_days=30)
        await put(asking, max_key_days=90)
        after = await asking.ask("GET", SECURITY)
        rows = (await asking.ask("GET", "/tenants/acme/audit?action=tenant.security&limit=1")).body["items"]
        elsewhere = await asking.ask("GET", "/tenants/globex/security")
        return before.body, after.body, rows[0]["entries"][0]["details"]["settings"], elsewhere.body

    before, after, told, elsewhere = play(talk)

    assert before == elsewhere == FREE
    assert after == told == {**FREE, "max_key_days": 90}


def test_who_may(play: Callable[[Play], Any]) -> None:
    """It takes `manage` in that very tenant, or a key of it; a key for facts sets nothing."""

    async def talk(asking: Asking) -> Any:
        keys = {}
        for scope in ("tenant:acme", "tenant:globex", "facts", "audit"):
            keys[scope] = (await asking.ask("POST", "/keys", {"name": scope, "scopes": [scope]})).body["key"]
        who = [*keys.values(), token("user:olga"), token("user:vic"), token("user:eve")]
        return [
            [(await asking.ask(method, SECURITY, body, who=each)).status for each in who]
            for method, body in (("GET", None), ("PUT", {}))
        ]

    read, written = play(talk)

    assert read[:4] == written[:4] == [200, 403, 403, 403]
    assert read[5:] == written[5:] == [403, 403]


def test_two_at_once(play: Callable[[Play], Any]) -> None:
    """With `If-Match` nobody overwrites what he has not seen."""

    async def talk(asking: Asking) -> Any:
        tag = (await asking.ask("GET", SECURITY)).headers["ETag"]
        first = await asking.ask("PUT", SECURITY, {"max_link_days": 1}, If_Match=tag)
        second = await asking.ask("PUT", SECURITY, {}, If_Match=tag)
        return first.status, second.status

    assert play(talk) == (200, 412)


@pytest.mark.parametrize(
    "wrong",
    [
        {"invitation_days": 8},
        {"invitation_days": 0},
        {"invited_domains": []},
        {"invited_domains": ["Acme.example"]},
        {"invited_domains": ["@acme.example"]},
        {"invited_domains": ["example"]},
        {"max_link_days": 0},
        {"max_key_days": 10**9},
        {"colour": "red"},
    ],
)
def test_what_is_no_setting(play: Callable[[Play], Any], wrong: dict[str, object]) -> None:
    """A value that cannot hold is refused, with its place."""

    async def talk(asking: Asking) -> Any:
        return await put(asking, **wrong), await asking.ask("GET", SECURITY)

    said, after = play(talk)

    assert (said.status, after.body) == (400, FREE)
    assert any(each.startswith(f"body.{next(iter(wrong))}") for each in said.body["details"]["fields"])


def test_an_unknown_tenant(play: Callable[[Play], Any]) -> None:
    """Where there is no tenant nothing is set."""

    async def talk(asking: Asking) -> Any:
        path = "/tenants/nowhere/security"
        return (await asking.ask("GET", path)).status, (await asking.ask("PUT", path, {})).status

    assert play(talk) == (404, 404)


# --- that they hold -----------------------------------------------------------------------------------------


def test_how_long_an_invitation_is_open(play: Callable[[Play], Any]) -> None:
    """Nobody invites for longer than the tenant lets; who says nothing invites for as long."""

    async def talk(asking: Asking) -> Any:
        path = "/tenants/acme/invitations"
        usual = [outcome(await asking.ask("POST", path, {"expires": in_days(days)})) for days in (6.9, 7.1)]
        await put(asking, invitation_days=2)
        shorter = [outcome(await asking.ask("POST", path, {"expires": in_days(days)})) for days in (1.9, 2.1)]
        unsaid = (await asking.ask("POST", path, {"roles": VIEWER})).body["expires"]
        return usual, shorter, unsaid

    usual, shorter, unsaid = play(talk)

    assert usual == shorter == [(201, None), (409, "invitation_days")]
    assert in_days(1.9) < unsaid < in_days(2.1)


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("zoe@acme.example", 201),
        (" ZOE@ACME.example", 201),
        ("zoe@globex.example", 409),
        ("zoe@sub.acme.example", 409),
        ("zoe@evil.example@acme.example", 409),
        (None, 409),
    ],
)
def test_who_is_invited(play: Callable[[Play], Any], email: str | None, expected: int) -> None:
    """Only addresses of the named domains are invited, and nobody without an address."""

    async def talk(asking: Asking) -> Any:
        await put(asking, invited_domains=["acme.example"])
        said = await asking.ask("POST", "/tenants/acme/invitations", {} if email is None else {"email": email})
        return said.status, (await asking.ask("GET", "/tenants/acme/invitations")).body["items"]

    status, listed = play(talk)

    assert (status, len(listed)) == (expected, int(expected == 201))


def test_how_long_a_link_lasts(play: Callable[[Play], Any]) -> None:
    """A link into the tenant must end in time; one without an end is refused, and the other side's settings are its
    own."""

    async def talk(asking: Asking) -> Any:
        await put(asking, max_link_days=30)
        found = []
        for end in ({}, {"expires": in_days(31)}, {"expires": in_days(29)}):
            link = {"subject": "user:eve", "home": "globex", "role": "auditor", "on": "organization:acme", **end}
            found.append(outcome(await asking.ask("POST", "/tenants/acme/links", link)))
        return found

    assert play(talk) == [(409, "max_link_days")] * 2 + [(201, None)]


def test_how_long_a_key_lasts(play: Callable[[Play], Any]) -> None:
    """A key for the tenant must end in time, also one that is for others beside it; other keys are free."""

    async def talk(asking: Asking) -> Any:
        await put(asking, max_key_days=30)
        found = []
        for scopes, end in (
            (["tenant:acme"], {}),
            (["tenant:globex", "tenant:acme"], {"expires": in_days(31)}),
            (["tenant:acme"], {"expires": in_days(29)}),
            (["tenant:globex"], {}),
            (["audit"], {}),
        ):
            found.append(outcome(await asking.ask("POST", "/keys", {"name": "k", "scopes": scopes, **end})))
        listed = (await asking.ask("GET", "/keys")).body["items"]
        return found, len(listed)

    found, kept = play(talk)

    assert found == [(409, "max_key_days")] * 2 + [(201, None)] * 3
    assert kept == 4
