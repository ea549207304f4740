"""Approvals: changes that wait for a second person (stream t).

A policy may let a role be given only once another one has agreed. What is to be done is kept as it was asked for, as
canonical JSON, which only callers read; whom it gives which role where stands beside it, since what is pending counts
against a bound on that role.

INVARIANT: of all that decide, withdraw or come too late exactly one ends a request: all of them look under the lock of
the tenant's write. Whoever approves does what was asked for in that same write, after looking again at who may.

Who asked never decides, nor does who is to get the role: this much holds whatever a policy says. Who else may is for
callers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.errors import RefusedError
from store.ids import new_id
from store.tables import approvals
from store.times import read_time, write_time
from store.writes import circumstances
from store.writes.attributes import canonical
from store.writes.removal import written
from store.writes.rows import add, change, where
from store.writes.standing import place_of, refuse_absent, want_place, want_role, want_subject

#: How long a request waits.
OPEN_NS: Final = 7 * 86_400 * 1_000_000_000
APPROVED, REFUSED, WITHDRAWN = "approved", "refused", "withdrawn"


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval.

    Args:
        what: what is to be done.
        said: how it was asked for, as `ask` was told; None: nothing was, or nobody need judge any more.
        place: on which the subject is to hold the role.
        outcome: `approved`, `refused`, `withdrawn`; None: nobody decided.
    """

    id: str
    what: Mapping[str, Any]
    subject: str
    role: str
    place: str
    requested_by: str
    requested_at: int
    expires: int
    decided_by: str | None
    decided_at: int | None
    outcome: str | None
    said: str | None = None

    def is_pending(self, now: int) -> bool:
        """Say whether it can still be decided."""
        return self.outcome is None and now < self.expires


async def ask(
    write: Write,
    what: Mapping[str, Any],
    *,
    subject: str,
    role: str,
    place: str,
    identity: str | None = None,
    said: str | None = None,
) -> str:
    """Ask for approval of a change in the write's tenant, which gives a subject a role on a place; return its id.

    Args:
        identity: of the request, from `new_id`; None: one is made.
        said: how it is asked for, as `circumstances` keeps it until it is decided.
    """
    who, where_to = await want_subject(write, subject), await want_place(write, place)
    await want_role(write, role, where_to[0])
    identity = identity or new_id(lambda: write.now)
    await circumstances.keep(write, circumstances.APPROVAL, identity, said)
    await add(
        write,
        approvals,
        tenant_id=write.owner,
        id=identity,
        change=canonical(what),
        subject_type=who[0],
        subject_id=who[1],
        place_type=where_to[0],
        place_id=where_to[1],
        role=role,
        requested_by=write.actor,
        requested_at=write_time(write.now),
        expires=write_time(write.now + OPEN_NS),
    )
    write.record("approval.asked", approval=identity, subject=subject, role=role, on=place, tenant=write.owner)
    return identity


async def decide(write: Write, identity: str, *, is_approved: bool) -> Approval:
    """Decide a request that is pending, as the write's actor; return it as it is then."""
    approval = await _pending(write, identity)
    if write.actor in (approval.requested_by, approval.subject):
        raise RefusedError("not_self", "who asked for it, or is to get the role, cannot decide: somebody else must")
    return await _end(write, approval, APPROVED if is_approved else REFUSED)


async def withdraw(write: Write, identity: str) -> None:
    """Take back a request that is pending."""
    await _end(write, await _pending(write, identity), WITHDRAWN)


async def count_pending(connection: AsyncConnection, tenant: str, role: str, place: str, *, now: int) -> int:
    """Count what would give a role on a place, were it approved. Within a write, on its connection, it stays true."""
    kind, identity = place_of(place)
    own = where(approvals, tenant_id=tenant, place_type=kind, place_id=identity, role=role, outcome=None)
    found = await connection.execute(
        select(func.count()).select_from(approvals).where(own, approvals.c.expires > write_time(now))
    )
    return int(found.scalar_one())


async def read(connection: AsyncConnection, tenant: str, identity: str) -> Approval | None:
    """Read a request; the connection is of that tenant."""
    found = await connection.execute(select(approvals).where(where(approvals, tenant_id=tenant, id=identity)))
    row = found.one_or_none()
    if row is None:
        return None
    said = await circumstances.read(connection, tenant, circumstances.APPROVAL, identity)
    return replace(approval_of(row), said=said)


async def read_page(connection: AsyncConnection, tenant: str, *, after: str = "", limit: int) -> tuple[Approval, ...]:
    """List requests in the order in which they were made, from behind an id; the connection is of that tenant."""
    behind = where(approvals, tenant_id=tenant) & (approvals.c.id > after)
    found = await connection.execute(select(approvals).where(behind).order_by(approvals.c.id).limit(limit))
    return tuple(approval_of(row) for row in found)


async def _pending(write: Write, identity: str) -> Approval:
    approval = await read(write.connection, write.owner, identity)
    if approval is None:
        raise refuse_absent("such request for approval")
    if not approval.is_pending(write.now):
        how = "was not decided in time: ask anew" if approval.outcome is None else f"was {approval.outcome} before"
        raise RefusedError("over", f"this request {how}")
    return approval


async def _end(write: Write, approval: Approval, outcome: str) -> Approval:
    own = where(approvals, tenant_id=write.owner, id=approval.id)
    decided = {"decided_by": write.actor, "decided_at": write_time(write.now)}
    await change(write, approvals, own, outcome=outcome, **decided)
    await circumstances.forget(write, circumstances.APPROVAL, approval.id)
    write.record(f"approval.{outcome}", approval=approval.id, tenant=write.owner)
    return replace(approval, decided_by=write.actor, decided_at=write.now, outcome=outcome)


def approval_of(row: Row[Any]) -> Approval:
    """Read a row, without how it was asked for."""
    return Approval(
        row.id,
        json.loads(row.change),
        written((row.subject_type, row.subject_id)),
        row.role,
        f"{row.place_type}:{row.place_id}",
        row.requested_by,
        read_time(row.requested_at),
        read_time(row.expires),
        row.decided_by,
        None if row.decided_at is None else read_time(row.decided_at),
        row.outcome,
    )
