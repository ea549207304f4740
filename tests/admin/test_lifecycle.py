"""What becomes of tenants, users and keys in the course of time: suspended, deleted, used, exported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import update

from admin.encryption import KeyRing, generate_key_line, parse_key_ring
from engine import Policy
from store.errors import UnavailableError
from store.tables import invitations, personal_data
from store.writes import api_keys
from tests.admin.service import Asking, Said, World, fill, make_world, served, token
from tests.databases import StoreUrls, run

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ACME: Final = "/tenants/acme"
ZOE: Final = token("user:zoe")
OLGA: Final = token("user:olga", "acme")
MINUTE: Final = 60 * 10**9
Work = Callable[[Asking], Awaitable[Any]]

POLICY: Final = """
tenant organization { attributes { plan: string? } actions read, manage, read_access }
principal user
principal group { attributes { floor: int? } }
role boss on organization { can read, manage, read_access }
role partner on organization crossing { can read }
assign members, groups, boss, partner by boss
system { actions read_access, manage }
role root on system { can organization.*, system.* }
assign members, groups, boss, partner by system.root
"""
FACTS: Final = """
tenants: { acme: {}, globex: {}, nova: {} }
users:
  ann: { members: { acme: active } }
  eve: { members: { globex: active } }
  max: {}
assignments:
  - { subject: user:ann, role: boss, on: organization:acme }
  - { subject: user:max, role: root, on: system }
links:
  - { subject: user:eve, home: globex, role: partner, on: organization:acme }
  - { subject: user:eve, home: globex, role: partner, on: organization:nova }
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("linked")
    (folder / "policies").mkdir()
    (folder / "policies" / "small.bylaw").write_text(POLICY, "utf-8")
    (folder / "facts.yaml").write_text(FACTS, "utf-8")
    return make_world(folder / "policies", folder / "facts.yaml", folder)


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Work], Any]:
    return _playing(world, tmp_path)


@pytest.fixture
def play_linked(linked: World, tmp_path: Path) -> Callable[[Work], Any]:
    return _playing(linked, tmp_path)


@pytest.fixture
def play_both(store_urls: StoreUrls) -> Callable[[Work], Any]:
    """What depends on locks, on both kinds of databases."""

    async def served_to(work: Work) -> Any:
        key = await fill(Policy.parse(POLICY), FACTS.encode(), store_urls.admin)
        async with served(Policy.parse(POLICY), store_urls.admin, key) as asking:
            return await work(asking)

    return lambda work: run(served_to(work))


def _playing(world: World, folder: Path, ring: KeyRing | None = None) -> Callable[[Work], Any]:
    async def served_to(work: Work) -> Any:
        async with world.asked(folder, ring=ring) as asking:
            return await work(asking)

    return lambda work: asyncio.run(served_to(work))


def ring_of(*names: str) -> KeyRing:
    return parse_key_ring("\n".join(generate_key_line(name) for name in (*names, "index")), place="test")


def brief(said: Said) -> tuple[int, str | None]:
    return said.status, None if said.body is None else said.body.get("error")


def _refused(said: Said) -> int:
    """Return the status; of many at once, that of the one item."""
    return int(said.body["results"][0]["status"]) if said.status == 200 else said.status


async def newest(asking: Asking, path: str) -> list[str]:
    """List what the newest row of a log tells."""
    (row,) = (await asking.ask("GET", f"{path}?limit=1")).body["items"]
    return [each["action"] for each in row["entries"]]


# --- tenants --------------------------------------------------------------------------------------------


