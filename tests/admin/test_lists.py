"""Lists of the administration API: what they may be cut down and ordered by, trees, and what a page costs."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.api_keys import repository as api_keys
from admin.api_keys.wire import KeyQuery
from admin.approvals import repository as approvals
from admin.approvals.wire import ApprovalQuery
from admin.assignments import repository as assignments
from admin.assignments.wire import AssignmentQuery, Named, read_id, write_id
from admin.endpoints import ENDPOINTS
from admin.errors import PublicError
from admin.groups import repository as groups
from admin.groups.wire import GroupQuery, MemberQuery
from admin.invitations import repository as invitations
from admin.invitations.wire import InvitationQuery
from admin.links import repository as links
from admin.links.wire import LinkQuery
from admin.memberships import repository as memberships
from admin.memberships.wire import MembershipQuery
from admin.opaque import write_opaque
from admin.paging import Page, PageQuery
from admin.principals import repository as principals
from admin.principals.wire import PrincipalQuery
from admin.resources import repository as resources
from admin.resources.wire import ResourceQuery
from admin.tenants import repository as tenants
from admin.tenants.wire import TenantQuery
from admin.trees import Branch, grow
from engine.values import show_time
from store.database import Database
from tests.admin.service import Asking, Said, World, make_world, token
from tests.databases import StoreUrls, run

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ACME: Final = "/tenants/acme"
Play = Callable[[Asking], Coroutine[Any, Any, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("lists"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(work: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await work(asking)

    return lambda work: asyncio.run(served(work))


async def pages(asking: Asking, path: str, limit: int) -> list[dict[str, Any]]:
    """Read a list to its end, in pages of so many."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        said = await asking.ask("GET", f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}")
        assert said.status == 200, said
        found += said.body["items"]
        if said.body["next"] is None:
            return found
        cursor = f"&cursor={said.body['next']}"


def ids(items: Sequence[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in items]


# --- what is in them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("/tenants?prefix=ac", "id", ["acme"]),
        ("/tenants?sort=-id", "id", ["globex", "acme"]),
        (f"{ACME}/memberships?type=service", "id", ["service:billing"]),
        (f"{ACME}/memberships?prefix=user:g", "id", ["user:gus"]),
        (f"{ACME}/memberships?prefix=service:", "id", ["service:billing"]),
        (f"{ACME}/memberships?sort=expires", "id", ["user:lea"]),
        (f"{ACME}/memberships?expires_before=2026-01-01T00:00:00Z", "id", []),
        (f"{ACME}/memberships?expires_before=2026-01-01T00:00:01Z&status=active", "id", ["user:lea"]),
        (f"{ACME}/assignments?role=project.viewer", "subject", ["user:gus", "user:vic"]),
        (f"{ACME}/assignments?on=project:p1&sort=-subject", "subject", ["user:vic", "user:gus", "group:staff"]),
        (f"{ACME}/assignments?prefix=group:", "subject", ["group:staff"]),
        (f"{ACME}/assignments?sort=-expires", "subject", ["user:cleo"]),
        (f"{ACME}/assignments?subject=user:cleo&expires_before=2027-01-01T00:00:00Z", "on", ["project:p2"]),
        (f"{ACME}/links?home=globex", "subject", ["user:audrey"]),
        (f"{ACME}/links?home=nowhere", "subject", []),
        (f"{ACME}/links?role=organization.auditor&on=organization:acme&sort=-expires", "subject", ["user:audrey"]),
        (f"{ACME}/links?subject=user:audrey&prefix=user:au", "subject", ["user:audrey"]),
        (f"{ACME}/custom-roles?on=organization&prefix=hel", "id", ["helper"]),
        (f"{ACME}/custom-roles?on=project", "id", []),
        (f"{ACME}/groups?member=user:bob", "id", ["staff"]),
        (f"{ACME}/groups?member=user:dan", "id", ["leads"]),
        (f"{ACME}/groups?member=group:leads", "id", ["staff"]),
        (f"{ACME}/groups?inside=staff", "id", ["leads"]),
        (f"{ACME}/groups?sort=-id", "id", ["staff", "leads"]),
        (f"{ACME}/groups/staff/members?type=group", "id", ["group:leads"]),
        (f"{ACME}/groups/staff/members?sort=-subject&type=user", "id", ["user:lea", "user:cleo", "user:bob"]),
        (f"{ACME}/resources?parent=project:p1", "id", ["folder:scans", "task:t1"]),
        (f"{ACME}/resources?parent=organization:acme&type=booking", "id", ["booking:b1", "booking:b2"]),
        (f"{ACME}/resources?parent=tenant:acme&prefix=project:p&sort=-id", "id", ["project:p2", "project:p1"]),
        ("/users?prefix=a", "id", ["ann", "audrey"]),
        ("/users?status=suspended", "id", ["sue"]),
        ("/users?status=suspended&prefix=a", "id", []),
        ("/users?prefix=a&sort=-id", "id", ["audrey", "ann"]),
        ("/services?status=active", "id", ["billing"]),
        ("/keys?revoked=false", "name", ["tests"]),
        ("/keys?revoked=true", "name", []),
    ],
)
def test_a_list_holds_what_was_asked_for(play: Callable[[Play], Any], path: str, key: str, expected: list[str]) -> None:
    """A list is cut down to what its query names, in the order that it names."""

    async def work(asking: Asking) -> list[str]:
        return [each[key] for each in await pages(asking, path, 100)]

    assert play(work) == expected


