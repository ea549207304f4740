"""Many changes in one request: each judged like a request of its own, in one write."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.bulk import MAX_ITEMS
from admin.endpoints import ENDPOINTS
from engine import Policy
from store.audit import verify_chain
from store.streams import stream_of
from store.tables import assignments, audit_log, group_members, memberships, resources, revisions
from store.tokens import Token
from store.writes import assignments as writes
from tests.admin.service import Asking, Said, World, fill, make_world, served, token
from tests.admin.walk import FACTS, POLICY
from tests.databases import StoreUrls, run

ACME: Final = "/tenants/acme"
ADAM: Final = token("user:adam", "acme")
OLGA: Final = token("user:olga", "acme")
#: A member who may do nothing here.
SARA: Final = token("user:sara", "acme")

Work = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("bulk")
    (folder / "policies").mkdir()
    (folder / "policies" / "walk.bylaw").write_text(POLICY, "utf-8")
    (folder / "facts.yaml").write_text(FACTS, "utf-8")
    return make_world(folder / "policies", folder / "facts.yaml", folder)


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Work], Any]:
    async def served_to(work: Work) -> Any:
        async with world.asked(tmp_path) as asking:
            return await work(asking)

    return lambda work: run(served_to(work))


@pytest.fixture
def play_both(store_urls: StoreUrls) -> Callable[[Work], Any]:
    """What depends on how a database undoes, on both kinds."""

    async def served_to(work: Work) -> Any:
        policy = Policy.parse(POLICY)
        key = await fill(policy, FACTS.encode(), store_urls.admin)
        async with served(policy, store_urls.admin, key) as asking:
            return await work(asking)

    return lambda work: run(served_to(work))


def give(name: str, role: str = "viewer", on: str = "org:acme", **more: str) -> dict[str, str]:
    return {"subject": f"user:{name}", "role": role, "on": on, **more}


async def bulk(
    asking: Asking, what: str, *items: object, who: str | None = None, query: str = "", **headers: str
) -> Said:
    return await asking.ask("POST", f"{ACME}/{what}/bulk{query}", {"items": items}, who=who, **headers)


def statuses(said: Said) -> list[int]:
    assert said.status == 200, said
    return [each["status"] for each in said.body["results"]]


async def held(asking: Asking) -> set[tuple[str, str, str]]:
    """Read who holds what in the tenant."""
    async with asking.database.reading("acme") as connection:
        rows = await connection.execute(select(assignments).where(assignments.c.tenant_id == "acme"))
        return {(row.subject_id, row.role, row.place_id) for row in rows}


async def revision(connection: AsyncConnection) -> int:
    found = await connection.execute(select(revisions.c.n).where(revisions.c.stream == stream_of("acme")))
    return int(found.scalar_one())


async def logged(asking: Asking) -> list[list[Any]]:
    """Read what the tenant's log tells of its last revision."""
    async with asking.database.reading("acme") as connection:
        rows = select(audit_log.c.entries).where(audit_log.c.tenant_id == "acme").order_by(audit_log.c.n.desc())
        found: list[list[Any]] = json.loads((await connection.execute(rows.limit(1))).scalar_one())
        return found


# --- one write --------------------------------------------------------------------------------------------------------


def test_many_are_one_revision(play: Callable[[Work], Any]) -> None:
    """All that is done is one revision and one row in the log, which tells each item; the answer names it."""

    async def work(asking: Asking) -> tuple[Said, int, int, list[list[Any]]]:
        async with asking.database.reading("acme") as connection:
            before = await revision(connection)
        said = await bulk(asking, "assignments", *(give(name) for name in ("adam", "kurt", "ruth")))
        async with asking.database.reading("acme") as connection:
            return said, before, await revision(connection), await logged(asking)

    said, before, after, entries = play(work)

    assert statuses(said) == [201, 201, 201]
    assert (said.body["succeeded"], said.body["failed"]) == (3, 0)
    assert after == before + 1 == Token.parse(said.headers["Bylaw-Revision"]).t
    assert [entry[0] for entry in entries] == ["assignment.given"] * 3


