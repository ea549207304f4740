"""Invitations: somebody is to become a member of a tenant, with roles, and is known by an address alone until he does
(stream t).

Who was sent the token may accept, once, until the invitation is over. Of the token its digest is stored. It does not
say of which tenant it is: `invitation_tokens` does, for all tenants, and knows nothing else, so that the rows
themselves stay behind the wall. Both are seen under the lock of the tenant's write: of two who accept one comes second.

The address is opaque here: it comes encrypted, and with an index by which it can be found. It is forgotten as soon as
nobody need write to it any more, when the invitation is accepted or withdrawn.

To accept notes who did. Making him a member, and giving him the roles, is for callers to do in the same write: they
know the policy, which says whether he who invited may still give them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import NEVER
from store.changes import Write
from store.errors import RefusedError
from store.ids import new_id
from store.keys import check_digest
from store.tables import invitation_tokens, invitations, principals
from store.times import read_time, write_time
from store.writes import circumstances
from store.writes.attributes import canonical
from store.writes.rows import add, change, find, has, remove, where
from store.writes.standing import refuse_absent, want_place, want_principal, want_role

#: As what somebody may be invited.
STATUSES: Final = ("active", "guest")
#: How long an invitation is open if nothing else is said.
OPEN_NS: Final = 7 * 86_400 * 1_000_000_000
#: So many roles an invitation may give.
MAX_ROLES: Final = 100

Roles = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as it is stored.

    Args:
        email: the address, encrypted; None once it is forgotten.
        roles: pairs of a role and the place on which it is to be held.
        status: as what he is to be a member.
        said: how he was invited, as `make` was told; None: nothing was, or nobody need judge any more.
    """

    id: str
    tenant: str
    email: str | None
    roles: Roles
    status: str
    invited_by: str
    made: int
    expires: int
    accepted_at: int | None
    accepted_by: str | None
    withdrawn_at: int | None
    said: str | None = None

    def is_open(self, now: int) -> bool:
        """Say whether it can still be accepted."""
        return self.accepted_at is None and self.withdrawn_at is None and now < self.expires


@asynccontextmanager
async def somebody(write: Write) -> AsyncIterator[str]:
    """Show, within a block, a user as the invited will be: known, and nothing else. With the block he is gone, and
    nobody else ever saw him; so a promise to one who is not known yet can be judged like a gift."""
    identity = new_id()
    trial = await write.connection.begin_nested()
    try:
        await add(write, principals, type="user", id=identity, status="active", attributes=canonical(None))
        yield f"user:{identity}"
    finally:
        await trial.rollback()


async def make(
    write: Write,
    *,
    token_digest: str,
    email: str | None = None,
    email_index: str | None = None,
    identity: str | None = None,
    roles: Iterable[tuple[str, str]] = (),
    status: str = "active",
    expires: int | None = None,
    said: str | None = None,
) -> str:
    """Invite somebody into the write's tenant; return the invitation's id.

    Args:
        email: his address, encrypted; None: none is known.
        identity: of the invitation, from `new_id`; None: one is made.
        roles: pairs of a role and a place of the tenant.
        expires: until when he may accept; None: for seven days.
        said: how he is invited, as `circumstances` keeps it until the invitation is closed.
    """
    if status not in STATUSES:
        raise RefusedError("bad_status", f"one is invited as {' or '.join(STATUSES)}")
    until = write.now + OPEN_NS if expires is None else expires
    if not write.now < until < NEVER:
        raise RefusedError("bad_times", "an invitation is open until a time that is to come")
    digest = check_digest(token_digest, "an invitation's token")
    if await has(write, invitation_tokens, where(invitation_tokens, digest=digest)):
        raise RefusedError("taken", "this token is that of another invitation: make a new one")
    listed = await _roles(write, roles)
    identity = identity or new_id(lambda: write.now)
    times = {"made": write_time(write.now), "expires": write_time(until)}
    row = {"id": identity, "digest": digest, "status": status, "roles": json.dumps(listed, ensure_ascii=False)}
    whom = {"email": email, "email_index": email_index, "invited_by": write.actor}
    await add(write, invitations, tenant_id=write.owner, **row, **whom, **times)
    await add(write, invitation_tokens, digest=digest, tenant_id=write.owner)
    await circumstances.keep(write, circumstances.INVITATION, identity, said)
    told = {"status": status, "roles": listed, "expires": times["expires"], "tenant": write.owner}
    write.record("invitation.made", invitation=identity, **told)
    return identity


