"""Endpoints of memberships."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import principal_of
from admin.memberships import repository, service
from admin.memberships.wire import Membership, MembershipChange, MembershipQuery, NewMembership
from admin.paging import Page, page_of
from admin.writing import changing, reading, unchanged
from engine.assign_changes import EndMembership
from store.writes import memberships


async def list_memberships(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, repository.BY_SUBJECT, ask.query, service.shown))


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
    shared = await memberships.needs_shared(ask.services.database, ask.tenant, ref)
    async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
        connection = changed.write.connection
        if isinstance(wanted, MembershipChange):
            now = await service.read(connection, ask.tenant, ref)
            unchanged(ask, now)
            wanted = service.merged(now, wanted)
        await want_change(ask, changed.write, service.change_of(ref, wanted))
        await service.put(changed.write, ref, wanted)
        made = await service.read(connection, ask.tenant, ref)
    return changed.answer(made)


async def end_membership(ask: Ask) -> Answer:
    ref = ask.path["subject"]
    shared = await memberships.needs_shared(ask.services.database, ask.tenant, ref)
    async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
        unchanged(ask, await service.read(changed.write.connection, ask.tenant, ref))
        await want_change(ask, changed.write, EndMembership(ref))
        await memberships.end(changed.write, ref)
    return changed.answer(None)


_ALL: Final = "/tenants/{tenant}/memberships"
_ONE: Final = "/tenants/{tenant}/memberships/{subject}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List memberships", list_memberships, _READ, Page[Membership], query=MembershipQuery),
    Endpoint("POST", _ALL, "Make a member", make_membership, _WRITE, Membership, NewMembership, status=201),
    Endpoint("GET", _ONE, "Read a membership", read_membership, _READ, Membership),
    Endpoint(
        "PATCH", _ONE, "Change a membership", change_membership, _WRITE, Membership, MembershipChange, errors=(412,)
    ),
    Endpoint("DELETE", _ONE, "End a membership, with all that hangs on it", end_membership, _WRITE, errors=(412,)),
)
