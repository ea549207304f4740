"""What tests of seeding have in common: a policy, files, and the facts of a store read back as decisions read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import BylawError, Facts, Policy, Request
from engine.facts import (
    NEVER,
    Belonging,
    Grant,
    GroupFact,
    Link,
    MemberFact,
    MemoryFacts,
    PrincipalFact,
    ResourceFact,
    TenantFact,
)
from engine.facts_builder import Document, build
from engine.facts_file import parse_document
from store.changes import Writer
from store.database import Database
from store.reading import Reader
from store.seed import Report, Seeded, seed
from store.streams import TENANT, group_key, principal_key, resource_key, tenant_key
from store.views import GroupView, PrincipalView, ProfileView, ResourceView, Views, Wanted, typed
from tests.databases import StoreUrls, run
from tests.store.worlds import FACTS, Rows, rows_of

ROOT = Path(__file__).parents[2]
#: Every facts file that there is, but one: it has an id with a space, which the store does not take.
FILES = sorted(
    path
    for path in (*ROOT.glob("policies/*/facts.yaml"), *ROOT.glob("tests/conformance/*/facts.yaml"))
    if path.parent.name != "routes"
)

POLICY = Policy.parse("""
tenant org { actions read, close  attributes { plan: string? } }
resource project in org { actions read, edit  attributes { sealed: bool?, note: string? } }
resource task in task | project { actions read, edit }
principal user { attributes { level: int? } }
principal group { attributes { motto: string? } }
custom on org { can project.*, task.* }
role reader on org crossing { can org.read, project.read }
role boss on org is reader { can close }
role editor on project { can project.read, project.edit, task.* }
role intern on org {}
role root on system { can org.read, project.read }
deny sealed: anyone to project.edit when resource.sealed
deny banned: group "banned" to project.read
deny low: user to org.close when principal.level < 2
deny interns: intern to org.close
""")
#: The same without tenants.
PLAIN = Policy.parse("""
resource project { actions read }
role reader on tenant { can project.read }
""")
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
  - { subject: user:ann, role: editor, on: project:p1, starts: 2026-01-01T00:00:00Z, expires: 2027-01-01T00:00:00Z }
  - { subject: user:ann, role: editor, on: project:p1, starts: 2030-01-01T00:00:00Z }
  - { subject: user:ann, role: intern, on: org:acme }
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


def policy_of(path: Path) -> Policy:
    """Load the policy beside a facts file."""
    beside = path.parent / "policy"
    return Policy.load(beside if beside.exists() else path.parent)


def document(text: str) -> Document:
    return parse_document(text.encode(), "facts")


def facts_of(text: str, policy: Policy = POLICY) -> MemoryFacts:
    return build(document(text), policy.model)


@asynccontextmanager
async def opened(url: str) -> Any:
    database = Database(url, pool_size=2)
    try:
        yield database
    finally:
        await database.close()


def sow(urls: StoreUrls, text: str, policy: Policy = POLICY, *, report: Report = lambda _done, _total: None) -> Seeded:
    """Seed a file, as the admin service's login."""

    async def work() -> Seeded:
        async with opened(urls.admin) as database:
            return await seed(database, policy, document(text), report=report, digest="d1")

    return run(work())


def write(urls: StoreUrls, work: Any, **how: Any) -> None:
    """Do something in one write."""

    async def scene() -> None:
        async with opened(urls.admin) as database, Writer(database).write(**how) as open_write:
            await work(open_write)

    run(scene())


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


# --- all facts, read back -------------------------------------------------------------------------------


def read_back(urls: StoreUrls, like: MemoryFacts) -> MemoryFacts:
    """Read from the store whatever these facts name, tenant by tenant."""
    return run(_read_back(urls, like))


async def _read_back(urls: StoreUrls, like: MemoryFacts) -> MemoryFacts:
    found = MemoryFacts(like.model, {}, {}, {}, {}, {}, {}, {})
    async with opened(urls.sidecar) as database:
        for tenant in like.tenants:
            wanted = _wanted(like, tenant)
            async with Reader(database, "test").snapshot(tenant) as snapshot:
                loaded = await snapshot.load(wanted)
            if like.model.has_tenant:
                _add_tenant(found, tenant, loaded.shared, loaded.own)
            _add_shared(found, loaded.shared)
            _add_own(found, tenant, loaded.own)
    return found


def _wanted(like: MemoryFacts, tenant: str) -> Wanted:
    principals = {principal_key(f"{kind}:{name}") for kind, name in like.principals}
    principals |= {principal_key(f"{kind}:{name}") for _, kind, name in like.members}
    groups = {group_key(name) for name in (*like.groups, "anyone")}
    resources = {resource_key(f"{kind}:{name}") for _, kind, name in like.resources}
    shared = principals | groups | {tenant_key(name) for name in like.tenants}
    return Wanted(shared, principals | groups | resources | {TENANT})