@pytest.mark.parametrize("path", ["memberships?", "assignments?", "assignments?role=artist&", "resources?", "groups?"])
def test_pages_make_up_the_list(play: Callable[[Play], Any], path: str) -> None:
    """Page by page, whichever way round, a list has each row once, as in one page."""

    async def work(asking: Asking) -> list[list[str]]:
        key = "id" if path.startswith(("resources", "groups")) else "subject"
        orders = [f"{ACME}/{path}sort={sort}" for sort in (key, f"-{key}")]
        return [ids(await pages(asking, each, size)) for each in orders for size in (2, 100)]

    small, large, small_back, large_back = play(work)

    assert small == large == small_back[::-1] == large_back[::-1]
    assert len(set(large)) == len(large)


def test_pages_by_end(play: Callable[[Play], Any]) -> None:
    """By `expires` those that end come soonest first, and no others; those that end at once are told apart."""

    async def work(asking: Asking) -> list[list[str]]:
        for number in range(5):
            body = {"subject": f"user:u{number}", "expires": f"203{number // 2}-01-01T00:00:00Z"}
            said = await asking.ask("POST", f"{ACME}/memberships", body)
            assert said.status == 201, said
        orders = (f"{ACME}/memberships?prefix=user:u&sort={sort}" for sort in ("expires", "-expires"))
        return [ids(await pages(asking, each, 2)) for each in orders]

    soonest, latest = play(work)

    assert soonest == ["user:u0", "user:u1", "user:u2", "user:u3", "user:u4"]
    assert latest == soonest[::-1]


WEEK: Final = 7 * 86_400 * 1_000_000_000


async def by_status(asking: Asking, path: str, statuses: Sequence[str], key: str) -> dict[str, list[str]]:
    """Read a list by each status, in small pages, the other way round, and without."""
    found = {}
    for status in statuses:
        found[status] = [each[key] for each in await pages(asking, f"{path}?status={status}", 1)]
        back = [each[key] for each in await pages(asking, f"{path}?status={status}&sort=-made", 2)]
        assert back == found[status][::-1]
    return found | {"": [each[key] for each in await pages(asking, path, 2)]}


