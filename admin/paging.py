"""Lists, page by page: a cursor says where the next page begins, by the key of the last row and not by its number.

A cursor is opaque, and holds what its list orders by; one of another list or order is refused. `repository.paged` cuts
the rows.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import Field

from admin.errors import bad_request
from admin.wire import Shape

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100
MAX_CURSOR: Final = 2048

T = TypeVar("T")


class PageQuery(Shape):
    """Which page of a list."""

    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="from the page before: its `next`")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class Page(Shape, Generic[T]):
    """A page of a list; `next` is the cursor of the one after it, if there is one."""

    items: list[T]
    next: str | None = None


class Order(Protocol):
    """How a list is ordered, as `repository.Order` has it."""

    @property
    def name(self) -> str: ...
    @property
    def keys(self) -> tuple[str, ...]: ...


def page_of(rows: Sequence[Any], order: Order, page: PageQuery, shape: Callable[[Any], T]) -> Page[T]:
    """Make a page of rows that `paged` selected; their columns of the order have their own names."""
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    following = write_cursor(order.name, [getattr(shown[-1], key) for key in order.keys]) if more else None
    return Page(items=[shape(row) for row in shown], next=following)


def write_cursor(name: str, after: Sequence[Any]) -> str:
    """Write where a page of a list ends."""
    said = json.dumps([name, *after], separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def read_cursor(text: str, name: str, size: int) -> list[Any]:
    """Read where a page ends.

    Raises:
        PublicError: it is none of this list.
    """
    try:
        of, *after = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, binascii.Error) as error:
        raise _no_cursor() from error
    if of != name or len(after) != size or not all(isinstance(one, str | int) for one in after):
        raise _no_cursor()
    return list(after)


def _no_cursor() -> Exception:
    return bad_request("not as it must be: query.cursor", {"query.cursor": "take it from `next` of the page before"})
