"""Endpoints of resources. They are the tenant's to manage."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from admin.bulk import BulkQuery, BulkResult, Done, in_bulk
from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import attributes_of, parent_of
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.resources import repository, service
from admin.resources.wire import (
    BulkResources,
    ChangeResource,
    DeleteResource,
    MakeResource,
    NewResource,
    Resource,
    ResourceChange,
    ResourceQuery,
)
from admin.trees import Node
from admin.writing import Sharing, changing, reading, rewriting, unchanged
from store.changes import Write
from store.writes import resources


async def list_resources(ask: Ask) -> Answer:
    query, at_top = service.placed(ask.services.policy().model, ask.tenant, ask.query)
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, query, at_top=at_top)
        listed = page_of(rows, order_of(repository.ORDERS, query.sort), query, service.shown)
        if query.view == "tree":
            return Answer(await service.with_inner(connection, ask.tenant, listed, query.depth))
    return Answer(listed)


async def make_resource(ask: Ask) -> Answer:
    new: NewResource = ask.body
    async with changing(ask, tenant=ask.tenant) as changed:
        await _make(ask, changed.write, new)
        made = await service.read(changed.write.connection, ask.tenant, new.id)
    return changed.answer(made, location=f"/tenants/{quote(ask.tenant, safe='')}/resources/{quote(new.id, safe=':')}")


async def read_resource(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        return Answer(await service.read(connection, ask.tenant, ask.path["id"]))


async def change_resource(ask: Ask) -> Answer:
    ref = ask.path["id"]
    async with changing(ask, tenant=ask.tenant) as changed:
        await _change(ask, changed.write, ref, ask.body)
        now = await service.read(changed.write.connection, ask.tenant, ref)
    return changed.answer(now)


async def delete_resource(ask: Ask) -> Answer:
    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            await _delete(ask, changed.write, ask.path["id"])
        return changed.answer(None)

    return await rewriting(work)


async def change_many(ask: Ask) -> Answer:
    async def do(write: Write, item: MakeResource | ChangeResource | DeleteResource) -> Done:
        match item:
            case MakeResource():
                await _make(ask, write, item)
                return Done(201, item.id)
            case ChangeResource():
                await _change(ask, write, item.id, item)
                return Done(200, item.id)
            case DeleteResource():
                await _delete(ask, write, item.id)
                return Done(204, item.id)

    return await in_bulk(ask, do)


# --- one of them ------------------------------------------------------------------------------------------------------


async def _make(ask: Ask, write: Write, new: NewResource) -> None:
    model, kind = ask.services.policy().model, new.id.partition(":")[0]
    parent = parent_of(model, kind, new.parent, ask.tenant)
    attributes_of(model, kind, new.attributes)
    await want(ask, write.connection, "manage", ask.tenant)
    await resources.make(write, new.id, parent=parent, attributes=new.attributes)


async def _change(ask: Ask, write: Write, ref: str, wanted: ResourceChange) -> None:
    model, kind = ask.services.policy().model, ref.partition(":")[0]
    attributes_of(model, kind, wanted.attributes or {})
    parent = parent_of(model, kind, wanted.parent, ask.tenant) if wanted.parent is not None else None
    await want(ask, write.connection, "manage", ask.tenant)
    unchanged(ask, await service.read(write.connection, ask.tenant, ref))
    if wanted.parent is not None:
        await resources.move(write, ref, parent)
    if wanted.attributes is not None:
        await resources.set_attributes(write, ref, wanted.attributes)


async def _delete(ask: Ask, write: Write, ref: str) -> None:
    await want(ask, write.connection, "manage", ask.tenant)
    unchanged(ask, await service.read(write.connection, ask.tenant, ref))
    await resources.delete(write, ref)


_ALL: Final = "/tenants/{tenant}/resources"
_ONE: Final = "/tenants/{tenant}/resources/{id}"
_NEED: Final = Need("manage")
_PAGE: Final = Page[Resource | Node]
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List resources", list_resources, _NEED, _PAGE, query=ResourceQuery),
    Endpoint("POST", _ALL, "Make a resource", make_resource, _NEED, Resource, NewResource, status=201),
    Endpoint("POST", f"{_ALL}/bulk", "Make, change and delete many resources", change_many, _NEED, BulkResult,
             BulkResources, query=BulkQuery, is_alone=True),
    Endpoint("GET", _ONE, "Read a resource", read_resource, _NEED, Resource),
    Endpoint("PATCH", _ONE, "Change or move a resource", change_resource, _NEED, Resource, ResourceChange,
             errors=(412,)),
    Endpoint("DELETE", _ONE, "Delete a resource, and all that lies in it", delete_resource, _NEED, errors=(412,)),
)  # fmt: skip