def test_requests_for_approval_by_status(play: Callable[[Play], Any]) -> None:
    """Each request for approval is in the list of its status alone, one that nobody decided in time in that of those;
    and in that of its subject."""

    async def ask(asking: Asking, who: str) -> str:
        body = {"subject": f"user:{who}", "role": "admin", "on": "organization:acme"}
        said = await asking.ask("POST", f"{ACME}/assignments", body, who=token("user:olga", "acme"))
        assert said.status == 202, said
        return f"{ACME}/approvals/{said.body['approval']}"

    async def work(asking: Asking) -> tuple[dict[str, list[str]], list[str]]:
        await ask(asking, "vic")
        asking.ahead[0] += WEEK
        await asking.ask("POST", f"{await ask(asking, 'bob')}/approve")
        await asking.ask("POST", f"{await ask(asking, 'dan')}/refuse")
        await asking.ask("DELETE", await ask(asking, "hal"))
        asking.ahead[0] += WEEK // 2
        await ask(asking, "vic")
        await ask(asking, "cleo")
        statuses = ("pending", "approved", "refused", "withdrawn", "over")
        of_vic = await pages(asking, f"{ACME}/approvals?subject=user:vic&sort=-made", 1)
        pending = await pages(asking, f"{ACME}/approvals?subject=user:vic&status=pending", 1)
        assert of_vic[:1] == pending
        return await by_status(asking, f"{ACME}/approvals", statuses, "subject"), ids(of_vic)

    found, of_vic = play(work)

    assert found == {
        "pending": ["user:vic", "user:cleo"],
        "approved": ["user:bob"],
        "refused": ["user:dan"],
        "withdrawn": ["user:hal"],
        "over": ["user:vic"],
        "": [f"user:{name}" for name in ("vic", "bob", "dan", "hal", "vic", "cleo")],
    }
    assert of_vic == sorted(of_vic, reverse=True)


def test_invitations_by_status(play: Callable[[Play], Any]) -> None:
    """Each invitation is in the list of its status alone; one whose time is over, however short, in that of those."""

    async def invite(asking: Asking, **how: str) -> dict[str, Any]:
        said = await asking.ask("POST", f"{ACME}/invitations", how)
        assert said.status == 201, said
        found: dict[str, Any] = said.body
        return found

    async def work(asking: Asking) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        old = await invite(asking)
        asking.ahead[0] += WEEK
        short = await invite(asking, expires=show_time(time.time_ns() + asking.ahead[0] + WEEK // 4))
        asking.ahead[0] += WEEK // 2
        open_ = await invite(asking)
        taken = await invite(asking)
        accepted = await asking.ask("POST", "/invitations/accept", {"token": taken["token"]}, who=token("user:neo"))
        assert accepted.status == 200, accepted
        gone = await invite(asking)
        await asking.ask("DELETE", f"{ACME}/invitations/{gone['id']}")
        made = {"open": [open_], "accepted": [taken], "withdrawn": [gone], "over": [old, short]}
        every = [old, short, open_, taken, gone]
        expected = {status: ids(each) for status, each in made.items()} | {"": ids(every)}
        return await by_status(asking, f"{ACME}/invitations", [*made], "id"), expected

    found, expected = play(work)

    assert found == expected


def test_keys_that_were_revoked(play: Callable[[Play], Any]) -> None:
    """A key that was revoked is in the list of those, and no more in that of the others."""

    async def work(asking: Asking) -> list[list[str]]:
        made = [await asking.ask("POST", "/keys", {"name": name, "scopes": ["audit"]}) for name in ("one", "two")]
        await asking.ask("DELETE", f"/keys/{made[0].body['id']}")
        queries = ("revoked=true", "revoked=false", "revoked=false&sort=-made", "")
        return [[each["name"] for each in await pages(asking, f"/keys?{query}", 1)] for query in queries]

    assert play(work) == [["one"], ["tests", "two"], ["two", "tests"], ["tests", "one", "two"]]


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("colour=red", "query.colour", "prefix, expires_before, sort, status, type"),
        ("sort=status", "query.sort", "'subject', '-subject', 'expires' or '-expires'"),
        ("status=gone", "query.status", "'active', 'guest' or 'suspended'"),
        ("prefix=ann", "query.prefix", "^[^:]+:"),
        ("expires_before=1", "query.expires_before", "2027-01-01T00:00:00Z"),
        ("expires_before=2027-01-01T00:00:00Z&sort=-subject", "query.sort", "`expires` or `-expires`"),
    ],
)
def test_what_is_not_allowed_is_named(play: Callable[[Play], Any], query: str, field: str, allowed: str) -> None:
    """A filter or an order that a list does not have is refused, and it is said which there are."""

    async def work(asking: Asking) -> Said:
        return await asking.ask("GET", f"{ACME}/memberships?{query}")

    said = play(work)

    assert said.status == 400
    assert allowed in said.body["details"]["fields"][field]


