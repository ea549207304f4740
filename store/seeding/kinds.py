"""The tables that a facts file fills, one `Kind` each, and the statements that all of them have in common.

A *thing* is what is named once: a user, a membership, a role that somebody holds somewhere. It has one row; where it
may count in several periods, one for each beginning. Its values are texts, as they go in: a flag is "0" or "1".

Each statement does up to a thousand things: they go in as one parameter, JSON, which costs one trip and is planned
once, on either database.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    FromClause,
    Insert,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    column,
    delete,
    exists,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from store import tables
from store.changes import Write
from store.errors import RefusedError
from store.queries import dialect_of
from store.streams import (
    EVERYTHING,
    GLOBAL,
    TENANT,
    group_key,
    principal_key,
    resource_key,
    stream_of,
    subject_key,
    tenant_key,
)
from store.writes.standing import GROUP
from store.writes.standing import PRINCIPALS as PRINCIPAL_TYPES

T = TypeVar("T")
Key = tuple[str, ...]
Row = tuple[str | None, ...]
Rows = tuple[Row, ...]
Things = dict[Key, Rows]

#: So many rows one statement reads or writes, and one transaction writes.
PART: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A table, as a facts file fills it.

    Attributes:
        word: what is counted.
        key: the columns that name a thing; `tenant_id` goes without saying.
        values: the columns of what is said of it.
        view: names what a process that decides must read again, in the stream that the table belongs to.
        is_timed: a thing has a row for each beginning, and what is said of it takes the place of all of them.
        by: the columns by which things are read, where more than those in the file are of interest.
        is_modest: what is there already stays as it is.
        name: what is given once and never again, as (kind, id) of `names`.
    """

    word: str
    table: Table
    key: tuple[str, ...]
    values: tuple[str, ...]
    view: Callable[[Key], str]
    is_timed: bool = False
    by: tuple[str, ...] = ()
    is_modest: bool = False
    name: Callable[[Key], tuple[str, str]] | None = None

    @property
    def is_owned(self) -> bool:
        """Whether the rows are one tenant's."""
        return self.table in tables.OWNED


_TIMES: Final = ("starts", "expires")


def _of_principal(key: Key) -> str:
    return principal_key(f"{key[0]}:{key[1]}")


def _of_group(key: Key) -> str:
    return group_key(key[0])


def _of_subject(key: Key) -> str:
    return subject_key(key[0] if key[0] == key[1] else f"{key[0]}:{key[1]}")


def _group_name(key: Key) -> tuple[str, str]:
    return GROUP, key[0]


# --- what all tenants share -----------------------------------------------------------------------------

TENANTS: Final = Kind(
    "tenants", tables.tenants, ("id",), ("status",), lambda key: tenant_key(key[0]), name=lambda key: ("tenant", key[0])
)
PRINCIPALS: Final = Kind(
    "principals",
    tables.principals,
    ("type", "id"),
    ("status", "attributes"),
    _of_principal,
    name=lambda key: (key[0], key[1]),
)
PLATFORM_GROUPS: Final = Kind(
    "groups", tables.platform_groups, ("id",), ("attributes", "deleted"), _of_group, name=_group_name
)
PLATFORM_NESTINGS: Final = Kind("nestings", tables.platform_nestings, ("inner_id", "outer_id"), (), _of_group)
PLATFORM_MEMBERS: Final = Kind(
    "group_members",
    tables.platform_members,
    ("type", "id", "group_id"),
    _TIMES,
    _of_principal,
    is_timed=True,
    by=("type", "id"),
)
SYSTEM_ASSIGNMENTS: Final = Kind(
    "assignments", tables.system_assignments, ("type", "id", "role"), _TIMES, _of_principal, is_timed=True
)
LINKS: Final = Kind(
    "links",
    tables.links,
    ("type", "id", "home_id", "tenant_id", "place_type", "place_id", "role"),
    _TIMES,
    _of_principal,
    is_timed=True,
)

# --- what one tenant owns -------------------------------------------------------------------------------

