"""Random walks through the administration API, and laws that hold after every step.

In: a service over a store that was filled with `FACTS`, and a seed. Out: what broke which law, and how often each law
was put to the test. A step asks something as somebody, mostly something that he may not do; every fourth round several
are asked at once. What is looked at is read from the tables, past the service, so that it cannot deceive.

The model of who may give what is written here once more by hand, in the plainest words: `GIVERS` says whose roles give
a role, `WITHIN` which roles count as which. It knows roles alone, neither conditions nor context.

    python -m tests.admin.walk --seed 7 --steps 5000
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from sqlalchemy import select

from engine import Policy
from store import migrating
from store.audit import all_streams, verify_chain
from store.database import Database
from store.streams import tenant_of
from store.tables import meta
from tests.admin.service import Asking, Said, fill, served, token
from tests.databases import StoreUrls, quiet, sqlite_urls

POLICY: Final = """
tenant org { actions read, manage, read_access
  attributes { motto: string? } }
resource folder in folder | org { actions read, edit }
principal user { attributes { level: int? } }
system { actions manage, read_access }

role operator on system              { can manage, read_access }
role viewer on org                   { can read, folder.read }
role editor on org is viewer         { can folder.edit }
role admin  on org is editor         { can read_access, manage }
role owner  on org is admin          { can read }
role partner on org crossing         { can read }
role reader on folder                { can read }
role writer on folder is reader      { can edit }
role keeper on folder is writer      { can read }
custom on org                        { can folder.read, folder.edit }

assign members                       by admin
assign groups                        by admin
assign org.viewer                    by admin
assign editor                        by admin { max 3 }
assign admin                         by owner { not self }
assign owner                         by owner { approval }
assign partner                       by admin
assign reader                        by keeper { expires within 30d }
assign writer                        by keeper, editor
assign keeper                        by keeper, admin
assign custom                        by admin
assign operator                      by operator
assign group "crew"                  by operator
"""
FACTS: Final = """
tenants: { acme: {}, globex: {} }
users:
  olga: { members: { acme: active } }
  otto: { members: { acme: active } }
  adam: { members: { acme: active } }
  emma: { members: { acme: active } }
  kurt: { members: { acme: active } }
  ruth: { members: { acme: active, globex: active } }
  gina: { members: { globex: active } }
  root: {}
  sara: { members: { acme: active } }
groups:
  staff: { tenant: acme, members: [user:emma] }
  heads: { tenant: acme }
  abroad: { tenant: globex }
  crew: { members: [user:kurt] }
resources:
  folder:f1: { parent: org:acme }
  folder:f2: { parent: folder:f1 }
  folder:f3: { parent: folder:f2 }
  folder:far: { parent: org:globex }
assignments:
  - { subject: user:olga, role: owner, on: org:acme }
  - { subject: user:otto, role: owner, on: org:acme }
  - { subject: user:adam, role: admin, on: org:acme }
  - { subject: user:emma, role: editor, on: org:acme }
  - { subject: user:kurt, role: keeper, on: folder:f1 }
  - { subject: group:heads, role: admin, on: org:acme }
  - { subject: group:staff, role: viewer, on: org:acme }
  - { subject: user:ruth, role: owner, on: org:globex }
  - { subject: user:gina, role: owner, on: org:globex }
  - { subject: user:root, role: operator, on: system }
  - { subject: user:sara, role: operator, on: system }
