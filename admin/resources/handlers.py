"""Endpoints of resources. They are the tenant's to manage."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import attributes_of, parent_of
from admin.paging import Page, page_of
from admin.resources import repository, service
from admin.resources.wire import NewResource, Resource, ResourceChange, ResourceQuery
from admin.writing import changing, reading, rewriting, unchanged
from store.writes import resources


async def list_resources(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query)
    return Answer(page_of(rows, repository.BY_REF, ask.query, service.shown))


async def make_resource(ask: Ask) -> Answer:
    new: NewResource = ask.body
    model = ask.services.policy().model
    kind = new.id.partition(":")[0]
    parent = parent_of(model, kind, new.parent, ask.tenant)
    attributes_of(model, kind, new.attributes)
    async with changing(ask, tenant=ask.tenant) as changed:
        await want(ask, changed.write.connection, "manage", ask.tenant)
        await resources.make(changed.write, new.id, parent=parent, attributes=new.attributes)
        made = await service.read(changed.write.connection, ask.tenant, new.id)
    return changed.answer(made, location=f"/tenants/{quote(ask.tenant, safe='')}/resources/{quote(new.id, safe=':')}")


async def read_resource(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        return Answer(await service.read(connection, ask.tenant, ask.path["id"]))


async def change_resource(ask: Ask) -> Answer:
    wanted: ResourceChange = ask.body
    model, ref = ask.services.policy().model, ask.path["id"]
    kind = ref.partition(":")[0]
    attributes_of(model, kind, wanted.attributes or {})
    parent = parent_of(model, kind, wanted.parent, ask.tenant) if wanted.parent is not None else None
    async with changing(ask, tenant=ask.tenant) as changed:
        await want(ask, changed.write.connection, "manage", ask.tenant)
        unchanged(ask, await service.read(changed.write.connection, ask.tenant, ref))
        if wanted.parent is not None:
            await resources.move(changed.write, ref, parent)
        if wanted.attributes is not None:
            await resources.set_attributes(changed.write, ref, wanted.attributes)
        now = await service.read(changed.write.connection, ask.tenant, ref)
    return changed.answer(now)


async def delete_resource(ask: Ask) -> Answer:
    ref = ask.path["id"]

    async def work(shared: bool) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            await want(ask, changed.write.connection, "manage", ask.tenant)
            unchanged(ask, await service.read(changed.write.connection, ask.tenant, ref))
            await resources.delete(changed.write, ref)
        return changed.answer(None)

    return await rewriting(work)


_ALL: Final = "/tenants/{tenant}/resources"
_ONE: Final = "/tenants/{tenant}/resources/{id}"
_NEED: Final = Need("manage")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List resources", list_resources, _NEED, Page[Resource], query=ResourceQuery),
    Endpoint("POST", _ALL, "Make a resource", make_resource, _NEED, Resource, NewResource, status=201),
    Endpoint("GET", _ONE, "Read a resource", read_resource, _NEED, Resource),
    Endpoint("PATCH", _ONE, "Change or move a resource", change_resource, _NEED, Resource, ResourceChange,
             errors=(412,)),
    Endpoint("DELETE", _ONE, "Delete a resource, and all that lies in it", delete_resource, _NEED, errors=(412,)),
)  # fmt: skip
