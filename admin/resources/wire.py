"""Kept resources on the wire."""

from __future__ import annotations

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Attributes, Ref, Shape


class NewResource(Shape):
    """A resource to be made."""

    id: Ref = Field(description="with its type", examples=["project:p1"])
    parent: Ref | None = Field(default=None, description="what it lies in; without one, the tenant")
    attributes: Attributes = Field(default_factory=dict)


class ResourceChange(Shape):
    """What of a resource is to be otherwise; what is not said stays as it is."""

    parent: Ref | None = Field(default=None, description="it is moved there, with all that lies in it")
    attributes: Attributes | None = Field(default=None, description="these, in the place of all that it had")


class Resource(Shape):
    """A resource."""

    id: str
    parent: str | None
    attributes: Attributes
    deleted: bool = False


class ResourceQuery(PageQuery):
    """Which of them; those that are deleted are not among them."""

    type: str | None = Field(default=None, max_length=256)
    parent: Ref | None = None