"""
LAWS: Final = (
    *("assign_is_the_only_door", "someone_can_still_manage", "leaving_is_leaving"),
    *("no_resurrection", "audit_is_whole", "cycle_never_stored"),
)
#: Whose holders give a role: held on the place or above.
GIVERS: Final = {
    "org.viewer": {"org.admin"},
    "org.editor": {"org.admin"},
    "org.admin": {"org.owner"},
    "org.owner": {"org.owner"},
    "org.partner": {"org.admin"},
    "folder.reader": {"folder.keeper"},
    "folder.writer": {"folder.keeper", "org.editor"},
    "folder.keeper": {"folder.keeper", "org.admin"},
    "system.operator": {"system.operator"},
}
GIVEN_BY: Final = frozenset().union(*GIVERS.values())
#: What holding a role is, beside itself.
WITHIN: Final = {
    "org.owner": {"org.admin", "org.editor", "org.viewer"},
    "org.admin": {"org.editor", "org.viewer"},
    "org.editor": {"org.viewer"},
    "folder.keeper": {"folder.writer", "folder.reader"},
    "folder.writer": {"folder.reader"},
}
#: What only its own holders give, so that the last of them must not go.
GUARDED: Final = (("", "system.operator"), ("acme", "org.owner"), ("globex", "org.owner"))
MAX_EDITORS: Final = 3
TENANTS: Final = ("acme", "globex")
USERS: Final = ("olga", "otto", "adam", "emma", "kurt", "ruth", "gina", "root", "sara", "nora")
GROUPS: Final = ("staff", "heads", "abroad", "team", "crew")
FOLDERS: Final = ("f1", "f2", "f3", "f4", "f5", "far")
ROLES: Final = ("viewer", "editor", "admin", "owner", "reader", "writer", "keeper", "custom.helper")
#: What refusing anything must leave as it is, and what the laws look at.
TABLES: Final = (
    *("revisions", "names", "tenants", "tenant_profiles", "principals", "memberships", "groups", "group_nestings"),
    *("group_members", "assignments", "system_assignments", "links", "resources", "custom_roles", "approvals"),
    *("platform_groups", "platform_nestings", "platform_members"),
)
Row = Mapping[str, Any]
Held = tuple[str, str, str, str]  # who, tenant, role, place


# --- what is stored -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """All rows that the laws look at, and how many rows of audit each stream has."""

    rows: Mapping[str, list[Row]]
    audited: Mapping[str, int]

    def of(self, table: str, **columns: object) -> list[Row]:
        return [row for row in self.rows[table] if all(row[name] == value for name, value in columns.items())]

    def is_active(self, who: str) -> bool:
        kind, _, identity = who.partition(":")
        return all(row["status"] == "active" for row in self.of("principals", type=kind, id=identity))

    def around(self, tenant: str, names: Iterable[str]) -> set[str]:
        """Groups and those in which they stand, of a tenant; "" is the platform."""
        found, ahead = set(names), list(names)
        rows = self.of("group_nestings", tenant_id=tenant) if tenant else self.rows["platform_nestings"]
        while ahead:
            inner = ahead.pop()
            outer = {row["outer_id"] for row in rows if row["inner_id"] == inner} - found
            found |= outer
            ahead += outer
        return found

    def groups_of(self, tenant: str, who: str) -> set[str]:
        kind, _, identity = who.partition(":")
        own = {row["group_id"] for row in self.of("group_members", tenant_id=tenant, type=kind, id=identity)}
        of_all = {row["group_id"] for row in self.of("platform_members", type=kind, id=identity)}
        return self.around(tenant, own) | self.around("", of_all)

    def held(self) -> set[Held]:
        """Who holds which role where, so that it counts: himself, or by a group."""
        found = {
            (f"{row['type']}:{row['id']}", "", row["role"], "system")
            for row in self.rows["system_assignments"]
            if self.is_active(f"{row['type']}:{row['id']}")
        }
        for member in self.rows["memberships"]:
            who, tenant = f"{member['type']}:{member['id']}", member["tenant_id"]
            if member["status"] == "suspended" or not self.is_active(who):
                continue
            holders = {(member["type"], member["id"]), *(("group", name) for name in self.groups_of(tenant, who))}
            for row in self.of("assignments", tenant_id=tenant):
                if (row["subject_type"], row["subject_id"]) in holders:
                    found.add((who, tenant, row["role"], f"{row['place_type']}:{row['place_id']}"))
        return found

    def chain(self, tenant: str, place: str) -> list[str]:
        """A place and what it lies in; the tenant comes last.

        Raises:
            ValueError: it lies in itself.
        """
        found = [place]
        while not found[-1].startswith(("org:", "system")):
            kind, _, identity = found[-1].partition(":")
            rows = self.of("resources", tenant_id=tenant, type=kind, id=identity)
            if not rows or rows[0]["parent_type"] is None:
                found.append(f"org:{tenant}")
                continue
            above = f"{rows[0]['parent_type']}:{rows[0]['parent_id']}"
            if above in found:
                raise ValueError(f"{above} lies in itself")
            found.append(above)
        return found

    def lasting(self, tenant: str, role: str) -> set[str]:
        """Who holds a role on a tenant, or the system, himself and without an end."""
        if not tenant:
            rows = self.of("system_assignments", role=role, expires=None)
            return {f"{row['type']}:{row['id']}" for row in rows if self.is_active(f"{row['type']}:{row['id']}")}
        found = set()
        for row in self.of("assignments", tenant_id=tenant, role=role, place_id=tenant, expires=None):
            kind, identity = row["subject_type"], row["subject_id"]
            own = self.of("memberships", tenant_id=tenant, type=kind, id=identity, status="active", expires=None)
            if own and self.is_active(f"{kind}:{identity}"):
                found.add(f"{kind}:{identity}")
        return found

    def dead(self) -> set[tuple[str, ...]]:
        """All that is deleted, by its key."""
        found: set[tuple[str, ...]] = {
            ("principal", row["type"], row["id"]) for row in self.of("principals", status="deleted")
        }
        found |= {("tenant", row["id"]) for row in self.of("tenants", status="deleted")}
        found |= {("platform_group", row["id"]) for row in self.rows["platform_groups"] if row["deleted"]}
        for table, key in (("groups", "id"), ("resources", "id"), ("custom_roles", "name")):
            found |= {(table, row["tenant_id"], row[key]) for row in self.rows[table] if row["deleted"]}
        return found


class Reader:
    """Reads the tables past the service: as a superuser, before whom no row is hidden."""

    def __init__(self, urls: StoreUrls) -> None:
        self.database = Database(urls.superuser, pool_size=1)

    async def read(self) -> State:
        rows: dict[str, list[Row]] = {}
        audited: Counter[str] = Counter()
        async with self.database.reading() as connection:
            for name in TABLES:
                found = await connection.execute(select(meta.tables[name]))
                rows[name] = sorted((dict(row._mapping) for row in found), key=repr)
            for row in await connection.execute(select(meta.tables["audit_log"].c.tenant_id)):
                audited[f"t:{row.tenant_id}"] += 1
            for row in await connection.execute(select(meta.tables["platform_audit_log"].c.stream)):
                audited[row.stream] += 1
        return State(rows, audited)

    async def last_actor(self, stream: str) -> str:
        """Say who stands behind the last row of a stream's audit."""
        owner = tenant_of(stream)
        table = meta.tables["platform_audit_log" if owner is None else "audit_log"]
        own = table.c.stream == stream if owner is None else table.c.tenant_id == owner
        names = meta.tables["pseudonyms"]
        async with self.database.reading() as connection:
            last = select(table.c.actor).where(own).order_by(table.c.n.desc()).limit(1)
            actor = str((await connection.execute(last)).scalar_one())
            plain = select(names.c.ref).where(names.c.pseudonym == actor.removeprefix("user:"))
            return str((await connection.execute(plain)).scalar_one_or_none() or actor)

    async def broken_chains(self) -> list[str]:
        """Name the streams whose audit does not verify."""
        async with self.database.reading() as connection:
            streams = await all_streams(connection)
        found = []
        for stream in streams:
            async with self.database.reading(tenant_of(stream)) as connection:
                if await verify_chain(connection, stream) is not None:
                    found.append(stream)
        return found

    async def close(self) -> None:
        await self.database.close()


