"""Random writes, as data: a name and what to do it with, so that a run can be played again with some left out.

Each changes views and notes keys as `store/writes/` does. What makes no sense in the state that it meets changes
nothing, and is no commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from engine.facts import ALWAYS, NEVER, Belonging, CustomRole, Grant, Link, MemberFact, Membership
from store.streams import (
    EVERYTHING,
    GLOBAL,
    POLICIES,
    TENANT,
    group_key,
    principal_key,
    resource_key,
    stream_of,
    subject_key,
    tenant_key,
)
from store.views import GroupView, PrincipalView, ProfileView, ResourceView
from tests.freshness.fake_store import REFUSED, Draft
from tests.freshness.scene import (
    DEPARTMENTS,
    LATER,
    PATTERNS,
    PLATFORM,
    PRINCIPALS,
    PROJECTS,
    ROLES,
    TASKS,
    TENANTS,
    USERS,
    first_own,
    groups_of,
)

#: How long something lasts that does not last for ever, in thousandths of a second.
LASTING: Final = (10, 50, 300, 900, 2000, 4000)
#: A write: its name, and its arguments.
Write = tuple[str, tuple[Any, ...]]


# --- in one tenant ------------------------------------------------------------------------------------


def _member(draft: Draft, tenant: str, ref: str) -> MemberFact:
    found = draft.own[tenant].get(principal_key(ref))
    return found if isinstance(found, MemberFact) else MemberFact(None)


def _put_member(draft: Draft, tenant: str, ref: str, member: MemberFact) -> None:
    draft.put_own(tenant, principal_key(ref), member if member != MemberFact(None) else None)


def _group(draft: Draft, tenant: str, key: str) -> GroupView:
    found = draft.own[tenant].get(key)
    return found if isinstance(found, GroupView) else GroupView(None)


def grant(draft: Draft, tenant: str, subject: str, role: str, place: str, expires: int) -> None:
    new = Grant(role, place, ALWAYS, expires)
    if subject in PRINCIPALS:
        member = _member(draft, tenant, subject)
        kept = tuple(each for each in member.grants or () if (each.role, each.place) != (role, place))
        _put_member(draft, tenant, subject, replace(member, grants=(*kept, new)))
        return
    key = subject_key(subject)
    group = _group(draft, tenant, key)
    kept = tuple(each for each in group.grants or () if (each.role, each.place) != (role, place))
    draft.put_own(tenant, key, replace(group, grants=(*kept, new)))


def revoke(draft: Draft, tenant: str, subject: str, which: int) -> None:
    """Take one of the roles away that somebody has."""
    key = subject_key(subject)
    view = draft.own[tenant].get(key)
    if not isinstance(view, MemberFact | GroupView) or not view.grants:
        return
    at = which % len(view.grants)
    left = replace(view, grants=view.grants[:at] + view.grants[at + 1 :])
    draft.put_own(tenant, key, left if left not in (MemberFact(None), GroupView(None)) else None)


def member(draft: Draft, tenant: str, ref: str, status: Any, expires: int) -> None:
    """Make, change or end a membership (no status); links that are held from here repeat it."""
    membership = Membership(status, ALWAYS, expires) if status else None
    before = _member(draft, tenant, ref)
    _put_member(draft, tenant, ref, replace(before, membership=membership) if membership else MemberFact(None))
    person = draft.shared.get(principal_key(ref))
    if isinstance(person, PrincipalView) and any(link.home == tenant for link in person.links):
        links = tuple(replace(each, membership=membership) if each.home == tenant else each for each in person.links)
        draft.put_shared(principal_key(ref), replace(person, links=links))


def join(draft: Draft, tenant: str, ref: str, group: str, is_in: bool) -> None:
    before = _member(draft, tenant, ref)
    rest = tuple(each for each in before.groups if each.group != group)
    _put_member(draft, tenant, ref, replace(before, groups=(*rest, Belonging(group)) if is_in else rest))


def nest(draft: Draft, tenant: str, is_in: bool) -> None:
    inner, outer = groups_of(tenant)
    group = _group(draft, tenant, group_key(inner))
    draft.put_own(tenant, group_key(inner), replace(group, outer=(outer,) if is_in else ()))


def make(draft: Draft, tenant: str, resource: str, parent: str | None, attributes: str) -> None:
    if resource_key(resource) not in draft.own[tenant]:
        draft.put_own(tenant, resource_key(resource), ResourceView(parent, attributes))


def change(draft: Draft, tenant: str, resource: str, attributes: str) -> None:
    view = draft.own[tenant].get(resource_key(resource))
    if isinstance(view, ResourceView) and not view.deleted:
        draft.put_own(tenant, resource_key(resource), replace(view, attributes=attributes))


def move(draft: Draft, tenant: str, resource: str, parent: str) -> None:
    view = draft.own[tenant].get(resource_key(resource))
    if isinstance(view, ResourceView) and not view.deleted:
        draft.put_own(tenant, resource_key(resource), replace(view, parent=parent))


def delete(draft: Draft, tenant: str, resource: str) -> None:
    """Delete a resource with all that lies in it, and the roles that are held there."""
    own = draft.own[tenant]
    gone = {
        key
        for key, view in own.items()
        if isinstance(view, ResourceView) and not view.deleted and resource in (key.partition(":")[2], view.parent)
    }
    places = {key.partition(":")[2] for key in gone}
    for key, view in list(own.items()):
        if isinstance(view, ResourceView) and key in gone:
            draft.put_own(tenant, key, replace(view, deleted=True))
        elif isinstance(view, MemberFact | GroupView) and any(each.place in places for each in view.grants or ()):
            left = tuple(each for each in view.grants or () if each.place not in places)
            draft.put_own(tenant, key, replace(view, grants=left))


def custom(draft: Draft, tenant: str, patterns: tuple[str, ...]) -> None:
    """Say what the tenant's own role may; without patterns it is deleted. Everything of the stream is touched."""
    profile = draft.own[tenant][TENANT]
    assert isinstance(profile, ProfileView)
    roles = (CustomRole("helper", "org", patterns),) if patterns else ()
    draft.put_own(tenant, TENANT, replace(profile, custom=roles))
    draft.touch(stream_of(tenant), EVERYTHING)


