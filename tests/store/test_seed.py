"""Seeding: what a facts file says is what the store then says, again and again, whatever comes between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine.facts_builder import build
from store.changes import Writer
from store.errors import RefusedError, UnfitError
from store.seed import Seeded, is_empty, seed
from store.seeding import plan
from store.tokens import Token, tenant_digest
from store.writes import (
    groups,
    memberships,
)
from tests.databases import StoreUrls, run
from tests.store.seeds import (
    FILES,
    PLAIN,
    POLICY,
    SMALL,
    WORLD,
    all_rows,
    document,
    facts_of,
    opened,
    policy_of,
    read_back,
    refused,
    revisions_of,
    settled,
    sow,
    write,
)
from tests.store.worlds import FACTS, rows_of

#: Files that are seeded twice: every kind of thing is in them.
AGAIN = [path for path in FILES if path.parent.name in {"studio", "saas", "boundary", "links-and-system", "no-tenant"}]

# --- what is read back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_store_says_what_the_file_says(path: Path, store_urls: StoreUrls) -> None:
    """Every record of every facts file is read back from the store as it is in memory."""
    policy = policy_of(path)
    facts = build(document(path.read_text("utf-8")), policy.model)

    sow(store_urls, path.read_text("utf-8"), policy)

    assert settled(read_back(store_urls, facts)) == settled(facts)


@pytest.mark.parametrize("path", AGAIN, ids=lambda path: path.parent.name)
def test_seeding_again_does_nothing(path: Path, store_urls: StoreUrls) -> None:
    """A file that is in the store is found to be there: no revision, the same token."""
    policy = policy_of(path)
    first = sow(store_urls, path.read_text("utf-8"), policy)

    second = sow(store_urls, path.read_text("utf-8"), policy)

    assert (second.revisions, second.token, second.added, second.changed, second.members) == (
        0,
        first.token,
        {},
        {},
        (),
    )
    assert second.unchanged > 0


def test_only_what_the_file_says(store_urls: StoreUrls) -> None:
    """Each table has as many rows as the file says, and names and presences for what needs them."""
    sow(store_urls, WORLD)

    rows = all_rows(store_urls)

    assert {name: len(found) for name, found in rows.items() if found} == {
        "tenants": 2,
        "tenant_profiles": 2,
        "principals": 5,
        "memberships": 6,
        "platform_groups": 3,
        "platform_nestings": 1,
        "platform_members": 1,
        "groups": 2,
        "group_nestings": 1,
        "group_members": 2,
        "resources": 5,
        "assignments": 8,
        "system_assignments": 1,
        "links": 1,
        "custom_roles": 1,
        "names": 12,
        "presences": 6,
    }
    assert rows["presences"] >= {("user", "dan", "acme"), ("service", "bot", "acme"), ("user", "eve", "globex")}
    assert rows["names"] >= {("tenant", "acme"), ("user", "ann"), ("service", "bot"), ("group", "staff")}
    assert ("user", "dan") not in rows["names"]


def test_a_link_repeats_the_membership(store_urls: StoreUrls) -> None:
    """A link has its holder's membership at home, and none where there is none."""
    sow(store_urls, WORLD.replace("eve: { members: { globex: active } }", "eve: {}"))
    before = all_rows(store_urls)["links"]

    sow(store_urls, WORLD)

    (without,), (with_) = before, all_rows(store_urls)["links"]
    assert without[-3:] == (None, "", None)
    assert {row[-3:] for row in with_} == {("active", "", None)}


def test_times_that_begin_alike(store_urls: StoreUrls) -> None:
    """Of the same role said twice from the same instant the longer time counts, as it does in memory."""
    twice = """
tenants: { acme: {} }
users: { ann: { members: { acme: active } } }
assignments:
  - { subject: user:ann, role: boss, on: org:acme, expires: 2050-01-01T00:00:00Z }
  - { subject: user:ann, role: boss, on: org:acme, expires: 2040-01-01T00:00:00Z }
  - { subject: user:ann, role: reader, on: org:acme, expires: 2050-01-01T00:00:00Z }
  - { subject: user:ann, role: reader, on: org:acme }
"""

    sow(store_urls, twice)

    held = {(row[5], row[7]) for row in all_rows(store_urls)["assignments"]}
    assert held == {("org.boss", "2050-01-01T00:00:00.000000000Z"), ("org.reader", None)}


