"""Lists, page by page: a cursor says where the next page begins, by the key of the last row and not by its number.

A cursor is opaque, and holds what its list orders by; one of another list or order is refused. `repository.paged` cuts
the rows. By what a list may be cut down and ordered its own query says, in so many words: whatever else is asked for is
refused, so that no wish is silently left out, and each has its index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from admin.errors import bad_request
from admin.opaque import read_opaque, write_opaque
from admin.wire import RefPrefix, Shape, Time

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100
#: As long as the longest ids make one.
MAX_CURSOR: Final = 4096

T = TypeVar("T")


class PageQuery(Shape):
    """Which page of a list."""

    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR, pattern="^[A-Za-z0-9_-]+$", description="from the page before: its `next`"
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class EndingQuery(PageQuery):
    """Which page of a list of what somebody has, and may have for a time only."""

    prefix: RefPrefix | None = Field(default=None, description="how the subject begins")
    expires_before: Time | None = Field(default=None, description="those that end, or ended, before; by `expires`")
    sort: Literal["subject", "-subject", "expires", "-expires"] | None = Field(
        default=None,
        description="`subject`, if nothing is said; `-`: from the end; by `expires` only those that end are listed",
    )

    @field_validator("sort")
    @classmethod
    def _fits(cls, sort: str | None, info: ValidationInfo) -> str | None:
        """Refuse what no index answers: those that end soon, by something else."""
        if sort is not None and not sort.endswith("expires") and info.data.get("expires_before") is not None:
            raise PydanticCustomError("bad_sort", "with `expires_before` a list goes by `expires` or `-expires`")
        return sort

    @property
    def order(self) -> str:
        """The word for the order."""
        return self.sort or ("subject" if self.expires_before is None else "expires")


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
    return write_opaque([name, *after])


def read_cursor(text: str, name: str, size: int, kinds: Sequence[type] = ()) -> list[Any]:
    """Read where a page ends.

    Args:
        kinds: of its values, where they are not all text.

    Raises:
        PublicError: it is none of this list.
    """
    found = read_opaque(text, [str, *(kinds or (str,) * size)])
    if found is None or found[0] != name:
        raise bad_request(
            "not as it must be: query.cursor",
            {"query.cursor": "take it from `next` of the page before, with the same `sort`"},
        )
    return found[1:]
