"""Memberships on the wire: who is in a tenant, as what, and when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Ref, Shape, Time

Status = Literal["active", "guest", "suspended"]


class NewMembership(Shape):
    """A membership to be made; of one who is a member already it is said anew."""

    subject: Ref = Field(description="a user or a service")
    status: Status = "active"
    starts: Time | None = None
    expires: Time | None = None


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


class MembershipQuery(PageQuery):
    """Which of them."""

    status: Status | None = None
    type: Literal["user", "service"] | None = None
