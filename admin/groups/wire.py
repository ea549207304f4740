"""Groups on the wire: a tenant's, and those of the platform."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.trees import DEFAULT_DEPTH, MAX_DEPTH
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
    """Which of them, in which order, and whether with all that is in them."""

    prefix: str | None = Field(default=None, max_length=256, description="of the name")
    member: Ref | None = Field(default=None, description="those in which a user, a service or a group itself is")
    inside: Id | None = Field(default=None, description="those that stand in this group itself")
    sort: Literal["id", "-id"] = Field(default="id", description="`-`: from the end")
    view: Literal["list", "tree"] = Field(
        default="list",
        description="`tree`: each with the groups in it; where nothing else is said, those that stand in none",
    )
    depth: int = Field(default=DEFAULT_DEPTH, ge=1, le=MAX_DEPTH, description="of a tree, in levels")


class MemberQuery(PageQuery):
    """Which members, and in which order."""

    type: Literal["user", "service", "group"] | None = None
    sort: Literal["subject", "-subject"] = Field(default="subject", description="`-`: from the end")


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
