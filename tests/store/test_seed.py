"""Seeding: what a facts file says is what the store then says, again and again, whatever comes between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine import BylawError, Policy
from engine.errors import FactsError
from engine.facts import MemoryFacts
from engine.facts_builder import build
from store.audit import verify_chain
from store.changes import Write, Writer
from store.errors import RefusedError, UnfitError
from store.seed import Seeded, is_empty, seed
from store.seeding import kinds, order, plan
from store.streams import tenant_of
from store.tokens import Token, tenant_digest
from store.writes import (
    custom_roles,
    groups,
    memberships,
    platform_groups,
    principals,
    resources,
    tenants,
)
from tests.databases import StoreUrls, run
from tests.store.seeds import (
    FILES,
    PLAIN,
    POLICY,
    allowed,
    document,
    facts_of,
    opened,
    policy_of,
    read_back,
    settled,
    sow,
    write,
)
from tests.store.worlds import FACTS, Rows, rows_of

#: Something of every kind, in two tenants.
WORLD = """
tenants: { acme: { attributes: { plan: pro } }, globex: {} }
users:
  ann: { attributes: { level: 3 }, members: { acme: active } }
  bob: { members: { acme: { status: guest, starts: 2020-01-01T00:00:00Z, expires: 2090-01-01T00:00:00Z } } }
  sue: { status: suspended, members: { acme: active } }
  eve: { members: { globex: active } }
services: { bot: { members: { acme: active } } }
groups:
  banned: { members: [user:eve] }
  crew: { in: [all] }
  all: {}
  staff: { tenant: acme, members: [user:ann, { subject: user:bob, expires: 2090-01-01T00:00:00Z }], in: [house] }
  house: { tenant: acme, attributes: { motto: on } }
resources:
  task:t2: { parent: task:t1 }
  task:t1: { parent: project:p1 }
  project:p1: { parent: org:acme, attributes: { sealed: true } }
  project:old: { parent: org:acme, status: deleted }
  project:g1: { parent: org:globex }
assignments:
  - { subject: user:ann, role: boss, on: org:acme }
  - { subject: user:ann, role: intern, on: org:acme }
  - { subject: user:ann, role: editor, on: project:p1, starts: 2026-01-01T00:00:00Z, expires: 2027-01-01T00:00:00Z }
  - { subject: user:ann, role: editor, on: project:p1, starts: 2030-01-01T00:00:00Z }
  - { subject: user:dan, role: reader, on: org:acme }
  - { subject: user:sue, role: boss, on: org:acme }
  - { subject: group:house, role: custom.helper, on: org:acme }
  - { subject: anyone, role: reader, on: org:globex }
  - { subject: user:bob, role: root, on: system }
links:
  - { subject: user:eve, home: globex, role: reader, on: org:acme, expires: 2090-01-01T00:00:00Z }
custom_roles:
  - { tenant: acme, name: helper, on: org, can: [project.read, task.read] }
