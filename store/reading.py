"""Reading facts and changes: the poll, and loading views in one snapshot.

Nothing here remembers anything: what is fresh, and what may be kept, is for who decides to say.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from sys import intern
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import IMPLICIT_TENANT, Belonging, CustomRole, Grant, Link, MemberFact, Membership
from store.answers import HISTORY, Change, Loaded, Moment, Polled
from store.database import Database
from store.errors import UnfitError
from store.queries import MAX_GRANTS, dialect_of, line_of, load_statement, poll_statement
from store.streams import CALLERS, Position, group_key, principal_key, resource_key, tenant_key
from store.tables import GIVEN_UP, settle_acks, sidecars, tenants
from store.times import read_end, read_start, write_time
from store.views import (
    CallerFact,
    CallersView,
    GroupView,
    PrincipalView,
    ProfileView,
    ResourceView,
    Views,
    Wanted,
)


class Snapshot:
    """One state of the facts of one tenant, open for as many loads as it takes."""

    def __init__(self, connection: AsyncConnection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._statement = load_statement(dialect_of(connection))

    async def load(self, wanted: Wanted) -> Loaded:
        """Load views, and those of what lies above: outer groups, parents, homes of links."""
        found = await self._connection.execute(self._statement, _parameters(self._tenant, wanted))
        return _assemble(found.all(), self._tenant, wanted)


class Reader:
    """Reads for one process that decides, known to the database by `name`."""

    def __init__(self, database: Database, name: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.database = database
        self.name = name
        self._clock = clock

    async def poll(self, known: str) -> Polled:
        """Read how far streams are, and what changed since.

        Args:
            known: what `known_text` makes of where they were.

        Raises:
            UnavailableError: the database does not answer.
        """
        async with self.database.reading() as connection:
            found = await connection.execute(
                poll_statement(dialect_of(connection)), {"known": known, "me": self.name, "history": HISTORY}
            )
            rows = found.all()
        return _polled(rows)

    @asynccontextmanager
    async def snapshot(self, tenant: str) -> AsyncIterator[Snapshot]:
        """Open a snapshot.

        Args:
            tenant: whose facts it shows; "" none's.
        """
        async with self.database.reading(tenant or None) as connection:
            yield Snapshot(connection, tenant)

    async def has_tenants(self) -> bool:
        """Say whether there are tenants, beside the one that a policy without them has."""
        async with self.database.reading() as connection:
            found = await connection.execute(select(tenants.c.id).where(tenants.c.id != IMPLICIT_TENANT).limit(1))
            return found.first() is not None

    # --- receipts ----------------------------------------------------------------------------------

    async def register(self, max_staleness_ms: int) -> None:
        """Make the process known. It must be before its first poll: who waits for receipts then waits for it, too."""
        now = write_time(self._clock())
        async with self.database.changing() as connection:
            await connection.execute(delete(sidecars).where(sidecars.c.id == self.name))
            row = {"id": self.name, "max_staleness_ms": max_staleness_ms, "started": now, "seen": now}
            await connection.execute(insert(sidecars).values(row))

    async def acknowledge(self, receipts: Iterable[str]) -> None:
        """Say that the states that somebody waits for were applied here."""
        async with self.database.changing() as connection:
            for receipt in receipts:
                await connection.execute(
                    text(
                        "INSERT INTO settle_acks (settle_id, sidecar_id) SELECT id, CAST(:me AS text) FROM settle"
                        " WHERE id = :receipt ON CONFLICT DO NOTHING"
                    ),
                    {"me": self.name, "receipt": receipt},
                )

    async def seen(self) -> None:
        """Say that the process lives."""
        async with self.database.changing() as connection:
            now = write_time(self._clock())
            living = (sidecars.c.id == self.name) & (sidecars.c.seen != GIVEN_UP)
            await connection.execute(update(sidecars).where(living).values(seen=now))

    async def unregister(self) -> None:
        """Take the process back: it decides no more."""
        async with self.database.changing() as connection:
            await connection.execute(delete(settle_acks).where(settle_acks.c.sidecar_id == self.name))
            await connection.execute(delete(sidecars).where(sidecars.c.id == self.name))


# --- rows to answers ----------------------------------------------------------------------------------

Rows = Iterable[Any]


def _moment(rows: list[Any]) -> Moment:
    """Make the moment of the rows of `store`: the last is what it is, the others what it was."""
    if not rows:
        raise UnfitError("no_schema", "the store has no identity: run `bylaw migrate up`")
    *former, last = sorted(rows, key=lambda row: int(row.b))
    return Moment(line_of(last.a, last.c), frozenset(row.a for row in former), last.d == "yes")


def _by_kind(rows: Rows) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.kind].append(row)
    return found


def _polled(rows: Rows) -> Polled:
    kinds = _by_kind(rows)
    found: dict[str, list[Change]] = defaultdict(list)
    for row in sorted(kinds["change"], key=lambda row: int(row.b)):
        found[row.a].append(Change(int(row.b), row.c, row.d, tuple(json.loads(row.e))))
    return Polled(
        _moment(kinds["store"]),
        {row.a: Position(int(row.b), row.c) for row in kinds["at"]},
        found,
        {row.a: json.loads(row.b) for row in kinds["settle"]},
        bool(kinds["me"]),
    )


def _parameters(tenant: str, wanted: Wanted) -> dict[str, Any]:
    names = [key.partition(":") for key in (*wanted.shared, *wanted.own) if _may_be_stored(key)]
    placed = [pair for pair in sorted(wanted.placed) if all(map(_may_be_stored, pair))]
    principals = {rest for kind, _, rest in names if kind == "principal"}
    return {
        "tenant": tenant,
        "principals": json.dumps([ref.split(":", 1) for ref in sorted(principals)]),
        "groups": json.dumps(sorted({rest for kind, _, rest in names if kind == "group"})),
        "resources": json.dumps([rest.split(":", 1) for kind, _, rest in names if kind == "resource"]),
        "tenants": json.dumps(sorted({rest for kind, _, rest in names if kind == "tenant" and rest})),
        "placed": json.dumps([_holder(holder) + place.split(":", 1) for holder, place in placed]),
        "profile": "yes" if "tenant" in wanted.own else "no",
        "callers": "yes" if CALLERS in wanted.shared else "no",
        "bound": MAX_GRANTS,
    }


def _may_be_stored(key: str) -> bool:
    """Say whether a database can hold a text. PostgreSQL refuses a whole statement that names NUL or half a character,
    and nothing of such a name is stored: it is not asked for, and so is absent."""
    return "\0" not in key and (key.isascii() or not any("\ud800" <= each <= "\udfff" for each in key))


def _holder(holder: str) -> list[str]:
    kind, _, identity = holder.partition(":")
    return [kind, identity or kind]


class _Assembly:
    """Puts rows of one load together, key by key."""

    def __init__(self, kinds: Mapping[str, list[Any]]) -> None:
        self.kinds = kinds
        self.many = {(row.a, row.b) for row in self.rows("many")}
        self.grants = self.grouped("grant", lambda row: (row.a, row.b), self.grant)

    def rows(self, kind: str) -> list[Any]:
        return self.kinds.get(kind, [])

    def grouped(self, kind: str, key: Callable[[Any], Any], make: Callable[[Any], Any]) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = defaultdict(list)
        for row in self.rows(kind):
            found[key(row)].append(make(row))
        return found

    @staticmethod
    def grant(row: Any) -> Grant:
        # The same few roles and places are held by many: one text of each is enough.
        return Grant(intern(row.c), intern(f"{row.d}:{row.e}"), read_start(row.f), read_end(row.g))

    @staticmethod
    def belonging(row: Any) -> Belonging:
        return Belonging(intern(row.c), read_start(row.d), read_end(row.e))

    def held(self, kind: str, identity: str) -> tuple[Grant, ...] | None:
        if (kind, identity) in self.many:
            return None
        return tuple(self.grants.get((kind, identity), ()))

    def principals(self, refs: Iterable[str]) -> Iterable[tuple[str, PrincipalView | None, MemberFact | None]]:
        """Make the shared and the own view of principals."""
        by = {
            kind: self.grouped(kind, lambda row: f"{row.a}:{row.b}", lambda row: row)
            for kind in ("principal", "horizon", "blocked", "system", "link", "in platform", "membership", "in group")
        }
        for ref in refs:
            found = {kind: rows.get(ref, []) for kind, rows in by.items()}
            yield ref, self.principal(found), self.member(ref, found)

    def principal(self, found: Mapping[str, list[Any]]) -> PrincipalView | None:
        row = found["principal"][0] if found["principal"] else None
        if row is None and not found["horizon"] and not found["blocked"]:
            return None
        return PrincipalView(
            row.c if row else None,
            row.d if row else "{}",
            tuple(self.belonging(each) for each in found["in platform"]),
            tuple(self.link(each) for each in found["link"]),
            tuple(
                Grant(intern(each.c), "system:system", read_start(each.d), read_end(each.e)) for each in found["system"]
            ),
            tuple(sorted(each.c for each in found["blocked"])),
            read_start(found["horizon"][0].c if found["horizon"] else ""),
        )

    @staticmethod
    def link(row: Any) -> Link:
        home = Membership(row.j, read_start(row.k), read_end(row.l)) if row.j is not None else None
        return Link(row.c, row.d, row.g, f"{row.e}:{row.f}", read_start(row.h), read_end(row.i), home)

    def member(self, ref: str, found: Mapping[str, list[Any]]) -> MemberFact | None:
        kind, _, identity = ref.partition(":")
        grants = self.held(kind, identity)
        row = found["membership"][0] if found["membership"] else None
        if row is None and not found["in group"] and grants == ():
            return None
        membership = Membership(row.c, read_start(row.d), read_end(row.e)) if row else None
        return MemberFact(membership, tuple(self.belonging(each) for each in found["in group"]), grants)

    def groups(self) -> Iterable[tuple[str, GroupView | None, GroupView]]:
        """Make the shared and the own view of all groups that were found."""
        own = {row.a: row.b for row in self.rows("group")}
        platform = {row.a: row.b for row in self.rows("platform group")}
        outer = self.grouped("nesting", lambda row: row.a, lambda row: row.b)
        beyond = self.grouped("platform nesting", lambda row: row.a, lambda row: row.b)
        for row in self.rows("found group"):
            name = row.a
            held = self.held("anyone" if name == "anyone" else "group", name)
            yield (
                name,
                GroupView(platform[name], tuple(sorted(beyond.get(name, ())))) if name in platform else None,
                GroupView(own.get(name), tuple(sorted(outer.get(name, ()))), held),
            )

    def resources(self) -> Iterable[tuple[str, ResourceView]]:
        for row in self.rows("resource"):
            parent = f"{row.c}:{row.d}" if row.c is not None else None
            yield f"{row.a}:{row.b}", ResourceView(parent, row.e, row.f == "1")

    def profile(self) -> ProfileView:
        rows = self.rows("profile")
        roles = tuple(CustomRole(row.a, row.b, tuple(json.loads(row.c))) for row in self.rows("custom"))
        return ProfileView(rows[0].a if rows else "{}", roles)

    def callers(self) -> CallersView:
        return CallersView(tuple(self.caller(row) for row in self.rows("caller")))

    @staticmethod
    def caller(row: Any) -> CallerFact:
        tenants = None if row.c is None else tuple(json.loads(row.c))
        return CallerFact(row.a, row.b, tenants, tuple(json.loads(row.d)), row.e, read_end(row.f))

    def placed(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[Grant, ...]]:
        found = self.grouped("placed", lambda row: (row.a, row.b, f"{row.d}:{row.e}"), self.grant)
        return {(holder, place): tuple(found.get((*_holder(holder), place), ())) for holder, place in wanted}


def _assemble(rows: Rows, tenant: str, wanted: Wanted) -> Loaded:
    kinds = _by_kind(rows)
    made = _Assembly(kinds)
    # What was asked for and is not found is known not to be there.
    shared: Views = dict.fromkeys(wanted.shared)
    own: Views = dict.fromkeys(wanted.own)
    refs = {key.partition(":")[2] for key in (*wanted.shared, *wanted.own) if key.startswith("principal:")}
    for ref, principal, member in made.principals(sorted(refs)):
        key = principal_key(ref)
        shared[key], own[key] = principal, member
    for name, platform, group in made.groups():
        key = group_key(name)
        shared[key], own[key] = platform, group
    own.update((resource_key(ref), view) for ref, view in made.resources())
    shared.update((tenant_key(row.a), row.b) for row in made.rows("tenant"))
    if "tenant" in wanted.own:
        own["tenant"] = made.profile()
    if CALLERS in wanted.shared:
        shared[CALLERS] = made.callers()
    return Loaded(
        _moment(kinds["store"]),
        {row.a: Position(int(row.b), row.c) for row in kinds["at"]},
        shared,
        own if tenant else {},
        made.placed(wanted.placed),
    )
