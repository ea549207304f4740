"""Endpoints of in which tenants somebody is: for keys, and for himself.

The wall between tenants holds here, too: no transaction shows two of them. So a page is as many snapshots as it has
tenants, and it is short.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.paging import Page, page_of
from admin.tenancies import repository, service
from admin.tenancies.wire import Tenancy, TenancyQuery
from admin.writing import reading

Kind = Literal["user", "service"]


class Tenancies:
    """The endpoint of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    async def list_page(self, ask: Ask) -> Answer:
        identity = ask.path["id"]
        async with reading(ask) as connection:
            await service.let_in(ask, connection, self.kind, identity)
            rows = await repository.list_page(connection, self.kind, identity, ask.query)
        page = page_of(rows, repository.BY_TENANT, ask.query, lambda row: row)
        found = []
        for row in page.items:
            async with reading(ask, row.tenant_id) as connection:
                found.append(await service.read(connection, row, self.kind, identity))
        return Answer(Page[Tenancy](items=[each for each in found if each is not None], next=page.next))


def _endpoints(kind: Kind) -> Iterator[Endpoint]:
    yield Endpoint(
        "GET",
        f"/{kind}s/{{id}}/memberships",
        f"List in which tenants a {kind} is; a page may have fewer than it could",
        Tenancies(kind).list_page,
        Need("anybody"),
        Page[Tenancy],
        query=TenancyQuery,
    )


ENDPOINTS: Final = (*_endpoints("user"), *_endpoints("service"))