@pytest.mark.parametrize("other", ["-subject", "expires"])
def test_a_cursor_is_of_one_order(play: Callable[[Play], Any], other: str) -> None:
    """A cursor names a place in one order, and is none in another."""

    async def work(asking: Asking) -> Said:
        first = await asking.ask("GET", f"{ACME}/memberships?limit=1")
        return await asking.ask("GET", f"{ACME}/memberships?limit=1&cursor={first.body['next']}&sort={other}")

    said = play(work)

    assert (said.status, list(said.body["details"]["fields"])) == (400, ["query.cursor"])


def test_a_cursor_of_the_longest_names_is_taken(play: Callable[[Play], Any]) -> None:
    """However long the names are by which a list is ordered, its cursor fits."""
    long = '"' * 250

    async def work(asking: Asking) -> list[Said]:
        for end in "abc":
            body = {"subject": f"user:{long}{end}", "role": "viewer", "on": f"project:{long}"}
            said = await asking.ask("POST", f"{ACME}/assignments", body)
            assert said.status == 201, said
        first = await asking.ask("GET", f"{ACME}/assignments?limit=1&prefix=user:%22")
        return [first, await asking.ask("GET", f"{ACME}/assignments?limit=1&cursor={first.body['next']}")]

    assert [each.status for each in play(work)] == [200, 200]


LISTS: Final = [each for each in ENDPOINTS if each.method == "GET" and issubclass(each.answer or object, Page)]


@pytest.mark.parametrize("who", [None, token("user:olga", "acme")], ids=["key", "end user"])
def test_a_list_of_a_tenant_that_is_not_there(play: Callable[[Play], Any], who: str | None) -> None:
    """To a key a list of no tenant is no empty list but not there; to an end user it is one of others."""
    paths = [each.path for each in LISTS if each.path.startswith("/tenants/{tenant}/")]

    async def work(asking: Asking) -> dict[str, int]:
        named = {path: path.replace("{tenant}", "nowhere").replace("{name}", "staff") for path in paths}
        return {path: (await asking.ask("GET", name, who=who)).status for path, name in named.items()}

    found = play(work)

    assert len(found) > 7
    assert set(found.values()) == ({404} if who is None else {403}), found


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "no base",
        "WyJ1c2VyOmFubiJd",
        write_opaque(["user:a\0nn", "r", "on:x", ""]),
        "WyJcdWQ4MDAiLCJyIiwib246eCIsIiJd",
        "WyJhIiwiYiIsImMiLDVd",
        "eyJhIjogMX0",
        "W1tbW1tbW1tb" * 30_000,
        "ÿ",
    ],
    ids=["empty", "no base64", "short", "NUL", "half a character", "number", "object", "deep", "not ASCII"],
)
def test_an_id_that_names_nothing_is_not_there(id_: str) -> None:
    """Whatever an id is made up of, it names an assignment or nothing: it is never an error of ours."""
    with pytest.raises(PublicError) as caught:
        read_id(id_)

    assert caught.value.status == 404


