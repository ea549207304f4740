"""Assignments on the wire: who holds which role where, and when. On `system` they are the platform's."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from pydantic import Field

from admin.errors import not_found
from admin.paging import PageQuery
from admin.wire import Role, Shape, Subject, Time


class NewAssignment(Shape):
    """An assignment to be made; the same one with other times replaces it."""

    subject: Subject
    role: Role
    on: str = Field(min_length=1, max_length=512, examples=["project:p1"])
    starts: Time | None = None
    expires: Time | None = None


class Assignment(Shape):
    """An assignment."""

    id: str
    subject: str
    role: str
    on: str
    starts: str | None = None
    expires: str | None = None


class AssignmentQuery(PageQuery):
    """Which of them: by who holds, by what is held, or by where."""

    subject: Subject | None = None
    role: Role | None = None
    on: str | None = Field(default=None, max_length=512)


class Named(NamedTuple):
    """What an assignment's id names. `starts` is as the column has it."""

    subject: str
    role: str
    on: str
    starts: str


def write_id(named: Named) -> str:
    """Write an assignment's id."""
    said = json.dumps(named, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def read_id(text: str) -> Named:
    """Read an assignment's id.

    Raises:
        PublicError: it names none.
    """
    try:
        said = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error) as error:
        raise not_found("assignment of that id") from error
    if not isinstance(said, list) or len(said) != len(Named._fields) or not all(isinstance(one, str) for one in said):
        raise not_found("assignment of that id")
    return Named(*said)
