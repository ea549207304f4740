"""Which roles there are to be given, for consoles; and in which tenants somebody is, for keys and for himself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from engine import Policy
from tests.admin.service import Asking, Said, World, fill, make_world, served, token
from tests.databases import StoreUrls, run

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ROLES: Final = "/tenants/acme/roles"
GUS: Final = "/users/gus/memberships"
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("roles"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def asked(work: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await work(asking)

    return lambda work: asyncio.run(asked(work))


# --- roles ------------------------------------------------------------------------------------------------------------


def role(said: Said, name: str) -> dict[str, Any]:
    """Find a role in an answer."""
    (found,) = [each for place in said.body["types"] for each in place["roles"] if each["name"] == name]
    return dict(found)


def test_roles_are_listed_by_what_they_are_held_on(play: Callable[[Play], Any], world: World) -> None:
    """Each role of the policy stands below the type of its places, and the tenant's own below theirs."""
    said: Said = play(lambda asking: asking.ask("GET", ROLES))

    names = {each["type"]: [role["name"].partition(".")[2] for role in each["roles"]] for each in said.body["types"]}
    custom = {each["type"]: [role["name"] for role in each["custom"]] for each in said.body["types"]}
    assert names == {
        "organization": ["admin", "artist", "auditor", "manager", "owner", "viewer"],
        "project": ["editor", "owner", "viewer"],
    }
    assert custom == {"organization": ["custom.helper"], "project": []}
    assert said.body["policy"] == world.policy.digest


def test_a_role_says_what_it_gives(play: Callable[[Play], Any]) -> None:
    """What a role gives is there with what it takes over, and what it gives under conditions alone by itself."""
    said: Said = play(lambda asking: asking.ask("GET", ROLES))

    assert role(said, "project.editor")["can"] == [
        *("folder.read", "folder.write", "project.read", "project.update"),
        *("task.create", "task.delete", "task.read", "task.update"),
    ]
    artist, auditor, viewer = (role(said, f"organization.{each}") for each in ("artist", "auditor", "viewer"))
    assert (artist["can"], artist["conditional"]) == ([], ["booking.read", "booking.update"])
    assert (auditor["can"], auditor["crossing"], auditor["claimable"]) == ([], True, False)
    assert (viewer["crossing"], viewer["claimable"]) == (False, True)


def test_a_role_says_who_hands_it_out(play: Callable[[Play], Any]) -> None:
    """Each role names its line, and those of the policy's `assign`s by which it is handed out."""
    said: Said = play(lambda asking: asking.ask("GET", ROLES))
    lines = (STUDIO / "studio.bylaw").read_text("utf-8").splitlines()

    def line(at: str) -> str:
        name, _, number = at.partition(":")
        assert name == "studio.bylaw"
        return " ".join(lines[int(number) - 1].split())

    auditor = role(said, "organization.auditor")
    assert line(auditor["at"]).startswith("role auditor on organization crossing")
    assert [line(at) for at in auditor["assigns"]] == [
        "assign organization.admin, auditor by organization.owner { not self, approval }"
    ]
    assert [line(at) for at in said.body["custom_assigns"]] == [
        "assign organization.manager, custom by organization.admin { max 20 }"
    ]


def test_roles_of_others_are_not_there(play: Callable[[Play], Any]) -> None:
    """A role that another tenant made, or that was deleted, is none of this one's."""

    async def work(asking: Asking) -> list[Said]:
        theirs = {"name": "theirs", "on": "organization", "can": ["task.read"]}
        assert (await asking.ask("POST", "/tenants/globex/custom-roles", theirs)).status == 201
        assert (await asking.ask("DELETE", "/tenants/acme/custom-roles/helper")).status == 204
        return [await asking.ask("GET", path) for path in (ROLES, "/tenants/globex/roles")]

    acme, globex = play(work)

    assert [each["custom"] for each in acme.body["types"]] == [[], []]
    assert [each["custom"] for each in globex.body["types"]] == [[{"name": "custom.theirs"}], []]


READERS: Final = """\
tenant org { actions read_access }
resource folder in org { actions read }
principal user { }
role operator on system { can folder.read }
role auditor on org { can read_access }
role reader on folder { can read }
"""
FACTS: Final = b"""\
tenants: { acme: {}, globex: {} }
users: { ann: { members: { acme: active, globex: active } }, bob: { members: { acme: active } } }
assignments: [{ subject: user:ann, role: auditor, on: "org:acme" }]
"""


def test_roles_take_the_right_to_look(store_urls: StoreUrls) -> None:
    """Who may not read access learns no roles, nor does whoever may elsewhere; no role of the system is a tenant's."""

    async def work() -> list[Said]:
        policy = Policy.parse(READERS)
        key = await fill(policy, FACTS, store_urls.admin)
        async with served(policy, store_urls.admin, key) as asking:
            asked = (("acme", "ann"), ("acme", "bob"), ("globex", "ann"), ("nowhere", "ann"))
            found = [await asking.ask("GET", f"/tenants/{of}/roles", who=token(f"user:{who}")) for of, who in asked]
            return [*found, await asking.ask("GET", "/tenants/nowhere/roles")]

    ann, *others = run(work())

    assert [each["type"] for each in ann.body["types"]] == ["folder", "org"]
    assert [each.status for each in others] == [403, 403, 403, 404]


# --- tenants of somebody ----------------------------------------------------------------------------------------------