def test_an_id_reads_back() -> None:
    """What an id names is what it was written for, whatever characters are in it."""
    named = Named('user:ännê"\\', "project.editor", "project:日", "2027-01-01T00:00:00.000000000Z")

    assert read_id(write_id(named)) == named


# --- trees ------------------------------------------------------------------------------------------------------------


def outline(nodes: Sequence[dict[str, Any]]) -> list[Any]:
    """Write a tree down: names, with what lies in them, and `…` where there is more."""
    return [
        [each["id"], *outline(each["inner"]), *(["…"] if each["more"] else [])] if each["inner"] or each["more"]
        else each["id"]
        for each in nodes
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{ACME}/groups?view=tree", [["staff", "leads"]]),
        (f"{ACME}/groups?view=tree&prefix=lea", ["leads"]),
        (
            f"{ACME}/resources?view=tree&parent=project:p1",
            [["folder:scans", ["folder:raw", "folder:march"]], "task:t1"],
        ),
        (f"{ACME}/resources?view=tree&parent=project:p1&depth=1", [["folder:scans", ["folder:raw", "…"]], "task:t1"]),
        (
            f"{ACME}/resources?view=tree&depth=1",
            ["booking:b1", "booking:b2", "project:open", ["project:p1", ["folder:scans", "…"], "task:t1"],
             ["project:p2", "task:t2"]],
        ),
    ],
)  # fmt: skip
def test_a_tree_shows_what_lies_in_what(play: Callable[[Play], Any], path: str, expected: list[Any]) -> None:
    """With `view=tree` each item comes with what lies in it, as deep as asked for, and says where there is more."""

    async def work(asking: Asking) -> list[Any]:
        return outline((await asking.ask("GET", path)).body["items"])

    assert play(work) == expected


def test_a_moved_resource_is_where_it_was_put(play: Callable[[Play], Any]) -> None:
    """A resource is moved by its parent, with all that lies in it, to the top by the tenant's name."""

    async def work(asking: Asking) -> tuple[int, list[Any]]:
        said = await asking.ask("PATCH", f"{ACME}/resources/folder:scans", {"parent": "project:p2"})
        tree = await asking.ask("GET", f"{ACME}/resources?view=tree&prefix=project:p2")
        return said.status, outline(tree.body["items"])

    assert play(work) == (200, [["project:p2", ["folder:scans", ["folder:raw", "folder:march"]], "task:t2"]])


def test_groups_of_the_platform_have_a_tree(play: Callable[[Play], Any]) -> None:
    """The groups of the platform are shown in each other like those of a tenant, and no tenant's are among them."""

    async def work(asking: Asking) -> list[Any]:
        for name in ("outer", "inner"):
            await asking.ask("POST", "/groups", {"id": name})
        await asking.ask("POST", "/groups/outer/members", {"subject": "group:inner"})
        return outline((await asking.ask("GET", "/groups?view=tree")).body["items"])

    assert play(work) == [["outer", "inner"]]


def grown(roots: Sequence[str], edges: Mapping[str, Sequence[str]], *, depth: int, bound: int) -> tuple[list[Any], int]:
    """Grow trees out of a table; return them, and how often it was asked."""
    asked = 0

    async def below(names: Sequence[str], limit: int) -> list[tuple[str, str]]:
        nonlocal asked
        asked += 1
        return [(name, inner) for name in sorted(names) for inner in sorted(edges.get(name, ()))][:limit]

    def written(branch: Branch[str]) -> dict[str, Any]:
        return {"id": branch.key, "inner": [written(each) for each in branch.inner], "more": branch.more}

    found = asyncio.run(grow(roots, below, depth=depth, bound=bound))
    return outline([written(each) for each in found]), asked