def test_facts_in_memory_can_be_seeded(store_urls: StoreUrls) -> None:
    """Facts that are no document are seeded the same, and nobody is called a member by implication."""

    async def scene() -> Seeded:
        async with opened(store_urls.admin) as database:
            return await seed(database, POLICY, facts_of(WORLD))

    done = run(scene())

    assert settled(read_back(store_urls, facts_of(WORLD))) == settled(facts_of(WORLD))
    assert done.members == ()


# --- another file ---------------------------------------------------------------------------------------


def test_a_changed_file_takes_the_place(store_urls: StoreUrls) -> None:
    """What the file says otherwise is changed, all periods of a role together; what it leaves out stays."""
    sow(store_urls, WORLD)
    changed = """
tenants: { acme: { status: suspended, attributes: { plan: free } }, globex: {} }
users:
  ann: { attributes: { level: 1 }, members: { acme: suspended } }
  zoe: {}
groups:
  staff: { tenant: acme, members: [{ subject: user:bob, starts: 2021-01-01T00:00:00Z }], attributes: { motto: x } }
resources:
  project:p1: { parent: org:acme, attributes: { sealed: false } }
  task:t2: { parent: project:p1 }
assignments:
  - { subject: user:ann, role: editor, on: project:p1, expires: 2028-01-01T00:00:00Z }
custom_roles:
  - { tenant: acme, name: helper, on: org, can: [project.read] }
"""
    before = all_rows(store_urls)

    done = sow(store_urls, changed)

    after = all_rows(store_urls)
    y28 = "2028-01-01T00:00:00.000000000Z"
    assert {name: after[name] - before[name] for name in FACTS if after[name] != before[name]} == {
        "tenants": {("acme", "suspended")},
        "tenant_profiles": {("acme", '{"plan":"free"}')},
        "principals": {("user", "ann", "active", '{"level":1}'), ("user", "zoe", "active", "{}")},
        "names": {("user", "zoe")},
        "memberships": {("acme", "user", "ann", "suspended", "", None)},
        "groups": {("acme", "staff", '{"motto":"x"}', False)},
        "group_members": {("acme", "user", "bob", "staff", "2021-01-01T00:00:00.000000000Z", None)},
        "resources": {
            ("acme", "project", "p1", None, None, '{"sealed":false}', False),
            ("acme", "task", "t2", "project", "p1", "{}", False),
        },
        "assignments": {("acme", "user", "ann", "project", "p1", "project.editor", "", y28)},
        "custom_roles": {("acme", "helper", "org", '["project.read"]', False)},
    }
    assert len(before["assignments"] - after["assignments"]) == 2
    assert done.added == {"users": 1}
    assert done.changed == {
        "tenants": 1,
        "users": 1,
        "memberships": 1,
        "groups": 1,
        "group_members": 1,
        "resources": 2,
        "assignments": 1,
        "custom_roles": 1,
    }


def test_links_follow_a_membership_that_a_file_changes(store_urls: StoreUrls) -> None:
    """Links that the file does not name repeat the membership that it changes, and their holder's view is named."""
    sow(store_urls, WORLD)

    sow(store_urls, "tenants: { globex: {} }\nusers: { eve: { members: { globex: suspended } } }")

    assert {row[-3:] for row in all_rows(store_urls)["links"]} == {("suspended", "", None)}
    assert last_keys(store_urls) == {"g": ["principal:user:eve"], "t:globex": ["principal:user:eve"]}


def last_keys(urls: StoreUrls) -> dict[str, list[str]]:
    """Read what the last revision of each stream says that it changed, of those whose number is the highest of all."""
    newest: dict[str, tuple[int, str, str]] = {}
    for stream, n, _, _, keys, at in run(rows_of(urls, "changes"))["changes"]:
        newest[stream] = max(newest.get(stream, (0, "", "")), (n, keys, at))
    last = max(at for _, _, at in newest.values())
    return {stream: json.loads(keys) for stream, (_, keys, at) in newest.items() if at == last}


