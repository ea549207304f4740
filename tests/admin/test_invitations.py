"""Invitations through HTTP: promised by whoever may give it, accepted by the invited, once, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.admin.service import Asking, World, make_world, token

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
PATH: Final = "/tenants/acme/invitations"
ROLES: Final = [{"role": "viewer", "on": "organization:acme"}]
WEEK_NS: Final = 7 * 86_400 * 10**9
ZOE: Final = token("user:zoe")
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


async def invited(asking: Asking, who: str | None = None, **said: object) -> Any:
    return (await asking.ask("POST", PATH, {"roles": ROLES, **said}, who=who)).body


async def accept(asking: Asking, secret: str, who: str = ZOE) -> Any:
    return await asking.ask("POST", "/invitations/accept", {"token": secret}, who=who)


def test_the_invited_becomes_what_was_promised(play: Callable[[Play], Any]) -> None:
    """Who accepts is known, a member, and holds the roles; the token leads nowhere then."""

    async def talk(asking: Asking) -> Any:
        made = await invited(asking)
        accepted = await accept(asking, made["token"])
        again = await accept(asking, made["token"], token("user:yan"))
        member = await asking.ask("GET", "/tenants/acme/memberships/user:zoe")
        held = await asking.ask("GET", "/tenants/acme/assignments?subject=user:zoe")
        return made, accepted, again, member, held

    made, accepted, again, member, held = play(talk)

    assert made["token"].startswith("bylaw_")
    assert (accepted.status, accepted.body["tenant"], accepted.body["subject"]) == (200, "acme", "user:zoe")
    assert again.status == 404
    assert member.body["status"] == "active"
    assert [(each["role"], each["on"]) for each in held.body["items"]] == [("organization.viewer", "organization:acme")]


def test_nobody_promises_what_he_may_not_give(play: Callable[[Play], Any]) -> None:
    """What an end user may not hand out, he may not promise: neither the membership nor a role."""

    async def talk(asking: Asking) -> Any:
        outsider, member = token("user:eve", "acme"), token("user:vic", "acme")
        return [await asking.ask("POST", PATH, {"roles": ROLES}, who=who) for who in (outsider, member, "nobody")]

    assert [said.status for said in play(talk)] == [403, 403, 401]


def test_a_promise_ends_with_the_right_of_who_made_it(play: Callable[[Play], Any]) -> None:
    """A revoked key's invitations are worth nothing, and nothing is left half done."""

    async def talk(asking: Asking) -> Any:
        key = (await asking.ask("POST", "/keys", {"name": "k", "scopes": ["tenant:acme"]})).body
        made = await invited(asking, key["key"])
        await asking.ask("DELETE", f"/keys/{key['id']}")
        refused = await accept(asking, made["token"])
        return refused, await asking.ask("GET", "/tenants/acme/memberships/user:zoe")

    refused, member = play(talk)

    assert (refused.status, refused.body["error"]) == (403, "giver")
    assert member.status == 404


@pytest.mark.parametrize(("ahead", "status"), [(WEEK_NS - 10**9, 200), (WEEK_NS + 10**9, 409)])
def test_an_invitation_is_open_for_a_week(play: Callable[[Play], Any], ahead: int, status: int) -> None:
    """It may be accepted until seven days have passed."""

    async def talk(asking: Asking) -> Any:
        made = await invited(asking)
        asking.ahead[0] = ahead
        return await accept(asking, made["token"])

    assert play(talk).status == status


def test_a_withdrawn_invitation_is_none(play: Callable[[Play], Any]) -> None:
    """Who was invited and is not any more is told that there is nothing."""

    async def talk(asking: Asking) -> Any:
        made = await invited(asking)
        gone = await asking.ask("DELETE", f"{PATH}/{made['id']}")
        return gone, await accept(asking, made["token"]), await asking.ask("GET", PATH)

    gone, accepted, listed = play(talk)

    assert (gone.status, accepted.status) == (204, 404)
    assert listed.body["items"][0]["withdrawn_at"] is not None
    assert "token" not in str(listed.body)


def test_a_key_accepts_nothing(play: Callable[[Play], Any]) -> None:
    """An invitation is accepted by a person, with a token of his own."""

    async def talk(asking: Asking) -> Any:
        made = await invited(asking)
        return await accept(asking, made["token"], asking.key)

    assert play(talk).status == 403
