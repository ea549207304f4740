"""Endpoints of groups: `/tenants/{tenant}/groups`, and `/groups` for those of the platform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from admin import changes
from admin.actors import Key
from admin.approvals.answers import waits
from admin.door import want, want_change, want_everywhere
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import forbidden, not_found
from admin.fits import attributes_of, subject_of
from admin.groups import repository, service
from admin.groups.wire import Group, GroupChange, GroupQuery, ListedGroup, Member, MemberQuery, NewGroup, NewMember
from admin.paging import Page, page_of
from admin.trees import Node
from admin.wire import nanoseconds
from admin.writing import Sharing, changing, reading, rewriting, unchanged
from engine.assign_changes import DeleteGroup, MakeGroup, PutInGroup, TakeFromGroup
from engine.facts import ALWAYS, NEVER
from store.writes import groups, platform_groups

_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
#: A policy may name groups of the platform, so no key that lacks that scope fills one.
_SYSTEM: Final = Need("by_assign", frozenset())


async def list_groups(ask: Ask) -> Answer:
    tenant = ask.path.get("tenant")
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_access", tenant)
        query: GroupQuery = ask.query
        rows = await repository.list_page(connection, tenant, query)
        listed = page_of(rows, repository.order_by(tenant, query.sort), query, lambda row: ListedGroup(id=row.id))
        if query.view == "tree":
            return Answer(await service.with_inner(connection, tenant, listed, query.depth))
    return Answer(listed)


async def make_group(ask: Ask) -> Answer:
    tenant = ask.path.get("tenant")
    new: NewGroup = ask.body
    attributes_of(ask.services.policy().model, repository.GROUP, new.attributes)
    async with changing(ask, tenant=tenant, shared=True) as changed:
        await want_change(ask, changed.write, MakeGroup(new.id))
        of = groups if tenant is not None else platform_groups
        await of.make(changed.write, new.id, attributes=new.attributes)
        made = Group(id=new.id, attributes=new.attributes, inside=[])
    return changed.answer(made, location=f"{_base(tenant)}/{quote(new.id, safe='')}")


async def read_group(ask: Ask) -> Answer:
    tenant = ask.path.get("tenant")
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_access", tenant)
        return Answer(await service.read(connection, tenant, ask.path["name"]))


async def change_group(ask: Ask) -> Answer:
    tenant, name = ask.path.get("tenant"), ask.path["name"]
    wanted: GroupChange = ask.body
    attributes_of(ask.services.policy().model, repository.GROUP, wanted.attributes)
    async with changing(ask, tenant=tenant) as changed:
        connection = changed.write.connection
        await want(ask, connection, "manage", tenant)
        unchanged(ask, await service.read(connection, tenant, name))
        of = groups if tenant is not None else platform_groups
        await of.set_attributes(changed.write, name, wanted.attributes)
        now = await service.read(connection, tenant, name)
    return changed.answer(now)


async def delete_group(ask: Ask) -> Answer:
    tenant, name = ask.path.get("tenant"), ask.path["name"]

    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=tenant, shared=shared) as changed:
            now = await service.read(changed.write.connection, tenant, name)
            await want_change(ask, changed.write, DeleteGroup(name))
            unchanged(ask, now)
            of = groups if tenant is not None else platform_groups
            await of.delete(changed.write, name)
        return changed.answer(None)

    if tenant is not None:
        return await rewriting(work)
    async with reading(ask) as connection:
        is_rest = isinstance(ask.actor, Key) and await repository.is_deleted(connection, name)
    if not is_rest:
        answer = await rewriting(work)
        await platform_groups.sweep_group(ask.services.writer, name, actor=ask.actor.ref)
        return answer
    if not await platform_groups.sweep_group(ask.services.writer, name, actor=ask.actor.ref):  # nothing was cut off
        raise not_found(f"group `{name}`")
    async with changing(ask) as changed:
        changed.write.record("platform_group.deletion_resumed", group=name)
    return changed.answer(None)


async def list_members(ask: Ask) -> Answer:
    tenant, name = ask.path.get("tenant"), ask.path["name"]
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_access", tenant)
        await service.read(connection, tenant, name)
        rows, order = await repository.list_members(connection, tenant, name, ask.query)
    return Answer(page_of(rows, order, ask.query, service.shown_member))


async def put_member(ask: Ask) -> Answer:
    tenant, name = ask.path.get("tenant"), ask.path["name"]
    new: NewMember = ask.body
    ref = subject_of(ask.services.policy().model, new.subject, "body.subject")
    change = PutInGroup(ref, name, nanoseconds(new.starts, ALWAYS), nanoseconds(new.expires, NEVER))
    async with changing(ask, tenant=tenant) as changed:
        await service.read(changed.write.connection, tenant, name)
        if tenant is None:
            await want_everywhere(ask, name, change)
        waiting = await want_change(ask, changed.write, change)
        if waiting is not None and tenant is None:
            raise forbidden("in a group of the platform nothing waits for approval: a key must do it", "approval")
        asked = await changes.ask_approval(ask, changed.write, change) if waiting is not None else None
        if asked is None:
            await service.put(changed.write, tenant, name, ref, new)
    if asked is not None:
        return waits(ask, changed, asked)
    place = f"{_base(tenant)}/{quote(name, safe='')}/members/{quote(ref, safe=':')}"
    return changed.answer(Member(id=ref, subject=ref), location=place)


async def take_member(ask: Ask) -> Answer:
    tenant, name, ref = ask.path.get("tenant"), ask.path["name"], ask.path["subject"]
    async with changing(ask, tenant=tenant) as changed:
        await service.read(changed.write.connection, tenant, name)
        await want_change(ask, changed.write, TakeFromGroup(ref, name))
        await service.take(changed.write, tenant, name, ref)
    return changed.answer(None)


def _base(tenant: str | None) -> str:
    return "/groups" if tenant is None else f"/tenants/{quote(tenant, safe='')}/groups"


def _endpoints(base: str, whose: str, write: Need) -> Iterator[Endpoint]:
    one, members = f"{base}/{{name}}", f"{base}/{{name}}/members"
    listed, people = Page[ListedGroup | Node], Page[Member]
    yield Endpoint("GET", base, f"List groups {whose}", list_groups, _READ, listed, query=GroupQuery)
    yield Endpoint("POST", base, f"Make a group {whose}", make_group, write, Group, NewGroup, status=201)
    yield Endpoint("GET", one, f"Read a group {whose}", read_group, _READ, Group)
    yield Endpoint("PATCH", one, f"Change a group {whose}", change_group, write, Group, GroupChange, errors=(412,))
    yield Endpoint("DELETE", one, f"Delete a group {whose}, for ever", delete_group, write, errors=(412,))
    yield Endpoint("GET", members, f"List who is in a group {whose}", list_members, _READ, people, query=MemberQuery)
    yield Endpoint("POST", members, f"Put somebody into a group {whose}", put_member, write, Member, NewMember,
                   status=201)  # fmt: skip
    yield Endpoint("DELETE", f"{members}/{{subject}}", f"Take somebody out of a group {whose}", take_member, write)


ENDPOINTS: Final = (
    *_endpoints("/tenants/{tenant}/groups", "of a tenant", _WRITE),
    *_endpoints("/groups", "of the platform", _SYSTEM),
)