KEYS = [
    (("level: 3", "level: 4"), {"g": ["principal:user:ann"]}),
    (("plan: pro", "plan: free"), {"t:acme": ["tenant"]}),
    (("globex: {} }", "globex: { status: suspended } }"), {"g": ["tenant:globex"]}),
    (("crew: { in: [all] }", "crew: { in: [all], attributes: { motto: x } }"), {"g": ["group:crew"]}),
    (("banned: { members: [user:eve]", "banned: { in: [all], members: [user:eve]"), {"g": ["group:banned"]}),
    (("banned: { members: [user:eve]", "banned: { members: [user:eve, user:bob]"), {"g": ["principal:user:bob"]}),
    (
        ("role: root, on: system", "role: root, on: system, expires: 2090-01-01T00:00:00Z"),
        {"g": ["principal:user:bob"]},
    ),
    (("motto: on", "motto: off"), {"t:acme": ["group:house"]}),
    (("house: {", "house: { in: [room],"), {"t:acme": ["group:house", "group:room"]}),
    (("[user:ann, {", "[user:ann, service:bot, {"), {"t:acme": ["principal:service:bot"]}),
    (("task:t2: { parent: task:t1 }", "task:t2: { parent: project:p1 }"), {"t:acme": ["resource:task:t2"]}),
    (("can: [project.read, task.read]", "can: [project.read]"), {"t:acme": ["*"]}),
    (("subject: anyone, role: reader", "subject: anyone, role: boss"), {"t:globex": ["group:anyone"]}),
    (("group:house, role: custom.helper", "group:house, role: boss"), {"t:acme": ["group:house"]}),
    (("subject: user:dan, role: reader", "subject: user:dan, role: boss"), {"t:acme": ["principal:user:dan"]}),
    (
        ("on: org:acme, expires: 2090", "on: org:acme, expires: 2091"),
        {"g": ["principal:user:eve"], "t:acme": [], "t:globex": []},
    ),
]


@pytest.mark.parametrize(("change", "keys"), KEYS, ids=lambda each: each[1] if isinstance(each, tuple) else "")
def test_what_changed_is_named(change: tuple[str, str], keys: dict[str, list[str]], store_urls: StoreUrls) -> None:
    """A second file names to processes that decide exactly the views that it changes."""
    room = "  room: { tenant: acme }\nresources:" if "room" in change[1] else "resources:"
    sow(store_urls, WORLD)

    sow(store_urls, WORLD.replace(*change).replace("resources:", room))

    assert last_keys(store_urls) == keys


# --- members by implication -----------------------------------------------------------------------------


def test_whom_the_file_makes_a_member(store_urls: StoreUrls) -> None:
    """A user with a role and no word on his membership becomes a member, and this is told, once."""
    first = sow(store_urls, WORLD)

    second = sow(store_urls, WORLD)

    assert first.members == (("user:dan", "acme"),)
    assert second.members == ()


def test_what_is_only_implied_takes_nobodys_place(store_urls: StoreUrls) -> None:
    """A membership that the file does not name stays suspended, though the file gives a role there."""
    sow(store_urls, WORLD)
    write(store_urls, lambda open_write: memberships.put(open_write, "user:dan", "suspended"), tenant="acme")

    done = sow(store_urls, WORLD.replace("subject: user:dan, role: reader", "subject: user:dan, role: boss"))

    assert ("acme", "user", "dan", "suspended", "", None) in all_rows(store_urls)["memberships"]
    assert (done.added, done.members) == ({"assignments": 1}, ())


# --- policies without tenants ---------------------------------------------------------------------------

PLAIN_FACTS = """
users: { ann: {} }
groups: { crew: { members: [user:ann] } }
resources: { project:p1: {} }
assignments: [{ subject: group:crew, role: reader, on: tenant }, { subject: user:ann, role: reader, on: tenant }]
"""


def test_facts_without_tenants(store_urls: StoreUrls) -> None:
    """Facts of a policy without tenants lie under the implicit one, which has a stream and no row."""
    done = sow(store_urls, PLAIN_FACTS, PLAIN)

    rows = all_rows(store_urls)
    assert (rows["tenants"], rows["tenant_profiles"]) == (set(), set())
    assert {row[0] for row in rows["assignments"] | rows["resources"]} == {"tenant"}
    assert revisions_of(store_urls)["t:tenant"] == done.token.t == 1
    assert sow(store_urls, PLAIN_FACTS, PLAIN).token == done.token


def test_a_policy_without_tenants_takes_no_store_with_them(store_urls: StoreUrls) -> None:
    """A store with tenants is refused to a policy that has none."""
    sow(store_urls, SMALL)

    error = refused(store_urls, PLAIN_FACTS, policy=PLAIN)

    assert (type(error), error.code) == (UnfitError, "has_tenants")


def test_a_policy_with_tenants_takes_no_store_without_them(store_urls: StoreUrls) -> None:
    """A store with facts of no tenant is refused to a policy that has some."""
    sow(store_urls, PLAIN_FACTS, PLAIN)

    error = refused(store_urls, SMALL)

    assert (type(error), error.code) == (UnfitError, "has_no_tenants")


def test_a_tenant_may_be_called_like_the_implicit_one(store_urls: StoreUrls) -> None:
    """A tenant whose id is `tenant` is one like all others."""
    named = SMALL.replace("acme", "tenant")
    sow(store_urls, named)

    done = sow(store_urls, named)

    assert done.revisions == 0


