"""The invariants of the administration, each a test of its name, on random walks through HTTP; and races for them.

One walk for each kind of database tests all of the laws; what each law is stands in `walk`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pkgutil
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, get_type_hints

import pytest

import admin
from admin.assignments.wire import Named, write_id
from admin.endpoint import Endpoint
from admin.endpoints import ENDPOINTS
from admin.links.wire import Named as Crossing
from admin.links.wire import write_id as write_link
from engine import Policy
from store.changes import Writer
from store.keys import new_key
from store.writes import api_keys
from tests.admin.service import Asking, Said, fill, served, token
from tests.admin.walk import FACTS, POLICY, Found, read_state, walk
from tests.databases import Postgres, StoreUrls, run, sqlite_urls

STEPS: Final = 150
SEED: Final = 1
#: A word that lies in every table of `acme`, and must get to nobody else.
CANARY: Final = "canary"
TIMES: Final = 6


# --- walks --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What a walk found, once on each kind of database."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("walk") / "bylaw.db"
        yield run(_walk(sqlite_urls(shutil.copy(request.getfixturevalue("sqlite_template"), path))))
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    urls = postgres.fresh()
    yield run(_walk(urls))
    postgres.drop(urls)


async def _walk(urls: StoreUrls) -> Found:
    async with _world(urls) as asking:
        return await walk(asking, urls, SEED, STEPS)


@asynccontextmanager
async def _world(urls: StoreUrls) -> AsyncIterator[Asking]:
    policy = Policy.parse(POLICY)
    key = await fill(policy, FACTS.encode(), urls.admin)
    async with served(policy, urls.admin, key) as asking:
        yield asking


def _want(found: Found, law: str, times: int) -> None:
    assert found.faults == []
    assert found.broken[law] == []
    assert found.tested[law] >= times, found.done


def test_assign_is_the_only_door(found: Found) -> None:
    """Nobody gets a role that counts but by somebody whose role an `assign` names for it, and within its bounds."""
    _want(found, "assign_is_the_only_door", 8)


def test_someone_can_still_manage(found: Found) -> None:
    """A role that only its holders give always has one who holds it without an end, whoever writes at once."""
    _want(found, "someone_can_still_manage", 2 * STEPS)


def test_leaving_is_leaving(found: Found) -> None:
    """Whose membership ends, or who is deleted, has nothing left there."""
    _want(found, "leaving_is_leaving", 4)


def test_no_resurrection(found: Found) -> None:
    """What is deleted stays deleted, its name stays taken, and nobody is a member again who was not made one."""
    _want(found, "no_resurrection", STEPS)


def test_audit_is_whole(found: Found) -> None:
    """A write that was acknowledged has a row in each stream, by who did it; what was refused left nothing."""
    _want(found, "audit_is_whole", STEPS)


def test_cycle_never_stored(found: Found) -> None:
    """No resource and no group lies in itself, whoever moves what at once."""
    _want(found, "cycle_never_stored", STEPS)


# --- the wall -----------------------------------------------------------------------------------------


async def _plant(asking: Asking) -> None:
    """Put the canary into everything that a tenant has."""
    base = "/tenants/acme"
    said = await asking.ask("POST", "/users", {"id": CANARY})
    assert said.status == 201, said
    for path, body in (
        ("/groups", {"id": CANARY}),
        (f"/groups/{CANARY}/members", {"subject": f"user:{CANARY}"}),
        ("/groups", {"id": "nested"}),
        (f"/groups/{CANARY}/members", {"subject": "group:nested"}),
        ("/memberships", {"subject": f"user:{CANARY}"}),
        ("/resources", {"id": f"folder:{CANARY}"}),
        ("/resources", {"id": "folder:nested", "parent": f"folder:{CANARY}"}),
        ("/assignments", {"subject": f"user:{CANARY}", "role": "reader", "on": f"folder:{CANARY}"}),
        ("/custom-roles", {"name": CANARY, "on": "org", "can": ["folder.read"]}),
        ("/invitations", {"roles": [{"role": "reader", "on": f"folder:{CANARY}"}]}),
    ):
        said = await asking.ask("POST", base + path, body)
        assert said.status == 201, said
    said = await asking.ask("PATCH", base, {"attributes": {"motto": CANARY}})
    assert said.status == 200, said
    said = await asking.ask("POST", "/tenants/globex/memberships", {"subject": f"user:{CANARY}"})
    assert said.status == 201, said
    link = {"subject": f"user:{CANARY}", "home": "globex", "role": "partner", "on": "org:acme"}
    said = await asking.ask("POST", f"{base}/links", link)
    assert said.status == 201, said
    asked = {"subject": f"user:{CANARY}", "role": "owner", "on": "org:acme"}
    waiting = await asking.ask("POST", f"{base}/assignments", asked, who=token("user:olga"))
    assert waiting.status == 202, waiting


async def _strangers(asking: Asking) -> list[str]:
    """Bearers who may do much, and nothing in `acme`."""
    keys = []
    for scopes in (["tenant:globex"], ["policies"]):
        key = new_key()
        async with Writer(asking.database).write() as write:
            await api_keys.make(write, key, "of another", scopes=scopes)
        keys.append(key)
    return [*keys, token("user:gina"), token("user:gina", "globex"), token("user:gina", "acme"), token("user:nobody")]


def _filled(path: str) -> str:
    """Name what is there: the canary's things."""
    names = {
        "{name}": CANARY,
        "{subject}": f"user:{CANARY}",
        "{tenant}": "acme",
        "{id}": f"folder:{CANARY}" if "resources" in path else "WyJ1c2VyOmNhbmFyeSJd",
    }
    for written, name in names.items():
        path = path.replace(written, name)
    return path