def test_nothing_is_written_into_a_deleted_tenant(play_linked: Callable[[Work], Any]) -> None:
    """Neither by its own key, nor by the first one, nor by an end user, though he hold a role on the system; it can be
    read."""

    async def talk(asking: Asking) -> Any:
        own = (await asking.ask("POST", "/keys", {"name": "k", "scopes": ["tenant:acme"]})).body["key"]
        await asking.ask("DELETE", ACME)
        writes: list[tuple[str, str, object]] = [
            ("POST", "/memberships", {"subject": "user:eve"}),
            ("POST", "/memberships/bulk", {"items": [{"subject": "user:eve"}]}),
            ("DELETE", "/memberships/user:ann", None),
            ("POST", "/assignments", {"subject": "user:eve", "role": "boss", "on": "organization:acme"}),
            ("POST", "/groups", {"id": "g"}),
            ("POST", "/invitations", {"roles": []}),
            ("PATCH", "", {"attributes": {"plan": "x"}}),
            ("PATCH", "", {"status": "active"}),
        ]
        keys = [await asking.ask(how, ACME + path, body, who=who) for who in (own, None) for how, path, body in writes]
        users = [
            [await asking.ask(how, ACME + path, body, who=token(who)) for how, path, body in writes]
            for who in ("user:ann", "user:eve", "user:max")
        ]
        return keys, users, await asking.ask("GET", f"{ACME}/memberships", who=own)

    keys, (ann, eve, root), listed = play_linked(talk)

    assert {brief(said) for said in keys} == {(409, "deleted")}
    assert {_refused(said) for said in (*ann, *eve, *root)} == {403}
    assert [each["id"] for each in listed.body["items"]] == ["user:ann"]


def test_who_leaves_leaves_a_deleted_tenant_too(play_linked: Callable[[Work], Any]) -> None:
    """A user's deletion takes his rows out of a tenant that was deleted before."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("DELETE", ACME)
        gone = await asking.ask("DELETE", "/users/ann")
        return gone, await asking.ask("GET", f"{ACME}/memberships")

    gone, listed = play_linked(talk)

    assert gone.status == 204, gone.body
    assert listed.body["items"] == []


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_nobody_comes_into_a_tenant_that_is_not_active(play: Callable[[Work], Any], status: str) -> None:
    """An invitation is not accepted while its tenant is suspended or deleted; it is, once that is active again."""

    async def talk(asking: Asking) -> Any:
        made = (await asking.ask("POST", f"{ACME}/invitations", {"roles": []})).body
        if status == "deleted":
            await asking.ask("DELETE", ACME)
        else:
            await asking.ask("PATCH", ACME, {"status": status})
        refused = await asking.ask("POST", "/invitations/accept", {"token": made["token"]}, who=ZOE)
        member = await asking.ask("GET", f"{ACME}/memberships/user:zoe")
        await asking.ask("PATCH", ACME, {"status": "active"})
        return refused, member, await asking.ask("POST", "/invitations/accept", {"token": made["token"]}, who=ZOE)

    refused, member, then = play(talk)

    assert brief(refused) == (409, "not_active")
    assert member.status == 404
    assert then.status == (200 if status == "suspended" else 409)


def test_lists_leave_out_what_is_deleted(play: Callable[[Work], Any]) -> None:
    """Deleted tenants, users and services are listed where they are asked for, and nowhere else."""

    async def talk(asking: Asking) -> Any:
        for each in ("/tenants/globex", "/users/bob", "/services/billing"):
            await asking.ask("DELETE", each)
        found = []
        for each in ("tenants", "users", "services"):
            pages = [await asking.ask("GET", f"/{each}{query}") for query in ("?limit=100", "?status=deleted")]
            found.append([{one["id"] for one in page.body["items"]} for page in pages])
        return found

    for (usual, deleted), name in zip(play(talk), ("globex", "bob", "billing"), strict=True):
        assert deleted == {name}
        assert name not in usual


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/tenants", {"id": "new", "attributes": {"nonsense": 1}}),
        ("POST", "/tenants", {"id": "new", "attributes": {"plan": 1}}),
        ("PATCH", ACME, {"attributes": {"plam": "pro"}}),
        ("POST", f"{ACME}/groups", {"id": "g", "attributes": {"floor": "first"}}),
        ("POST", "/groups", {"id": "g", "attributes": {"nonsense": 1}}),
        ("PATCH", "/groups/crew", {"attributes": {"nonsense": 1}}),
        ("PATCH", f"{ACME}/groups/staff", {"attributes": {"nonsense": 1}}),
    ],
)
def test_attributes_are_those_of_the_policy(
    play_linked: Callable[[Work], Any], method: str, path: str, body: dict[str, Any]
) -> None:
    """What the policy does not declare of tenants and groups, or as something else, is refused by name."""

    async def talk(asking: Asking) -> Said:
        await asking.ask("POST", "/groups", {"id": "crew", "attributes": {"floor": 1}})
        await asking.ask("POST", f"{ACME}/groups", {"id": "staff", "attributes": {"floor": 2}})
        return await asking.ask(method, path, body)

    said = play_linked(talk)

    (name,) = body["attributes"]
    assert said.status == 400, said.body
    assert list(said.body["details"]["fields"]) == [f"body.attributes.{name}"]


# --- users ----------------------------------------------------------------------------------------------


def test_who_is_suspended_logs_in_anew(play: Callable[[Work], Any]) -> None:
    """With the suspension his tokens are taken back, in the same write; other changes leave them alone."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("PATCH", "/users/bob", {"attributes": {"clearance": 2}})
        before = await asking.ask("GET", "/users/bob/valid-after")
        await asking.ask("PATCH", "/users/bob", {"status": "suspended"})
        told = await newest(asking, "/audit")
        await asking.ask("PATCH", "/users/bob", {"status": "active"})
        return before, told, await asking.ask("GET", "/users/bob/valid-after")

    before, told, after = play(talk)

    assert before.body["valid_after"] is None
    assert told == ["principal.status", "token.valid_after"]
    assert after.body["valid_after"] is not None


