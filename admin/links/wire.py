"""Links on the wire: roles over the wall, held in a tenant by a member of another."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from pydantic import Field

from admin.errors import not_found
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


class Named(NamedTuple):
    """What a link's id names. `starts` is as the column has it."""

    subject: str
    home: str
    role: str
    on: str
    starts: str


def write_id(named: Named) -> str:
    """Write a link's id."""
    said = json.dumps(named, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def read_id(text: str) -> Named:
    """Read a link's id.

    Raises:
        PublicError: it names none.
    """
    try:
        said = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error) as error:
        raise not_found("link of that id") from error
    if not isinstance(said, list) or len(said) != len(Named._fields) or not all(isinstance(one, str) for one in said):
        raise not_found("link of that id")
    return Named(*said)
