"""What repositories share: rows, prefixes, and pages cut out of lists.

A page is cut by key and not by number: a row that comes or goes between two pages neither repeats nor hides another,
and the last page costs what the first does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, tuple_

from admin.paging import PageQuery, read_cursor

#: A row, whatever its columns.
Found = Row[*tuple[Any, ...]]
_LAST = "\U0010ffff"


class Order(NamedTuple):
    """How a list is ordered: by columns that together are unique; `name` tells one order's cursors from another's."""

    name: str
    columns: tuple[ColumnElement[Any], ...]
    is_descending: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(column.key or "" for column in self.columns)


def paged(query: Select[Any], order: Order, page: PageQuery) -> Select[Any]:
    """Cut a page out of a list, and one row more, which tells whether there is another.

    Raises:
        PublicError: the cursor is none of this list.
    """
    if page.cursor is not None:
        after = read_cursor(
            page.cursor, order.name, len(order.columns), [each.type.python_type for each in order.columns]
        )
        key = tuple_(*order.columns)
        query = query.where(key < tuple_(*after) if order.is_descending else key > tuple_(*after))
    ordered = [column.desc() if order.is_descending else column.asc() for column in order.columns]
    return query.order_by(*ordered).limit(page.limit + 1)


def begins_with(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Say of a text whether it begins so, in a way that an index answers: columns compare by byte."""
    return and_(column >= prefix, column < prefix + _LAST)
