"""What looks backward, for the rules of `assign`: who holds a role on a place, and what somebody holds himself.

`engine.assigning` asks at once, and SQL does not answer at once. So an attempt is made on what was loaded, nothing at
first: what it asks beside that is noted, and answered as if there were nothing; then all of it is loaded, and the
attempt is made again, until it asks nothing new. Within a write this is what the write itself has done, and nobody
changes it meanwhile: all who change who holds what in a tenant hold its lock. Whether a holder is suspended is of the
platform, and under no tenant's lock; so a write that counts holders keeps their rows from being changed until it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.assign_rules import Held
from engine.facts import ANYONE, FactSource, Grant
from engine.policy import Policy
from store.database import Database
from store.errors import StoreError, UnfitError
from store.seen import SeenFacts, seen, tenant_of
from store.tables import approvals, assignments, principals, system_assignments, tenants
from store.times import read_end, read_start, read_time

#: How often an attempt is made again.
ROUNDS: Final = 8
T = TypeVar("T")
Key = tuple[str, ...]


class StoredHoldings:
    """What was loaded, as `engine.assign_rules.Holdings` has it; what was not is noted in `missed`.

    Args:
        is_writing: whether who is counted as a holder is kept as he is until the transaction ends.
    """

    def __init__(self, tenant: str, *, is_writing: bool = False) -> None:
        self._tenant = tenant
        self._is_writing = is_writing
        self._known: dict[Key, object] = {}
        self.missed: set[Key] = set()

    def holders(self, tenant: str, role: str, place: str) -> Iterable[Held]:
        """List who holds a role on a place."""
        found: tuple[Held, ...] = self._ask(("holders", tenant, role, place), ())
        return found

    def pending(self, tenant: str, role: str, place: str) -> Mapping[str, int]:
        """List the open requests to give a role on a place, and when they were made."""
        found: dict[str, int] = self._ask(("pending", tenant, role, place), {})
        return found

    def held(self, tenant: str, holder: str) -> Iterable[Grant]:
        """List what somebody holds himself."""
        found: tuple[Grant, ...] = self._ask(("held", tenant, holder), ())
        return found

    def tenants(self, _: str) -> Iterable[str]:
        """List the tenants in which somebody may hold anything: no transaction shows more than one, so whoever must
        look at all of them asks in one of each."""
        return (self._tenant,) if self._tenant else ()

    def _ask(self, key: Key, nothing: T) -> T:
        if key not in self._known:
            self.missed.add(key)
            return nothing
        return self._known[key]  # type: ignore[return-value]  # what was put there is of this kind

    async def load(self, connection: AsyncConnection) -> None:
        """Load what was missed.

        Raises:
            UnfitError: it is another tenant's.
        """
        for key in sorted(self.missed):
            kind, *rest = key
            if rest[0] not in ("", self._tenant):
                raise UnfitError("wrong_tenant", f"what is held in `{rest[0]}` is not for this transaction to see")
            self._known[key] = found = await _LOADS[kind](connection, *rest)
            if kind == "holders" and self._is_writing:
                await _keep_status(connection, found)
        self.missed.clear()


async def judged(
    connection: AsyncConnection,
    policy: Policy,
    answer: Callable[[SeenFacts, StoredHoldings], T],
    *,
    is_writing: bool = False,
) -> T:
    """Make an answer come true on what a transaction shows, of its own tenant.

    Args:
        answer: makes it; it is made several times, and the last one counts.
        is_writing: the transaction writes, and its write rests on the answer.

    Raises:
        StoreError: as in `seen`.
    """
    tenant = tenant_of(connection)
    holdings = StoredHoldings(tenant, is_writing=is_writing)
    for _ in range(ROUNDS):
        found = await seen(connection, tenant, policy, lambda facts: answer(facts, holdings))
        if not holdings.missed:
            return found
        await holdings.load(connection)
    raise StoreError("too_deep", f"there is no answer: after {ROUNDS} loads something is still missing")


async def _holders(connection: AsyncConnection, tenant: str, role: str, place: str) -> tuple[Held, ...]:
    kind, _, identity = place.partition(":")
    if not tenant:
        c = system_assignments.c
        rows = await connection.execute(select(c.type, c.id, c.starts, c.expires).where(c.role == role))
        return tuple(Held(f"{row.type}:{row.id}", read_start(row.starts), read_end(row.expires)) for row in rows)
    a = assignments.c
    rows = await connection.execute(
        select(a.subject_type, a.subject_id, a.starts, a.expires).where(
            a.tenant_id == tenant, a.place_type == kind, a.place_id == identity, a.role == role
        )
    )
    return tuple(
        Held(_subject(row.subject_type, row.subject_id), read_start(row.starts), read_end(row.expires)) for row in rows
    )


async def _keep_status(connection: AsyncConnection, holders: Iterable[Held]) -> None:
    """Keep holders from being suspended or deleted until the transaction ends. What is read of them next is how they
    stay. On SQLite nobody else writes anyway."""
    c = principals.c
    pairs = sorted((kind, identity) for kind, _, identity in (each.subject.partition(":") for each in holders))
    if pairs:
        own = tuple_(c.type, c.id).in_(pairs)
        await connection.execute(select(c.id).where(own).order_by(c.type, c.id).with_for_update(read=True))


async def _pending(connection: AsyncConnection, tenant: str, role: str, place: str) -> dict[str, int]:
    kind, _, identity = place.partition(":")
    c = approvals.c
    rows = await connection.execute(
        select(c.id, c.requested_at).where(
            c.tenant_id == tenant, c.place_type == kind, c.place_id == identity, c.role == role, c.outcome.is_(None)
        )
    )
    return {row.id: read_time(row.requested_at) for row in rows}


async def _held(connection: AsyncConnection, tenant: str, holder: str) -> tuple[Grant, ...]:
    kind, _, identity = (ANYONE, "", ANYONE) if holder == ANYONE else holder.partition(":")
    if not tenant:
        c = system_assignments.c
        rows = await connection.execute(select(c.role, c.starts, c.expires).where(c.type == kind, c.id == identity))
        return tuple(Grant(row.role, "system:system", read_start(row.starts), read_end(row.expires)) for row in rows)
    a = assignments.c
    rows = await connection.execute(
        select(a.role, a.place_type, a.place_id, a.starts, a.expires).where(
            a.tenant_id == tenant, a.subject_type == kind, a.subject_id == identity
        )
    )
    return tuple(
        Grant(row.role, f"{row.place_type}:{row.place_id}", read_start(row.starts), read_end(row.expires))
        for row in rows
    )


def _subject(kind: str, identity: str) -> str:
    return ANYONE if kind == ANYONE else f"{kind}:{identity}"


_LOADS: Final[Mapping[str, Callable[..., Awaitable[Any]]]] = {
    "holders": _holders,
    "pending": _pending,
    "held": _held,
}


# --- groups of the platform ---------------------------------------------------------------------------


def groups_around(facts: FactSource, name: str) -> frozenset[str]:
    """Name a group of the platform, and all in which it stands."""
    found, ahead = {name}, [name]
    while ahead:
        group = facts.group("", ahead.pop())
        for outer in group.outer if group is not None else ():
            if outer not in found:
                found.add(outer)
                ahead.append(outer)
    return frozenset(found)


async def held_by_groups(database: Database, names: Iterable[str]) -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """Give the tenants in which some of these groups hold roles, and which, where. Each tenant is read by itself."""
    async with database.reading() as connection:
        every = list((await connection.execute(select(tenants.c.id).order_by(tenants.c.id))).scalars())
    a, wanted = assignments.c, sorted(names)
    for tenant in every:
        async with database.reading(tenant) as connection:
            rows = await connection.execute(
                select(a.role, a.place_type, a.place_id).where(
                    a.tenant_id == tenant, a.subject_type == "group", a.subject_id.in_(wanted)
                )
            )
            held = [(row.role, f"{row.place_type}:{row.place_id}") for row in rows]
        if held:
            yield tenant, held
