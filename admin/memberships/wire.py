"""Memberships on the wire: who is in a tenant, as what, and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from admin.bulk import MAX_ITEMS, told_apart
from admin.paging import EndingQuery
from admin.wire import Ref, Shape, Time

Status = Literal["active", "guest", "suspended"]


class NewMembership(Shape):
    """A membership to be made; of one who is a member already it is said anew."""

    subject: Ref = Field(description="a user or a service")
    status: Status = "active"
    starts: Time | None = None
    expires: Time | None = None


class MakeMembership(NewMembership):
    """One of many: to be made, or said anew."""

    op: Literal["make"] = "make"


class DeleteMembership(Shape):
    """One of many: to be ended."""

    op: Literal["delete"]
    subject: Ref


MembershipItem = Annotated[
    Annotated[MakeMembership, Tag("(make)")] | Annotated[DeleteMembership, Tag("(delete)")],
    told_apart("make", "delete"),
]


class BulkMemberships(Shape):
    """Many memberships to be made or ended, one after the other."""

    items: list[MembershipItem] = Field(min_length=1, max_length=MAX_ITEMS)


class MembershipChange(Shape):
    """What of a membership is to be otherwise; what is not said stays as it is."""

    status: Status | None = None
    starts: Time | None = None
    expires: Time | None = None


class Membership(Shape):
    """A membership; its id is its subject."""

    id: str
    subject: str
    status: Status
    starts: str | None = None
    expires: str | None = None


class MembershipQuery(EndingQuery):
    """Which of them, and in which order."""

    status: Status | None = None
    type: Literal["user", "service"] | None = None