BODIES: Final[dict[str, Any]] = {
    "assignments": {"subject": "user:gina", "role": "org.viewer", "on": "org:acme"},
    "memberships": {"subject": "user:gina", "status": "active"},
    "groups": {"id": "theirs"},
    "members": {"subject": "user:gina"},
    "links": {"subject": "user:gina", "home": "globex", "role": "partner", "on": "org:acme"},
    "custom-roles": {"name": "theirs", "on": "org", "can": ["folder.read"]},
    "resources": {"id": "folder:theirs"},
}


def test_rls_by_canary(store_urls: StoreUrls) -> None:
    """No endpoint of a tenant shows or changes anything for whoever has nothing there, whatever he may elsewhere."""
    asked = [each for each in ENDPOINTS if "{tenant}" in each.path]

    async def ask() -> None:
        async with _world(store_urls) as asking:
            await _plant(asking)
            strangers = await _strangers(asking)
            before = await read_state(store_urls)
            for each in asked:
                body = BODIES.get(each.path.rpartition("/")[2], {}) if each.body is not None else None
                for who in strangers:
                    said = await asking.ask(each.method, _filled(each.path), body, who=who)
                    assert 400 <= said.status < 500, (each, said)
                    assert CANARY not in json.dumps(said.body["details"]), (each, said)
            assert await read_state(store_urls) == before

    run(ask())

    assert len(asked) > 30


class _Guess(NamedTuple):
    """Names of things that are there, or are not, by which a stranger asks."""

    name: str
    ids: dict[str, str]

    def path(self, endpoint: Endpoint) -> str:
        found = endpoint.path.replace("{tenant}", "acme").replace("{name}", self.name)
        for collection, identity in self.ids.items():
            found = found.replace(f"/{collection}/{{id}}", f"/{collection}/{identity}")
        return found.replace("{subject}", f"user:{self.name}").replace("{id}", self.name)

    def body(self, endpoint: Endpoint) -> object:
        named = json.loads(json.dumps(BODIES).replace("user:gina", f"user:{self.name}").replace("theirs", self.name))
        last = [part for part in endpoint.path.split("/") if not part.startswith("{")][-1]
        changes = {"memberships": {"status": "active"}, "custom-roles": {"can": ["folder.read"]}}
        body = changes.get(last, {"attributes": {}}) if endpoint.method == "PATCH" else named.get(last, {})
        return body if endpoint.body is not None else None


