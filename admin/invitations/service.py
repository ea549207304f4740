"""Rules of invitations. Nothing here commits.

An invitation is a promise of whoever makes it, so it is worth what he may give: looked at when it is made, of somebody
who is not known yet, and again when it is accepted. What he may not give any more by then is not given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from admin import circumstances
from admin.actors import Key
from admin.changes import asker_of
from admin.endpoint import Ask
from admin.errors import PublicError
from admin.fits import place_of, role_of
from admin.invitations.wire import Invitation, NewInvitation, Offered
from admin.wire import shown_time
from engine.assign_changes import Actor, GiveRole, SetMembership
from engine.model import Model
from store.changes import Write
from store.writes import assignments, memberships, principals, tenants
from store.writes.circumstances import INVITATION
from store.writes.invitations import Invitation as Stored

Pairs = tuple[tuple[str, str], ...]


def pairs_of(model: Model, tenant: str, new: NewInvitation) -> Pairs:
    """Read which roles are promised, as they are stored.

    Raises:
        PublicError: the policy knows no such role or place.
    """
    found = []
    for index, each in enumerate(new.roles):
        place = place_of(model, each.on, tenant, f"body.roles[{index}].on")
        found.append((role_of(model, each.role, place, f"body.roles[{index}].role"), place))
    return tuple(found)


def changes_of(ref: str, status: str, roles: Pairs) -> Iterator[SetMembership | GiveRole]:
    """Say what it takes that somebody is a member with these roles."""
    yield SetMembership(ref, "guest" if status == "guest" else "active")
    for role, place in roles:
        yield GiveRole(ref, role, place)


def circumstances_of(ask: Ask, identity: str) -> str | None:
    """Write down how an end user makes an invitation: an `assign` that reads the context is to hold as it did then."""
    if isinstance(ask.actor, Key):
        return None
    actor = asker_of(ask, ask.actor, ask.services.policy().model)
    return circumstances.written(ask.services.ring, actor, circumstances.place_of(ask.tenant, INVITATION, identity))


def giver_of(ask: Ask, stored: Stored) -> Actor:
    """Say who made an invitation, and how.

    Raises:
        PublicError: that cannot be read any more.
    """
    place = circumstances.place_of(stored.tenant, INVITATION, stored.id)
    return circumstances.read_actor(ask.services.ring, stored.invited_by, stored.said, place)


async def want_open(write: Write) -> None:
    """Refuse to let anybody into a tenant that is not active. Its invitations stay open as long as they say.

    Raises:
        PublicError: it is not.
    """
    status = await tenants.status_of(write.connection, write.owner)
    if status != "active":
        raise PublicError(409, "not_active", f"the tenant into which this invites is {status}, and lets nobody in")


async def needed(write: Write, ref: str, stored: Stored) -> tuple[SetMembership | GiveRole, ...]:
    """Say what accepting changes: a member's membership stays as it is, so nobody need be able to give it."""
    changes = tuple(changes_of(ref, stored.status, stored.roles))
    return changes[1:] if await memberships.is_there(write.connection, write.owner, ref) else changes


async def introduce(write: Write, ref: str) -> None:
    """Make the invited known, if he is not: nobody may give anything to one of whom nothing is known."""
    if not await principals.is_stored(write.connection, ref):
        await principals.make(write, ref)


async def welcome(write: Write, ref: str, stored: Stored) -> None:
    """Make the invited what he was promised. A member stays what he is, and gets the roles."""
    if not await memberships.is_there(write.connection, write.owner, ref):
        await memberships.put(write, ref, stored.status)
    for role, place in stored.roles:
        await assignments.give(write, ref, role, place)


def shown(stored: Stored, email: str | None) -> Invitation:
    """Show one; `email` as it reads."""
    return Invitation(
        id=stored.id,
        email=email,
        status="guest" if stored.status == "guest" else "active",
        roles=offered(stored.roles),
        invited_by=stored.invited_by,
        made=shown_time(stored.made) or "",
        expires=shown_time(stored.expires) or "",
        accepted_at=_time(stored.accepted_at),
        accepted_by=stored.accepted_by,
        withdrawn_at=_time(stored.withdrawn_at),
    )


def offered(roles: Iterable[tuple[str, str]]) -> list[Offered]:
    """Show roles."""
    return [Offered(role=role, on=place) for role, place in roles]


def _time(moment: int | None) -> str | None:
    return None if moment is None else shown_time(moment)