def test_tenants_of_somebody(store_urls: StoreUrls) -> None:
    """Somebody's memberships are listed through the wall, as they are, page by page, on both databases."""

    async def work() -> list[Any]:
        policy = Policy.parse(READERS)
        key = await fill(policy, FACTS, store_urls.admin)
        async with served(policy, store_urls.admin, key) as asking:
            change = {"status": "guest", "expires": "2031-01-01T00:00:00Z"}
            await asking.ask("PATCH", "/tenants/globex/memberships/user:ann", change)
            whole = await asking.ask("GET", "/users/ann/memberships", who=token("user:ann"))
            first = await asking.ask("GET", "/users/ann/memberships?limit=1")
            second = await asking.ask("GET", f"/users/ann/memberships?limit=1&cursor={first.body['next']}")
            return [whole.body, first.body["items"] + second.body["items"], second.body["next"]]

    whole, parts, end = run(work())

    always = {"tenant_status": "active", "starts": None}
    assert whole["items"] == [
        {"tenant": "acme", "status": "active", "expires": None, **always},
        {"tenant": "globex", "status": "guest", "expires": "2031-01-01T00:00:00Z", **always},
    ]
    assert (parts, end, whole["next"]) == (whole["items"], None, None)


@pytest.mark.parametrize(
    ("who", "status"),
    [
        (token("user:gus"), 200),
        (token("user:gus", "acme"), 200),
        (token("user:ann", "acme"), 403),
        (token("user:olga", "acme"), 403),
        (token("service:gus"), 403),
    ],
    ids=["himself", "himself in a tenant", "another", "an owner", "a namesake"],
)
def test_only_he_himself_is_told(play: Callable[[Play], Any], who: str, status: int) -> None:
    """In which tenants somebody is, of end users he alone learns."""
    said: Said = play(lambda asking: asking.ask("GET", GUS, who=who))

    assert said.status == status


def test_nobody_learns_whether_somebody_is_there(play: Callable[[Play], Any]) -> None:
    """An end user who asks about another is told the same whether there is one; a key is told that there is none."""

    async def work(asking: Asking) -> list[Said]:
        paths = (GUS, "/users/nobody/memberships")
        return [await asking.ask("GET", path, who=who) for who in (token("user:ann"), None) for path in paths]

    there, absent, to_key, none_to_key = play(work)

    assert (there.status, there.body["message"]) == (absent.status, absent.body["message"])
    assert (to_key.status, none_to_key.status) == (200, 404)


def test_keys_need_a_scope_that_reaches_all_tenants(play: Callable[[Play], Any]) -> None:
    """A key of one tenant learns nothing of where else somebody is."""

    async def work(asking: Asking) -> list[int]:
        found = []
        for scope in ("facts", "system", "tenant:acme", "audit"):
            made = await asking.ask("POST", "/keys", {"name": scope, "scopes": [scope]})
            found.append((await asking.ask("GET", GUS, who=made.body["key"])).status)
        return found

    assert play(work) == [200, 200, 403, 403]


@pytest.mark.parametrize("who", ["sue", "vic"])
def test_who_counts_no_more_is_told_nothing(play: Callable[[Play], Any], who: str) -> None:
    """One who is suspended, or was just deleted, asks in vain, though his token is good."""

    async def work(asking: Asking) -> Said:
        if who == "vic":
            assert (await asking.ask("DELETE", "/users/vic")).status == 204
        return await asking.ask("GET", f"/users/{who}/memberships", who=token(f"user:{who}"))

    said = play(work)

    assert (said.status, said.body["error"]) == (403, "principal_inactive")


def test_where_he_is_no_member_is_left_out(play: Callable[[Play], Any]) -> None:
    """A role without a membership counts for nothing and is none; nor is one in a tenant that is deleted. A tenant that
    is suspended says so."""

    async def work(asking: Asking) -> list[Any]:
        for name in ("nova", "luna"):
            await asking.ask("POST", "/tenants", {"id": name})
        await asking.ask("POST", "/tenants/luna/memberships", {"subject": "user:gus"})
        role = {"subject": "user:gus", "role": "viewer", "on": "organization:nova"}
        assert (await asking.ask("POST", "/tenants/nova/assignments", role)).status == 201
        assert (await asking.ask("DELETE", "/tenants/luna")).status == 204
        assert (await asking.ask("PATCH", "/tenants/globex", {"status": "suspended"})).status == 200
        first = await asking.ask("GET", GUS)
        page = await asking.ask("GET", f"{GUS}?limit=2")
        rest = await asking.ask("GET", f"{GUS}?limit=2&cursor={page.body['next']}")
        return [first.body["items"], rest.body]

    items, rest = play(work)

    assert [(each["tenant"], each["tenant_status"]) for each in items] == [("acme", "active"), ("globex", "suspended")]
    assert rest == {"items": [], "next": None}


def test_a_page_is_short(play: Callable[[Play], Any]) -> None:
    """As each tenant is looked into by itself, a page is no longer than 25."""
    said: Said = play(lambda asking: asking.ask("GET", f"{GUS}?limit=26"))

    assert (said.status, list(said.body["details"]["fields"])) == (400, ["query.limit"])


def test_a_service_has_tenants_too(play: Callable[[Play], Any]) -> None:
    """The same is asked of services."""
    said: Said = play(lambda asking: asking.ask("GET", "/services/billing/memberships"))

    assert [each["tenant"] for each in said.body["items"]] == ["acme"]