async def _guesses(asking: Asking) -> tuple[_Guess, _Guess]:
    """Name what is there in `acme`, and what is not."""
    acme, there = "/tenants/acme", {"resources": f"folder:{CANARY}"}
    await asking.ask("POST", f"{acme}/invitations", {})
    for each in ("approvals", "invitations", "links"):
        there[each] = (await asking.ask("GET", f"{acme}/{each}")).body["items"][0]["id"]
    there["assignments"] = write_id(Named(f"user:{CANARY}", "folder.reader", f"folder:{CANARY}", ""))
    absent = {
        "resources": "folder:nothing",
        "approvals": "nothing",
        "invitations": "nothing",
        "links": write_link(Crossing("user:nothing", "globex", "org.partner", "org:acme", "")),
        "assignments": write_id(Named("user:nothing", "folder.reader", "folder:nothing", "")),
    }
    return _Guess(CANARY, there), _Guess("nothing", absent)


def test_strangers_learn_nothing(store_urls: StoreUrls) -> None:
    """How an end user is refused in a tenant to which he does not belong is the same whether what he names is there.

    What he named was looked for first: 404 told him who is a member, and 412 brought the hash of what it is like."""

    async def ask() -> list[tuple[Endpoint, str, str]]:
        async with _world(store_urls) as asking:
            await _plant(asking)
            strangers, guesses, told = await _strangers(asking), await _guesses(asking), []
            for each in (each for each in ENDPOINTS if "{tenant}" in each.path):
                headers = {"If_Match": '"guess"'} if each.takes_if_match else {}
                for who in strangers[2:]:
                    said = [
                        await asking.ask(each.method, guess.path(each), guess.body(each), who=who, **headers)
                        for guess in guesses
                    ]
                    there, absent = (
                        f"{one.status} {one.body['error']} {one.body['message']} {one.headers.get('ETag')}"
                        for one in said
                    )
                    if there.replace(CANARY, "nothing") != absent:
                        told.append((each, there, absent))
            return told

    assert run(ask()) == []


def _statements() -> Iterator[tuple[str, Any]]:
    """All functions of repositories that read something of a tenant; links are of two, and stand behind no wall."""
    for found in pkgutil.iter_modules(admin.__path__):
        if not found.ispkg or found.name == "links":
            continue
        try:
            module = importlib.import_module(f"admin.{found.name}.repository")
        except ModuleNotFoundError:
            continue
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            is_its = function.__module__ == module.__name__ and not name.startswith("_")
            if is_its and "tenant" in inspect.signature(function).parameters:
                yield f"{found.name}.{name}", function


STATEMENTS: Final = tuple(_statements())


class _Any(NamedTuple):
    """A name of an assignment that is there."""

    subject: str = f"user:{CANARY}"
    role: str = "folder.reader"
    on: str = f"folder:{CANARY}"
    starts: str = ""


@pytest.mark.parametrize("function", [each for _, each in STATEMENTS], ids=[name for name, _ in STATEMENTS])
def test_statements_behind_the_wall(function: Any, postgres_urls: StoreUrls) -> None:
    """On PostgreSQL a statement about a tenant shows nothing in a transaction of another, or of none."""
    given: dict[str, Any] = {"tenant": "acme", "kind": "user", "identity": CANARY, "named": _Any(), "name": CANARY}
    given |= {"ref": f"folder:{CANARY}", "refs": [("folder", CANARY)], "names": [CANARY], "limit": 10, "now": 0}
    hints = get_type_hints(function)
    if "page" in hints:
        given["page"] = hints["page"]()

    own = {key: value for key, value in given.items() if key in hints}

    async def ask() -> list[bool]:
        async with _world(postgres_urls) as asking:
            await _plant(asking)
            seen = []
            for tenant in ("acme", "globex", None):
                async with asking.database.reading(tenant) as connection:
                    found = await function(connection, **own)
                    seen.append(CANARY in repr(found[0] if type(found) is tuple else found))
            return seen

    assert run(ask()) == [True, False, False]