def test_a_tree_is_cut_where_it_is_too_large() -> None:
    """Past the bound nothing more is shown, and what may not be shown whole says so; without it nothing does."""
    edges = {"a": "cde", "b": "fg", "c": "hi"}

    assert grown("ab", edges, depth=3, bound=9)[0] == [["a", ["c", "h", "i"], "d", "e"], ["b", "f", "g"]]
    assert grown("ab", edges, depth=3, bound=4)[0] == [
        ["a", ["c", "…"], ["d", "…"], ["e", "…"]],
        ["b", ["f", "…"], "…"],
    ]
    assert grown("ab", edges, depth=3, bound=0)[0] == [["a", "…"], ["b", "…"]]


def test_a_web_does_not_unfold_without_end() -> None:
    """What lies in many, level for level, is shown so often as fits, and asked for once."""
    edges = {f"{level}{side}": [f"{level + 1}{each}" for each in "lr"] for level in range(10, 42) for side in "lr"}

    found, asked = grown(["10l"], edges, depth=32, bound=100)

    assert len(re.findall(r'"\d\d[lr]"', json.dumps(found))) == 101
    assert asked <= 33


# --- what a page costs ------------------------------------------------------------------------------------------------

#: So many rows a page may look at, of the 10,000 that are there: by an index of something else those that end, a tenth.
FEW: Final = 1_300
#: Two tenants, of which one is large. Of a hundred one is something rare, and of ten one ends.
FILL: Final = (
    "SET LOCAL session_replication_role = replica",  # keys are not looked at: it goes faster
    "CREATE TEMP TABLE n AS SELECT 'acme' AS t, i, 'u' || lpad(i::text, 5, '0') AS u, i % 100 = 7 AS rare, CASE WHEN"
    " i % 10 = 7 THEN '20' || 20 + i % 71 || '-01-01T00:00:00.000000000Z' END AS ends FROM generate_series(1, 10000) i"
    " UNION ALL SELECT 'other', i, 'u' || lpad(i::text, 5, '0'), false, NULL FROM generate_series(1, 500) i",
    "INSERT INTO memberships SELECT t, 'user', u, CASE WHEN rare THEN 'guest' ELSE 'active' END, '', ends FROM n",
    "INSERT INTO assignments SELECT t, 'user', u, 'project', 'p' || i % 100,"
    " CASE WHEN rare THEN 'project.owner' ELSE 'project.viewer' END, '', ends FROM n",
    "INSERT INTO resources SELECT t, 'project', 'p' || i, NULL, NULL, '{}', false FROM n WHERE i <= 100",
    "INSERT INTO resources SELECT t, CASE WHEN rare THEN 'task' ELSE 'folder' END, u, 'project', 'p' || i % 2 + 1,"
    " '{}', false FROM n",
    "INSERT INTO groups SELECT t, u, '{}', false FROM n",
    "INSERT INTO group_nestings SELECT t, u, 'u' || lpad((i / 10)::text, 5, '0') FROM n WHERE i >= 10",
    "INSERT INTO group_members SELECT t, 'user', u, 'u00001', '', NULL FROM n",
    "INSERT INTO links SELECT 'user', u, 'home', t, 'project', 'p' || i % 100, 'project.viewer', '', ends FROM n",
    # One every ten minutes, for ten weeks, as their ids say: the last thousand may still be open.
    "CREATE TEMP TABLE made AS SELECT t, i, u, rare, lpad(to_hex(1790000000000 + i * 600000::bigint), 12, '0') AS h,"
    " to_timestamp(1790000000 + i * 600 + 604800) AT TIME ZONE 'UTC' AS over FROM n",
    'ALTER TABLE made ADD COLUMN id text COLLATE "C", ADD COLUMN ends text COLLATE "C"',
    'UPDATE made SET ends = to_char(over, \'YYYY-MM-DD"T"HH24:MI:SS".000000000Z"\'),'
    " id = substr(h, 1, 8) || '-' || substr(h, 9) || '-7000-8000-' || lpad(i::text, 12, '0')",
    "INSERT INTO approvals SELECT t, id, '{}', 'user', u, 'project', 'p1', 'project.viewer', 'user:ann', '', ends,"
    " NULL, NULL, CASE WHEN rare THEN 'refused' WHEN i % 2 = 1 THEN 'approved' END FROM made",
    "INSERT INTO invitations SELECT t, id, id, NULL, NULL, '[]', 'active', 'user:ann', '', ends,"
    " CASE WHEN NOT rare AND i % 2 = 1 THEN ends END, NULL, CASE WHEN rare THEN ends END FROM made",
    "INSERT INTO api_keys SELECT id, 'n', 'p', id, '[]', '', 'key:x', NULL,"
    " CASE WHEN NOT rare THEN ends END, NULL FROM made WHERE t = 'acme'",
    "INSERT INTO principals SELECT 'user', u, CASE WHEN i % 500 = 7 THEN 'suspended' ELSE 'deleted' END,"
    " '{}' FROM n WHERE t = 'acme'",
    "INSERT INTO tenants SELECT 't' || i, CASE WHEN i % 500 = 7 THEN 'suspended' ELSE 'deleted' END FROM n"
    " WHERE t = 'acme'",
    "ANALYZE",
)
#: The instant of the last of them.
LAST: Final = (1_790_000_000 + 10_000 * 600) * 1_000_000_000
Reads = Callable[[AsyncConnection, PageQuery], Awaitable[object]]
SOON: Final = "2024-01-01T00:00:00Z"
#: Each list, with what it may be cut down to, one by one.
COSTS: Final[dict[str, tuple[Reads, type[PageQuery], list[dict[str, Any]]]]] = {
    "memberships": (
        lambda on, page: memberships.list_page(on, "acme", page),  # type: ignore[arg-type]  # of its own shape
        MembershipQuery,
        [{}, {"status": "guest"}, {"type": "user"}, {"prefix": "user:u000"}, {"expires_before": SOON}],
    ),
    "assignments": (
        lambda on, page: assignments.list_page(on, "acme", page),  # type: ignore[arg-type]
        AssignmentQuery,
        [{}, {"subject": "user:u00007"}, {"role": "project.owner"}, {"on": "project:p3"}, {"prefix": "user:u000"},
         {"expires_before": SOON}],
    ),
    "resources": (
        lambda on, page: resources.list_page(on, "acme", page),  # type: ignore[arg-type]
        ResourceQuery,
        [{}, {"type": "task"}, {"parent": "project:p1"}, {"prefix": "folder:u000"}],
    ),
    "tops": (
        lambda on, page: resources.list_page(on, "acme", page, at_top=True),  # type: ignore[arg-type]
        ResourceQuery,
        [{}, {"type": "project"}, {"prefix": "project:p1"}],
    ),
    "groups": (
        lambda on, page: groups.list_page(on, "acme", page),  # type: ignore[arg-type]
        GroupQuery,
        [{}, {"prefix": "u000"}, {"member": "user:u00007"}, {"member": "group:u00700"}, {"inside": "u00070"}],
    ),
    "members": (
        lambda on, page: groups.list_members(on, "acme", "u00001", page),  # type: ignore[arg-type]
        MemberQuery,
        [{}, {"type": "user"}, {"type": "group"}],
    ),
    "links": (
        lambda on, page: links.list_page(on, "acme", page),  # type: ignore[arg-type]
        LinkQuery,
        [{}, {"subject": "user:u00007"}, {"home": "home"}, {"on": "project:p3"}, {"prefix": "user:u000"},
         {"expires_before": SOON}],
    ),
    "approvals": (
        lambda on, page: approvals.list_page(on, "acme", page, LAST),  # type: ignore[arg-type]
        ApprovalQuery,
        [{}, *({"status": each} for each in ("pending", "approved", "refused", "withdrawn", "over")),
         {"subject": "user:u00007"}, {"subject": "user:u00007", "status": "over"}],
    ),
    "invitations": (
        lambda on, page: invitations.list_page(on, "acme", page, LAST),  # type: ignore[arg-type]
        InvitationQuery,
        [{}, *({"status": each} for each in ("open", "accepted", "withdrawn", "over"))],
    ),
    "keys": (
        api_keys.list_page,  # type: ignore[dict-item]
        KeyQuery,
        [{}, {"revoked": "true"}, {"revoked": "false"}],
    ),
    "users": (
        lambda on, page: principals.list_page(on, "user", page),  # type: ignore[arg-type]
        PrincipalQuery,
        [{}, {"status": "suspended"}, {"status": "deleted"}, {"prefix": "u000"}],
    ),
    "tenants": (
        tenants.list_page,  # type: ignore[dict-item]
        TenantQuery,
        [{}, {"status": "suspended"}, {"prefix": "t99"}],
    ),
}  # fmt: skip