async def accept(write: Write, token_digest: str, ref: str) -> Invitation:
    """Note that a principal, `"user:ann"`, accepts; return the invitation as it was, with the address."""
    await want_principal(write, ref)
    row = await find(write, invitations, tenant_id=write.owner, digest=token_digest)
    if row is None:
        raise refuse_absent("invitation by this token")
    invitation = invitation_of(row)
    _refuse_closed(invitation)
    if write.now >= invitation.expires:
        raise RefusedError("over", "the invitation's time is over: ask for a new one")
    said = await circumstances.read(write.connection, write.owner, circumstances.INVITATION, row.id)
    await _close(write, row, accepted_at=write_time(write.now), accepted_by=ref)
    write.record("invitation.accepted", invitation=row.id, principal=ref, tenant=write.owner)
    return replace(invitation, said=said)


async def withdraw(write: Write, identity: str) -> None:
    """Take an invitation back that nobody accepted; one whose time is over, too, so that its address is forgotten."""
    row = await find(write, invitations, tenant_id=write.owner, id=identity)
    if row is None:
        raise refuse_absent("such invitation")
    _refuse_closed(invitation_of(row))
    await _close(write, row, withdrawn_at=write_time(write.now))
    write.record("invitation.withdrawn", invitation=identity, tenant=write.owner)


async def tenant_of_token(connection: AsyncConnection, token_digest: str) -> str | None:
    """Say into which tenant a token invites; None: into none, or not any more."""
    found = await connection.execute(
        select(invitation_tokens.c.tenant_id).where(invitation_tokens.c.digest == token_digest)
    )
    return found.scalar_one_or_none()


async def find_by_digest(connection: AsyncConnection, tenant: str, token_digest: str) -> Invitation | None:
    """Find an invitation by its token's digest, though it may be over; the connection is of that tenant."""
    own = where(invitations, tenant_id=tenant, digest=token_digest)
    found = await connection.execute(select(invitations).where(own))
    row = found.one_or_none()
    return None if row is None else invitation_of(row)


async def read_page(connection: AsyncConnection, tenant: str, *, after: str = "", limit: int) -> tuple[Invitation, ...]:
    """List invitations in the order in which they were made, from behind an id."""
    behind = where(invitations, tenant_id=tenant) & (invitations.c.id > after)
    found = await connection.execute(select(invitations).where(behind).order_by(invitations.c.id).limit(limit))
    return tuple(invitation_of(row) for row in found)


async def _close(write: Write, row: Row[Any], **how: str) -> None:
    """Close an invitation: its token leads nowhere, and its address is forgotten, and how it was made."""
    own = where(invitations, tenant_id=write.owner, id=row.id)
    await change(write, invitations, own, email=None, email_index=None, **how)
    await circumstances.forget(write, circumstances.INVITATION, row.id)
    await remove(write, invitation_tokens, where(invitation_tokens, digest=row.digest, tenant_id=write.owner))


def _refuse_closed(invitation: Invitation) -> None:
    if invitation.accepted_at is not None:
        raise RefusedError("over", "the invitation was accepted before")
    if invitation.withdrawn_at is not None:
        raise RefusedError("over", "the invitation was withdrawn")


async def _roles(write: Write, named: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the roles as they are stored.

    Raises:
        RefusedError: a place or a role is not there, or there are too many.
    """
    pairs = list(dict.fromkeys(named))
    if len(pairs) > MAX_ROLES:
        raise RefusedError("too_many", f"an invitation gives at most {MAX_ROLES} roles")
    for role, place in pairs:
        kind, _ = await want_place(write, place)
        await want_role(write, role, kind)
    return [{"role": role, "on": place} for role, place in pairs]


def invitation_of(row: Row[Any]) -> Invitation:
    """Read a row."""
    return Invitation(
        row.id,
        row.tenant_id,
        row.email,
        tuple((each["role"], each["on"]) for each in json.loads(row.roles)),
        row.status,
        row.invited_by,
        read_time(row.made),
        read_time(row.expires),
        None if row.accepted_at is None else read_time(row.accepted_at),
        row.accepted_by,
        None if row.withdrawn_at is None else read_time(row.withdrawn_at),
    )
