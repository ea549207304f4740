"""Endpoints of assignments: `/tenants/{tenant}/assignments`, and `/assignments` for those on `system`."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin import changes
from admin.approvals.answers import waits
from admin.assignments import repository, service
from admin.assignments.service import SYSTEM_PLACE
from admin.assignments.wire import Assignment, AssignmentQuery, NewAssignment, read_id
from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import not_found
from admin.paging import Page, PageQuery, page_of
from admin.writing import changing, reading, rewriting
from engine.assign_changes import GiveRole, TakeRole
from store.times import read_start
from store.writes import assignments


async def list_assignments(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, repository.BY_KEY, ask.query, service.shown))


async def give(ask: Ask) -> Answer:
    new: NewAssignment = ask.body
    given = service.read_new(ask.services.policy().model, ask.tenant, new)
    change = GiveRole(given.subject, given.role, given.on, given.starts, given.expires)

    async def work(shared: bool) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            waiting = await want_change(ask, changed.write, change)
            asked = await changes.ask_approval(ask, changed.write, change) if waiting is not None else None
            if asked is None:
                await changes.perform(ask, changed.write, change)
        if asked is not None:
            return waits(ask, changed, asked)
        shown = given.shown
        return changed.answer(shown, location=f"/tenants/{quote(ask.tenant, safe='')}/assignments/{shown.id}")

    return await rewriting(work)


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
        row = await repository.read(changed.write.connection, ask.tenant, named)
        if row is None:
            raise not_found("assignment of that id")
        change = TakeRole(named.subject, named.role, named.on)
        await want_change(ask, changed.write, change)
        await assignments.take(changed.write, named.subject, named.role, named.on, starts=read_start(row.starts))
    return changed.answer(None)


async def list_system(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        await want(ask, connection, "read_access")
        rows = await repository.list_system(connection, ask.query)
    return Answer(page_of(rows, repository.BY_HOLDER, ask.query, service.shown_system))


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
    Endpoint("GET", _ONE, "Read an assignment", read_one, _READ, Assignment),
    Endpoint("DELETE", _ONE, "Take a role away", take, _WRITE),
    Endpoint("GET", "/assignments", "List assignments on the system", list_system, _READ, _PAGE, query=PageQuery),
    Endpoint("POST", "/assignments", "Give a role on the system", give_system, _SYSTEM, Assignment, NewAssignment,
             status=201),
    Endpoint("DELETE", "/assignments/{id}", "Take a role on the system away", take_system, _SYSTEM),
)  # fmt: skip
