"""Seeding while it goes on: cut off, watched, overtaken, and by how much at a time."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine import Policy
from engine.facts import MemoryFacts
from store.audit import verify_chain
from store.errors import RefusedError
from store.seed import seed
from store.seeding import kinds, order
from store.streams import tenant_of
from tests.databases import StoreUrls, run
from tests.store.seeds import (
    FILES,
    POLICY,
    WORLD,
    all_rows,
    allowed,
    document,
    facts_of,
    opened,
    policy_of,
    read_back,
    settled,
    sow,
)
from tests.store.worlds import rows_of

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


def test_two_at_once(store_urls: StoreUrls) -> None:
    """Of two that seed at the same time one may be refused: it says so, and seeded again, all of it is there."""

    async def one() -> None:
        async with opened(store_urls.admin) as database:
            await seed(database, POLICY, document(WORLD))

    async def both() -> list[BaseException | None]:
        return [*await asyncio.gather(one(), one(), return_exceptions=True)]

    faults = [fault for fault in run(both()) if fault is not None]
    sow(store_urls, WORLD)

    assert [str(fault) for fault in faults if not isinstance(fault, RefusedError)] == []
    assert {str(fault) for fault in faults} <= {"somebody else writes the same at this moment: run it again"}
    assert settled(read_back(store_urls, facts_of(WORLD))) == settled(facts_of(WORLD))


def in_steps(urls: StoreUrls, text_: str, policy: Policy = POLICY) -> list[MemoryFacts]:
    """Seed, and look from outside after each transaction; return what was seen."""
    like = facts_of(text_, policy)
    states: list[MemoryFacts] = []
    with ThreadPoolExecutor() as aside:
        # A loop runs in this thread: the look has one in another.
        sow(urls, text_, policy, report=lambda *_: states.append(aside.submit(read_back, urls, like).result()))
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
  project:p3: { parent: org:acme, attributes: { sealed: false } }
  project:g1: { parent: org:globex }
assignments:
  - { subject: user:ann, role: reader, on: org:acme }
  - { subject: user:bob, role: boss, on: org:acme }
  - { subject: user:cat, role: boss, on: org:acme }
  - { subject: user:eve, role: boss, on: org:globex }
  - { subject: user:dan, role: custom.helper, on: org:acme }
  - { subject: anyone, role: editor, on: project:p3 }
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
  project:p3: { parent: org:acme, attributes: { sealed: true } }
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
  - { subject: anyone, role: editor, on: project:p3 }
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
    sizes = [sum(detail["rows"].values()) for entry in entries for action, detail in entry if action == "facts.seeded"]
    assert max(sizes) == 1000
    assert told[0] == (0, 6303)
    assert told[-1] == (6303, 6303)
    assert len(told) == done.revisions + 1
    assert run(broken()) == [None, None]


AUDIT = ("platform_audit_log", "audit_log")
