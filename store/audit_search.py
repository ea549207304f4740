"""Searching an audit log: what to look for comes in, a page of rows goes out, newest first, with persons by name.

A log only grows, and what its entries say has no index. So one search looks at a window of rows and no more, however
few of them fit, and says from where to go on: a page may be short, or empty, before the log has ended. Within the
window the database leaves out what cannot fit, by the texts that an entry would have; what is left is taken apart and
looked at exactly. (JSON functions would do it in one step, but the two databases' differ, and a single row that
somebody damaged would fail every search.) Both costs are bounded: the window by `WINDOW`, what is held by the page.

Four statements at most: whom the filter means, the rows, whether there are older ones, and who stands behind them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, Subquery, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import RequestError
from store.audit import log_of
from store.pseudonyms import persons_in, veiled
from store.queries import dialect_of
from store.tables import pseudonyms
from store.times import write_time

#: So many rows one search looks at.
WINDOW: Final = 20_000
MAX_LIMIT: Final = 1000
#: No name is longer: a type and an id, in UTF-8.
MAX_TEXT: Final = 1024
_MAX_N: Final = 2**63 - 1
_PERSON: Final = "user:"
_PSEUDONYM: Final = re.compile(r"user:[0-9a-f-]{36}")
_GROUP: Final = "group:"
#: Entries about groups name them without their type, in these members.
_GROUP_MEMBERS: Final = ("group", "into", "out_of")
_EXAMPLES: Final = {"actor": "user:ann", "action": "assignment.given, or assignment.", "names": "task:t1"}


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What a row must be like; None: anything will do.

    Attributes:
        actor: who wrote, `"user:ann"`. One who was erased is found by the pseudonym alone.
        action: what was done, `"assignment.given"`, or with a dot at its end how that begins, `"assignment."`.
        names: a subject, resource, role or whatever else an entry names, `"task:t1"`. With an action: an entry of it.
        since, until: nanoseconds since 1970; the first is in, the second is out.
    """

    actor: str | None = None
    action: str | None = None
    names: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that a write did."""

    action: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A row for people: who was not erased is named.

    Attributes:
        entries: None: what stands there was not written by this service; the chain says so, too.
    """

    n: int
    at: str
    actor: str
    entries: tuple[AuditEntry, ...] | None
    hash: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """What was found.

    Attributes:
        cursor: `before` of the next search; None: the log has nothing older.
    """

    records: tuple[AuditRecord, ...]
    cursor: int | None


async def search_audit(
    connection: AsyncConnection,
    stream: str,
    wanted: AuditFilter = AuditFilter(),
    *,
    before: int | None = None,
    limit: int = 25,
) -> AuditPage:
    """Find rows of one stream, newest first.

    Args:
        connection: in a snapshot, of the stream's tenant if it has one: no other sees the rows.
        before: look only at revisions below this one: the cursor of the page before.
        limit: rows of a page, 1 to `MAX_LIMIT`.

    Raises:
        RequestError: this is nothing that one can look for.
    """
    _check(wanted, before, limit)
    meant = await _meant(connection, wanted)
    log, whose = log_of(stream)
    older = select(log).where(whose, *([log.c.n < before] if before is not None else [])).order_by(log.c.n.desc())
    window = older.limit(WINDOW).subquery()
    fitting = select(window).where(*_conditions(window, wanted, meant)).order_by(window.c.n.desc())
    rows = (await connection.execute(fitting.limit(limit + 1))).all()
    if len(rows) > limit:
        rows, cursor = rows[:limit], rows[limit - 1].n
    else:
        cursor = await _below_window(connection, older)
    found = [(row, entries) for row in rows if _fits(entries := _read(row.entries), wanted, meant)]
    return AuditPage(tuple(await _named(connection, found)), cursor)


# --- what is looked for -----------------------------------------------------------------------------------


def _check(wanted: AuditFilter, before: int | None, limit: int) -> None:
    """Refuse what a database would stumble over, or find nothing by."""
    for what, said in (("actor", wanted.actor), ("action", wanted.action), ("names", wanted.names)):
        if said is not None and not _is_text(said):
            raise RequestError("bad_request", f"{what}: write a name of 1 to {MAX_TEXT} bytes, like {_EXAMPLES[what]}")
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise RequestError("bad_request", "since, until: the first is in and the second is out: write an earlier since")
    if not 1 <= limit <= MAX_LIMIT:
        raise RequestError("bad_request", f"limit: write a number from 1 to {MAX_LIMIT}")
    if before is not None and not 1 <= before <= _MAX_N:
        raise RequestError("bad_request", "cursor: take the one that the page before gave")


def _is_text(said: str) -> bool:
    try:
        return 0 < len(said.encode()) <= MAX_TEXT and "\0" not in said
    except UnicodeEncodeError:  # half a character
        return False


#: For each text of a filter, how it may be written in a row.
Meant = Mapping[str, set[str]]


