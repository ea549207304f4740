"""Keys of the administration API on the wire. A key itself is shown once, by the answer that makes it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Shape, Time


class NewKey(Shape):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=256, description="what it is for, in words for people")
    scopes: list[str] = Field(min_length=1, max_length=100, examples=[["tenant:acme"], ["system"], ["audit"]])
    expires: Time | None = None


class Key(Shape):
    """A key, without itself: by its prefix people tell it from others."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    made: str
    expires: str | None = None
    revoked_at: str | None = None
    last_used: str | None = None


class MadeKey(Shape):
    """A key, this once."""

    id: str
    key: str
    name: str
    scopes: list[str]


class KeyQuery(PageQuery):
    """Which of them, and in which order."""

    revoked: bool | None = Field(default=None, description="those that were revoked, or those that were not")
    sort: Literal["made", "-made"] = Field(default="made", description="`-`: the newest first")
