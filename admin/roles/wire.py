"""Roles that there are to be given, on the wire."""

from __future__ import annotations

from pydantic import Field

from admin.wire import Shape


class Role(Shape):
    """A role of the policy."""

    name: str = Field(examples=["project.editor"])
    crossing: bool = Field(description="it may be held over a link")
    claimable: bool = Field(description="a token may claim it")
    can: list[str] = Field(description="the actions that it gives, those of roles that it takes over too")
    conditional: list[str] = Field(description="those that it gives under conditions alone")
    at: str = Field(description="where the policy declares it", examples=["studio.bylaw:33"])
    assigns: list[str] = Field(description="by which `assign` it is handed out; none: by keys alone")


class CustomName(Shape):
    """A role of the tenant's own."""

    name: str = Field(examples=["custom.helper"])


class Place(Shape):
    """What may be held on things of one type."""

    type: str
    roles: list[Role]
    custom: list[CustomName]


class Roles(Shape):
    """All roles that may be held in a tenant, by the type of what they are held on."""

    policy: str = Field(description="the digest of the policy")
    types: list[Place]
    custom_assigns: list[str] = Field(description="by which `assign` the tenant's own roles are made and handed out")