async def read_state(urls: StoreUrls) -> State:
    """Read all once."""
    reader = Reader(urls)
    try:
        return await reader.read()
    finally:
        await reader.close()


# --- what is asked ------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One request. `who` None: a key."""

    kind: str
    method: str
    path: str
    body: object
    who: str | None
    subject: str = ""
    tenant: str = ""

    async def ask(self, asking: Asking) -> Said:
        bearer = token(self.who) if self.who is not None else None
        return await asking.ask(self.method, self.path, self.body, who=bearer)


def make_call(rng: Random, state: State) -> Call:
    """Make up a request: mostly of somebody who may do something, now and then of a key that brings people back."""
    if rng.random() < 0.1:
        body = {"subject": f"user:{rng.choice(USERS)}", "status": "active"}
        tenant = rng.choice(TENANTS)
        return Call("member", "POST", f"{_at(tenant)}/memberships", body, None, body["subject"], tenant)
    powerful = sorted({who for who, _, role, _ in state.held() if role in GIVEN_BY})
    people: list[str | None] = [f"user:{name}" for name in USERS]
    who = rng.choice((None, rng.choice(people), *rng.choices(powerful or people, k=6)))
    return rng.choice(_MAKERS)(rng, state, who)


def _at(tenant: str) -> str:
    return f"/tenants/{tenant}"


