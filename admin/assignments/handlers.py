"""Endpoints of assignments: `/tenants/{tenant}/assignments`, and `/assignments` for those on `system`."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin import changes
from admin.approvals.answers import waits
from admin.assignments import repository, service
from admin.assignments.service import SYSTEM_PLACE, Given
from admin.assignments.wire import (
    Assignment,
    AssignmentQuery,
    BulkAssignments,
    DeleteAssignment,
    MakeAssignment,
    Named,
    NewAssignment,
    SystemAssignmentQuery,
    read_id,
)
from admin.bulk import BulkQuery, BulkResult, Done, in_bulk
from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import not_found
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.writing import Sharing, changing, reading, rewriting
from engine.assign_changes import GiveRole, TakeRole
from store.changes import Write
from store.times import read_start
from store.writes import assignments


async def list_assignments(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.order), ask.query, service.shown))


async def give(ask: Ask) -> Answer:
    given = service.read_new(ask.services.policy().model, ask.tenant, ask.body)

    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            asked = await _give(ask, changed.write, given)
        if asked is not None:
            return waits(ask, changed, asked)
        shown = given.shown
        return changed.answer(shown, location=f"/tenants/{quote(ask.tenant, safe='')}/assignments/{shown.id}")

    return await rewriting(work)


async def _give(ask: Ask, write: Write, given: Given) -> str | None:
    """Give a role, or return the request for approval for which that waits."""
    change = GiveRole(given.subject, given.role, given.on, given.starts, given.expires)
    if await want_change(ask, write, change) is not None:
        return await changes.ask_approval(ask, write, change)
    await changes.perform(ask, write, change)
    return None


async def read_one(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        row = await repository.read(connection, ask.tenant, read_id(ask.path["id"]))
    if row is None:
        raise not_found("assignment of that id")
    return Answer(service.shown(row))


async def take(ask: Ask) -> Answer:
    named = read_id(ask.path["id"])
    async with changing(ask, tenant=ask.tenant) as changed:
        await _take(ask, changed.write, named)
    return changed.answer(None)


async def _take(ask: Ask, write: Write, named: Named) -> None:
    row = await repository.read(write.connection, ask.tenant, named)
    if row is None:
        raise not_found("assignment of that id")
    await want_change(ask, write, TakeRole(named.subject, named.role, named.on))
    await assignments.take(write, named.subject, named.role, named.on, starts=read_start(row.starts))


async def change_many(ask: Ask) -> Answer:
    model = ask.services.policy().model

    async def do(write: Write, item: MakeAssignment | DeleteAssignment) -> Done:
        if isinstance(item, DeleteAssignment):
            await _take(ask, write, read_id(item.id))
            return Done(204, item.id)
        given = service.read_new(model, ask.tenant, item)
        asked = await _give(ask, write, given)
        return Done(201, given.shown.id) if asked is None else Done(202, approval=asked)

    return await in_bulk(ask, do)


async def list_system(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        await want(ask, connection, "read_access")
        rows = await repository.list_system(connection, ask.query)
    return Answer(page_of(rows, order_of(repository.SYSTEM_ORDERS, ask.query.sort), ask.query, service.shown_system))


async def give_system(ask: Ask) -> Answer:
    given = service.read_new(ask.services.policy().model, None, ask.body)
    async with changing(ask) as changed:
        change = GiveRole(given.subject, given.role, SYSTEM_PLACE, given.starts, given.expires)
        await want_change(ask, changed.write, change)
        await service.give_system(changed.write, given)
    shown = given.shown
    return changed.answer(shown, location=f"/assignments/{shown.id}")


async def take_system(ask: Ask) -> Answer:
    named = read_id(ask.path["id"])
    async with changing(ask) as changed:
        row = await repository.read_system(changed.write.connection, named)
        if row is None:
            raise not_found("assignment of that id")
        change = TakeRole(named.subject, named.role, SYSTEM_PLACE)
        await want_change(ask, changed.write, change)
        await assignments.take_system(changed.write, named.subject, named.role, starts=read_start(row.starts))
    return changed.answer(None)


_ALL: Final = "/tenants/{tenant}/assignments"
_ONE: Final = "/tenants/{tenant}/assignments/{id}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
#: Roles on the system reach into every tenant, so no key that lacks that scope gives one.
_SYSTEM: Final = Need("by_assign", frozenset())
_PAGE: Final = Page[Assignment]
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List assignments", list_assignments, _READ, _PAGE, query=AssignmentQuery),
    Endpoint("POST", _ALL, "Give a role", give, _WRITE, Assignment, NewAssignment, status=201),
    Endpoint("POST", f"{_ALL}/bulk", "Give and take many roles", change_many, _WRITE, BulkResult, BulkAssignments,
             query=BulkQuery, is_alone=True),
    Endpoint("GET", _ONE, "Read an assignment", read_one, _READ, Assignment),
    Endpoint("DELETE", _ONE, "Take a role away", take, _WRITE),
    Endpoint("GET", "/assignments", "List assignments on the system", list_system, _READ, _PAGE,
             query=SystemAssignmentQuery),
    Endpoint("POST", "/assignments", "Give a role on the system", give_system, _SYSTEM, Assignment, NewAssignment,
             status=201),
    Endpoint("DELETE", "/assignments/{id}", "Take a role on the system away", take_system, _SYSTEM),
)  # fmt: skip
