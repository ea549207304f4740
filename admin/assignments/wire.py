"""Assignments on the wire: who holds which role where, and when. On `system` they are the platform's."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, Tag

from admin.bulk import MAX_ITEMS, told_apart
from admin.errors import not_found
from admin.opaque import read_opaque, write_opaque
from admin.paging import MAX_CURSOR, EndingQuery, PageQuery
from admin.wire import Role, Shape, Subject, Time


class NewAssignment(Shape):
    """An assignment to be made; the same one with other times replaces it."""

    subject: Subject
    role: Role
    on: str = Field(min_length=1, max_length=512, examples=["project:p1"])
    starts: Time | None = None
    expires: Time | None = None


class MakeAssignment(NewAssignment):
    """One of many: to be made."""

    op: Literal["make"] = "make"


class DeleteAssignment(Shape):
    """One of many: to be taken away."""

    op: Literal["delete"]
    id: str = Field(min_length=1, max_length=MAX_CURSOR)


AssignmentItem = Annotated[
    Annotated[MakeAssignment, Tag("(make)")] | Annotated[DeleteAssignment, Tag("(delete)")],
    told_apart("make", "delete"),
]


class BulkAssignments(Shape):
    """Many assignments to be made or taken away, one after the other."""

    items: list[AssignmentItem] = Field(min_length=1, max_length=MAX_ITEMS)


class Assignment(Shape):
    """An assignment."""

    id: str
    subject: str
    role: str
    on: str
    starts: str | None = None
    expires: str | None = None


class AssignmentQuery(EndingQuery):
    """Which of them: by who holds, by what is held, or by where; and in which order."""

    subject: Subject | None = None
    role: Role | None = None
    on: str | None = Field(default=None, min_length=1, max_length=512, examples=["project:p1"])


class SystemAssignmentQuery(PageQuery):
    """Which of those on `system`, and in which order."""

    subject: Subject | None = None
    role: Role | None = None
    sort: Literal["subject", "-subject"] = Field(default="subject", description="`-`: from the end")


class Named(NamedTuple):
    """What an assignment's id names. `starts` is as the column has it."""

    subject: str
    role: str
    on: str
    starts: str


def write_id(named: Named) -> str:
    """Write an assignment's id."""
    return write_opaque(named)


def read_id(text: str) -> Named:
    """Read an assignment's id.

    Raises:
        PublicError: it names none.
    """
    said = read_opaque(text, (str,) * len(Named._fields))
    if said is None:
        raise not_found("assignment of that id")
    return Named(*said)