def sorts(query: type[PageQuery], asked: dict[str, Any]) -> list[dict[str, str]]:
    """All orders that go with a filter, as words of the query; of a list that has one alone, none."""
    said = query.model_json_schema()["properties"].get("sort")
    if said is None:
        return [{}]
    (words,) = [each["enum"] for each in said.get("anyOf", [said]) if "enum" in each]
    return [{"sort": each} for each in words if "expires_before" not in asked or each.endswith("expires")]


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that reads a table, in a plan."""
    if "Relation Name" in plan:
        yield plan
    for each in plan.get("Plans", ()):
        yield from scans(each)


def looked_at(plan: dict[str, Any]) -> int:
    """Count the rows that a plan looked at."""
    return sum(
        round((each["Actual Rows"] + each.get("Rows Removed by Filter", 0)) * each["Actual Loops"])
        for each in scans(plan)
    )


async def planned(connection: AsyncConnection, read: Reads, page: PageQuery) -> list[dict[str, Any]]:
    """Read a page, and ask how that was done: by the plans that the service has, which know no values."""
    said: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        said.append((statement, parameters))

    event.listen(connection.sync_connection, "before_cursor_execute", note)
    await read(connection, page)
    event.remove(connection.sync_connection, "before_cursor_execute", note)
    return [await explained(connection, statement, parameters) for statement, parameters in said]


async def explained(connection: AsyncConnection, statement: str, parameters: Sequence[object]) -> dict[str, Any]:
    written = ", ".join("NULL" if each is None else repr(each) for each in parameters)
    await connection.exec_driver_sql(f"PREPARE page AS {statement}")
    rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page({written})")
    found: Any = rows.scalar_one()
    await connection.exec_driver_sql("DEALLOCATE page")
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def test_a_page_is_found_by_an_index(postgres_urls: StoreUrls) -> None:
    """Whatever a list of a large tenant is cut down to, and ordered by, a page looks at few rows, all by an index."""

    async def work() -> dict[str, tuple[int, list[str]]]:
        owner = Database(postgres_urls.superuser, statement_timeout_s=60)
        async with owner.changing() as connection:
            for each in FILL:
                await connection.execute(text(each))
        await owner.close()
        database = Database(postgres_urls.admin)
        costs = {}
        async with database.reading("acme") as connection:
            for name, (read, query, filters) in COSTS.items():
                for asked in filters:
                    for sort in sorts(query, asked):
                        plans = await planned(connection, read, query.model_validate({**asked, **sort}))
                        nodes = [scan["Node Type"] for plan in plans for scan in scans(plan)]
                        costs[f"{name} {asked} by {sort}"] = sum(map(looked_at, plans)), nodes
        await database.close()
        return costs

    costs = run(work())

    assert [name for name, (_, nodes) in costs.items() if "Seq Scan" in nodes] == []
    assert {name: rows for name, (rows, _) in costs.items() if rows > FEW} == {}
