"""Tenants on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Attributes, Id, Shape

Status = Literal["active", "suspended", "deleted"]


class NewTenant(Shape):
    """A tenant to be made."""

    id: Id | None = Field(default=None, description="chosen once and for ever; without it one is made")
    status: Literal["active", "suspended"] = "active"
    attributes: Attributes = Field(default_factory=dict)


class TenantChange(Shape):
    """What of a tenant is to be otherwise; what is not said stays as it is."""

    status: Literal["active", "suspended"] | None = None
    attributes: Attributes | None = Field(default=None, description="these, in the place of all that it had")


class Tenant(Shape):
    """A tenant."""

    id: str
    status: Status
    attributes: Attributes


class ListedTenant(Shape):
    """A tenant in a list."""

    id: str
    status: Status


class TenantQuery(PageQuery):
    """Which tenants, and in which order."""

    status: Status | None = Field(default=None, description="without it all but those that are deleted")
    prefix: str | None = Field(default=None, max_length=256, description="of the id")
    sort: Literal["id", "-id"] = Field(default="id", description="`-`: from the end")
