"""Endpoints of tenants."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import attributes_of
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.tenants import repository, service
from admin.tenants.wire import ListedTenant, NewTenant, Tenant, TenantChange, TenantQuery
from admin.writing import changing, reading, unchanged
from store.ids import new_id


async def list_tenants(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        await want(ask, connection, "manage")
        rows = await repository.list_page(connection, ask.query)
    order = order_of(repository.ORDERS, ask.query.sort)
    return Answer(page_of(rows, order, ask.query, lambda row: ListedTenant(id=row.id, status=row.status)))


async def make_tenant(ask: Ask) -> Answer:
    new: NewTenant = ask.body
    identity, model = new.id or new_id(), ask.services.policy().model
    attributes_of(model, model.tenant, new.attributes)
    async with changing(ask, tenant=identity, making=True) as changed:
        await want(ask, changed.write.connection, "manage")
        await service.make(changed.write, new)
        made = Tenant(id=identity, status=new.status, attributes=new.attributes)
    return changed.answer(made, location=f"/tenants/{quote(identity, safe='')}")


async def read_tenant(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        return Answer(await service.read(connection, ask.tenant))


async def change_tenant(ask: Ask) -> Answer:
    wanted: TenantChange = ask.body
    model = ask.services.policy().model
    attributes_of(model, model.tenant, wanted.attributes or {})
    async with changing(ask, tenant=ask.tenant, shared=True) as changed:
        await want(ask, changed.write.connection, "manage", ask.tenant)
        unchanged(ask, await service.read(changed.write.connection, ask.tenant))
        await service.change(changed.write, wanted)
        now = await service.read(changed.write.connection, ask.tenant)
    return changed.answer(now)


async def delete_tenant(ask: Ask) -> Answer:
    async with changing(ask, tenant=ask.tenant, shared=True) as changed:
        await want(ask, changed.write.connection, "manage")
        unchanged(ask, await service.read(changed.write.connection, ask.tenant))
        await service.delete(changed.write)
    return changed.answer(None)


_SYSTEM: Final = Need("manage", frozenset())
_OWN: Final = Need("manage")
ENDPOINTS: Final = (
    Endpoint("GET", "/tenants", "List tenants, by id", list_tenants, _SYSTEM, Page[ListedTenant], query=TenantQuery),
    Endpoint("POST", "/tenants", "Make a tenant", make_tenant, _SYSTEM, Tenant, NewTenant, status=201),
    Endpoint("GET", "/tenants/{tenant}", "Read a tenant", read_tenant, _OWN, Tenant),
    Endpoint("PATCH", "/tenants/{tenant}", "Change a tenant", change_tenant, _OWN, Tenant, TenantChange, errors=(412,)),
    Endpoint("DELETE", "/tenants/{tenant}", "Delete a tenant, for ever", delete_tenant, _SYSTEM, errors=(412,)),
)