def _give(rng: Random, _: State, who: str | None) -> Call:
    tenant, subject, role = rng.choice(("acme", "acme", "globex")), _subject(rng), rng.choice(ROLES)
    on = f"folder:{rng.choice(FOLDERS)}" if role in ("reader", "writer", "keeper") else f"org:{tenant}"
    body = {"subject": subject, "role": role, "on": on, **_times(rng)}
    return Call("give", "POST", f"{_at(tenant)}/assignments", body, who, subject, tenant)


def _hand_out(rng: Random, state: State, who: str | None) -> Call:
    """Give a role where whoever asks may give some."""
    mine = sorted(row for row in state.held() if row[1] and row[2] in GIVEN_BY)
    if not mine:
        return _give(rng, state, who)
    who, tenant, _, place = rng.choice(mine)
    subject, is_folder = _subject(rng), place.startswith("folder:")
    role = rng.choice(("reader", "writer", "keeper") if is_folder else ("viewer", "editor", "admin", "custom.helper"))
    body = {"subject": subject, "role": role, "on": place, **_times(rng)}
    return Call("give", "POST", f"{_at(tenant)}/assignments", body, who, subject, tenant)


def _grasp(rng: Random, state: State, who: str | None) -> Call:
    """Give oneself, or a group in which one is, what one may give to others alone."""
    owners = sorted((who, tenant) for who, tenant, role, _ in state.held() if role == "org.owner")
    if not owners:
        return _give(rng, state, who)
    who, tenant = rng.choice(owners)
    subject = rng.choice((who, *sorted(f"group:{name}" for name in state.groups_of(tenant, who))))
    body = {"subject": subject, "role": "admin", "on": f"org:{tenant}"}
    return Call("give", "POST", f"{_at(tenant)}/assignments", body, who, subject, tenant)


def _take(rng: Random, state: State, who: str | None) -> Call:
    from admin.assignments.wire import Named, write_id

    row = rng.choice(state.rows["assignments"])
    subject, on = f"{row['subject_type']}:{row['subject_id']}", f"{row['place_type']}:{row['place_id']}"
    named = write_id(Named(subject, row["role"], on, row["starts"]))
    return Call("take", "DELETE", f"{_at(row['tenant_id'])}/assignments/{named}", None, who, subject, row["tenant_id"])


def _member(rng: Random, _: State, who: str | None) -> Call:
    tenant, subject = rng.choice(TENANTS), f"user:{rng.choice(USERS)}"
    status = rng.choice(("active", "active", "guest", "suspended"))
    body = {"subject": subject, "status": status, **_times(rng)}
    return Call("member", "POST", f"{_at(tenant)}/memberships", body, who, subject, tenant)


