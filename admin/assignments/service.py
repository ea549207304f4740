"""Rules of assignments. Nothing here commits."""

from __future__ import annotations

from typing import NamedTuple

from admin.assignments.wire import Assignment, Named, NewAssignment, write_id
from admin.errors import bad_request
from admin.fits import place_of, principal_of, role_of, subject_of
from admin.repository import Found
from admin.wire import nanoseconds, shown_time
from engine.facts import ALWAYS, ANYONE, NEVER
from engine.model import SYSTEM, Model
from store.changes import Write
from store.times import read_end, read_start, write_end, write_start
from store.writes import assignments

SYSTEM_PLACE = f"{SYSTEM}:{SYSTEM}"


class Given(NamedTuple):
    """What is to be given, in the words in which it is stored."""

    subject: str
    role: str
    on: str
    starts: int
    expires: int

    @property
    def shown(self) -> Assignment:
        named = Named(self.subject, self.role, self.on, write_start(self.starts))
        return _shown(named, write_end(self.expires))


def read_new(model: Model, tenant: str | None, new: NewAssignment) -> Given:
    """Read what is to be given; `tenant` None: on `system`.

    Raises:
        PublicError: the policy knows no such role, place or holder.
    """
    times = nanoseconds(new.starts, ALWAYS), nanoseconds(new.expires, NEVER)
    if tenant is None:
        if new.on not in (SYSTEM, SYSTEM_PLACE):
            raise bad_request("not as it must be: body.on", {"body.on": "`system`; what is a tenant's is given there"})
        subject = principal_of(model, new.subject, "body.subject")
        return Given(subject, role_of(model, new.role, SYSTEM_PLACE, "body.role"), SYSTEM, *times)
    place = place_of(model, new.on, tenant, "body.on")
    subject = subject_of(model, new.subject, "body.subject")
    return Given(subject, role_of(model, new.role, place, "body.role"), place, *times)


async def give_system(write: Write, given: Given) -> None:
    """Give a role over all tenants."""
    await assignments.give_system(write, given.subject, given.role, starts=given.starts, expires=given.expires)


def shown(row: Found) -> Assignment:
    """Show a row of a tenant."""
    subject = ANYONE if row.subject_type == ANYONE else f"{row.subject_type}:{row.subject_id}"
    return _shown(Named(subject, row.role, f"{row.place_type}:{row.place_id}", row.starts), row.expires)


def shown_system(row: Found) -> Assignment:
    """Show a row of the platform."""
    return _shown(Named(f"{row.type}:{row.id}", row.role, SYSTEM, row.starts), row.expires)


def _shown(named: Named, expires: str | None) -> Assignment:
    return Assignment(
        id=write_id(named),
        subject=named.subject,
        role=named.role,
        on=named.on,
        starts=shown_time(read_start(named.starts)),
        expires=shown_time(read_end(expires)),
    )