"""
#: One member and his role, for what needs no more.
SMALL = """
tenants: { acme: {} }
users: { ann: { members: { acme: active } } }
assignments: [{ subject: user:ann, role: boss, on: org:acme }]
"""


def revisions_of(urls: StoreUrls) -> dict[str, int]:
    return {row[0]: row[1] for row in run(rows_of(urls, "revisions"))["revisions"]}


def all_rows(urls: StoreUrls) -> Rows:
    return run(rows_of(urls, *FACTS))


def refused(urls: StoreUrls, text_: str, **how: Any) -> BylawError:
    """Seed what is refused; return the error, after a look that nothing was written."""
    before = all_rows(urls), revisions_of(urls)
    with pytest.raises(BylawError) as caught:
        sow(urls, text_, **how)
    assert (all_rows(urls), revisions_of(urls)) == before
    return caught.value


# --- what is read back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_store_says_what_the_file_says(path: Path, store_urls: StoreUrls) -> None:
    """Every record of every facts file is read back from the store as it is in memory."""
    policy = policy_of(path)
    facts = build(document(path.read_text("utf-8")), policy.model)

    sow(store_urls, path.read_text("utf-8"), policy)

    assert settled(read_back(store_urls, facts)) == settled(facts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
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


# --- what is deleted stays deleted ----------------------------------------------------------------------

Work = Callable[[Write], Any]
#: What is deleted, how its write is opened, and the line that refuses it.
DELETIONS: list[tuple[Work, dict[str, Any], str]] = [
    (
        lambda w: tenants.set_status(w, "deleted"),
        {"tenant": "acme", "shared": True},
        "tenants.acme: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "users.ann: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: platform_groups.delete(w, "crew"),
        {"shared": True},
        "groups.crew: it was deleted, for ever: take it out of the file, or choose another name",
    ),
    (
        lambda w: groups.delete(w, "house"),
        {"tenant": "acme"},
        "groups.house: it was deleted, for ever: take it out of the file, or choose another name",
    ),
    (
        lambda w: resources.delete(w, "task:t1"),
        {"tenant": "acme"},
        "resources.acme/task:t2: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: custom_roles.delete(w, "helper"),
        {"tenant": "acme"},
        "custom_roles.helper: it was deleted, for ever: take it out of the file, or choose another name",
    ),
]


@pytest.mark.parametrize(("work", "how", "line"), DELETIONS, ids=[line.partition(":")[0] for *_, line in DELETIONS])
def test_nothing_comes_back_to_life(work: Work, how: dict[str, Any], line: str, store_urls: StoreUrls) -> None:
    """A file that names what was deleted is refused, with the row and the cure, and nothing is written."""
    sow(store_urls, WORLD)
    write(store_urls, work, **how)

    error = refused(store_urls, WORLD.replace("level: 3", "level: 4"))

    assert error.code == "deleted"
    assert line in error.message.splitlines()


#: What is named without having a row in the file.
REFERENCES: list[tuple[Work, dict[str, Any], str, str]] = [
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "assignments: [{ subject: user:ann, role: reader, on: org:acme }]",
        "assignments.org.reader of user:ann on org:acme: `user:ann` was deleted, for ever: take out what names it",
    ),
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "groups: { fresh: { tenant: acme, members: [user:ann] } }",
        "groups.fresh.members.user:ann: `user:ann` was deleted, for ever: take out what names it",
    ),
    (
        lambda w: resources.delete(w, "project:p1"),
        {"tenant": "acme"},
        "assignments: [{ subject: user:bob, role: editor, on: project:p1 }]",
        "assignments.project.editor of user:bob on project:p1: `project:p1` was deleted,"
        " for ever: take out what names it",
    ),
    (
        lambda w: custom_roles.delete(w, "helper"),
        {"tenant": "acme"},
        "assignments: [{ subject: user:bob, role: custom.helper, on: org:acme }]",
        "assignments.custom.helper of user:bob on org:acme: `helper` was deleted, for ever: take out what names it",
    ),
]


@pytest.mark.parametrize(("work", "how", "section", "line"), REFERENCES)
def test_nothing_is_given_to_the_dead(
    work: Work, how: dict[str, Any], section: str, line: str, store_urls: StoreUrls
) -> None:
    """A file that has no row of what was deleted, but refers to it, is refused, too."""
    sow(store_urls, WORLD)
    write(store_urls, work, **how)

    error = refused(store_urls, f"tenants: {{ acme: {{ attributes: {{ plan: pro }} }} }}\n{section}")

    assert error.message.splitlines() == [line]


def test_a_link_to_what_was_deleted(store_urls: StoreUrls) -> None:
    """A link to a resource that was deleted is refused, though the other tenant's rows are not its home's to see."""
    sow(store_urls, WORLD)
    write(store_urls, lambda w: resources.delete(w, "project:p1"), tenant="acme")

    error = refused(
        store_urls,
        "tenants: { acme: { attributes: { plan: pro } }, globex: {} }\nusers: { eve: {} }\n"
        "links: [{ subject: user:eve, home: globex, role: editor, on: acme/project:p1 }]",
    )

    assert error.message.startswith("links.project.editor of user:eve on project:p1: `project:p1` was deleted")


def test_a_file_may_say_itself_that_something_is_deleted(store_urls: StoreUrls) -> None:
    """Where the file, too, says deleted, its row is left as it is: attributes of the dead do not come back."""
    sow(store_urls, WORLD)
    write(store_urls, lambda w: principals.delete(w, "user:ann"), shared=True)
    write(store_urls, lambda w: resources.delete(w, "task:t2"), tenant="acme")
    said = """