PROFILES: Final = Kind("tenants", tables.tenant_profiles, ("tenant_id",), ("attributes",), lambda _: TENANT)
CUSTOM_ROLES: Final = Kind(
    "custom_roles", tables.custom_roles, ("name",), ("place_type", "can", "deleted"), lambda _: EVERYTHING
)
GROUPS: Final = Kind("groups", tables.groups, ("id",), ("attributes", "deleted"), _of_group, name=_group_name)
NESTINGS: Final = Kind("nestings", tables.group_nestings, ("inner_id", "outer_id"), (), _of_group)
MEMBERS: Final = Kind(
    "group_members",
    tables.group_members,
    ("type", "id", "group_id"),
    _TIMES,
    _of_principal,
    is_timed=True,
    by=("type", "id"),
)
RESOURCES: Final = Kind(
    "resources",
    tables.resources,
    ("type", "id"),
    ("parent_type", "parent_id", "attributes", "deleted"),
    lambda key: resource_key(f"{key[0]}:{key[1]}"),
)
MEMBERSHIPS: Final = Kind("memberships", tables.memberships, ("type", "id"), ("status", *_TIMES), _of_principal)
#: Those that a file only implies: they take nobody's place.
IMPLIED_MEMBERSHIPS: Final = Kind(
    "memberships", tables.memberships, ("type", "id"), ("status", *_TIMES), _of_principal, is_modest=True
)
ASSIGNMENTS: Final = Kind(
    "assignments",
    tables.assignments,
    ("subject_type", "subject_id", "place_type", "place_id", "role"),
    _TIMES,
    _of_subject,
    is_timed=True,
)

_PRESENT: Final = (MEMBERS, MEMBERSHIPS, IMPLIED_MEMBERSHIPS, ASSIGNMENTS)


def is_dead(kind: Kind, rows: Rows) -> bool:
    """Say whether a thing is deleted, which is for ever."""
    said = dict(zip(kind.values, rows[0], strict=True)) if rows else {}
    return said.get("deleted") == "1" or said.get("status") == "deleted"


def in_parts(things: Iterable[T], size: int = PART) -> Iterator[list[T]]:
    """Split into lists of a bounded length."""
    rest = iter(things)
    while part := list(islice(rest, size)):
        yield part


# --- reading --------------------------------------------------------------------------------------------


async def read(connection: AsyncConnection, kind: Kind, keys: Iterable[Key], tenant: str) -> Things:
    """Read the things with these keys, of a tenant if the kind is one's.

    Args:
        keys: of the columns `kind.by`, if it has them.
    """
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    width = len(kind.key)
    for part in in_parts(dict.fromkeys(keys)):
        for row in await connection.execute(_reading(connection, kind, part, tenant)):
            found[tuple(row[:width])].append(tuple(_as_text(value) for value in row[width:]))
    return {key: in_order(rows) for key, rows in found.items()}


def in_order(rows: Collection[Row]) -> Rows:
    """Sort the rows of one thing by their beginnings."""
    return tuple(sorted(rows, key=lambda row: row[0] or "")) if len(rows) > 1 else tuple(rows)


async def taken(connection: AsyncConnection, names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """List which of these names were ever given."""
    found: set[tuple[str, str]] = set()
    table = tables.names
    for part in in_parts(dict.fromkeys(names)):
        asked = listed(connection, ("kind", "id"), part)
        rows = await connection.execute(select(table.c.kind, table.c.id).where(_is_one_of(table, asked)))
        found |= {(row.kind, row.id) for row in rows}
    return found


def _reading(connection: AsyncConnection, kind: Kind, keys: list[Key], tenant: str) -> Select[Any]:
    columns = (kind.table.c[name] for name in (*kind.key, *kind.values))
    asked = listed(connection, kind.by or kind.key, keys)
    return select(*columns).where(_owner(kind, tenant), _is_one_of(kind.table, asked))


def _as_text(value: object) -> str | None:
    return str(int(value)) if isinstance(value, bool) else None if value is None else str(value)


def listed(connection: AsyncConnection, columns: tuple[str, ...], rows: Iterable[Row]) -> Subquery:
    """Make a table of texts, of one parameter."""
    given = [row[0] for row in rows] if len(columns) == 1 else list(rows)
    made = text(dialect_of(connection).table("rows", *columns)).bindparams(rows=json.dumps(given))
    return made.columns(*(column(name, Text()) for name in columns)).subquery("asked")


def _is_one_of(table: Table, asked: FromClause) -> ColumnElement[bool]:
    """Name rows by those asked for. Of a join instead, SQLite reads the whole tenant again for each."""
    return tuple_(*(table.c[each.name] for each in asked.c)).in_(select(asked))


def _owner(kind: Kind, tenant: str) -> ColumnElement[bool]:
    return kind.table.c.tenant_id == tenant if kind.is_owned else true()


# --- writing --------------------------------------------------------------------------------------------


async def put(write: Write, kind: Kind, things: Things, new: Collection[Key]) -> None:
    """Write things, in the place of what is said of them, with all that goes with them; note what changed.

    Args:
        new: those that were not there, as far as is known.

    Raises:
        RefusedError: somebody deleted one of them meanwhile, or took its name.
    """
    if kind.name is not None:
        await _take_names(write, [kind.name(key) for key in things if key in new])
    if kind.is_timed:
        await write.connection.execute(_removing(write, kind, things))
    rows = [(*key, *row) for key, values in things.items() for row in values]
    asked = listed(write.connection, (*kind.key, *kind.values), rows)
    written = await write.connection.execute(_inserting(write, kind, asked))
    if written.rowcount != len(rows) and not (kind.is_modest or not kind.values):
        raise overtaken()
    if kind in _PRESENT:
        await _be_present(write, {key[:2] for key in things if key[0] in PRINCIPAL_TYPES})
    if kind.table is tables.memberships:
        await _tell_links(write, things)
    write.touch(stream_of(write.owner) if kind.is_owned else GLOBAL, *(kind.view(key) for key in things))


def _inserting(write: Write, kind: Kind, asked: Subquery) -> Insert:
    """Insert rows. What stands under the key of one gives way, unless it is deleted: that is for ever."""
    values: dict[str, ColumnElement[Any]] = {each.name: each for each in asked.c}
    rows = select(asked).where(true())  # SQLite would take `ON CONFLICT` for the condition of a join
    if "deleted" in values:
        values["deleted"] = asked.c.deleted == "1"
    if kind.is_owned and "tenant_id" not in values:
        values["tenant_id"] = literal(write.owner)
    if kind is LINKS:
        rows = rows.join(tables.memberships, _at_home(write, asked), isouter=True)
        values |= _home()
    return _upsert(write.connection, kind, list(values), rows.with_only_columns(*values.values()))


def _upsert(connection: AsyncConnection, kind: Kind, columns: list[str], rows: Select[Any]) -> Insert:
    table = kind.table
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).from_select(columns, rows)
    if kind.is_timed:
        return statement
    if kind.is_modest or not kind.values:
        return statement.on_conflict_do_nothing()
    changes = {name: statement.excluded[name] for name in kind.values}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes, where=_living(table))


