"""Statements that read requests for approval.

Ids tell when they were made, and a request waits for a week: so those that wait are found by their ids, however many
nobody decided in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.approvals.wire import ApprovalQuery
from admin.repository import LOCK_NS, Found, Order, order_of, paged, split
from store.ids import earliest_id
from store.tables import approvals
from store.times import write_time
from store.writes.approvals import OPEN_NS

_C: Final = approvals.c
ORDERS: Final[Mapping[str, Order]] = {"made": Order("approvals", (_C.id,))}


async def list_page(connection: AsyncConnection, tenant: str, page: ApprovalQuery, now: int) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(approvals).where(_C.tenant_id == tenant)
    if page.status is not None:
        query = query.where(_has_status(page.status, now))
    if page.subject is not None:
        kind, identity = split(page.subject)
        query = query.where(_C.subject_type == kind, _C.subject_id == identity)
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())


def _has_status(status: str, now: int) -> ColumnElement[bool]:
    at = write_time(now)
    match status:
        case "pending":
            return and_(_C.outcome.is_(None), _C.expires > at, _C.id >= earliest_id(now - OPEN_NS - LOCK_NS))
        case "over":
            return and_(_C.outcome.is_(None), _C.expires <= at)
        case _:
            return _C.outcome == status
