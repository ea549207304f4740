"""What repositories share: rows, prefixes, and pages cut out of lists.

A page is cut by key and not by number: a row that comes or goes between two pages neither repeats nor hides another,
and the last page costs what the first does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, literal_column, tuple_

from admin.paging import EndingQuery, PageQuery, read_cursor
from admin.wire import nanoseconds
from engine.values import SECOND
from store.times import write_time

#: A row, whatever its columns.
Found = Row[*tuple[Any, ...]]
#: So much older than its row an id may be that was made before its write had the lock.
LOCK_NS: Final = 60 * SECOND
#: What is deleted; a word of the statement, since an index of those that are not is found by it.
IS_DELETED: Final[ColumnElement[str]] = literal_column("'deleted'")
_LAST = "\U0010ffff"


class Order(NamedTuple):
    """How a list is ordered: by columns that together are unique.

    Args:
        name: tells one order's cursors from another's.
        is_partial: what has nothing in the first column is not in the list at all.
    """

    name: str
    columns: tuple[ColumnElement[Any], ...]
    is_descending: bool = False
    is_partial: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(column.key or "" for column in self.columns)


def order_of(orders: Mapping[str, Order], sort: str) -> Order:
    """Find an order by the word for it; with `-` before it, it goes the other way."""
    order = orders[sort.removeprefix("-")]
    return order._replace(name=f"-{order.name}", is_descending=True) if sort.startswith("-") else order


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
    if order.is_partial:
        query = query.where(order.columns[0].is_not(None))
    ordered = [column.desc() if order.is_descending else column.asc() for column in order.columns]
    return query.order_by(*ordered).limit(page.limit + 1)


def begins_with(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Say of a text whether it begins so, in a way that an index answers: columns compare by byte."""
    return and_(column >= prefix, column < prefix + _LAST)


def ref_begins_with(kind: ColumnElement[Any], identity: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Say of a reference in two columns whether it begins so, `"user:an"`."""
    whole, _, begin = prefix.partition(":")
    return and_(kind == whole, begins_with(identity, begin)) if begin else kind == whole


def cut(
    query: Select[Any],
    kind: ColumnElement[Any],
    identity: ColumnElement[Any],
    expires: ColumnElement[Any],
    page: EndingQuery,
) -> Select[Any]:
    """Cut a list down to whose it is, and to what ends in time; what does not end does not."""
    if page.prefix is not None:
        query = query.where(ref_begins_with(kind, identity, page.prefix))
    if page.expires_before is not None:
        query = query.where(expires < write_time(nanoseconds(page.expires_before, 0)))
    return query


def split(ref: str) -> tuple[str, str]:
    """Split a reference as columns have it; `anyone` stands in both."""
    kind, colon, identity = ref.partition(":")
    return (kind, identity) if colon else (ref, ref)
