"""Roles of a tenant's own, on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Id, Shape

Patterns = list[str]


class NewCustomRole(Shape):
    """A role to be made."""

    name: Id = Field(examples=["helper"])
    on: Id = Field(description="the type of the places on which it is held", examples=["organization"])
    can: Patterns = Field(min_length=1, max_length=200, examples=[["task.read", "task.update"]])


class CustomRoleChange(Shape):
    """What it can from now on."""

    can: Patterns = Field(min_length=1, max_length=200)


class CustomRole(Shape):
    """A role of the tenant's own; it is held as `custom.NAME`."""

    id: str
    name: str
    on: str
    can: Patterns


class CustomRoleQuery(PageQuery):
    """Which of them, and in which order."""

    on: Id | None = Field(default=None, description="the type of the places on which they are held")
    prefix: str | None = Field(default=None, max_length=256, description="of the name")
    sort: Literal["name", "-name"] = Field(default="name", description="`-`: from the end")