tenants: { acme: { attributes: { plan: pro } } }
users: { ann: { status: deleted, attributes: { level: 9 } } }
resources:
  project:p1: { parent: org:acme, attributes: { sealed: true } }
  task:t2: { parent: project:p1, status: deleted }
"""

    done = sow(store_urls, said)

    assert ("user", "ann", "deleted", "{}") in all_rows(store_urls)["principals"]
    assert (done.added, done.changed, done.unchanged) == ({}, {}, 5)


def test_a_file_may_delete(store_urls: StoreUrls) -> None:
    """A status of the file counts: whom it calls deleted is, from then on, for ever."""
    sow(store_urls, WORLD)

    sow(store_urls, WORLD.replace("ann: { attributes", "ann: { status: deleted, attributes"))

    assert refused(store_urls, WORLD).code == "deleted"


TAKEN = [
    ("groups: { staff: { tenant: globex } }", "groups.staff"),
    ("groups: { staff: {} }", "groups.staff"),
    ("groups: { crew: { tenant: globex } }", "groups.crew"),
]


@pytest.mark.parametrize(("section", "place"), TAKEN)
def test_a_name_is_given_once(section: str, place: str, store_urls: StoreUrls) -> None:
    """A group that has its name from another tenant, or from the platform, is refused."""
    sow(store_urls, WORLD)

    error = refused(store_urls, f"tenants: {{ globex: {{}} }}\n{section}")

    assert error.code == "taken"
    assert error.message == f"{place}: this group id is given elsewhere, or was once: choose another"


# --- in the middle --------------------------------------------------------------------------------------


class CrashError(Exception):
    """The process ends here."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transactions of few rows, so that a small file takes many."""
    monkeypatch.setattr(order, "PART", 2)