def _unmember(rng: Random, _: State, who: str | None) -> Call:
    tenant, subject = rng.choice(TENANTS), f"user:{rng.choice(USERS)}"
    path = f"{_at(tenant)}/memberships/{subject}"
    return Call("unmember", "DELETE", path, None, rng.choice((who, None)), subject, tenant)


def _part(rng: Random, state: State, who: str | None) -> Call:
    """End the membership of somebody who has it: a key does, which nobody's rights keep from it."""
    rows = state.of("memberships", type="user")
    if not rows:
        return _unmember(rng, state, who)
    row = rng.choice(rows)
    subject, tenant = f"user:{row['id']}", row["tenant_id"]
    return Call("unmember", "DELETE", f"{_at(tenant)}/memberships/{subject}", None, None, subject, tenant)


def _nest(rng: Random, state: State, who: str | None) -> Call:
    """Put a group that is there into another, now and then one that lies in it; a key does, as above."""
    tenants = [tenant for tenant in TENANTS if len(state.of("groups", tenant_id=tenant, deleted=False)) > 1]
    if not tenants:
        return _put(rng, state, who)
    tenant = rng.choice(tenants)
    names = sorted(row["id"] for row in state.of("groups", tenant_id=tenant, deleted=False))
    nested = [(row["inner_id"], row["outer_id"]) for row in state.of("group_nestings", tenant_id=tenant)]
    outer, inner = rng.choice(nested) if nested and rng.random() < 0.5 else rng.sample(names, 2)
    return Call("put", "POST", f"{_at(tenant)}/groups/{outer}/members", {"subject": f"group:{inner}"}, None, "")


def _group(rng: Random, _: State, who: str | None) -> Call:
    base, name = rng.choice((*map(_at, TENANTS), "")), rng.choice(GROUPS)
    if rng.random() < 0.8:
        return Call("group", "POST", f"{base}/groups", {"id": name}, who)
    return Call("ungroup", "DELETE", f"{base}/groups/{name}", None, who)


def _put(rng: Random, _: State, who: str | None) -> Call:
    base, subject = rng.choice((_at("acme"), _at("acme"), _at("globex"), "")), _subject(rng)
    body = {"subject": subject, **(_times(rng) if subject.startswith("user:") else {})}
    return Call("put", "POST", f"{base}/groups/{rng.choice(GROUPS)}/members", body, who, subject)


def _pull(rng: Random, state: State, who: str | None) -> Call:
    rows = [*state.rows["group_members"], *state.rows["platform_members"]]
    if not rows:
        return _put(rng, state, who)
    row = rng.choice(rows)
    base = _at(row["tenant_id"]) if "tenant_id" in row else ""
    return Call("pull", "DELETE", f"{base}/groups/{row['group_id']}/members/{row['type']}:{row['id']}", None, who)


def _folder(rng: Random, _: State, who: str | None) -> Call:
    tenant, name = rng.choice(("acme", "acme", "globex")), rng.choice(FOLDERS)
    parent = rng.choice((None, *(f"folder:{each}" for each in FOLDERS)))
    one = f"{_at(tenant)}/resources/folder:{name}"
    match rng.randrange(8):
        case 0:
            return Call("delete", "DELETE", one, None, who)
        case 1 | 2:
            return Call("make", "POST", f"{_at(tenant)}/resources", {"id": f"folder:{name}", "parent": parent}, who)
        case _:
            return Call("move", "PATCH", one, {"parent": parent or f"org:{tenant}"}, who)


def _person(rng: Random, _: State, who: str | None) -> Call:
    name = rng.choice(USERS)
    match rng.randrange(12):
        case 0:
            return Call("leave", "DELETE", f"/users/{name}", None, who, f"user:{name}")
        case 1 | 2:
            return Call("person", "POST", "/users", {"id": name}, who, f"user:{name}")
        case number:
            status = "suspended" if number % 2 else "active"
            return Call("status", "PATCH", f"/users/{name}", {"status": status}, who, f"user:{name}")


