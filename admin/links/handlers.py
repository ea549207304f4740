"""Endpoints of links, at the tenant into which they lead: whoever may hand out its crossing roles makes them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin import changes
from admin.approvals.answers import waits
from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import place_of, principal_of, role_of
from admin.links import repository
from admin.links.wire import Link, LinkQuery, Named, NewLink, read_id, write_id
from admin.paging import Page, page_of
from admin.repository import Found, order_of
from admin.wire import nanoseconds, shown_time
from admin.writing import changing, reading
from engine.assign_changes import GiveLink, TakeLink
from engine.facts import ALWAYS, NEVER
from store.times import read_end, read_start, write_end, write_start
from store.writes import links


async def list_links(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.order), ask.query, _of_row))


async def make_link(ask: Ask) -> Answer:
    new: NewLink = ask.body
    model = ask.services.policy().model
    subject = principal_of(model, new.subject, "body.subject")
    place = place_of(model, new.on, ask.tenant, "body.on")
    role = role_of(model, new.role, place, "body.role")
    starts, expires = nanoseconds(new.starts, ALWAYS), nanoseconds(new.expires, NEVER)
    change = GiveLink(subject, new.home, role, place, starts, expires)
    async with changing(ask, tenant=ask.tenant, shared=True, others=[new.home]) as changed:
        waiting = await want_change(ask, changed.write, change)
        asked = await changes.ask_approval(ask, changed.write, change) if waiting is not None else None
        if asked is None:
            await changes.perform(ask, changed.write, change)
    if asked is not None:
        return waits(ask, changed, asked)
    shown = _shown(Named(subject, new.home, role, place, write_start(starts)), write_end(expires))
    return changed.answer(shown, location=f"/tenants/{quote(ask.tenant, safe='')}/links/{shown.id}")


async def end_link(ask: Ask) -> Answer:
    named = read_id(ask.path["id"])
    async with changing(ask, tenant=ask.tenant, shared=True, others=[named.home]) as changed:
        await want_change(ask, changed.write, TakeLink(named.subject, named.home, named.role, named.on))
        await links.end(
            changed.write,
            named.subject,
            named.role,
            named.on,
            home=named.home,
            target=ask.tenant,
            starts=read_start(named.starts),
        )
    return changed.answer(None)


def _of_row(row: Found) -> Link:
    named = Named(f"{row.type}:{row.id}", row.home_id, row.role, f"{row.place_type}:{row.place_id}", row.starts)
    return _shown(named, row.expires)


def _shown(named: Named, expires: str | None) -> Link:
    return Link(
        id=write_id(named),
        subject=named.subject,
        home=named.home,
        role=named.role,
        on=named.on,
        starts=shown_time(read_start(named.starts)),
        expires=shown_time(read_end(expires)),
    )


_ALL: Final = "/tenants/{tenant}/links"
_ONE: Final = "/tenants/{tenant}/links/{id}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List links into a tenant", list_links, _READ, Page[Link], query=LinkQuery),
    Endpoint("POST", _ALL, "Let a member of another tenant hold a role", make_link, _WRITE, Link, NewLink, status=201),
    Endpoint("DELETE", _ONE, "End a link", end_link, _WRITE),
)