def test_an_item_that_is_refused_leaves_nothing(play_both: Callable[[Work], Any]) -> None:
    """Between two that are done, one that is refused leaves neither rows nor a word in the log; the chain holds."""

    async def work(asking: Asking) -> tuple[Said, set[tuple[str, str, str]], list[list[Any]]]:
        items = (give("kurt"), give("emma", "admin"), give("ruth"))
        said = await bulk(asking, "assignments", *items, who=ADAM)
        async with asking.database.reading("acme") as connection:
            await verify_chain(connection, stream_of("acme"))
        return said, await held(asking), await logged(asking)

    said, rows, entries = play_both(work)

    assert statuses(said) == [201, 403, 201]
    assert said.body["results"][1]["error"]["error"] == "no_role"
    assert {("kurt", "org.viewer", "acme"), ("ruth", "org.viewer", "acme")} <= rows
    assert ("emma", "org.admin", "acme") not in rows
    assert [entry[0] for entry in entries] == ["assignment.given"] * 2


def test_an_item_that_fails_halfway_leaves_nothing(
    play_both: Callable[[Work], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that wrote something before it was refused is undone whole, and the next one is done all the same."""
    taken = writes.take

    async def take_too_much(write: Any, *named: Any, **more: Any) -> None:
        await taken(write, *named, **more)
        await taken(write, *named, **more)

    monkeypatch.setattr(writes, "take", take_too_much)

    async def work(asking: Asking) -> tuple[Said, set[tuple[str, str, str]], list[list[Any]]]:
        listed = await asking.ask("GET", f"{ACME}/assignments?subject=user:emma")
        gone = {"op": "delete", "id": listed.body["items"][0]["id"]}
        return await bulk(asking, "assignments", gone, give("kurt")), await held(asking), await logged(asking)

    said, rows, entries = play_both(work)

    assert statuses(said) == [404, 201]
    assert {("emma", "org.editor", "acme"), ("kurt", "org.viewer", "acme")} <= rows
    assert [entry[0] for entry in entries] == ["assignment.given"]


def test_where_nothing_is_done_nothing_is_written(play: Callable[[Work], Any]) -> None:
    """Who may do nothing of it moves no revision, leaves no row, and is told so item by item."""

    async def work(asking: Asking) -> tuple[Said, int]:
        async with asking.database.reading("acme") as connection:
            before = await revision(connection)
        said = await bulk(asking, "assignments", give("sara"), give("sara", "owner"), who=SARA)
        async with asking.database.reading("acme") as connection:
            return said, await revision(connection) - before

    said, moved = play(work)

    assert statuses(said) == [403, 403]
    assert "Bylaw-Revision" not in said.headers
    assert moved == 0


def test_all_or_nothing(play: Callable[[Work], Any]) -> None:
    """With `atomic` one that is refused undoes all, and is named; without one that is, all is done."""

    async def work(asking: Asking) -> tuple[Said, Said, list[set[tuple[str, str, str]]]]:
        rows = [await held(asking)]
        items = (give("kurt"), give("emma", "admin"))
        refused = await bulk(asking, "assignments", *items, who=ADAM, query="?atomic=true")
        rows.append(await held(asking))
        done = await bulk(asking, "assignments", *items, who=OLGA, query="?atomic=true")
        return refused, done, [*rows, await held(asking)]

    refused, done, (before, between, after) = play(work)

    assert (refused.status, refused.body["error"]) == (409, "undone")
    assert [(each["index"], each["status"]) for each in refused.body["details"]["results"]] == [(1, 403)]
    assert statuses(done) == [201, 201]
    assert before == between
    assert after - before == {("kurt", "org.viewer", "acme"), ("emma", "org.admin", "acme")}


# --- judged one by one ------------------------------------------------------------------------------------------------


def test_an_item_is_judged_by_those_before_it(play: Callable[[Work], Any]) -> None:
    """What the items before did counts: of a role that three may hold the fourth is refused, until one is taken."""

    async def work(asking: Asking) -> tuple[Said, Said]:
        names = ("sara", "kurt", "otto")  # emma holds it already
        over = await bulk(asking, "assignments", *(give(name, "editor") for name in names), who=ADAM)
        gone = {"op": "delete", "id": over.body["results"][0]["id"]}
        return over, await bulk(asking, "assignments", gone, give("otto", "editor"), who=ADAM)

    over, again = play(work)

    assert statuses(over) == [201, 201, 403]
    assert over.body["results"][2]["error"]["error"] == "max"
    assert statuses(again) == [204, 201]


def test_a_right_that_was_given_on_the_way_counts(play: Callable[[Work], Any]) -> None:
    """Who takes a right from himself has it no more for the items behind; nobody gives himself one on the way."""

    async def work(asking: Asking) -> tuple[Said, Said]:
        listed = await asking.ask("GET", f"{ACME}/assignments?subject=user:olga")
        mine = {"op": "delete", "id": listed.body["items"][0]["id"]}
        lost = await bulk(asking, "assignments", give("kurt"), mine, give("ruth"), who=OLGA)
        won = await bulk(asking, "assignments", give("adam", "owner"), give("emma", "admin"), who=ADAM)
        return lost, won

    lost, won = play(work)

    assert statuses(lost) == [201, 204, 403]
    assert statuses(won) == [403, 403]


def test_the_last_holder_stays(play: Callable[[Work], Any]) -> None:
    """However many are taken at once, the last who holds what only such as he give keeps it, for a key, too."""

    async def work(asking: Asking) -> tuple[Said, Said, set[tuple[str, str, str]]]:
        listed = await asking.ask("GET", f"{ACME}/assignments?role=org.owner")
        items = [{"op": "delete", "id": each["id"]} for each in listed.body["items"]]
        roles = await bulk(asking, "assignments", *items)
        people = await bulk(
            asking, "memberships", *({"op": "delete", "subject": f"user:{name}"} for name in ("olga", "otto"))
        )
        return roles, people, await held(asking)

    roles, people, rows = play(work)

    assert sorted(statuses(roles)) == [204, 409]
    assert sorted(statuses(people)) == [204, 409]
    assert len([role for _, role, _ in rows if role == "org.owner"]) == 1


def test_what_waits_for_approval_waits(play: Callable[[Work], Any]) -> None:
    """A role that takes a second person is asked for, and not given; the result names the request."""

    async def work(asking: Asking) -> tuple[Said, Said, set[tuple[str, str, str]]]:
        said = await bulk(asking, "assignments", give("adam", "owner"), give("kurt"), who=OLGA)
        waiting = await asking.ask("GET", f"{ACME}/approvals")
        return said, waiting, await held(asking)

    said, waiting, rows = play(work)

    assert statuses(said) == [202, 201]
    assert said.body["results"][0]["approval"] == waiting.body["items"][0]["id"]
    assert ("adam", "org.owner", "acme") not in rows


def test_what_all_share_is_locked_where_an_item_needs_it(play_both: Callable[[Work], Any]) -> None:
    """An item that touches what all tenants share has the whole begun anew with that locked: each is done once."""

    async def work(asking: Asking) -> tuple[list[Said], list[list[Any]]]:
        link = {"subject": "user:ruth", "home": "acme", "role": "partner", "on": "org:globex"}
        linked = await asking.ask("POST", "/tenants/globex/links", link)
        crew = {"subject": "group:crew", "role": "viewer", "on": "org:acme"}
        given = await bulk(asking, "assignments", give("kurt"), crew)
        left = await bulk(asking, "memberships", {"subject": "user:gina"}, {"op": "delete", "subject": "user:ruth"})
        return [linked, given, left], await logged(asking)

    (linked, given, left), entries = play_both(work)

    assert linked.status == 201
    assert (statuses(given), statuses(left)) == ([201, 201], [201, 204])
    assert [entry[0] for entry in entries] == ["membership.put", "link.cut", "membership.ended"]


# --- memberships and resources ----------------------------------------------------------------------------------------


def test_members_come_and_go(play: Callable[[Work], Any]) -> None:
    """Memberships are made and ended in their order; with one goes all that hangs on it."""

    async def work(asking: Asking) -> tuple[Said, set[str], int]:
        items = (
            {"subject": "user:gina", "status": "guest"},
            {"op": "delete", "subject": "user:emma"},
            {"op": "delete", "subject": "user:nobody"},
            {"subject": "user:gina", "status": "active"},
        )
        said = await bulk(asking, "memberships", *items, who=ADAM)
        async with asking.database.reading("acme") as connection:
            rows = await connection.execute(select(memberships).where(memberships.c.tenant_id == "acme"))
            there = {f"{row.id} {row.status}" for row in rows}
            grouped = select(func.count()).select_from(group_members).where(group_members.c.id == "emma")
            return said, there, int((await connection.execute(grouped)).scalar_one())

    said, there, in_groups = play(work)

    assert statuses(said) == [201, 204, 404, 201]
    assert said.body["results"][3]["id"] == "user:gina"
    assert "gina active" in there
    assert "emma active" not in there
    assert in_groups == 0


def test_a_tree_is_made_moved_and_deleted(play: Callable[[Work], Any]) -> None:
    """Resources are made in what was made before them, moved and deleted, and never come to lie in themselves."""

    async def work(asking: Asking) -> tuple[Said, dict[str, tuple[str | None, bool]]]:
        items = (
            {"id": "folder:a"},
            {"op": "make", "id": "folder:b", "parent": "folder:a"},
            {"id": "folder:c", "parent": "folder:b"},
            {"op": "change", "id": "folder:a", "parent": "folder:c"},
            {"op": "change", "id": "folder:c", "parent": "org:acme"},
            {"op": "delete", "id": "folder:a"},
            {"id": "folder:a"},
            {"id": "task:a"},
        )
        said = await bulk(asking, "resources", *items, who=ADAM)
        async with asking.database.reading("acme") as connection:
            rows = await connection.execute(select(resources).where(resources.c.id.in_(list("abc"))))
            return said, {row.id: (row.parent_id, row.deleted) for row in rows}

    said, tree = play(work)

    assert statuses(said) == [201, 201, 201, 409, 200, 204, 409, 400]
    assert [each["error"]["error"] for each in said.body["results"] if each["error"]] == [
        "cycle", "taken", "bad_request"
    ]  # fmt: skip
    assert tree == {"a": (None, True), "b": ("a", True), "c": (None, False)}


def test_resources_are_for_who_manages(play: Callable[[Work], Any]) -> None:
    """Whom the policy does not let `manage` makes no resource in a bulk, either."""

    async def work(asking: Asking) -> Said:
        return await bulk(asking, "resources", {"id": "folder:a"}, who=token("user:emma", "acme"))

    assert statuses(play(work)) == [403]


# --- what is sent, and sent again -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": []}, "body.items"),
        ({"items": [give("kurt")] * (MAX_ITEMS + 1)}, "body.items"),
        ({"items": [give("kurt"), {"subject": "user:kurt", "on": "org:acme"}]}, "body.items[1].role"),
        ({"items": [{"op": "put", **give("kurt")}]}, "body.items[0]"),
        ({"items": [{"op": {}, **give("kurt")}]}, "body.items[0]"),
        ({"items": ["user:kurt"]}, "body.items[0]"),
        ({"items": [{"op": "delete", "id": "x", "role": "viewer"}]}, "body.items[0].role"),
        ({"items": [give("kurt")], "atomic": True}, "body.atomic"),
    ],
)
def test_a_slip_of_the_pen_does_nothing(play: Callable[[Work], Any], body: object, field: str) -> None:
    """What is not shaped as it must be is refused before anything is done, and the field is named."""

    async def work(asking: Asking) -> tuple[Said, bool]:
        said = await asking.ask("POST", f"{ACME}/assignments/bulk", body)
        return said, ("kurt", "org.viewer", "acme") in await held(asking)

    said, is_held = play(work)

    assert (said.status, list(said.body["details"]["fields"])) == (400, [field])
    assert not is_held


def test_what_the_policy_does_not_know_is_named_in_its_place(play: Callable[[Work], Any]) -> None:
    """A role, a place or an id that is none is the fault of its item, under the name that it has in the body."""

    async def work(asking: Asking) -> Said:
        items = (give("kurt", "boss"), give("kurt"), give("kurt", on="org:globex"), {"op": "delete", "id": "W1tb"})
        return await bulk(asking, "assignments", *items)

    said = play(work)

    assert statuses(said) == [400, 201, 400, 404]
    faults = [each["error"] for each in said.body["results"]]
    assert list(faults[0]["details"]["fields"]) == ["body.items[0].role"]
    assert faults[0]["message"] == "not as it must be: body.items[0].role"
    assert list(faults[2]["details"]["fields"]) == ["body.items[2].on"]


def test_sent_twice_it_is_done_once(play: Callable[[Work], Any]) -> None:
    """With an `Idempotency-Key` the answer is told again, item for item, and nothing is done again."""

    async def work(asking: Asking) -> list[Said]:
        items = (give("kurt"), give("emma", "boss"))
        first = await bulk(asking, "assignments", *items, Idempotency_Key="once")
        await asking.ask("DELETE", f"{ACME}/assignments/{first.body['results'][0]['id']}")
        again = await bulk(asking, "assignments", *items, Idempotency_Key="once")
        other = await bulk(asking, "assignments", *items, query="?atomic=true", Idempotency_Key="once")
        return [first, again, other, await asking.ask("GET", f"{ACME}/assignments?subject=user:kurt&role=org.viewer")]

    first, again, other, listed = play(work)

    assert again.body == first.body
    assert again.headers["Bylaw-Revision"] == first.headers["Bylaw-Revision"]
    assert other.status == 422
    assert listed.body["items"] == []


def test_a_bulk_that_was_undone_leaves_its_key_free(play: Callable[[Work], Any]) -> None:
    """What `atomic` undid may be sent again with its key, once it can be done."""

    async def work(asking: Asking) -> list[Said]:
        item = {"id": "folder:b", "parent": "folder:a"}
        first = await bulk(asking, "resources", item, query="?atomic=true", Idempotency_Key="k")
        await asking.ask("POST", f"{ACME}/resources", {"id": "folder:a"})
        return [first, await bulk(asking, "resources", item, query="?atomic=true", Idempotency_Key="k")]

    assert [each.status for each in play(work)] == [409, 200]


def test_it_waits_until_it_counts(play: Callable[[Work], Any]) -> None:
    """With `await=settled` the answer says beside the results whether they count everywhere."""

    async def work(asking: Asking) -> tuple[Said, Said]:
        done = await bulk(asking, "assignments", give("kurt"), query="?await=settled")
        return done, await bulk(asking, "assignments", give("kurt", "boss"), query="?await=settled")

    done, nothing = play(work)

    assert done.body["settled"] is True
    assert done.body["succeeded"] == 1
    assert "settled" not in nothing.body


def test_nothing_else_is_done_there(play: Callable[[Work], Any]) -> None:
    """No single thing is called `bulk`: another method is none of the path's, and says which is."""

    async def work(asking: Asking) -> list[Said]:
        asked = [("GET", "assignments"), ("DELETE", "memberships"), ("PATCH", "resources"), ("PUT", "resources")]
        return [await asking.ask(method, f"{ACME}/{what}/bulk") for method, what in asked]

    found = play(work)

    assert [each.status for each in found] == [405] * 4
    assert {each.headers["Allow"] for each in found} == {"OPTIONS, POST"}


def test_a_hundred_fit(play: Callable[[Work], Any]) -> None:
    """As many as may be sent are done in one request."""

    async def work(asking: Asking) -> Said:
        return await bulk(asking, "resources", *({"id": f"folder:n{number}"} for number in range(MAX_ITEMS)))

    assert play(work).body["succeeded"] == MAX_ITEMS


def test_bulk_asks_for_what_the_single_request_asks_for() -> None:
    """Who may send many is who may send one: the same scopes, the same right."""
    needs = {(each.method, each.path): each.need for each in ENDPOINTS}
    found = [path for method, path in needs if path.endswith("/bulk")]

    assert len(found) == 3
    for path in found:
        assert needs["POST", path] == needs["POST", path.removesuffix("/bulk")]