def _living(table: Table) -> ColumnElement[bool]:
    if "deleted" in table.c:
        return ~table.c.deleted
    return table.c.status != "deleted" if "status" in table.c else true()


def _removing(write: Write, kind: Kind, things: Things) -> Delete:
    asked = listed(write.connection, kind.key, things)
    owner = _owner(kind, write.owner) if kind.is_owned else true()
    return delete(kind.table).where(owner, _is_one_of(kind.table, asked))


async def _take_names(write: Write, names: list[tuple[str, str]]) -> None:
    """Give names for the first and only time; in one order whoever does it, so that no two wait for each other."""
    if not names:
        return
    insert = sqlite.insert if write.connection.dialect.name == "sqlite" else postgresql.insert
    asked = listed(write.connection, ("kind", "id"), sorted(names))
    rows = select(asked).where(true())
    given = await write.connection.execute(
        insert(tables.names).from_select(["kind", "id"], rows).on_conflict_do_nothing()
    )
    if given.rowcount != len(names):
        raise overtaken()


async def _be_present(write: Write, who: Collection[Key]) -> None:
    """Note that principals have rows in the write's tenant."""
    if not who:
        return
    insert = sqlite.insert if write.connection.dialect.name == "sqlite" else postgresql.insert
    asked = listed(write.connection, ("type", "id"), sorted(who))
    rows = select(asked.c.type, asked.c.id, literal(write.owner)).where(true())
    await write.connection.execute(
        insert(tables.presences).from_select(["type", "id", "tenant_id"], rows).on_conflict_do_nothing()
    )


# --- links repeat their holder's membership at home -----------------------------------------------------


def _at_home(write: Write, asked: FromClause) -> ColumnElement[bool]:
    table = tables.memberships
    return and_(table.c.tenant_id == write.owner, table.c.type == asked.c.type, table.c.id == asked.c.id)


def _home() -> dict[str, ColumnElement[Any]]:
    table = tables.memberships
    return {
        "home_status": table.c.status,
        "home_starts": func.coalesce(table.c.starts, ""),
        "home_expires": table.c.expires,
    }


async def _tell_links(write: Write, who: Collection[Key]) -> None:
    """Repeat memberships in the links that hang on them, from the rows as they now stand.

    Raises:
        NeedsSharedError: there are some, and what all tenants share is not locked.
    """
    table = tables.links
    theirs = (table.c.home_id == write.owner) & _is_one_of(table, listed(write.connection, ("type", "id"), who))
    found = await write.connection.execute(select(exists(select(table.c.id).where(theirs))))
    if not found.scalar_one():
        return
    write.want_shared()
    changed = await write.connection.execute(
        update(table)
        .where(theirs, _at_home(write, table))
        .values({table.c[name]: value for name, value in _home().items()})
        .returning(table.c.type, table.c.id)
    )
    write.touch(GLOBAL, *{_of_principal(tuple(row)) for row in changed})


def overtaken() -> RefusedError:
    """Make the refusal of what was free or alive when it was looked at, and is not any more."""
    return RefusedError("conflict", "somebody else writes the same at this moment: run it again")