async def _meant(connection: AsyncConnection, wanted: AuditFilter) -> Meant:
    """Find the pseudonyms of persons that a filter names. As it is written it counts too: it may be a pseudonym."""
    said = {each for each in (wanted.actor, wanted.names) if each is not None}
    meant = {each: {each} for each in said}
    refs = [each for each in said if each.startswith(_PERSON)]
    if refs:
        rows = await connection.execute(select(pseudonyms).where(pseudonyms.c.ref.in_(refs)))
        for row in rows:
            meant[row.ref].add(_PERSON + row.pseudonym)
    return meant


def _conditions(window: Subquery, wanted: AuditFilter, meant: Meant) -> list[ColumnElement[bool]]:
    """Write the filter for the database: exactly for columns, and for entries by the texts that they must hold."""
    found: list[ColumnElement[bool]] = []
    if wanted.actor is not None:
        found.append(window.c.actor.in_(sorted(meant[wanted.actor])))
    if wanted.since is not None:
        found.append(window.c.at >= write_time(wanted.since))
    if wanted.until is not None:
        found.append(window.c.at < write_time(wanted.until))
    for texts in (_texts_of_action(wanted.action), _texts_of_name(wanted.names, meant)):
        if texts:
            found.append(or_(*(window.c.entries.contains(each, autoescape=True) for each in texts)))
    return found


def _texts_of_action(action: str | None) -> list[str]:
    if action is None:
        return []
    written = json.dumps(action)
    return [f"[{written[:-1]}" if action.endswith(".") else f"[{written},"]


def _texts_of_name(name: str | None, meant: Meant) -> list[str]:
    if name is None:
        return []
    texts = [json.dumps(each) for each in sorted(meant[name])]
    if name.startswith(_GROUP):
        bare = json.dumps(name.removeprefix(_GROUP))
        texts += [f'"{member}":{bare}' for member in _GROUP_MEMBERS]
    return texts


async def _below_window(connection: AsyncConnection, older: Select[Any]) -> int | None:
    """Return the cursor that goes on where the window ends; None: the log ends in it."""
    n: int | None = await connection.scalar(
        older.with_only_columns(older.selected_columns.n, maintain_column_froms=True).offset(WINDOW).limit(1)
    )
    return None if n is None else n + 1


# --- what is found ----------------------------------------------------------------------------------------


def _read(written: str) -> tuple[AuditEntry, ...] | None:
    """Take the entries of a row apart; None: they are none."""
    try:
        said = json.loads(written)
        is_sound = all(isinstance(action, str) and isinstance(details, dict) for action, details in said)
        veiled([[[[said]]]], {})  # what is nested too deep to be walked through later fails here, a little earlier
    except (ValueError, TypeError, RecursionError):
        return None
    return tuple(AuditEntry(action, details) for action, details in said) if is_sound else None


def _fits(entries: tuple[AuditEntry, ...] | None, wanted: AuditFilter, meant: Meant) -> bool:
    """Say whether an entry is what is looked for. What cannot be read is shown rather than hidden."""
    if entries is None or (wanted.action is None and wanted.names is None):
        return True
    return any(_is_of(each, wanted.action) and _does_name(each, wanted.names, meant) for each in entries)


def _is_of(entry: AuditEntry, action: str | None) -> bool:
    if action is None:
        return True
    return entry.action.startswith(action) if action.endswith(".") else entry.action == action


def _does_name(entry: AuditEntry, name: str | None, meant: Meant) -> bool:
    if name is None or not meant[name].isdisjoint(_texts_in(entry.details)):
        return True
    bare = name.removeprefix(_GROUP)
    return bare != name and any(entry.details.get(member) == bare for member in _GROUP_MEMBERS)


def _texts_in(value: object) -> Iterable[str]:
    """List the texts in what an entry says, however deep they stand."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)


async def _named(
    connection: AsyncConnection, found: list[tuple[Row[Any], tuple[AuditEntry, ...] | None]]
) -> list[AuditRecord]:
    """Put persons in the place of their pseudonyms, those that still stand for somebody."""
    said = [[row.actor, [each.details for each in entries or ()]] for row, entries in found]
    behind = await _behind(connection, persons_in(said))
    return [
        AuditRecord(
            row.n,
            row.at,
            behind.get(row.actor, row.actor),
            None
            if entries is None
            else tuple(AuditEntry(each.action, veiled(each.details, behind)) for each in entries),
            row.hash,
        )
        for row, entries in found
    ]


async def _behind(connection: AsyncConnection, said: Iterable[str]) -> dict[str, str]:
    """Look up who stands behind pseudonyms, in one statement for however many."""
    stored = {each.removeprefix(_PERSON) for each in said if _PSEUDONYM.fullmatch(each)}
    if not stored:
        return {}
    wanted = json.dumps(sorted(stored))
    listed = text(dialect_of(connection).table("wanted", "pseudonym")).columns(pseudonyms.c.pseudonym)
    rows = await connection.execute(
        select(pseudonyms).where(pseudonyms.c.pseudonym.in_(listed), pseudonyms.c.ref.is_not(None)), {"wanted": wanted}
    )
    return {_PERSON + row.pseudonym: row.ref for row in rows}
