"""Effective access through HTTP: what somebody may do with a thing, and why; and who may know."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.admin.auditing import make_small_world
from tests.admin.service import Asking, World, token

ACCESS: Final = "/tenants/acme/access"
ADA, BOB, EVE = (token(f"user:{name}") for name in ("ada", "bob", "eve"))
#: No test waits for longer than this.
PATIENCE_S: Final = 5.0
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


def of(subject: str, resource: str = "project:p1") -> str:
    return f"{ACCESS}?subject={subject}&resource={resource}"


def test_every_action_with_its_reason(play: Callable[[Play], Any]) -> None:
    """All actions of the type are there, each with its answer and what that rests on."""

    async def talk(asking: Asking) -> Any:
        return (await asking.ask("GET", of("user:bob"), who=ADA)).body

    found = play(talk)
    said = {each["action"]: each for each in found["items"]}

    assert list(said) == ["project.delete", "project.read", "project.update"]
    assert said["project.read"]["decision"] is True
    assert said["project.read"]["by"] == "organization.editor on organization:acme"
    assert said["project.read"]["at"] == "small.bylaw:7"
    assert (said["project.update"]["decision"], said["project.update"]["by"]) == (False, "locked")
    assert said["project.update"]["because"] == "the project is locked"
    assert found["policy"].startswith("sha256:")
    assert found["revision"]


def test_pages_of_actions(play: Callable[[Play], Any]) -> None:
    """A page bounds what one answer costs; from cursor to cursor every action comes once."""

    async def talk(asking: Asking) -> Any:
        first = (await asking.ask("GET", f"{of('user:bob')}&limit=2")).body
        second = (await asking.ask("GET", f"{of('user:bob')}&limit=2&cursor={first['next']}")).body
        foreign = await asking.ask("GET", f"{of('user:bob', 'organization:acme')}&cursor={first['next']}")
        return first, second, foreign.status

    first, second, foreign = play(talk)

    assert [each["action"] for page in (first, second) for each in page["items"]] == [
        "project.delete",
        "project.read",
        "project.update",
    ]
    assert (second["next"], foreign) == (None, 400)


def test_who_may_ask_about_whom(play: Callable[[Play], Any]) -> None:
    """Of others it takes `read_access` in that very tenant; of himself anyone may ask."""

    async def talk(asking: Asking) -> Any:
        asked = (("user:bob", ADA), ("user:ada", BOB), ("user:bob", BOB), ("user:bob", EVE), ("user:eve", EVE))
        return [(await asking.ask("GET", of(subject), who=who)).status for subject, who in asked]

    assert play(talk) == [200, 403, 200, 403, 200]


def test_an_outsider_learns_nothing_by_asking_about_himself(play: Callable[[Play], Any]) -> None:
    """To one outside, what is there, what is not, and a tenant that does not exist, look alike."""

    async def talk(asking: Asking) -> Any:
        there = await asking.ask("GET", of("user:eve"), who=EVE)
        absent = await asking.ask("GET", of("user:eve", "project:none"), who=EVE)
        nowhere = await asking.ask("GET", "/tenants/nowhere/access?subject=user:eve&resource=project:p2", who=EVE)
        return [(each.status, each.body["items"]) for each in (there, absent, nowhere)]

    found = play(talk)

    assert found[0] == found[1] == found[2]
    assert {each["code"] for each in found[0][1]} == {"denied"}


def test_asking_about_himself_counts_what_his_token_says(play: Callable[[Play], Any]) -> None:
    """A token that is of another tenant opens nothing here, not even in the answer about its own bearer."""

    async def talk(asking: Asking) -> Any:
        found = []
        for tenant in ("acme", "globex"):
            said = await asking.ask("GET", of("user:bob"), who=token("user:bob", tenant))
            found.append({each["action"]: each["decision"] for each in said.body["items"]}["project.read"])
        return found

    assert play(talk) == [True, False]


def test_what_an_answer_says_is_what_is_so(play: Callable[[Play], Any]) -> None:
    """The answer follows the facts: what was just given is in it."""

    async def talk(asking: Asking) -> Any:
        async def reads() -> Any:
            return (await asking.ask("GET", of("service:kim", "project:p2"))).body["items"][1]["decision"]

        before = await reads()
        await asking.ask("POST", "/services", {"id": "kim"})
        await asking.ask("POST", "/tenants/acme/memberships", {"subject": "service:kim"})
        given = {"subject": "service:kim", "role": "editor", "on": "organization:acme"}
        await asking.ask("POST", "/tenants/acme/assignments", given)
        return before, await reads()

    assert play(talk) == (False, True)


@pytest.mark.parametrize(
    "path",
    [
        of("group:staff"),
        of("anyone"),
        of("user:bob", "projekt:p1"),
        of("user:bob", "system:system"),
        of("user:bob", "organization:globex"),
        f"{ACCESS}?subject=user:bob",
    ],
)
def test_bad_questions(play: Callable[[Play], Any], path: str) -> None:
    """What nobody can be asked about is refused, with its place."""

    async def talk(asking: Asking) -> Any:
        return await asking.ask("GET", path)

    said = play(talk)

    assert said.status == 400
    assert any(name.startswith("query.") for name in said.body["details"]["fields"])


def test_a_key_is_told_of_an_unknown_tenant(play: Callable[[Play], Any]) -> None:
    """For a key a tenant that is not there is an error, and not a deny."""

    async def talk(asking: Asking) -> Any:
        return (await asking.ask("GET", "/tenants/nowhere/access?subject=user:bob&resource=project:p1")).status

    assert play(talk) == 404


# --- the whole reasoning ------------------------------------------------------------------------------------

WHY: Final = {"subject": "user:bob", "action": "update", "resource": "project:p1"}


def test_the_whole_reasoning(play: Callable[[Play], Any]) -> None:
    """One decision is explained as the decision service would: each deny, role and rule, and what is missing."""

    async def talk(asking: Asking) -> Any:
        return await asking.ask("POST", f"{ACCESS}/explain", WHY, who=ADA)

    said = play(talk)
    reasoning = said.body["reasoning"]

    assert (said.status, reasoning["decision"], reasoning["by"]) == (200, False, "locked")
    assert [each["rule"] for each in reasoning["denies"] if each["applies"]] == ["locked"]
    assert reasoning["missing"]
    assert "Bylaw-Revision" not in said.headers


def test_who_may_see_the_reasoning(play: Callable[[Play], Any]) -> None:
    """It shows what others hold and are, so that asking about himself is not enough."""

    async def talk(asking: Asking) -> Any:
        who = (ADA, BOB, EVE)
        return [(await asking.ask("POST", f"{ACCESS}/explain", WHY, who=each)).status for each in who]

    assert play(talk) == [200, 403, 403]


@pytest.mark.parametrize("wrong", [{"action": "fly"}, {"action": ""}, {"subject": "bob"}])
def test_a_bad_question_is_not_explained(play: Callable[[Play], Any], wrong: dict[str, object]) -> None:
    """An unknown action or subject is an error of the request."""

    async def talk(asking: Asking) -> Any:
        return await asking.ask("POST", f"{ACCESS}/explain", WHY | wrong)

    said = play(talk)

    assert said.status == 400


def test_others_are_answered_meanwhile(play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long explanation is thought out, the service answers others."""
    begun, may_end = threading.Event(), threading.Event()

    def think(*_: object) -> dict[str, object]:
        begun.set()
        return {"was_let_end": may_end.wait(PATIENCE_S)}

    monkeypatch.setattr("admin.access.service.explain", think)

    async def talk(asking: Asking) -> Any:
        thinking = asyncio.create_task(asking.ask("POST", f"{ACCESS}/explain", WHY, who=ADA))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        other = await asking.ask("GET", "/tenants")
        may_end.set()
        return other.status, (await thinking).body["reasoning"]

    assert play(talk) == (200, {"was_let_end": True})
