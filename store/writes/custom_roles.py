"""Roles that a tenant makes: a name, the type that they are held on, and patterns (stream t).

What they may hold is cut to the policy's line whenever they are used; here only their form is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement

from engine.patterns import is_well_formed, split
from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id, check_type
from store.streams import EVERYTHING
from store.tables import assignments, custom_roles
from store.writes.removal import strip
from store.writes.rows import add, count, find, where
from store.writes.rows import change as change_rows
from store.writes.standing import CUSTOM, refuse_absent

#: So many roles of its own a tenant may have at a time.
MAX_ROLES: Final = 1000


async def make(write: Write, name: str, on: str, can: Iterable[str]) -> None:
    """Make a role that is held on places of a type. A name that was ever one's is not given again."""
    check_id(name, "a role's name")
    row = await find(write, custom_roles, tenant_id=write.owner, name=name)
    if row is not None:
        said = "was deleted: its name stays taken" if row.deleted else "is there already"
        raise RefusedError("taken", f"the role `{CUSTOM}{name}` {said}")
    if await count(write, custom_roles, where(custom_roles, tenant_id=write.owner, deleted=False)) >= MAX_ROLES:
        raise RefusedError("too_many", f"a tenant has at most {MAX_ROLES} roles of its own")
    columns = {"place_type": check_type(on, "the type of a role"), "can": _patterns(patterns := list(can))}
    await add(write, custom_roles, tenant_id=write.owner, name=name, **columns)
    write.touch_own(EVERYTHING)
    write.record("custom_role.made", role=name, on=on, can=patterns, tenant=write.owner)


async def change(write: Write, name: str, can: Iterable[str]) -> None:
    """Put these patterns in the place of the role's."""
    patterns = list(can)
    if not await change_rows(write, custom_roles, _living(write, name), can=_patterns(patterns)):
        raise refuse_absent(f"role `{CUSTOM}{name}`")
    write.touch_own(EVERYTHING)
    write.record("custom_role.changed", role=name, can=patterns, tenant=write.owner)


async def delete(write: Write, name: str) -> None:
    """Delete a role, for ever, and take it from all who hold it."""
    if not await change_rows(write, custom_roles, _living(write, name), deleted=True):
        raise refuse_absent(f"role `{CUSTOM}{name}`")
    holders = await strip(write, where(assignments, role=f"{CUSTOM}{name}"))
    write.touch_own(EVERYTHING)
    write.record("custom_role.deleted", role=name, roles=holders, tenant=write.owner)


def _living(write: Write, name: str) -> ColumnElement[bool]:
    return where(custom_roles, tenant_id=write.owner, name=name, deleted=False)


def _patterns(can: list[str]) -> str:
    """Write patterns down as a JSON list.

    Raises:
        RefusedError: one is none.
    """
    for pattern in can:
        check_id(pattern, "a pattern")
        if not is_well_formed(split(pattern)):
            raise RefusedError("bad_pattern", f"`{pattern}` is no pattern: `type.action`, `type.*`, `*.action` or `*`")
    return json.dumps(can, separators=(",", ":"), ensure_ascii=False)
