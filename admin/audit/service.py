"""What an audit log answers, whichever stream it is of: pages of records, and verdicts on its chain."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from admin.audit.wire import AuditEntry, AuditQuery, AuditRecord, Break, Verified
from admin.errors import bad_request, not_found
from admin.paging import Page, read_cursor, write_cursor
from admin.wire import nanoseconds
from engine.errors import RequestError
from store.audit import Verdict, head_of, verify_part
from store.audit_search import AuditFilter, search_audit
from store.audit_search import AuditRecord as Stored
from store.database import Connection
from store.streams import NOWHERE, Position, is_of_refusals, stream_of, tenant_of
from store.times import write_time

#: So many rows one request verifies.
PART: Final = 20_000
#: Names of cursors.
_SEARCHES: Final = {"done": "audit", "refused": "audit.refused"}
_VERIFY: Final = "audit.verify"


async def search(connection: Connection, stream: str, query: AuditQuery) -> Page[AuditRecord]:
    """Find rows, newest first.

    Raises:
        PublicError: there is no such log, or this is nothing that one can look for.
    """
    await head(connection, stream)
    wanted = AuditFilter(
        query.actor, query.action, query.names, _instant(query.since, "since"), _instant(query.until, "until")
    )
    name = _SEARCHES[query.outcome]
    before = None if query.cursor is None else read_cursor(query.cursor, name, 1, (int,))[0]
    try:
        found = await search_audit(connection, stream, wanted, before=before, limit=query.limit)
    except RequestError as error:
        raise bad_request(f"not as it must be: query: {error.message}") from error
    following = None if found.cursor is None else write_cursor(name, [found.cursor])
    return Page(items=[_shown(each) for each in found.records], next=following)


async def verify(connection: Connection, stream: str, cursor: str | None) -> Verified:
    """Compute a part of the chain again.

    Raises:
        PublicError: there is no such log.
    """
    await head(connection, stream)
    verdict, is_more = await verify_part(connection, stream, after=_position(cursor), limit=PART)
    return _verified(verdict, is_more)


async def head(connection: Connection, stream: str) -> Position:
    """Say how far a log is. That of refusals begins with the first one, and is there where the tenant is.

    Raises:
        PublicError: there is none.
    """
    found = await head_of(connection, stream)
    if found is None and is_of_refusals(stream):
        owner = tenant_of(stream)
        if owner is None or await head_of(connection, stream_of(owner)) is not None:
            return NOWHERE
    if found is None:
        raise not_found("audit log of that tenant")
    return found


def _shown(record: Stored) -> AuditRecord:
    entries = record.entries
    shown = None if entries is None else [AuditEntry(action=one.action, details=dict(one.details)) for one in entries]
    return AuditRecord(revision=record.n, at=record.at, actor=record.actor, entries=shown, hash=record.hash)


def _verified(verdict: Verdict, is_more: bool) -> Verified:
    last, fault = verdict.last, verdict.fault
    return Verified(
        whole=fault is None and not is_more,
        revision=last.n,
        hash=last.head,
        fault=None if fault is None else Break(revision=fault.n, why=fault.why),
        next=write_cursor(_VERIFY, [last.n, last.head]) if is_more else None,
    )


def _position(cursor: str | None) -> Position:
    if cursor is None:
        return NOWHERE
    return Position(*read_cursor(cursor, _VERIFY, 2, (int, str)))


def _instant(moment: datetime | None, name: str) -> int | None:
    """Read a time that the database can hold: with its offset it may lie before the year 1 or after 9999."""
    if moment is None:
        return None
    found = nanoseconds(moment, 0)
    try:
        write_time(found)
    except OverflowError as error:
        raise bad_request(f"not as it must be: query.{name}", {f"query.{name}": "a year from 1 to 9999"}) from error
    return found
