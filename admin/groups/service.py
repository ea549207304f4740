"""Rules of groups. Nothing here commits. `tenant` None: those of the platform."""

from __future__ import annotations

import json
from collections.abc import Sequence

from admin.errors import not_found
from admin.groups import repository
from admin.groups.repository import GROUP
from admin.groups.wire import Group, ListedGroup, Member, NewMember
from admin.paging import Page
from admin.repository import Found
from admin.trees import Node, grow, shown_as
from admin.wire import nanoseconds, shown_time
from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.database import Connection
from store.times import read_end, read_start
from store.writes import groups, platform_groups


async def read(connection: Connection, tenant: str | None, name: str) -> Group:
    """Read one.

    Raises:
        PublicError: there is none.
    """
    found = await repository.read(connection, tenant, name)
    if found is None:
        raise not_found(f"group `{name}`")
    row, inside = found
    return Group(id=row.id, attributes=json.loads(row.attributes or "{}"), inside=inside)


async def put(write: Write, tenant: str | None, name: str, ref: str, wanted: NewMember) -> None:
    """Put a principal or a group into a group."""
    of = groups if tenant is not None else platform_groups
    kind, _, identity = ref.partition(":")
    if kind == GROUP:
        await of.nest(write, identity, name)
        return
    starts, expires = nanoseconds(wanted.starts, ALWAYS), nanoseconds(wanted.expires, NEVER)
    await of.add_member(write, name, ref, starts=starts, expires=expires)


async def take(write: Write, tenant: str | None, name: str, ref: str) -> None:
    """Take a principal or a group out of a group."""
    of = groups if tenant is not None else platform_groups
    kind, _, identity = ref.partition(":")
    if kind == GROUP:
        await of.unnest(write, identity, name)
    else:
        await of.remove_member(write, name, ref)


def shown_member(row: Found) -> Member:
    """Show a row."""
    ref = f"{row.type}:{row.id}"
    starts, expires = shown_time(read_start(row.starts)), shown_time(read_end(row.expires))
    return Member(id=ref, subject=ref, starts=starts, expires=expires)


async def with_inner(connection: Connection, tenant: str | None, page: Page[ListedGroup], depth: int) -> Page[Node]:
    """Show groups with those that stand in them."""

    async def below(names: Sequence[str], limit: int) -> list[tuple[str, str]]:
        return await repository.list_nested(connection, tenant, names, limit)

    grown = await grow([each.id for each in page.items], below, depth=depth)
    return Page[Node](items=[shown_as(each, str) for each in grown], next=page.next)