def _raise(rng: Random, state: State, who: str | None) -> Call:
    """Bring somebody back who is deleted, or delete one whom nobody needs; a key does, as above."""
    dead = sorted(row["id"] for row in state.of("principals", type="user", status="deleted"))
    if not dead:
        name = USERS[-1]
        if not state.of("principals", type="user", id=name):
            return Call("person", "POST", "/users", {"id": name}, None, f"user:{name}")
        return Call("leave", "DELETE", f"/users/{name}", None, None, f"user:{name}")
    name = rng.choice(dead)
    if rng.random() < 0.3:
        return Call("person", "POST", "/users", {"id": name}, None, f"user:{name}")
    return Call("status", "PATCH", f"/users/{name}", {"status": "active"}, None, f"user:{name}")


def _system(rng: Random, state: State, who: str | None) -> Call:
    from admin.assignments.wire import Named, write_id

    if rng.random() < 0.5 or not state.rows["system_assignments"]:
        body = {"subject": f"user:{rng.choice(USERS)}", "role": "operator", "on": "system", **_times(rng)}
        return Call("system", "POST", "/assignments", body, who)
    row = rng.choice(state.rows["system_assignments"])
    named = write_id(Named(f"{row['type']}:{row['id']}", row["role"], "system:system", row["starts"]))
    return Call("unsystem", "DELETE", f"/assignments/{named}", None, who)


def _custom(rng: Random, _: State, who: str | None) -> Call:
    roles = f"{_at(rng.choice(TENANTS))}/custom-roles"
    match rng.randrange(6):
        case 0:
            return Call("uncustom", "DELETE", f"{roles}/{rng.choice(('helper', 'other'))}", None, who)
        case 1 | 2:
            return Call("custom", "PATCH", f"{roles}/helper", {"can": ["folder.read", "folder.edit"]}, who)
        case _:
            name = rng.choice(("helper", "other"))
            return Call("custom", "POST", roles, {"name": name, "on": "org", "can": ["folder.read"]}, who)


def _link(rng: Random, _: State, who: str | None) -> Call:
    tenant, home = rng.choice((TENANTS, TENANTS[::-1]))
    subject = f"user:{rng.choice(USERS)}"
    body = {"subject": subject, "home": home, "role": "partner", "on": f"org:{tenant}"}
    return Call("link", "POST", f"{_at(tenant)}/links", body, who, subject)


def _approval(rng: Random, state: State, who: str | None) -> Call:
    waiting = state.of("approvals", outcome=None)
    if not waiting:
        return _give(rng, state, who)
    row = rng.choice(waiting)
    verdict = rng.choice(("approve", "approve", "approve", "refuse"))
    who = who or rng.choice(("user:olga", "user:otto", "user:ruth", "user:gina"))
    return Call(verdict, "POST", f"{_at(row['tenant_id'])}/approvals/{row['id']}/{verdict}", None, who)


_MAKERS: Final[tuple[Callable[[Random, State, str | None], Call], ...]] = (
    *(
        _give,
        _give,
        _hand_out,
        _hand_out,
        _hand_out,
        _take,
        _take,
        _member,
        _member,
        _unmember,
        _group,
        _put,
        _put,
        _put,
        _pull,
    ),
    *(_grasp, _part, _part, _nest, _nest, _raise, _raise),
    *(_folder, _folder, _person, _person, _system, _custom, _link, _approval, _approval),
)


def _subject(rng: Random) -> str:
    return f"group:{rng.choice(GROUPS)}" if rng.random() < 0.3 else f"user:{rng.choice(USERS)}"


def _times(rng: Random) -> dict[str, str]:
    if rng.random() < 0.6:
        return {}
    ends = datetime.now(UTC) + timedelta(days=rng.choice((1, 400)))
    return {"expires": ends.isoformat().replace("+00:00", "Z")}


# --- the laws -----------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of a walk: what broke each law, how often it was put to the test, and answers by kind."""

    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    tested: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def want(self, law: str, is_kept: bool, why: object) -> None:
        self.tested[law] += 1
        if not is_kept:
            self.broken[law].append(str(why))


