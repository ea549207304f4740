"""Endpoints of custom roles."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.custom_roles import repository, service
from admin.custom_roles.wire import CustomRole, CustomRoleChange, CustomRoleQuery, NewCustomRole
from admin.door import want, want_change
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import patterns_of, type_of
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.writing import changing, reading, unchanged
from engine.assign_changes import DefineRole, DeleteRole
from store.writes import custom_roles


async def list_roles(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.sort), ask.query, service.shown))


async def make_role(ask: Ask) -> Answer:
    new: NewCustomRole = ask.body
    model = ask.services.policy().model
    on = type_of(model, new.on, "body.on").name
    patterns_of(model, on, new.can)
    async with changing(ask, tenant=ask.tenant) as changed:
        await want_change(ask, changed.write, DefineRole(new.name, on, tuple(new.can)))
        await custom_roles.make(changed.write, new.name, on, new.can)
        made = await service.read(changed.write.connection, ask.tenant, new.name)
    place = f"/tenants/{quote(ask.tenant, safe='')}/custom-roles/{quote(new.name, safe='')}"
    return changed.answer(made, location=place)


async def read_role(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        return Answer(await service.read(connection, ask.tenant, ask.path["name"]))


async def change_role(ask: Ask) -> Answer:
    wanted: CustomRoleChange = ask.body
    name = ask.path["name"]
    async with changing(ask, tenant=ask.tenant) as changed:
        now = await service.read(changed.write.connection, ask.tenant, name)
        patterns_of(ask.services.policy().model, now.on, wanted.can)
        await want_change(ask, changed.write, DefineRole(name, now.on, tuple(wanted.can)))
        unchanged(ask, now)
        await custom_roles.change(changed.write, name, wanted.can)
        then = await service.read(changed.write.connection, ask.tenant, name)
    return changed.answer(then)


async def delete_role(ask: Ask) -> Answer:
    name = ask.path["name"]
    async with changing(ask, tenant=ask.tenant) as changed:
        now = await service.read(changed.write.connection, ask.tenant, name)
        await want_change(ask, changed.write, DeleteRole(name))
        unchanged(ask, now)
        await custom_roles.delete(changed.write, name)
    return changed.answer(None)


_ALL: Final = "/tenants/{tenant}/custom-roles"
_ONE: Final = "/tenants/{tenant}/custom-roles/{name}"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List roles of the tenant's own", list_roles, _READ, Page[CustomRole],
             query=CustomRoleQuery),
    Endpoint("POST", _ALL, "Make a role", make_role, _WRITE, CustomRole, NewCustomRole, status=201),
    Endpoint("GET", _ONE, "Read a role", read_role, _READ, CustomRole),
    Endpoint("PATCH", _ONE, "Change what a role can", change_role, _WRITE, CustomRole, CustomRoleChange,
             errors=(412,)),
    Endpoint("DELETE", _ONE, "Delete a role, and take it from all", delete_role, _WRITE, errors=(412,)),
)  # fmt: skip
