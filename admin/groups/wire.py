"""Groups on the wire: a tenant's, and those of the platform."""

from __future__ import annotations

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Attributes, Id, Ref, Shape, Time


class NewGroup(Shape):
    """A group to be made. Its name is given once, for all tenants and the platform."""

    id: Id = Field(examples=["staff"])
    attributes: Attributes = Field(default_factory=dict)


class GroupChange(Shape):
    """What of a group is to be otherwise."""

    attributes: Attributes = Field(description="these, in the place of all that it had")


class Group(Shape):
    """A group; `inside`: the groups in which it stands."""

    id: str
    attributes: Attributes
    inside: list[str]


class ListedGroup(Shape):
    """A group in a list."""

    id: str


class GroupQuery(PageQuery):
    """Which of them."""

    prefix: str | None = Field(default=None, max_length=256, description="of the name")


class NewMember(Shape):
    """Somebody to be put into a group: a user, a service, or another group."""

    subject: Ref
    starts: Time | None = None
    expires: Time | None = None


class Member(Shape):
    """Somebody in a group; his id is his reference."""

    id: str
    subject: str
    starts: str | None = None
    expires: str | None = None
