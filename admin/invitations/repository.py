"""Statements that read invitations.

Ids tell when they were made, and an invitation is open for a week at most: so those that may be open are found by
their ids, however many are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.invitations.wire import InvitationQuery
from admin.repository import LOCK_NS, Found, Order, order_of, paged
from store.ids import earliest_id
from store.tables import invitations
from store.times import write_time
from store.writes.invitations import OPEN_NS

_C: Final = invitations.c
ORDERS: Final[Mapping[str, Order]] = {"made": Order("invitations", (_C.id,))}
_NOT_CLOSED: Final = and_(_C.accepted_at.is_(None), _C.withdrawn_at.is_(None))


async def list_page(connection: AsyncConnection, tenant: str, page: InvitationQuery, now: int) -> Sequence[Found]:
    """Read a page of a tenant's."""
    query = select(invitations).where(_C.tenant_id == tenant)
    if page.status is not None:
        query = query.where(_conditions(now)[page.status])
    return list((await connection.execute(paged(query, order_of(ORDERS, page.sort), page))).all())


def _conditions(now: int) -> Mapping[str, ColumnElement[bool]]:
    at = write_time(now)
    return {
        "open": and_(_NOT_CLOSED, _C.expires > at, _C.id >= earliest_id(now - OPEN_NS - LOCK_NS)),
        "over": and_(_NOT_CLOSED, _C.expires <= at),
        "accepted": _C.accepted_at.is_not(None),
        "withdrawn": _C.withdrawn_at.is_not(None),
    }
