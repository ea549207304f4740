"""Links on the wire: roles over the wall, held in a tenant by a member of another."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from admin.errors import not_found
from admin.opaque import read_opaque, write_opaque
from admin.paging import EndingQuery
from admin.wire import Id, Ref, Role, Shape, Time


class NewLink(Shape):
    """A link to be made."""

    subject: Ref
    home: Id = Field(description="the tenant of which the subject is a member")
    role: Role
    on: Ref
    starts: Time | None = None
    expires: Time | None = None


class Link(Shape):
    """A link into the tenant."""

    id: str
    subject: str
    home: str
    role: str
    on: str
    starts: str | None = None
    expires: str | None = None


class LinkQuery(EndingQuery):
    """Which of them, and in which order."""

    subject: Ref | None = None
    home: Id | None = Field(default=None, description="the tenant from which they come")
    role: Role | None = None
    on: Ref | None = None


class Named(NamedTuple):
    """What a link's id names. `starts` is as the column has it."""

    subject: str
    home: str
    role: str
    on: str
    starts: str


def write_id(named: Named) -> str:
    """Write a link's id."""
    return write_opaque(named)


def read_id(text: str) -> Named:
    """Read a link's id.

    Raises:
        PublicError: it names none.
    """
    said = read_opaque(text, (str,) * len(Named._fields))
    if said is None:
        raise not_found("link of that id")
    return Named(*said)