def _add_tenant(found: Any, tenant: str, shared: Views, own: Views) -> None:
    status = shared.get(tenant_key(tenant))
    profile = own[TENANT]
    if status is not None:
        assert isinstance(profile, ProfileView)
        attributes = _typed(found, found.model.tenant, profile.attributes)
        found.tenants[tenant] = TenantFact(tenant, status, attributes)  # type: ignore[arg-type]  # one of the words


def _add_shared(found: Any, views: Views) -> None:
    for key, view in views.items():
        kind, _, name = key.partition(":")
        if isinstance(view, PrincipalView):
            kind, _, identity = name.partition(":")
            status: Any = view.status
            attributes = _typed(found, kind, view.attributes)
            fact = PrincipalFact(kind, identity, status, attributes, view.groups, view.links, view.system)
            found.principals[kind, identity] = fact
        elif isinstance(view, GroupView) and view.attributes is not None:
            found.groups[name] = GroupFact(name, None, view.outer, _typed(found, kind, view.attributes))


def _add_own(found: Any, tenant: str, views: Views) -> None:
    for key, view in views.items():
        kind, _, name = key.partition(":")
        if isinstance(view, MemberFact):
            found.members[tenant, *name.split(":", 1)] = view
        elif isinstance(view, GroupView):
            found.granted[tenant, name] = view.grants
            if view.attributes is not None:
                found.groups[name] = GroupFact(name, tenant, view.outer, _typed(found, kind, view.attributes))
        elif isinstance(view, ResourceView):
            type_name, _, identity = name.partition(":")
            attributes = _typed(found, type_name, view.attributes)
            row = ResourceFact(type_name, identity, view.parent, attributes, view.deleted)
            found.resources[tenant, type_name, identity] = row
        elif isinstance(view, ProfileView):
            found.custom[tenant] = {role.name: role for role in view.custom}


def _typed(found: MemoryFacts, type_name: str, text: str) -> dict[str, Any]:
    return typed(found.model.types[type_name].attributes, text, found.model.aliases)


# --- comparing ------------------------------------------------------------------------------------------

P = TypeVar("P", Grant, Belonging, Link)


def settled(facts: MemoryFacts) -> dict[str, object]:
    """Put facts into a form in which those that mean the same are the same."""
    tenant_type = facts.model.tenant
    return {
        "tenants": dict(facts.tenants) if facts.model.has_tenant else {},
        "principals": {
            key: replace(fact, groups=_periods(fact.groups), links=_periods(fact.links), system=_periods(fact.system))
            for key, fact in facts.principals.items()
        },
        "members": {
            key: replace(fact, groups=_periods(fact.groups), grants=_periods(fact.grants or ()))
            for key, fact in facts.members.items()
        },
        "groups": {key: replace(fact, outer=tuple(sorted(set(fact.outer)))) for key, fact in facts.groups.items()},
        "granted": {key: _periods(grants) for key, grants in facts.granted.items() if grants},
        "resources": {
            key: replace(fact, parent=None if fact.parent == f"{tenant_type}:{key[0]}" else fact.parent)
            for key, fact in facts.resources.items()
        },
        "custom": {key: roles for key, roles in facts.custom.items() if roles},
    }


def _periods(held: Iterable[P]) -> tuple[P, ...]:
    """Sort what is held for a time; of what begins alike the longest counts."""
    ends: defaultdict[P, int] = defaultdict(int)
    for each in held:
        endless = replace(each, expires=NEVER)
        ends[endless] = max(ends[endless], each.expires)
    return tuple(sorted((replace(each, expires=end) for each, end in ends.items()), key=repr))


def allowed(facts: MemoryFacts, policy: Policy = POLICY) -> set[tuple[str, ...]]:
    """List all that anybody of these facts may do to anything of them."""
    asked = Facts.made(lambda _: facts, policy)
    places = {f"{kind}:{name}" for _, kind, name in facts.resources} | {
        f"{policy.model.tenant}:{name}" for name in facts.tenants
    }
    return {
        (tenant, subject, action, place)
        for tenant in facts.tenants
        for subject in (*(f"{kind}:{name}" for kind, name in facts.principals), "anonymous")
        for place in places
        for action in policy.model.types[place.partition(":")[0]].actions
        if policy.decide(Request(tenant=tenant, subject=subject, action=action, resource=place), asked).allowed
    }
