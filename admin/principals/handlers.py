"""Endpoints of users and services: the same ones for both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import quote

from admin.door import want, want_someone_left
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.fits import attributes_of
from admin.paging import Page, page_of
from admin.principals import repository, service
from admin.principals.wire import (
    ListedPrincipal,
    NewPrincipal,
    Principal,
    PrincipalChange,
    PrincipalQuery,
)
from admin.repository import order_of
from admin.writing import Sharing, changing, reading, rewriting, unchanged
from store.ids import new_id
from store.writes import principals

Kind = Literal["user", "service"]
#: They are the platform's, so an end user needs to manage that.
_NEED: Final = Need("manage")


class Principals:
    """The endpoints of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    async def list_all(self, ask: Ask) -> Answer:
        async with reading(ask) as connection:
            await want(ask, connection, "manage")
            rows = await repository.list_page(connection, self.kind, ask.query)
        order = order_of(repository.ORDERS, ask.query.sort)
        return Answer(page_of(rows, order, ask.query, lambda row: ListedPrincipal(id=row.id, status=row.status)))

    async def make(self, ask: Ask) -> Answer:
        new: NewPrincipal = ask.body
        identity = new.id or new_id()
        attributes_of(ask.services.policy().model, self.kind, new.attributes)
        async with changing(ask) as changed:
            await want(ask, changed.write.connection, "manage")
            ref = f"{self.kind}:{identity}"
            await principals.make(changed.write, ref, status=new.status, attributes=new.attributes)
            made = Principal(id=identity, status=new.status, attributes=new.attributes)
        return changed.answer(made, location=f"/{self.kind}s/{quote(identity, safe='')}")

    async def read(self, ask: Ask) -> Answer:
        async with reading(ask) as connection:
            await want(ask, connection, "manage")
            return Answer(await service.read(connection, self.kind, ask.path["id"]))

    async def change(self, ask: Ask) -> Answer:
        wanted: PrincipalChange = ask.body
        identity = ask.path["id"]
        attributes_of(ask.services.policy().model, self.kind, wanted.attributes or {})
        async with changing(ask) as changed:
            await want(ask, changed.write.connection, "manage")
            unchanged(ask, await service.read(changed.write.connection, self.kind, identity))
            await service.change(changed.write, f"{self.kind}:{identity}", wanted)
            if wanted.status == "suspended":
                await want_someone_left(ask, changed.write, f"{self.kind}:{identity}")
            now = await service.read(changed.write.connection, self.kind, identity)
        return changed.answer(now)

    async def delete(self, ask: Ask) -> Answer:
        """Delete one: at once, and then what he has in each tenant, a write each. Who asks again goes on with that."""
        identity = ask.path["id"]
        ref = f"{self.kind}:{identity}"

        async def work(shared: Sharing) -> Answer:
            async with changing(ask, shared=shared) as changed:
                await want(ask, changed.write.connection, "manage")
                known = await service.read(changed.write.connection, self.kind, identity)
                unchanged(ask, known)
                if not await service.is_cut_off(changed.write, known.status, ref):
                    await principals.delete(changed.write, ref)
                    await want_someone_left(ask, changed.write, ref)
            return changed.answer(None)

        answer = await rewriting(work)
        await principals.leave_everything(ask.services.writer, ref, actor=ask.actor.ref)
        return answer


def _endpoints(kind: Kind) -> Iterator[Endpoint]:
    of = Principals(kind)
    all_, one = f"/{kind}s", f"/{kind}s/{{id}}"
    page = Page[ListedPrincipal]
    yield Endpoint("GET", all_, f"List {kind}s, by id", of.list_all, _NEED, page, query=PrincipalQuery)
    yield Endpoint("POST", all_, f"Make a {kind}", of.make, _NEED, Principal, NewPrincipal, status=201)
    yield Endpoint("GET", one, f"Read a {kind}", of.read, _NEED, Principal)
    yield Endpoint("PATCH", one, f"Change a {kind}", of.change, _NEED, Principal, PrincipalChange, errors=(412,))
    yield Endpoint("DELETE", one, f"Delete a {kind}, for ever", of.delete, _NEED, errors=(412,))


ENDPOINTS: Final = (*_endpoints("user"), *_endpoints("service"))
