"""Kept resources on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from admin.bulk import MAX_ITEMS, told_apart
from admin.paging import PageQuery
from admin.trees import DEFAULT_DEPTH, MAX_DEPTH
from admin.wire import Attributes, Ref, RefPrefix, Shape


class NewResource(Shape):
    """A resource to be made."""

    id: Ref = Field(description="with its type", examples=["project:p1"])
    parent: Ref | None = Field(default=None, description="what it lies in; without one, the tenant")
    attributes: Attributes = Field(default_factory=dict)


class ResourceChange(Shape):
    """What of a resource is to be otherwise; what is not said stays as it is."""

    parent: Ref | None = Field(default=None, description="it is moved there, with all that lies in it")
    attributes: Attributes | None = Field(default=None, description="these, in the place of all that it had")


class MakeResource(NewResource):
    """One of many: to be made."""

    op: Literal["make"] = "make"


class ChangeResource(ResourceChange):
    """One of many: to be changed or moved."""

    op: Literal["change"]
    id: Ref = Field(examples=["project:p1"])


class DeleteResource(Shape):
    """One of many: to be deleted, with all that lies in it."""

    op: Literal["delete"]
    id: Ref = Field(examples=["project:p1"])


ResourceItem = Annotated[
    Annotated[MakeResource, Tag("(make)")]
    | Annotated[ChangeResource, Tag("(change)")]
    | Annotated[DeleteResource, Tag("(delete)")],
    told_apart("make", "change", "delete"),
]


class BulkResources(Shape):
    """Many resources to be made, changed or deleted, one after the other."""

    items: list[ResourceItem] = Field(min_length=1, max_length=MAX_ITEMS)


class Resource(Shape):
    """A resource."""

    id: str
    parent: str | None
    attributes: Attributes
    deleted: bool = False


class ResourceQuery(PageQuery):
    """Which of them, in which order, and whether with all that lies in them. What is deleted is not among them."""

    type: str | None = Field(default=None, max_length=256)
    parent: Ref | None = Field(default=None, description="those that lie in it itself; it may be the tenant")
    prefix: RefPrefix | None = Field(default=None, description="of the id", examples=["project:p"])
    sort: Literal["id", "-id"] = Field(default="id", description="`-`: from the end")
    view: Literal["list", "tree"] = Field(
        default="list",
        description="`tree`: each with what lies in it; where nothing else is said, what lies in the tenant itself",
    )
    depth: int = Field(default=DEFAULT_DEPTH, ge=1, le=MAX_DEPTH, description="of a tree, in levels")
