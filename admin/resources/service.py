"""Rules of resources. Nothing here commits."""

from __future__ import annotations

import json
from collections.abc import Sequence

from admin.errors import not_found
from admin.fits import place_of
from admin.paging import Page
from admin.repository import Found
from admin.resources import repository
from admin.resources.repository import Pair
from admin.resources.wire import Resource, ResourceQuery
from admin.trees import Node, grow, shown_as
from engine.model import Model
from store.database import Connection


def shown(row: Found) -> Resource:
    """Show a row."""
    parent = f"{row.parent_type}:{row.parent_id}" if row.parent_type is not None else None
    return Resource(
        id=f"{row.type}:{row.id}", parent=parent, attributes=json.loads(row.attributes or "{}"), deleted=row.deleted
    )


async def read(connection: Connection, tenant: str, ref: str) -> Resource:
    """Read one that is there.

    Raises:
        PublicError: it is not.
    """
    row = await repository.read(connection, tenant, ref)
    if row is None or row.deleted:
        raise not_found(f"resource `{ref}`")
    return shown(row)


def placed(model: Model, tenant: str, query: ResourceQuery) -> tuple[ResourceQuery, bool]:
    """Read in what is looked, and say whether that is the tenant itself.

    Raises:
        PublicError: it can be no parent.
    """
    if query.parent is not None:
        parent = place_of(model, query.parent, tenant, "query.parent")
        return query.model_copy(update={"parent": parent}), parent == f"{model.tenant}:{tenant}"
    return query, query.view == "tree" and query.type is query.prefix is None


async def with_inner(connection: Connection, tenant: str, page: Page[Resource], depth: int) -> Page[Node]:
    """Show resources with those that lie in them."""

    async def below(refs: Sequence[Pair], limit: int) -> list[tuple[Pair, Pair]]:
        return await repository.list_children(connection, tenant, refs, limit)

    grown = await grow([_pair(each.id) for each in page.items], below, depth=depth)
    return Page[Node](items=[shown_as(each, ":".join) for each in grown], next=page.next)


def _pair(ref: str) -> Pair:
    kind, _, identity = ref.partition(":")
    return kind, identity
