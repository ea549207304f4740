"""The feed of changes on the wire."""

from __future__ import annotations

from pydantic import Field

from admin.paging import DEFAULT_LIMIT, MAX_LIMIT
from admin.wire import Shape


class FeedQuery(Shape):
    """From where to read on."""

    after: str | None = Field(
        default=None,
        max_length=200,
        description="`next` of the page before, or the `Bylaw-Revision` of a write; none: from now on",
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class Change(Shape):
    """One revision, and the keys of what it touched; `*`: everything."""

    revision: int
    at: str
    keys: list[str]


class Feed(Shape):
    """Changes in order, none left out. `next` says from where to read on, now if there is `more`, or later."""

    items: list[Change]
    next: str
    more: bool