def plan(draft: Draft, tenant: str, name: str) -> None:
    profile = draft.own[tenant][TENANT]
    assert isinstance(profile, ProfileView)
    draft.put_own(tenant, TENANT, replace(profile, attributes=f'{{"plan":"{name}"}}'))


# --- in all tenants -----------------------------------------------------------------------------------


def _person(draft: Draft, ref: str) -> PrincipalView:
    found = draft.shared[principal_key(ref)]
    assert isinstance(found, PrincipalView)
    return found


def status(draft: Draft, ref: str, said: str) -> None:
    draft.put_shared(principal_key(ref), replace(_person(draft, ref), status=said))


def department(draft: Draft, ref: str, name: str) -> None:
    draft.put_shared(principal_key(ref), replace(_person(draft, ref), attributes=f'{{"department":"{name}"}}'))


def link(draft: Draft, ref: str, home: str, target: str, role: str, place: str, is_held: bool) -> None:
    """Make or end a link; the streams of both tenants move, though no fact in them does."""
    person = _person(draft, ref)
    rest = tuple(each for each in person.links if (each.home, each.tenant, each.role) != (home, target, role))
    new = Link(home, target, role, place, membership=_member(draft, home, ref).membership)
    draft.put_shared(principal_key(ref), replace(person, links=(*rest, new) if is_held else rest))
    for tenant in (home, target):
        draft.touch(stream_of(tenant))


def system(draft: Draft, ref: str, is_held: bool) -> None:
    held = (Grant("system.keeper", "system:system"),) if is_held else ()
    draft.put_shared(principal_key(ref), replace(_person(draft, ref), system=held))


def platform(draft: Draft, ref: str, group: str, is_in: bool) -> None:
    person = _person(draft, ref)
    rest = tuple(each for each in person.groups if each.group != group)
    draft.put_shared(principal_key(ref), replace(person, groups=(*rest, Belonging(group)) if is_in else rest))


def platform_nest(draft: Draft, is_in: bool) -> None:
    draft.put_shared(group_key("staff"), GroupView("{}", ("all",) if is_in else ()))


def tenant_status(draft: Draft, tenant: str, said: str) -> None:
    if draft.shared.get(tenant_key(tenant)) != said:
        draft.put_shared(tenant_key(tenant), said)


def make_tenant(draft: Draft) -> None:
    if LATER not in draft.own:
        draft.own[LATER] = {}
        draft.put_shared(tenant_key(LATER), "active")
        for key, view in first_own(LATER).items():
            draft.put_own(LATER, key, view)


def publish(draft: Draft, which: int | None) -> None:
    """Let one of the policies decide; None: the processes' own."""
    draft.published = which
    draft.touch(POLICIES, EVERYTHING)


def upload(draft: Draft) -> None:
    """Keep a policy: the stream moves, and the same one decides."""
    draft.touch(POLICIES)


def touch_all(draft: Draft) -> None:
    """Say of what all share that everything may have changed."""
    draft.touch(GLOBAL, EVERYTHING)


_WRITES: Final[dict[str, Callable[..., None]]] = {
    each.__name__: each
    for each in (
        *(grant, revoke, member, join, nest, make, change, move, delete, custom, plan),
        *(status, department, link, system, platform, platform_nest, tenant_status, make_tenant),
        *(publish, upload, touch_all),
    )
}