@pytest.mark.usefixtures("small_parts")
def test_cut_off_anywhere_and_begun_again(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding that dies in every single statement group, in turn, comes to the state of one that never did."""
    count = 0

    async def put_and_crash(*given: Any) -> None:
        nonlocal count
        await kinds.put(*given)
        count += 1
        if count % 3 == 0:
            raise CrashError

    monkeypatch.setattr("store.seed.put", put_and_crash)
    crashes = 0
    while True:
        try:
            sow(store_urls, WORLD)
            break
        except CrashError:
            crashes += 1

    assert crashes > 8
    assert settled(read_back(store_urls, facts_of(WORLD))) == settled(facts_of(WORLD))
    assert len(all_rows(store_urls)["presences"]) == 6


def in_steps(urls: StoreUrls, text_: str, policy: Policy = POLICY) -> list[MemoryFacts]:
    """Seed one transaction after the other, each in a run of its own; return the state after each."""

    def stop(done: int, _: int) -> None:
        if done:
            raise CrashError

    states = []
    like = facts_of(text_, policy)
    while True:
        try:
            sow(urls, text_, policy, report=stop)
        except CrashError:
            states.append(read_back(urls, like))
            continue
        return states


@pytest.mark.usefixtures("small_parts")
def test_nobody_may_more_meanwhile(store_urls: StoreUrls) -> None:
    """While a file goes into an empty store, nobody may at any instant what he may not in the end."""
    facts = facts_of(WORLD)

    states = in_steps(store_urls, WORLD)

    assert len(states) > 15
    assert allowed(facts)
    for state in states:
        assert allowed(state) <= allowed(facts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denies", "links-and-system", "no-tenant", "membership"])
def test_nobody_may_more_meanwhile_in_any_suite(
    name: str, store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of suites whose denials rest on attributes, groups and roles."""
    (path,) = (path for path in FILES if path.parent.name == name)
    policy = policy_of(path)
    final = allowed(facts_of(path.read_text("utf-8"), policy), policy)
    monkeypatch.setattr(order, "PART", 8)

    states = in_steps(store_urls, path.read_text("utf-8"), policy)

    assert len(states) > 2
    for state in states:
        assert allowed(state, policy) <= final


@pytest.mark.usefixtures("small_parts")
def test_nobody_may_more_meanwhile_in_a_store_that_is_used(store_urls: StoreUrls) -> None:
    """While a file changes much, nobody may at any instant what he may neither before nor after."""
    before = """
tenants: { acme: {}, globex: { status: suspended }, umbra: {} }
users:
  ann: { attributes: { level: 9 }, members: { acme: active } }
  fay: { members: { acme: active, umbra: suspended } }
  gil: { status: suspended }
  ivy: {}
  hal: { members: { umbra: active } }
  bob: { status: suspended, members: { acme: active } }
  cat: { members: { acme: suspended } }
  eve: { members: { globex: active, acme: active } }
  dan: { members: { acme: active } }
groups: { banned: {}, staff: { tenant: acme } }
resources:
  project:p1: { parent: org:acme, attributes: { sealed: false } }
  project:p2: { parent: org:acme, attributes: { sealed: true } }
  project:g1: { parent: org:globex }
assignments:
  - { subject: user:ann, role: reader, on: org:acme }
  - { subject: user:bob, role: boss, on: org:acme }
  - { subject: user:cat, role: boss, on: org:acme }
  - { subject: user:eve, role: boss, on: org:globex }
  - { subject: user:dan, role: custom.helper, on: org:acme }
  - { subject: anyone, role: editor, on: project:p1 }
  - { subject: user:gil, role: root, on: system }
links:
  - { subject: user:fay, home: umbra, role: reader, on: org:globex }
  - { subject: user:hal, home: umbra, role: reader, on: org:acme }
custom_roles:
  - { tenant: acme, name: helper, on: org, can: [project.edit] }
"""
    after = """
tenants: { acme: {}, globex: {}, umbra: {} }
users:
  ann: { attributes: { level: 1 }, members: { acme: active } }
  fay: { members: { acme: { status: guest, expires: 2020-01-01T00:00:00Z }, umbra: active } }
  gil: {}
  ivy: { members: { acme: active } }
  hal: { members: { umbra: { status: active, expires: 2020-01-01T00:00:00Z } } }
  bob: { members: { acme: active } }
  cat: { members: { acme: active } }
  eve: { status: suspended, members: { globex: active, acme: active } }
  dan: { members: { acme: active } }
groups: { banned: { members: [user:bob] }, staff: { tenant: acme, members: [user:dan] } }
resources:
  project:p1: { parent: org:acme, attributes: { sealed: true } }
  project:p2: { parent: org:acme, attributes: { sealed: false } }
  project:g1: { parent: org:globex, attributes: { sealed: true } }
assignments:
  - { subject: user:ann, role: boss, on: org:acme }
  - { subject: user:ann, role: editor, on: project:p1 }
  - { subject: user:bob, role: boss, on: org:acme, expires: 2020-01-01T00:00:00Z }
  - { subject: user:cat, role: boss, on: org:acme, expires: 2020-01-01T00:00:00Z }
  - { subject: user:eve, role: boss, on: org:globex }
  - { subject: user:eve, role: editor, on: project:g1 }
  - { subject: group:staff, role: editor, on: project:p1 }
  - { subject: user:dan, role: custom.helper, on: org:acme }
  - { subject: user:fay, role: boss, on: org:acme }
  - { subject: anyone, role: editor, on: project:p1 }
  - { subject: user:gil, role: root, on: system, expires: 2020-01-01T00:00:00Z }
links:
  - { subject: user:fay, home: umbra, role: reader, on: org:globex, expires: 2020-01-01T00:00:00Z }
  - { subject: user:hal, home: umbra, role: reader, on: org:globex }
custom_roles:
  - { tenant: acme, name: helper, on: org, can: [project.read] }
"""
    sow(store_urls, before)
    old, new = allowed(facts_of(before)), allowed(facts_of(after))

    states = in_steps(store_urls, after)

    assert len(states) > 8
    assert allowed(states[-1]) == new
    for state in states:
        assert allowed(state) <= old | new


def test_a_revision_has_a_bounded_number_of_rows(store_urls: StoreUrls) -> None:
    """A large file goes in a thousand rows a transaction at most, in chains that verify, and tells how far it is."""
    users = "\n".join(f"  u{n}: {{ members: {{ acme: active }} }}" for n in range(2100))
    roles = "\n".join(f"  - {{ subject: user:u{n}, role: reader, on: org:acme }}" for n in range(2100))
    told: list[tuple[int, int]] = []

    done = sow(
        store_urls,
        f"tenants: {{ acme: {{}} }}\nusers:\n{users}\nassignments:\n{roles}",
        report=lambda *so_far: told.append(so_far),
    )

    async def broken() -> list[object]:
        async with opened(store_urls.superuser) as database:
            found: list[object] = []
            for stream in ("g", "t:acme"):
                async with database.reading(tenant_of(stream)) as connection:
                    found.append(await verify_chain(connection, stream))
            return found

    entries = [json.loads(row[4]) for name in AUDIT for row in run(rows_of(store_urls, name))[name]]
    sizes = [sum(detail["rows"].values()) for entry in entries for action, detail in entry if action == "seed"]
    assert max(sizes) == 1000
    assert told[0] == (0, 6303)
    assert told[-1] == (6303, 6303)
    assert len(told) == done.revisions + 1
    assert run(broken()) == [None, None]


AUDIT = ("platform_audit_log", "audit_log")


# --- files that are wrong -------------------------------------------------------------------------------

HUGE = "x" * 257
WRONG = [
    ("users: { ann: { atributes: {} } }", "users.ann: unknown key `atributes`; did you mean `attributes`?"),
    (
        f"users: {{ {HUGE}: {{}} }}",
        f"users.{HUGE[:54]}…{HUGE[:60]}: `{HUGE[:60]}…{HUGE[:60]}` is longer than 256 bytes in UTF-8:"
        " choose a shorter one",
    ),
    (
        'users: { "an n": {} }',
        "users.an n: `an n` has a space, U+0020 SPACE, at character 3: leave it out",
    ),
    (
        'users: { "a\\0b": {} }',
        "users.a\\x00b: `a\\x00b` has a control character, U+0000, at character 2: leave it out",
    ),
    (
        'tenants: { acme: { attributes: { plan: "a\\0b" } } }',
        "tenants.acme: an attribute has a NUL or half a character in it: leave it out",
    ),
    (
        "tenants: { acme: {} }\nassignments: [{ subject: 'user:a\u200bb', role: boss, on: org:acme }]",
        "users.a\\u200bb.members.acme: `a\\u200bb` has a character that does not show, U+200B ZERO WIDTH SPACE,"
        " at character 2: leave it out",
    ),
    (
        "tenants: { acme: {} }\nresources: { acme/task:t1: { parent: project:p1 } }",
        "resources.acme/task:t1: its parent `project:p1` is not in the file",
    ),
    (
        "tenants: { acme: {}, globex: {} }\nresources: { acme/project:p1: { parent: org:globex } }",
        "resources.acme/project:p1: its parent `org:globex` is not in the file",
    ),
    (
        "tenants: { acme: {} }\nresources: { acme/task:t1: { parent: task:t2 }, acme/task:t2: { parent: task:t1 } }",
        "resources.acme/task:t1: the resource lies in itself",
    ),
]


@pytest.mark.parametrize(("wrong", "line"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_writes_nothing(wrong: str, line: str, store_urls: StoreUrls) -> None:
    """What cannot be stored is told with its place, and nothing of the file is written."""
    error = refused(store_urls, wrong)

    assert isinstance(error, FactsError)
    assert f"facts: {line}" in error.message.splitlines()


def test_ids_at_their_longest(store_urls: StoreUrls) -> None:
    """The longest ids that are accepted are stored, in every place that has one."""
    name = "é" * 128
    text_ = f"""
tenants: {{ {name}: {{}} }}
users: {{ {name}: {{ members: {{ {name}: active }} }} }}
groups: {{ {name}: {{ tenant: {name}, members: ["user:{name}"] }} }}
resources: {{ "project:{name}": {{ parent: "org:{name}" }} }}
assignments: [{{ subject: "group:{name}", role: custom.{name}, on: "org:{name}" }}]
custom_roles: [{{ tenant: {name}, name: {name}, on: org, can: [project.read] }}]
"""

    error = refused(store_urls, text_)
    assert error.message.count("longer than 256 bytes") == 1  # the role has its `custom.` before it

    sow(store_urls, text_.replace(f"custom.{name}", "boss"))


def test_resources_lie_at_most_so_deep(store_urls: StoreUrls) -> None:
    """A tree of the bound's depth goes in, and a deeper one does not."""

    def tree(depth: int) -> str:
        rows = [f"task:t{n}: {{ parent: task:t{n - 1} }}" for n in range(2, depth)]
        return (
            "tenants: { acme: {} }\nresources:\n  project:p: { parent: org:acme }\n  task:t1: { parent: project:p }\n"
            + ("\n".join(f"  {row}" for row in rows))
        )

    error = refused(store_urls, tree(31))

    assert "resources.acme/task:t30: resources lie at most 30 deep in each other" in error.message
    sow(store_urls, tree(30))


# --- bounds that hold of file and store together --------------------------------------------------------


def test_groups_that_lie_in_each_other(store_urls: StoreUrls) -> None:
    """A nesting that closes a circle with one that is stored is refused."""
    sow(store_urls, "tenants: { acme: {} }\ngroups: { a: { tenant: acme, in: [b] }, b: { tenant: acme } }")

    error = refused(store_urls, "tenants: { acme: {} }\ngroups: { a: { tenant: acme }, b: { tenant: acme, in: [a] } }")

    assert (error.code, error.message) == (
        "cycle",
        "groups.a: the group lies in itself, by what is nested in the store already",
    )


def test_groups_nest_at_most_so_deep(store_urls: StoreUrls) -> None:
    """Nestings of the file that go too deep with those that are stored are refused."""

    def chain(first: int, last: int) -> str:
        rows = [f"g{n}: {{ in: [{f'g{n + 1}' if n < last else ''}] }}" for n in range(first, last + 1)]
        return f"groups: {{ {', '.join(rows)} }}"

    sow(store_urls, chain(1, 32))

    error = refused(store_urls, chain(32, 33))

    assert (error.code, error.message) == ("too_deep", "groups.g33: groups nest at most 32 deep")


def test_a_principal_is_in_a_bounded_number_of_groups(store_urls: StoreUrls) -> None:
    """Groups that are stored count with those of the file, and those around both."""

    def joined(first: int, last: int) -> str:
        rows = [f"g{n}: {{ members: [user:ann] }}" for n in range(first, last)]
        return f"users: {{ ann: {{}} }}\ngroups: {{ {', '.join(rows)} }}"

    sow(store_urls, joined(0, 999))

    error = refused(store_urls, joined(999, 1001))

    assert error.message == "users.ann: would be in more than 1000 groups, those around counted"
    sow(store_urls, joined(999, 1000))


def test_a_tenant_has_a_bounded_number_of_roles(store_urls: StoreUrls) -> None:
    """Roles of a tenant that are stored count with those of the file."""

    def roles(first: int, last: int) -> str:
        rows = [f"{{ tenant: acme, name: r{n}, on: org, can: [project.read] }}" for n in range(first, last)]
        return f"tenants: {{ acme: {{}} }}\ncustom_roles: [{', '.join(rows)}]"

    sow(store_urls, roles(0, 1000))

    error = refused(store_urls, roles(999, 1001))

    assert error.message == "custom_roles: `acme` would have more than 1000 roles of its own"


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
