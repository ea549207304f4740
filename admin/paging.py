"""Lists, page by page: a cursor says where the next page begins, by the key of the last row and not by its number.

A cursor is opaque, and holds what its list orders by; one of another list or order is refused. `repository.paged` cuts
the rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic import Field

from admin.errors import bad_request
from admin.wire import Shape

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100
MAX_CURSOR: Final = 2048
#: As far as a column counts.
MAX_NUMBER: Final = 2**63 - 1

T = TypeVar("T")


class PageQuery(Shape):
    """Which page of a list."""

    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR, pattern="^[A-Za-z0-9_-]+$", description="from the page before: its `next`"
    )
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


def read_cursor(text: str, name: str, size: int, kinds: Sequence[type] = ()) -> list[Any]:
    """Read where a page ends.

    Args:
        kinds: of its values, where they are not all text.

    Raises:
        PublicError: it is none of this list.
    """
    try:
        of, *after = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_cursor() from error
    wanted = kinds or (str,) * size
    if of != name or len(after) != size or not all(map(_is_value, after, wanted)):
        raise _no_cursor()
    return list(after)


def _is_value(value: object, kind: type) -> bool:
    """Say whether a value is one that a column of the kind can be compared with: who makes cursors up sends others."""
    if kind is int:
        return type(value) is int and -MAX_NUMBER <= value <= MAX_NUMBER
    return isinstance(value, str) and "\0" not in value and _is_text(value)


def _is_text(value: str) -> bool:
    """Say whether it has no half of a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_cursor() -> Exception:
    return bad_request("not as it must be: query.cursor", {"query.cursor": "take it from `next` of the page before"})
