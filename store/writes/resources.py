"""Kept resources of a tenant: a tree that has no cycle, is never too deep, and forgets no name (stream t).

A parent is a resource of the same tenant; None is the tenant itself. Which type may lie in which is the policy's to
say, and for callers to check.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import CTE, ColumnElement, Row, Select, func, literal, select, tuple_
from sqlalchemy.orm import aliased

from store.changes import Write
from store.errors import RefusedError
from store.streams import resource_key
from store.tables import assignments, links, resources
from store.writes.attributes import Attributes, canonical, names_of
from store.writes.removal import cut, strip
from store.writes.rows import add, change, find, where
from store.writes.standing import Pair, place_of, refuse_absent

#: A chain has at most 32 links; the tenant and `system` are two.
MAX_DEPTH: Final = 30


async def make(write: Write, ref: str, *, parent: str | None = None, attributes: Attributes | None = None) -> None:
    """Make a resource, `"task:t1"`, in a live parent. An id is given once, even if what had it is deleted."""
    kind, identity = place_of(ref)
    row = await find(write, resources, tenant_id=write.owner, type=kind, id=identity)
    if row is not None:
        raise RefusedError(
            "taken", f"`{ref}` {'was deleted: its id stays taken' if row.deleted else 'is there already'}"
        )
    above = await _chain(write, parent)
    if len(above) >= MAX_DEPTH:
        raise _too_deep()
    columns = {**_parent(parent), "attributes": canonical(attributes)}
    await add(write, resources, tenant_id=write.owner, type=kind, id=identity, **columns)
    write.touch_own(resource_key(ref))
    write.record("resource.made", resource=ref, parent=parent, tenant=write.owner, attributes=names_of(attributes))


async def set_attributes(write: Write, ref: str, attributes: Attributes) -> None:
    """Put these attributes in the place of all that the resource had."""
    own = await _living(write, ref)
    await change(write, resources, own, attributes=canonical(attributes))
    write.touch_own(resource_key(ref))
    write.record("resource.attributes", resource=ref, tenant=write.owner, attributes=names_of(attributes))


async def move(write: Write, ref: str, parent: str | None) -> None:
    """Put a resource, with all that lies in it, into another live parent of the same tenant.

    INVARIANT: every write that moves holds the tenant's lock, so the chain that is read here stands until the commit.
    """
    own = await _living(write, ref)
    above = await _chain(write, parent)
    me = place_of(ref)
    if any((row.type, row.id) == me for row in above):
        raise RefusedError("cycle", f"`{parent}` lies in `{ref}`: a resource cannot lie in itself")
    if len(above) + await _height(write, me) > MAX_DEPTH:
        raise _too_deep()
    await change(write, resources, own, **_parent(parent))
    write.touch_own(resource_key(ref))
    write.record("resource.moved", resource=ref, parent=parent, tenant=write.owner)


async def delete(write: Write, ref: str) -> None:
    """Delete a resource and all that lies in it, for ever, with the roles held on them, over links too.

    Raises:
        NeedsSharedError: links end there, and the write is not shared.
    """
    await _living(write, ref)
    within = _subtree(write, place_of(ref))
    roles = await strip(write, _is_in(within, assignments.c.place_type, assignments.c.place_id))
    on_place = _is_in(within, links.c.place_type, links.c.place_id)
    crossing = await cut(write, (links.c.tenant_id == write.owner) & on_place)
    deleted = await _mark(write, within)
    write.touch_own(*(resource_key(f"{kind}:{identity}") for kind, identity in deleted))
    write.record(
        "resource.deleted", resource=ref, tenant=write.owner, resources=len(deleted), roles=roles, links=crossing
    )


# --- the tree -----------------------------------------------------------------------------------------


async def _living(write: Write, ref: str) -> ColumnElement[bool]:
    """Name the row of a resource that is there.

    Raises:
        RefusedError: it is not, or is deleted.
    """
    kind, identity = place_of(ref)
    own = {"tenant_id": write.owner, "type": kind, "id": identity}
    row = await find(write, resources, **own)
    if row is None or row.deleted:
        raise refuse_absent(f"resource `{ref}`")
    return where(resources, **own)


def _parent(parent: str | None) -> dict[str, str | None]:
    kind, identity = place_of(parent) if parent is not None else (None, None)
    return {"parent_type": kind, "parent_id": identity}


async def _chain(write: Write, parent: str | None) -> list[Row[Any]]:
    """Read a parent and what lies above it, all of it live."""
    if parent is None:
        return []
    kind, identity = place_of(parent)
    up = _start(write, (kind, identity), resources.c.parent_type, resources.c.parent_id, resources.c.deleted).cte(
        "up", recursive=True
    )
    above = _above(write, up)
    found = (await write.connection.execute(select(above))).all()
    if not found:
        raise RefusedError("unknown", f"there is no resource `{parent}` to lie in")
    if any(row.deleted for row in found):
        raise RefusedError("deleted", f"`{parent}` is deleted: nothing can lie in it")
    return list(found)


def _above(write: Write, up: CTE) -> CTE:
    """Extend a chain by the parent of its last link, again and again."""
    next_up = aliased(resources, name="next_up")
    columns = (next_up.c.type, next_up.c.id, next_up.c.parent_type, next_up.c.parent_id, next_up.c.deleted)
    return up.union_all(
        select(*columns, up.c.depth + 1).where(
            next_up.c.tenant_id == write.owner,
            next_up.c.type == up.c.parent_type,
            next_up.c.id == up.c.parent_id,
            up.c.depth <= MAX_DEPTH,
        )
    )


def _subtree(write: Write, top: Pair) -> CTE:
    """Select a resource and the live ones in it, each with its depth."""
    down = _start(write, top).cte("down", recursive=True)
    child = aliased(resources, name="child")
    return down.union_all(
        select(child.c.type, child.c.id, down.c.depth + 1).where(
            child.c.tenant_id == write.owner,
            child.c.parent_type == down.c.type,
            child.c.parent_id == down.c.id,
            ~child.c.deleted,
            down.c.depth <= MAX_DEPTH,
        )
    )


def _start(write: Write, top: Pair, *columns: ColumnElement[Any]) -> Select[Any]:
    own = where(resources, tenant_id=write.owner, type=top[0], id=top[1])
    return select(resources.c.type, resources.c.id, *columns, literal(1).label("depth")).where(own)


async def _height(write: Write, top: Pair) -> int:
    """Measure how deep a resource goes, itself counted."""
    within = _subtree(write, top)
    return int((await write.connection.execute(select(func.max(within.c.depth)))).scalar_one())


async def _mark(write: Write, within: CTE) -> list[Pair]:
    """Mark a subtree deleted; return what was in it."""
    marked = await write.connection.execute(
        resources.update()
        .where(resources.c.tenant_id == write.owner, _is_in(within, resources.c.type, resources.c.id))
        .values(deleted=True)
        .returning(resources.c.type, resources.c.id)
    )
    return [(row.type, row.id) for row in marked]


def _is_in(within: CTE, kind: ColumnElement[Any], identity: ColumnElement[Any]) -> ColumnElement[bool]:
    return tuple_(kind, identity).in_(select(within.c.type, within.c.id))


def _too_deep() -> RefusedError:
    return RefusedError("too_deep", f"resources lie at most {MAX_DEPTH} deep in each other")
