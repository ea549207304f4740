"""Rules of memberships. Nothing here commits."""

from __future__ import annotations

from admin.errors import not_found
from admin.memberships import repository
from admin.memberships.wire import Membership, MembershipChange, NewMembership
from admin.repository import Found
from admin.wire import nanoseconds, shown_time
from engine.assign_changes import SetMembership
from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.database import Connection
from store.times import read_end, read_start
from store.writes import memberships


def shown(row: Found) -> Membership:
    """Show a row."""
    ref = f"{row.type}:{row.id}"
    starts, expires = shown_time(read_start(row.starts)), shown_time(read_end(row.expires))
    return Membership(id=ref, subject=ref, status=row.status, starts=starts, expires=expires)


async def read(connection: Connection, tenant: str, ref: str) -> Membership:
    """Read one.

    Raises:
        PublicError: there is none.
    """
    kind, _, identity = ref.partition(":")
    row = await repository.read(connection, tenant, kind, identity)
    if row is None:
        raise not_found(f"membership of `{ref}` in `{tenant}`")
    return shown(row)


async def put(write: Write, ref: str, wanted: NewMembership) -> None:
    """Make a principal a member, or say anew as what."""
    starts, expires = nanoseconds(wanted.starts, ALWAYS), nanoseconds(wanted.expires, NEVER)
    await memberships.put(write, ref, wanted.status, starts=starts, expires=expires)


def change_of(ref: str, wanted: NewMembership) -> SetMembership:
    """Say what the rules are asked about."""
    starts, expires = nanoseconds(wanted.starts, ALWAYS), nanoseconds(wanted.expires, NEVER)
    return SetMembership(ref, wanted.status, starts, expires)


def merged(now: Membership, wanted: MembershipChange) -> NewMembership:
    """Say what a membership will be."""
    said = wanted.model_dump(mode="json", exclude_unset=True)  # a time is read as text alone
    if wanted.status is None:  # no time is a time without end, but no status is none that was said
        said.pop("status", None)
    return NewMembership.model_validate(now.model_dump(exclude={"id"}) | said)