def test_the_platform_is_asked_with_a_token_of_a_tenant(store_urls: StoreUrls) -> None:
    """Who operates the platform does so whatever tenant his token names, and nobody else does.

    The question was taken for one of that tenant, which its transaction does not show: an error of ours."""

    async def ask() -> list[int]:
        async with _world(store_urls) as asking:
            await asking.ask("POST", "/tenants", {"id": "third"})
            bearers = [
                token(who, tenant) for tenant in ("acme", "globex", "third") for who in ("user:sara", "user:gina")
            ]
            said = [await asking.ask("GET", "/users", who=who) for who in bearers]
            said += [await asking.ask("DELETE", "/tenants/third", who=who) for who in (bearers[3], bearers[2])]
            return [each.status for each in said]

    assert run(ask()) == [200, 403, 200, 403, 200, 403, 403, 204]


# --- races --------------------------------------------------------------------------------------------


async def _owners(urls: StoreUrls) -> set[str]:
    return (await read_state(urls)).lasting("acme", "org.owner")


async def _give(asking: Asking, subject: str, role: str, who: str | None = None, on: str = "org:acme") -> Said:
    body = {"subject": subject, "role": role, "on": on}
    return await asking.ask("POST", "/tenants/acme/assignments", body, who=who and token(who))


async def _take(asking: Asking, subject: str, role: str) -> Said:
    named = write_id(Named(subject, role, "org:acme", ""))
    return await asking.ask("DELETE", f"/tenants/acme/assignments/{named}")


async def _suspend(asking: Asking, name: str, status: str = "suspended") -> Said:
    return await asking.ask("PATCH", f"/users/{name}", {"status": status})


def test_the_last_two_are_revoked_at_once(store_urls: StoreUrls) -> None:
    """Of two that take a role from its last two holders at once one is refused."""

    async def race() -> tuple[list[int], set[str]]:
        async with _world(store_urls) as asking:
            said = await asyncio.gather(*(_take(asking, f"user:{name}", "org.owner") for name in ("olga", "otto")))
            return sorted(each.status for each in said), await _owners(store_urls)

    statuses, left = run(race())

    assert statuses == [204, 409]
    assert len(left) == 1


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_suspended_while_the_other_is_revoked(method: str, store_urls: StoreUrls) -> None:
    """One of the last two holders is suspended, or deleted, while the role is taken from the other: somebody is left.

    The tenants were looked at before the write, in snapshots, so that both went through."""

    async def race() -> list[set[str]]:
        async with _world(store_urls) as asking:
            left = []
            for number in range(TIMES):
                name = f"user{number}"
                await asking.ask("POST", "/users", {"id": name})
                await asking.ask("POST", "/tenants/acme/memberships", {"subject": f"user:{name}"})
                await _give(asking, f"user:{name}", "owner")
                await _take(asking, "user:olga", "org.owner")
                await _give(asking, "user:otto", "owner")
                for other in range(number):
                    await _take(asking, f"user:user{other}", "org.owner")
                body = {"status": "suspended"} if method == "PATCH" else None
                await asyncio.gather(
                    asking.ask(method, f"/users/{name}", body), _take(asking, "user:otto", "org.owner")
                )
                left.append(await _owners(store_urls))
                await _give(asking, "user:otto", "owner")
            return left

    assert all(run(race()))


def test_two_are_suspended_at_once(store_urls: StoreUrls) -> None:
    """Of two that suspend the last two holders at once one is refused."""

    async def race() -> tuple[list[int], set[str]]:
        async with _world(store_urls) as asking:
            said = await asyncio.gather(_suspend(asking, "olga"), _suspend(asking, "otto"))
            return sorted(each.status for each in said), await _owners(store_urls)

    statuses, left = run(race())

    assert statuses == [200, 409]
    assert len(left) == 1