def _look_at_states(found: Found, before: State, after: State, why: object) -> None:
    """Look at what holds however many wrote in between."""
    for tenant, role in GUARDED:
        if before.lasting(tenant, role):
            found.want("someone_can_still_manage", bool(after.lasting(tenant, role)), (tenant, role, why))
    risen = before.dead() - after.dead()
    found.want("no_resurrection", not risen, (risen, why))
    names = {(row["kind"], row["id"]) for row in before.rows["names"]}
    kept = {(row["kind"], row["id"]) for row in after.rows["names"]}
    found.want("no_resurrection", names <= kept, (names - kept, why))
    found.want("cycle_never_stored", not _has_cycle(after), why)
    heads = {row["stream"]: row["n"] for row in after.rows["revisions"]}
    wrong = [stream for stream, n in heads.items() if after.audited.get(stream, 0) != n]
    found.want("audit_is_whole", not wrong and after.audited.keys() <= heads.keys(), (wrong, why))


def _has_cycle(state: State) -> bool:
    try:
        for row in state.rows["resources"]:
            state.chain(row["tenant_id"], f"{row['type']}:{row['id']}")
    except ValueError:
        return True
    return any(
        row["inner_id"] in state.around(row.get("tenant_id", ""), [row["outer_id"]])
        for name in ("group_nestings", "platform_nestings")
        for row in state.rows[name]
    )


async def _look_at_step(found: Found, reader: Reader, call: Call, said: Said, before: State, after: State) -> None:
    """Look at what one request did, or did not do."""
    if said.status >= 300:
        found.want("audit_is_whole", before == after, ("refused, and wrote", call, said))
        return
    moved = _moved(before, after)
    found.want("audit_is_whole", bool(moved) and "Bylaw-Revision" in said.headers, ("no trace", call))
    for stream in moved:
        actor = await reader.last_actor(stream)
        is_his = actor == call.who if call.who is not None else actor.startswith("key:")
        found.want("audit_is_whole", is_his, ("of another", actor, call))
    if call.who is not None:
        _look_at_door(found, call, call.who, before, after)
    _look_at_leaving(found, call, before, after)


def _moved(before: State, after: State) -> list[str]:
    was = {row["stream"]: row["n"] for row in before.rows["revisions"]}
    return [row["stream"] for row in after.rows["revisions"] if was.get(row["stream"]) != row["n"]]


def _look_at_door(found: Found, call: Call, who: str, before: State, after: State) -> None:
    """Say of each role that is held now and was not whether the policy let him give it."""
    asked_by = _requesters(before, after)
    held = before.held()
    for new in after.held() - held:
        givers = {who} | (asked_by if call.kind == "approve" else set())
        is_his = all(_may_give(before, held, giver, call, new) for giver in givers)
        is_bound = new[2] != "org.admin" or new[0] != who or call.kind in ("member", "status")
        waited = new[2] != "org.owner" or call.kind in ("approve", "member", "status") or "put" in call.kind
        apart = call.kind != "approve" or (new[0] != who and who not in asked_by)
        found.want("assign_is_the_only_door", is_his and is_bound and waited and apart, (call, new))
    was = {repr(row) for row in before.rows["assignments"]}
    for row in (row for row in after.rows["assignments"] if repr(row) not in was):
        others = after.of("assignments", tenant_id=row["tenant_id"], role="org.editor", place_id=row["place_id"])
        limit = (datetime.now(UTC) + timedelta(days=31)).isoformat()
        is_soon = row["role"] != "folder.reader" or (row["expires"] or "9999") < limit
        is_few = row["role"] != "org.editor" or len(others) <= MAX_EDITORS
        found.want("assign_is_the_only_door", is_soon and is_few, (call, row))