# --- the token, and the store itself --------------------------------------------------------------------


def test_the_token_names_the_only_tenant(store_urls: StoreUrls) -> None:
    """The token is of the file's tenant if it has exactly one, else of what all share."""
    one = sow(store_urls, SMALL).token

    two = sow(store_urls, "tenants: { acme: {}, globex: {} }").token

    at = revisions_of(store_urls)
    assert (one.tenant, one.t) == (tenant_digest("acme"), at["t:acme"])
    assert (two.tenant, two.p, two.g) == (None, at["p"], at["g"])
    assert Token.parse(str(two)) == two


def test_one_token_names_what_was_written_in_several_tenants(store_urls: StoreUrls) -> None:
    """Where a file changes several tenants and nothing that they share, that moves last all the same."""
    sow(store_urls, "tenants: { acme: { attributes: { plan: pro } }, globex: { attributes: { plan: pro } } }")
    before = revisions_of(store_urls)

    done = sow(store_urls, "tenants: { acme: { attributes: { plan: free } }, globex: { attributes: { plan: free } } }")

    after = revisions_of(store_urls)
    assert done.revisions == 3
    assert done.token.g == after["g"] == before["g"] + 1


def test_an_empty_store(store_urls: StoreUrls) -> None:
    """A store is empty until there are facts, of whatever kind."""

    async def ask() -> bool:
        async with opened(store_urls.admin) as database:
            return await is_empty(database)

    before = run(ask())
    sow(store_urls, "assignments: [{ subject: anyone, role: reader, on: tenant }]", PLAIN)

    assert before
    assert not run(ask())


@pytest.mark.parametrize("file", ["users: { ann: {} }", "groups: { crew: {} }", "tenants: { acme: {} }"])
def test_a_store_that_is_not_empty(file: str, store_urls: StoreUrls) -> None:
    """One user, group or tenant makes a store not empty."""

    async def ask() -> bool:
        async with opened(store_urls.admin) as database:
            return await is_empty(database)

    sow(store_urls, file)

    assert not run(ask())


def test_a_store_without_tables(empty_urls: StoreUrls) -> None:
    """Without tables nothing is made, not even the file, and the cure is named."""
    with pytest.raises(UnfitError, match="run `bylaw migrate up`") as caught:
        sow(empty_urls, SMALL)

    assert caught.value.code == "no_schema"
    if not empty_urls.is_postgres:
        assert not Path(empty_urls.owner.partition("///")[2]).exists()


def test_a_store_of_another_version(store_urls: StoreUrls) -> None:
    """Tables of another version are left alone."""

    async def age() -> None:
        async with opened(store_urls.superuser) as database, database.changing() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '20990101_0000'"))

    run(age())

    assert refused(store_urls, SMALL).code == "no_schema"


@pytest.mark.postgres
def test_a_login_that_may_not_write(postgres_urls: StoreUrls) -> None:
    """A login that may only read facts is told so, with the cure; the owner's may write."""

    async def as_sidecar() -> None:
        async with opened(postgres_urls.sidecar) as database:
            await seed(database, POLICY, document(SMALL))

    async def as_owner() -> Seeded:
        async with opened(postgres_urls.owner) as database:
            return await seed(database, POLICY, document(SMALL))

    with pytest.raises(UnfitError, match="GRANT bylaw_admin TO") as caught:
        run(as_sidecar())

    assert caught.value.code == "no_rights"
    assert run(as_owner()).added["users"] == 1


def test_somebody_else_writes_the_same(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted, or takes a name, after the comparison is refused all the same, and its transaction undone."""
    sow(store_urls, WORLD)
    make_plan = plan.make_plan

    async def overtaken(database: Any, *given: Any, **rest: Any) -> plan.Plan:
        made = await make_plan(database, *given, **rest)
        async with Writer(database).write(tenant="acme") as open_write:
            await groups.delete(open_write, "house")
        return made

    monkeypatch.setattr("store.seed.make_plan", overtaken)

    with pytest.raises(RefusedError) as caught:
        sow(store_urls, WORLD.replace("motto: on", "motto: off").replace("plan: pro", "plan: free"))

    assert (caught.value.code, "run it again" in caught.value.message) == ("conflict", True)
    rows = all_rows(store_urls)
    assert ("acme", "house", '{"motto":"on"}', True) in rows["groups"]
    assert ("acme", '{"plan":"pro"}') in rows["tenant_profiles"]