def test_a_member_of_two_tenants_is_suspended(store_urls: StoreUrls) -> None:
    """Who is in several tenants can be suspended, unless he is the last holder in one of them.

    All his tenants were asked for in a transaction of one, which may not see the others."""

    async def ask() -> list[Said]:
        async with _world(store_urls) as asking:
            await asking.ask("POST", "/tenants/globex/memberships", {"subject": "user:adam"})
            return [await _suspend(asking, name) for name in ("adam", "ruth", "gina")]

    adam, ruth, gina = run(ask())

    assert (adam.status, ruth.status, gina.status) == (200, 200, 409)
    assert gina.body["error"] == "last_holder"


def test_approved_twice_at_once(store_urls: StoreUrls) -> None:
    """Of several that approve a request at once one does what was asked for, and the others are told."""

    async def race() -> list[int]:
        async with _world(store_urls) as asking:
            said = await _give(asking, "user:emma", "owner", "user:olga")
            path = f"/tenants/acme/approvals/{said.body['approval']}/approve"
            answers = await asyncio.gather(*(asking.ask("POST", path, who=token("user:otto")) for _ in range(4)))
            return sorted(each.status for each in answers)

    assert run(race()) == [200, 409, 409, 409]


def test_not_self_by_two_at_once(store_urls: StoreUrls) -> None:
    """While somebody is put into a group of the platform, he does not give it what he may not give himself.

    Each looked at how it was before the other, so that both went through."""

    async def race() -> list[tuple[int, int]]:
        async with _world(store_urls) as asking:
            done = []
            for _ in range(TIMES):
                body = {"subject": "user:olga"}
                put, given = await asyncio.gather(
                    asking.ask("POST", "/groups/crew/members", body, who=token("user:root")),
                    _give(asking, "group:crew", "admin", "user:olga"),
                )
                done.append((put.status, given.status))
                await asking.ask("DELETE", "/groups/crew/members/user:olga")
                await _take(asking, "group:crew", "org.admin")
            return done

    assert {tuple(sorted(pair)) for pair in run(race())} == {(201, 403)}


def test_moved_under_each_other(store_urls: StoreUrls) -> None:
    """Resources, or groups, that are put into each other at once do not come to lie in themselves."""

    async def race() -> tuple[list[int], list[int]]:
        async with _world(store_urls) as asking:
            base = "/tenants/acme"
            for name in ("a", "b", "c"):
                await asking.ask("POST", f"{base}/resources", {"id": f"folder:{name}"})
                await asking.ask("POST", f"{base}/groups", {"id": name})
            ring = (("a", "b"), ("b", "c"), ("c", "a"))
            moves = [
                asking.ask("PATCH", f"{base}/resources/folder:{one}", {"parent": f"folder:{other}"})
                for one, other in ring
            ]
            puts = [
                asking.ask("POST", f"{base}/groups/{one}/members", {"subject": f"group:{other}"}) for one, other in ring
            ]
            moved, put = await asyncio.gather(asyncio.gather(*moves), asyncio.gather(*puts))
            return sorted(each.status for each in moved), sorted(each.status for each in put)

    moved, put = run(race())

    assert moved == [200, 200, 409]
    assert put == [201, 201, 409]


def test_many_that_look_elsewhere(store_urls: StoreUrls) -> None:
    """Writes that need a snapshot beside themselves, more of them than there are connections, do not wait for each
    other in a ring.

    They held all connections while each needed one more."""

    async def race() -> list[int]:
        async with _world(store_urls) as asking:
            for number in range(12):
                await asking.ask("POST", "/users", {"id": f"user{number}"})
                await asking.ask("POST", "/tenants/globex/memberships", {"subject": f"user:user{number}"})
            bodies = [
                {"subject": f"user:user{number}", "home": "globex", "role": "partner", "on": "org:acme"}
                for number in range(12)
            ]
            said = await asyncio.gather(*(asking.ask("POST", "/tenants/acme/links", body) for body in bodies))
            return [each.status for each in said]

    assert run(race()) == [201] * 12