# --- both sides of a link ---------------------------------------------------------------------------------


def test_all_sides_are_told_of_links_that_go_with_their_holder(play_both: Callable[[Work], Any]) -> None:
    """A user's deletion stands in the logs of his home and of each tenant into which he had a link."""

    async def talk(asking: Asking) -> Any:
        said = await asking.ask("DELETE", "/users/eve")
        home = (await asking.ask("GET", "/tenants/globex/audit?action=link.cut")).body["items"]
        return said, len(home), [await newest(asking, f"/tenants/{each}/audit") for each in ("acme", "nova")]

    said, home, targets = play_both(talk)

    assert said.status == 204, said.body
    assert "Bylaw-Revision" in said.headers
    assert home == 1
    assert targets == [["link.cut"], ["link.cut"]]


def test_all_sides_are_told_by_a_bulk(play_both: Callable[[Work], Any]) -> None:
    """Of several items that cross, each other side is told, however many there are."""

    async def talk(asking: Asking) -> Any:
        link = {"subject": "user:ann", "home": "acme", "role": "partner", "on": "organization:globex"}
        made = await asking.ask("POST", "/tenants/globex/links", link)
        for each in ("eve", "max"):
            await asking.ask("POST", f"{ACME}/memberships", {"subject": f"user:{each}"})
        further = {"subject": "user:max", "home": "acme", "role": "partner", "on": "organization:nova"}
        await asking.ask("POST", "/tenants/nova/links", further)
        items = [{"subject": f"user:{each}", "status": "suspended"} for each in ("max", "eve")]
        items.append({"subject": "user:max", "op": "delete"})
        said = await asking.ask("POST", f"{ACME}/memberships/bulk", {"items": items})
        return made, said, await newest(asking, "/tenants/nova/audit"), await newest(asking, "/tenants/globex/audit")

    made, said, nova, globex = play_both(talk)

    assert made.status == 201, made.body
    assert [each["status"] for each in said.body["results"]] == [201, 201, 204]
    assert nova == ["link.membership", "link.cut"]
    assert globex == ["link.made"]


