"""Seeding: what a facts file says gets into the store, in the place of what the store says of the same things.

    document ──▶ facts, checked against the policy ──▶ rows ──▶ plan, compared with the store ──▶ transactions

Nothing is removed, and nothing comes back to life. All that can be refused is refused before anything is written; after
that, each transaction has at most a thousand rows and is a revision like any other, so processes that decide follow
while it goes on. Where it is cut off it is begun again: what is there already is found to be.

The audit log says how many rows of which kind each revision has, and the digest of the file, which is what to keep.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import exists, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import MemoryFacts
from engine.facts_builder import Document, build
from engine.policy import Policy
from store.changes import Clock, Write, Writer
from store.database import Database
from store.errors import RefusedError, UnfitError
from store.migrating import head
from store.queries import read_line
from store.seeding.kinds import LINKS, PROFILES, TENANTS, overtaken, put
from store.seeding.order import Batch
from store.seeding.plan import Plan, make_plan
from store.seeding.rows import SHARED, Implied, rows_of
from store.streams import GLOBAL, POLICIES, stream_of
from store.tables import names, platform_groups, presences, principals, revisions, tenants
from store.tokens import Token, tenant_digest
from store.writes import tenants as tenant_writes

#: Is told after each transaction how many rows are done, and of how many.
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was done.

    Attributes:
        token: the state that it made: who has reached it knows all that the file says.
        revisions: how many transactions it took; 0: all was there already.
        added, changed: how many things, by what they are.
        unchanged: how many are there already as the file says.
        members: whom the file made a member because it gives him a role there, (user, tenant).
    """

    token: Token
    revisions: int
    added: Mapping[str, int]
    changed: Mapping[str, int]
    unchanged: int
    members: tuple[tuple[str, str], ...]


def _silent(done: int, total: int) -> None:
    """Report nothing."""


async def seed(
    database: Database,
    policy: Policy,
    given: Document | MemoryFacts,
    *,
    report: Report = _silent,
    name: str = "facts",
    digest: str = "",
    clock: Clock = time.time_ns,
) -> Seeded:
    """Put into the store what a facts file says.

    Args:
        given: the file, parsed, all scalars as they are written; or facts, of which none is then taken for implied.
        name: what errors call the file.
        digest: what the audit log calls it.

    Raises:
        FactsError: the file does not fit the policy, or cannot be stored; with every problem. Nothing is written.
        RefusedError: what is stored does not allow it. Nothing is written, unless somebody else writes the same at the
            same time: then up to there.
        UnfitError: the store is not for this policy, or not for this login, or has no tables.
        UnavailableError: it cannot be reached. What is written stays, and seeding goes on from there when it is called
            again.
    """
    if isinstance(given, MemoryFacts):
        facts, implied = given, set[Implied]()
    else:
        facts = build(given, policy.model, name=name)
        implied = _implied(given, facts)
    said = rows_of(facts, implied, name=name)
    await check_tables(database)
    plan = await make_plan(database, said, has_tenant=facts.model.has_tenant)
    await _carry_out(Writer(database, clock=clock), plan, report, digest)
    only = next(iter(facts.tenants)) if len(facts.tenants) == 1 else None
    token = await _token(database, only)
    return Seeded(token, len(plan.batches) + _needs_end(plan), plan.added, plan.changed, plan.unchanged, plan.members)


async def is_empty(database: Database) -> bool:
    """Say whether no facts are, or ever were, in the store.

    Only what all can see is looked at: rows of tenants are hidden, but none is without its stream.

    Raises:
        UnfitError, UnavailableError: as above.
    """
    await check_tables(database)
    begun = exists(select(revisions.c.stream).where(revisions.c.stream.not_in([GLOBAL, POLICIES])))
    found = [exists(select(table)) for table in (names, tenants, principals, platform_groups, presences)]
    async with database.reading() as connection:
        return not (await connection.execute(select(or_(begun, *found)))).scalar_one()


async def check_tables(database: Database) -> None:
    """Refuse a store whose tables are not there or of another version, or not for this login to write.

    An SQLite file that is not there is not made.
    """
    fault = "run `bylaw migrate up`"
    if database.path is not None and not database.path.exists():  # a local file system, as SQLite needs it
        raise UnfitError("no_schema", f"{database.shown}: there is no such file: {fault}")
    async with database.reading() as connection:
        current = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        if current != head():
            raise UnfitError("no_schema", f"{database.shown}: the tables are of another version ({current}): {fault}")
        if not database.is_sqlite and not await _may_write(connection):
            cure = "GRANT bylaw_admin TO it, or take another login"
            raise UnfitError("no_rights", f"{database.shown}: this login may not write facts: {cure}")


