"""Endpoints of requests for approval. Who asked, and who is given something, decide nothing."""

from __future__ import annotations

from typing import Final

from admin import changes
from admin.actors import Key
from admin.approvals import repository
from admin.approvals.wire import Approval, ApprovalQuery
from admin.door import want, want_approval
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import forbidden, not_found
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.wire import shown_time
from admin.writing import Sharing, changing, reading, rewriting
from store.writes import approvals
from store.writes.approvals import Approval as Stored


async def list_approvals(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query, ask.now)
    order = order_of(repository.ORDERS, ask.query.sort)
    return Answer(page_of(rows, order, ask.query, lambda row: _shown(approvals.approval_of(row))))


async def approve(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        waiting = await approvals.read(connection, ask.tenant, ask.path["id"])
    if waiting is None:
        raise not_found("request for approval of that id")
    home = getattr(changes.read(waiting.what), "home", None)  # what is asked for never changes
    others = [home] if home is not None else []

    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared or bool(others), others=others) as changed:
            stored = await approvals.decide(changed.write, ask.path["id"], is_approved=True)
            change = changes.read(stored.what)
            await want_approval(ask, changed.write, stored, change, changes.read_asker(ask, stored))
            await changes.perform(ask, changed.write, change)
        return changed.answer(_shown(stored))

    return await rewriting(work)


async def refuse(ask: Ask) -> Answer:
    async with changing(ask, tenant=ask.tenant) as changed:
        stored = await approvals.decide(changed.write, ask.path["id"], is_approved=False)
        await want_approval(ask, changed.write, stored, changes.read(stored.what), changes.read_asker(ask, stored))
    return changed.answer(_shown(stored))


async def withdraw(ask: Ask) -> Answer:
    async with changing(ask, tenant=ask.tenant) as changed:
        stored = await approvals.read(changed.write.connection, ask.tenant, ask.path["id"])
        if stored is None:
            raise not_found("request for approval of that id")
        if not isinstance(ask.actor, Key) and ask.actor.ref != stored.requested_by:
            raise forbidden("only who asked for it takes it back")
        await approvals.withdraw(changed.write, ask.path["id"])
    return changed.answer(None)


def _shown(stored: Stored) -> Approval:
    return Approval(
        id=stored.id,
        subject=stored.subject,
        role=stored.role,
        on=stored.place,
        requested_by=stored.requested_by,
        requested_at=shown_time(stored.requested_at) or "",
        expires=shown_time(stored.expires) or "",
        decided_by=stored.decided_by,
        decided_at=None if stored.decided_at is None else shown_time(stored.decided_at),
        outcome=stored.outcome,  # type: ignore[arg-type]  # one of these words
    )


_ALL: Final = "/tenants/{tenant}/approvals"
_ONE: Final = "/tenants/{tenant}/approvals/{id}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List requests for approval", list_approvals, _READ, Page[Approval], query=ApprovalQuery),
    Endpoint("POST", f"{_ONE}/approve", "Approve, and do what was asked for", approve, _WRITE, Approval),
    Endpoint("POST", f"{_ONE}/refuse", "Refuse", refuse, _WRITE, Approval),
    Endpoint("DELETE", _ONE, "Take a request back", withdraw, _WRITE),
)