def test_a_deletion_of_a_group_that_goes_on_names_its_revision(play_linked: Callable[[Work], Any]) -> None:
    """Resumed, it is a write as the first one was; done, there is nothing to go on with."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", "/groups", {"id": "crew"})
        give = {"subject": "group:crew", "role": "boss", "on": "organization:acme"}
        await asking.ask("POST", f"{ACME}/assignments", give)
        async with asking.database.changing() as connection:
            await connection.exec_driver_sql("UPDATE platform_groups SET deleted = true")
        return [await asking.ask("DELETE", "/groups/crew?await=settled") for _ in range(2)]

    first, second = play_linked(talk)

    assert first.status == 200, first.body
    assert "Bylaw-Revision" in first.headers
    assert second.status == 404


# --- keys -----------------------------------------------------------------------------------------------


async def used(asking: Asking) -> list[str | None]:
    return [each["last_used"] for each in (await asking.ask("GET", "/keys")).body["items"]]


async def noted(asking: Asking, before: object) -> Any:
    """Wait until it is written down that the key is used: that is beside the request."""
    for _ in range(200):
        if (found := (await used(asking))[0]) != before:
            return found
    raise AssertionError("the use is not noted")


def test_a_key_shows_when_it_was_used(play: Callable[[Work], Any]) -> None:
    """It is written down with the first use, and then once a minute; a key that nobody used shows none."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", "/keys", {"name": "idle", "scopes": ["facts"]})
        first = await noted(asking, None)
        again, idle = await used(asking)
        asking.ahead[0] = 2 * MINUTE
        return first, again, idle, await noted(asking, first)

    first, again, idle, later = play(talk)

    assert (again, idle) == (first, None)
    assert (datetime.fromisoformat(later) - datetime.fromisoformat(first)).total_seconds() > 60