def _may_give(before: State, held: set[Held], giver: str, call: Call, new: Held) -> bool:
    """Say whether somebody held what gives a role, by the model of this file."""
    _, tenant, role, place = new
    if call.kind == "status":
        wanted, places = {"system.operator"}, {"system"}
    elif call.kind == "member":
        wanted, places = {"org.admin"}, {f"org:{tenant}"}
    else:
        wanted, places = GIVERS.get(role, {"org.admin"}), set(before.chain(tenant, place))
    return any(
        who == giver and where in places and (has in wanted or WITHIN.get(has, set()) & wanted)
        for who, _, has, where in held
    )


def _requesters(before: State, after: State) -> set[str]:
    open_ = {row["id"] for row in before.of("approvals", outcome=None)}
    return {row["requested_by"] for row in after.of("approvals", outcome="approved") if row["id"] in open_}


def _look_at_leaving(found: Found, call: Call, before: State, after: State) -> None:
    kind, _, identity = call.subject.partition(":")
    if call.kind in ("unmember", "leave"):
        left = list(_traces(after, kind, identity, call.tenant if call.kind == "unmember" else None))
        found.want("leaving_is_leaving", not left, (call, left))
    members = {(row["tenant_id"], row["type"], row["id"]) for row in before.rows["memberships"]}
    new = {(row["tenant_id"], row["type"], row["id"]) for row in after.rows["memberships"]} - members
    is_wanted = not new or (call.kind == "member" and new == {(call.tenant, kind, identity)})
    found.want("no_resurrection", is_wanted, (call, new))


def _traces(state: State, kind: str, identity: str, tenant: str | None) -> Iterator[Row]:
    """What somebody still has, in a tenant or anywhere."""
    for name in ("memberships", "group_members"):
        yield from (row for row in state.of(name, type=kind, id=identity) if tenant in (None, row["tenant_id"]))
    for row in state.of("assignments", subject_type=kind, subject_id=identity):
        if tenant in (None, row["tenant_id"]):
            yield row
    yield from (row for row in state.of("links", type=kind, id=identity) if tenant in (None, row["home_id"]))
    if tenant is None:
        for name in ("system_assignments", "platform_members"):
            yield from state.of(name, type=kind, id=identity)


# --- the walk -----------------------------------------------------------------------------------------


async def walk(asking: Asking, urls: StoreUrls, seed: int, steps: int) -> Found:
    """Go so many steps, and look at every law after each."""
    rng, found, reader = Random(seed), Found(), Reader(urls)
    try:
        before = await reader.read()
        for number in range(steps):
            calls = [make_call(rng, before) for _ in range(1 if number % 4 else 3)]
            answers = await asyncio.gather(*(call.ask(asking) for call in calls))
            after = await reader.read()
            found.faults += [f"{call}: {said}" for call, said in zip(calls, answers, strict=True) if said.status >= 500]
            found.done.update(call.kind for call, said in zip(calls, answers, strict=True) if said.status < 300)
            _look_at_states(found, before, after, calls)
            if len(calls) == 1:
                await _look_at_step(found, reader, calls[0], answers[0], before, after)
            before = after
        broken = await reader.broken_chains()
        found.want("audit_is_whole", not broken, broken)
        return found
    finally:
        await reader.close()


@asynccontextmanager
async def _fresh() -> Any:
    """Serve an SQLite store of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bylaw-walk-"))
    try:
        urls = sqlite_urls(folder / "bylaw.db")
        await migrating.up(urls.owner, report=quiet)
        policy = Policy.parse(POLICY)
        key = await fill(policy, FACTS.encode(), urls.admin)
        async with served(policy, urls.admin, key) as asking:
            yield asking, urls
    finally:
        shutil.rmtree(folder)


async def _main(seed: int, steps: int) -> int:
    async with _fresh() as (asking, urls):
        found = await walk(asking, urls, seed, steps)
    for law in LAWS:
        print(f"{law}: {found.tested[law]} times, broken {len(found.broken[law])} times")
        print(*found.broken[law][:3], sep="\n")
    print(*found.faults[:5], sep="\n")
    print(dict(found.done))
    return 1 if found.faults or any(found.broken.values()) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="walk through the administration API at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    raise SystemExit(asyncio.run(_main(arguments.seed, arguments.steps)))