#: Those whose first argument is a tenant, which must be there.
_OWN: Final = {
    *("grant", "revoke", "member", "join", "nest", "make", "change", "move", "delete", "custom", "plan"),
    "tenant_status",
}
#: How often each is made.
_WEIGHTS: Final = {
    **{"grant": 24, "revoke": 18, "member": 10, "join": 10, "nest": 5, "make": 4, "change": 12, "move": 6, "delete": 1},
    **{"custom": 4, "plan": 3, "status": 6, "department": 5, "link": 6, "system": 2, "platform": 4},
    **{"platform_nest": 3, "tenant_status": 2, "make_tenant": 1, "publish": 3, "upload": 1, "touch_all": 1},
}


def perform(draft: Draft, write: Write) -> bool:
    """Do a write; say whether anything is to be committed."""
    name, arguments = write
    if name in _OWN and arguments[0] not in draft.own:
        return False
    if name == "link" and not {arguments[1], arguments[2]} <= draft.own.keys():
        return False
    _WRITES[name](draft, *arguments)
    return bool(draft.touched)


def make_write(rng: Random, tenants: Sequence[str], now: int, second: int) -> Write:
    """Make a write up.

    Args:
        tenants: in one of which it mostly is.
        now: for what ends some time soon.
    """
    tenant = rng.choice(tenants if rng.random() < 0.95 else TENANTS)
    ref, user, is_on = rng.choice(PRINCIPALS), rng.choice(USERS), rng.random() < 0.55
    expires = now + rng.choice(LASTING) * second // 1000 if rng.random() < 0.2 else NEVER
    name = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    match name:
        case "grant":
            kind = rng.choice(list(ROLES))
            place = f"org:{tenant}" if kind == "org" else rng.choice(PROJECTS if kind == "project" else TASKS)
            return name, (tenant, _subject(rng, tenant), rng.choice(ROLES[kind]), place, expires)
        case "revoke":
            return name, (tenant, _subject(rng, tenant), rng.randrange(8))
        case "member":
            said = rng.choices(("active", "guest", "suspended", ""), (70, 12, 9, 9))[0]
            return name, (tenant, ref, said, expires)
        case "join":
            return name, (tenant, ref, rng.choice(groups_of(tenant)), is_on)
        case "nest":
            return name, (tenant, is_on)
        case "make" if rng.random() < 0.3:
            return name, (tenant, rng.choice(PROJECTS), None, _project(rng))
        case "make":
            return name, (tenant, rng.choice(TASKS), rng.choice(PROJECTS), _task(rng, tenant))
        case "change" if rng.random() < 0.5:
            return name, (tenant, rng.choice(PROJECTS), _project(rng))
        case "change":
            return name, (tenant, rng.choice(TASKS), _task(rng, tenant))
        case "move":
            return name, (tenant, rng.choice(TASKS), rng.choice(PROJECTS))
        case "delete":
            return name, (tenant, rng.choice((*PROJECTS, *TASKS, *TASKS)))
        case "custom":
            return name, (tenant, tuple(rng.sample(PATTERNS, rng.randrange(3))))
        case "plan":
            return name, (tenant, "pro" if is_on else "free")
        case "status":
            return name, (ref, "active" if rng.random() < 0.75 else "suspended")
        case "department":
            return name, (user, rng.choice(DEPARTMENTS))
        case "link":
            home, target = rng.sample(TENANTS, 2)
            role = rng.choice(("org.auditor", "project.partner"))
            place = f"org:{target}" if role == "org.auditor" else rng.choice(PROJECTS)
            return name, (user, home, target, role, place, is_on)
        case "system":
            return name, (ref, is_on)
        case "platform":
            return name, (ref, rng.choice(PLATFORM), is_on)
        case "platform_nest":
            return name, (is_on,)
        case "publish":
            return name, (rng.choices((0, 1, None, REFUSED), (30, 40, 15, 15))[0],)
        case "tenant_status":
            return name, (tenant, "active" if rng.random() < 0.8 else "suspended")
        case _:
            return name, ()


def _subject(rng: Random, tenant: str) -> str:
    group = rng.choice((*groups_of(tenant), *PLATFORM))
    return rng.choices((rng.choice(PRINCIPALS), f"group:{group}", "anyone"), (60, 30, 10))[0]


def _project(rng: Random) -> str:
    return f'{{"owner":"{rng.choice(USERS)}","locked":{rng.choice(("true", "false", "false"))}}}'


def _task(rng: Random, tenant: str) -> str:
    related = f',"related":"{rng.choice(PROJECTS)}"' if rng.random() < 0.5 else ""
    team = f',"team":"group:{rng.choice((*groups_of(tenant), *PLATFORM))}"' if rng.random() < 0.5 else ""
    return f'{{"owner":"{rng.choice(USERS)}"{related}{team}}}'