def test_a_key_is_good_though_its_use_cannot_be_noted(
    play: Callable[[Work], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong there is logged, without what was asked, and the request is answered."""

    async def fail(*_: object, **__: object) -> bool:
        raise UnavailableError("postgresql://secret")

    monkeypatch.setattr(api_keys, "note_use", fail)

    async def talk(asking: Asking) -> Any:
        return [(await asking.ask("GET", "/keys")).status for _ in range(3)]

    assert play(talk) == [200, 200, 200]
    assert "UnavailableError" in caplog.text
    assert "secret" not in caplog.text


# --- what no key opens ------------------------------------------------------------------------------------


async def break_all(asking: Asking) -> None:
    """Put something in the place of all that is encrypted that nobody can read."""
    for tenant, table, column in (("acme", invitations, "email"), (None, personal_data, "value")):
        async with asking.database.changing(tenant) as connection:
            await connection.execute(update(table).values({column: "v1.gone.AAAA"}))


async def know(asking: Asking) -> None:
    for field, value in (("email", "ann@example.org"), ("name", "Ann")):
        await asking.ask("PUT", f"/users/ann/personal-data/{field}", {"value": value})
    await asking.ask("POST", f"{ACME}/invitations", {"email": "zoe@example.org"})


def test_what_no_key_opens_is_said(world: World, tmp_path: Path) -> None:
    """Personal data and an export are 409, with the fields; an address of an invitation is null; what is said anew
    reads again; nobody is found by an address that does not read."""

    async def talk(asking: Asking) -> Any:
        await know(asking)
        await break_all(asking)
        lost = [await asking.ask("GET", f"/users/ann/{what}") for what in ("personal-data", "export")]
        found = await asking.ask("POST", "/users/find", {"email": "ann@example.org"})
        listed = await asking.ask("GET", f"{ACME}/invitations")
        anew = await asking.ask("PUT", "/users/ann/personal-data/name", {"value": "Ann"})
        return lost, found, listed, anew

    lost, found, listed, anew = _playing(world, tmp_path, ring_of("first"))(talk)

    assert [brief(said) for said in lost] == [(409, "no_keys")] * 2
    assert "email, name" in lost[0].body["message"]
    assert found.status == 404
    assert [each["email"] for each in listed.body["items"]] == [None]
    assert anew.body["fields"] == {"email": None, "name": "Ann"}


def test_an_export_without_keys_is_none(world: World, tmp_path: Path) -> None:
    """Where something is stored that needs keys and there are none, an export would not be whole; where nothing is, it
    is."""

    async def talk(asking: Asking) -> Any:
        await know(asking)

    _playing(world, tmp_path, ring_of("first"))(talk)

    async def later() -> Any:
        url = f"sqlite+aiosqlite:///{tmp_path / 'copy.db'}"
        async with served(world.policy, url, world.key) as asking:
            return [await asking.ask("GET", f"/users/{each}/export") for each in ("ann", "bob")]

    ann, bob = asyncio.run(later())

    assert brief(ann) == (409, "no_keys")
    assert (bob.status, bob.body["personal_data"]) == (200, {})


def test_nobody_keeps_what_is_known_of_persons(world: World, tmp_path: Path) -> None:
    """Personal data and exports have no state to ask again for, and are not to be stored anywhere."""

    async def talk(asking: Asking) -> Any:
        await know(asking)
        value = {"value": "Ann"}
        asked = [("GET", "personal-data", None), ("GET", "export", None), ("PUT", "personal-data/name", value)]
        return [(await asking.ask(how, f"/users/ann/{what}", body)).headers for how, what, body in asked]

    for headers in _playing(world, tmp_path, ring_of("first"))(talk):
        assert headers["Cache-Control"] == "private, no-store"
        assert "ETag" not in headers


# --- the export -----------------------------------------------------------------------------------------


async def live(asking: Asking) -> None:
    """Give a user something of everything."""
    await asking.ask("POST", "/groups", {"id": "crew"})
    await asking.ask("POST", "/groups/crew/members", {"subject": "user:ann", "expires": "2035-01-01T00:00:00Z"})
    await asking.ask("PUT", "/users/ann/valid-after", {})
    wish = {"subject": "user:ann", "role": "admin", "on": "organization:acme"}
    await asking.ask("POST", f"{ACME}/assignments", wish, who=OLGA)
    await asking.ask("POST", f"{ACME}/invitations", {"roles": []}, who=token("user:ann", "acme"))
    link = {"subject": "user:ann", "home": "acme", "role": "auditor", "on": "organization:globex"}
    await asking.ask("POST", "/tenants/globex/links", link)


def test_an_export_holds_all_of_one_and_nothing_of_others(play: Callable[[Work], Any]) -> None:
    """What the platform and tenants have of him, what waits, and what the logs tell, with times as they are written
    elsewhere; others with whom he stands in a row are not named, and the log tells that it was given out."""

    async def talk(asking: Asking) -> Any:
        await live(asking)
        found = await asking.ask("GET", "/users/ann/export")
        return found, await newest(asking, "/audit"), await asking.ask("GET", "/audit?names=user:ann&limit=1")

    found, told, named = play(talk)
    platform, (acme,) = found.body["platform"], found.body["tenants"]

    assert platform["groups"] == [{"group": "crew", "starts": None, "expires": "2035-01-01T00:00:00Z"}]
    assert platform["valid_after"].endswith("Z")
    assert [(each["home"], each["tenant"]) for each in platform["links"]] == [("acme", "globex")]
    assert acme["membership"] == {"status": "active", "starts": None, "expires": None}
    assert "organization.manager" in [each["role"] for each in acme["roles"]]
    assert [(each["for_himself"], each["asked_by_himself"]) for each in acme["approvals"]] == [(True, False)]
    assert [each["made_by_himself"] for each in acme["invitations"]] == [True]
    assert {"approval.asked", "invitation.made"} <= {
        entry["action"] for record in acme["audit"]["records"] for entry in record["entries"]
    }
    assert "olga" not in str(found.body)
    assert told == ["personal_data.exported"]
    assert named.body["items"][0]["entries"][0]["action"] == "personal_data.exported"


def test_only_the_platform_exports(play: Callable[[Work], Any]) -> None:
    """Who may not read of a person leaves no row of an export either."""

    async def talk(asking: Asking) -> Any:
        before = await newest(asking, "/audit")
        said = await asking.ask("GET", "/users/ann/export", who=token("user:ann", "acme"))
        return said, before, await newest(asking, "/audit")

    said, before, after = play(talk)

    assert said.status == 403
    assert before == after
