"""Users and services on the wire. They are of the platform: in a tenant one is a member."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Attributes, Id, Shape

Status = Literal["active", "suspended", "deleted"]


class NewPrincipal(Shape):
    """A user or a service to be made."""

    id: Id | None = Field(default=None, description="chosen once and for ever; without it one is made")
    status: Literal["active", "suspended"] = "active"
    attributes: Attributes = Field(default_factory=dict)


class PrincipalChange(Shape):
    """What of him is to be otherwise; what is not said stays as it is."""

    status: Literal["active", "suspended"] | None = Field(
        default=None, description="`suspended` takes all tokens back that were issued until now"
    )
    attributes: Attributes | None = Field(default=None, description="these, in the place of all that he had")


class Principal(Shape):
    """A user or a service."""

    id: str
    status: Status
    attributes: Attributes


class ListedPrincipal(Shape):
    """One in a list."""

    id: str
    status: Status


class PrincipalQuery(PageQuery):
    """Which of them."""

    status: Status | None = Field(default=None, description="without it all but those that are deleted")
    prefix: str | None = Field(default=None, max_length=256, description="of the id")
    sort: Literal["id", "-id"] = Field(default="id", description="`-`: from the end")
