"""Endpoints of memberships."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.bulk import BulkQuery, BulkResult, Done, in_bulk
from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import principal_of
from admin.memberships import repository, service
from admin.memberships.wire import (
    BulkMemberships,
    DeleteMembership,
    MakeMembership,
    Membership,
    MembershipChange,
    MembershipQuery,
    NewMembership,
)
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.writing import Sharing, changing, reading, rewriting, unchanged
from engine.assign_changes import EndMembership
from store.changes import Write
from store.writes import memberships


async def list_memberships(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.order), ask.query, service.shown))


async def make_membership(ask: Ask) -> Answer:
    new: NewMembership = ask.body
    ref = principal_of(ask.services.policy().model, new.subject, "body.subject")
    made = await _put(ask, ref, new)
    return made._replace(location=f"/tenants/{quote(ask.tenant, safe='')}/memberships/{quote(ref, safe=':')}")


async def read_membership(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        return Answer(await service.read(connection, ask.tenant, ask.path["subject"]))


async def change_membership(ask: Ask) -> Answer:
    return await _put(ask, ask.path["subject"], ask.body)


async def _put(ask: Ask, ref: str, wanted: NewMembership | MembershipChange) -> Answer:
    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            connection, now, then = changed.write.connection, None, wanted
            if isinstance(then, MembershipChange):
                now = await service.read(connection, ask.tenant, ref)
                then = service.merged(now, then)
            await _put_one(ask, changed.write, ref, then)
            if now is not None:  # afterwards: who may not change it does not learn how it is
                unchanged(ask, now)
            made = await service.read(connection, ask.tenant, ref)
        return changed.answer(made)

    return await rewriting(work)


async def end_membership(ask: Ask) -> Answer:
    ref = ask.path["subject"]

    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            now = await service.read(changed.write.connection, ask.tenant, ref)
            await _end_one(ask, changed.write, ref)
            unchanged(ask, now)
        return changed.answer(None)

    return await rewriting(work)


async def _put_one(ask: Ask, write: Write, ref: str, wanted: NewMembership) -> None:
    await want_change(ask, write, service.change_of(ref, wanted))
    await service.put(write, ref, wanted)


async def _end_one(ask: Ask, write: Write, ref: str) -> None:
    await want_change(ask, write, EndMembership(ref))
    await memberships.end(write, ref)


async def change_many(ask: Ask) -> Answer:
    model = ask.services.policy().model

    async def do(write: Write, item: MakeMembership | DeleteMembership) -> Done:
        if isinstance(item, DeleteMembership):
            await service.read(write.connection, ask.tenant, item.subject)
            await _end_one(ask, write, item.subject)
            return Done(204, item.subject)
        ref = principal_of(model, item.subject, "body.subject")
        await _put_one(ask, write, ref, item)
        return Done(201, ref)

    return await in_bulk(ask, do)


_ALL: Final = "/tenants/{tenant}/memberships"
_ONE: Final = "/tenants/{tenant}/memberships/{subject}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List memberships", list_memberships, _READ, Page[Membership], query=MembershipQuery),
    Endpoint("POST", _ALL, "Make a member", make_membership, _WRITE, Membership, NewMembership, status=201),
    Endpoint(
        "POST",
        f"{_ALL}/bulk",
        "Make and end many memberships",
        change_many,
        _WRITE,
        BulkResult,
        BulkMemberships,
        query=BulkQuery,
        is_alone=True,
    ),
    Endpoint("GET", _ONE, "Read a membership", read_membership, _READ, Membership),
    Endpoint(
        "PATCH", _ONE, "Change a membership", change_membership, _WRITE, Membership, MembershipChange, errors=(412,)
    ),
    Endpoint("DELETE", _ONE, "End a membership, with all that hangs on it", end_membership, _WRITE, errors=(412,)),
)