async def _may_write(connection: AsyncConnection) -> bool:
    said = await connection.execute(text("SELECT has_table_privilege('names', 'INSERT')"))
    return bool(said.scalar_one())


def _implied(document: Document, facts: MemoryFacts) -> set[Implied]:
    """List the memberships that stand nowhere in the document: those of users to whom it gives a role."""
    users: Mapping[str, Any] = document.get("users") or {}
    said = {
        (user, tenant)
        for user, entry in users.items()
        if isinstance(entry, Mapping)
        for tenant in entry.get("members") or {}
    }
    found = {(identity, tenant) for (tenant, kind, identity) in facts.members if kind == "user"}
    return found - said


# --- transactions ---------------------------------------------------------------------------------------


async def _carry_out(writer: Writer, plan: Plan, report: Report, digest: str) -> None:
    total, done = plan.size, 0
    report(done, total)
    for batch in plan.batches:
        await _write(writer, batch, digest)
        done += batch.size
        report(done, total)
    if _needs_end(plan):
        async with writer.write(shared=True) as write:
            write.record("facts.seeded", file=digest, rows={})


def _needs_end(plan: Plan) -> bool:
    """Say whether what all tenants share must move once more, so that one token names all that was written.

    A token holds the revision of one tenant at most. But a state in which `g` moved last is seen by nobody who does not
    see all that was written before it, in whichever tenant.
    """
    tenants = {batch.tenant for batch in plan.batches} - {SHARED}
    return len(tenants) > 1 and not (plan.batches[-1].tenant == SHARED or plan.batches[-1].is_shared)


async def _write(writer: Writer, batch: Batch, digest: str) -> None:
    """Do one transaction."""

    async def work(write: Write) -> None:
        await _put(write, batch)
        counts = Counter(item.kind.table.name for item in batch.items)
        theirs = _links_into(batch)
        own = [stream for stream in write.streams if stream not in theirs]
        write.record("facts.seeded", *own, file=digest, rows=dict(sorted(counts.items())))
        for stream, number in sorted(theirs.items()):
            write.record("facts.seeded", stream, file=digest, home=batch.tenant, rows={LINKS.table.name: number})

    if batch.begins:
        async with writer.write(tenant=batch.tenant, making=True) as write:
            await _begin(write, batch)
            await work(write)
    elif batch.tenant == SHARED:
        async with writer.write(shared=True) as write:
            await work(write)
    else:
        await writer.run(work, tenant=batch.tenant, shared=batch.is_shared, others=batch.others)


def _links_into(batch: Batch) -> Counter[str]:
    """Count what each other tenant's log must tell, and no more than that: the links that lead into it."""
    return Counter(stream_of(item.key[3]) for item in batch.items if item.kind is LINKS)


#: What `_begin` writes of a tenant.
_MAKING: Final = (TENANTS, PROFILES)


async def _begin(write: Write, batch: Batch) -> None:
    """Make the tenant of a batch; the one of a policy without tenants has no row, only a stream."""
    made = {item.kind: item.rows[0] for item in batch.items if item.kind in _MAKING}
    if not made:
        await write.begin_stream(batch.tenant)
        return
    (status,), (attributes,) = made[TENANTS], made[PROFILES]
    try:
        await tenant_writes.make(write, status=str(status), attributes=json.loads(str(attributes)))
    except RefusedError as error:
        raise overtaken() from error


async def _put(write: Write, batch: Batch) -> None:
    for kind, items in groupby(batch.items, key=lambda item: item.kind):
        if batch.begins and kind in _MAKING:
            continue
        listed = list(items)
        await put(write, kind, {item.key: item.rows for item in listed}, {i.key for i in listed if i.before is None})


# --- the state that was made ----------------------------------------------------------------------------


async def _token(database: Database, tenant: str | None) -> Token:
    """Name the state of the store as it is now."""
    wanted = [GLOBAL, POLICIES, *([] if tenant is None else [stream_of(tenant)])]
    async with database.reading() as connection:
        line = await read_line(connection)
        rows = await connection.execute(select(revisions.c.stream, revisions.c.n).where(revisions.c.stream.in_(wanted)))
        at = {row.stream: row.n for row in rows}
    if tenant is None:
        return Token(line, at[POLICIES], at[GLOBAL])
    return Token(line, at[POLICIES], at[GLOBAL], tenant_digest(tenant), at.get(stream_of(tenant), 0))
