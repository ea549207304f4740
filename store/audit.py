"""The audit logs as evidence: each row holds the hash of the one before, and the stream's head is that of the last.

Whoever changes, adds or removes a row must change all that follow it, and the head, which the processes that decide
remember while they run. Who may change all of that leaves a chain that holds in itself: only a head that was kept
elsewhere tells it from the one that was written.

A chain is followed row by row, out of the database or out of an export of it. An export has the rows as they are
stored, so persons stay behind their pseudonyms, and erasure leaves exports whole too. It may hold several streams.

What was refused stands in chains of the same form (`refusals`), and whatever is said here of a stream holds of them.
Only, where nothing was refused yet there is no head, and that is no fault.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import chained
from store.streams import (
    GLOBAL,
    NOWHERE,
    POLICIES,
    Position,
    in_lock_order,
    is_of_refusals,
    refused_in,
    stream_of,
    tenant_of,
)
from store.tables import (
    audit_log,
    names,
    platform_audit_log,
    platform_refusals,
    refusal_heads,
    refusals,
    revisions,
)

PAGE: Final = 1000
_NO_HEADS: Final[Mapping[str, Position]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row as it is stored: `entries` is JSON text, and pseudonyms stand for persons."""

    n: int
    at: str
    actor: str
    entries: str
    before: str
    hash: str


_COLUMNS: Final = tuple(each.name for each in fields(AuditRow))


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold: at which revision, and why."""

    n: int
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a chain holds.

    Attributes:
        last: its last row that holds.
        proven: up to which revision a head vouches for all rows; 0: no head was known, or it is broken.
        fault: where it breaks first; None: it is whole.
    """

    stream: str
    last: Position
    proven: int
    fault: Break | None


async def verify_stream(connection: AsyncConnection, stream: str) -> Verdict:
    """Compute the chain of a stream again, and hold it against the stream's head.

    Args:
        connection: in a snapshot, of the stream's tenant if it has one: no other sees the rows.
    """
    verdict, _ = await verify_part(connection, stream)
    return verdict


async def verify_part(
    connection: AsyncConnection, stream: str, *, after: Position = NOWHERE, limit: int | None = None
) -> tuple[Verdict, bool]:
    """Verify as above, some rows far, from behind one that was verified before; say, too, whether more are to come.
    While they are, the verdict is on those so far, and no head vouches for them."""
    head = await head_of(connection, stream)
    chain = _Chain(stream, head, after)
    rows = 0
    async for row in _rows(connection, stream, after.n):
        chain.take(row)
        rows += 1
        if chain.fault is not None:
            break
        if rows == limit and head is not None and row.n < head.n:
            return Verdict(stream, chain.at, 0, None), True
    if head is None and (chain.at.n or not is_of_refusals(stream)):
        chain.break_at(chain.at.n, "the stream has no head")
    elif head is not None and chain.at.n > head.n:
        chain.break_at(head.n + 1, "the row comes after the head of the stream")
    return chain.verdict(), False


async def verify_chain(connection: AsyncConnection, stream: str) -> Break | None:
    """Verify as above; return where the chain breaks first, None if it is whole."""
    return (await verify_stream(connection, stream)).fault


def verify_lines(lines: Iterable[str], heads: Mapping[str, Position] = _NO_HEADS) -> list[Verdict]:
    """Compute the chains of an export again, from nothing but its lines.

    Args:
        heads: where streams are known to have been, from elsewhere. Without one nobody can say whether rows are
            missing at the end; rows after it are as good as their chain.
    """
    chains = {stream: _Chain(stream, head) for stream, head in heads.items()}
    stream = ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _read_line(line)
        stream = found[0] if found is not None else stream
        chain = chains.setdefault(stream, _Chain(stream))
        if found is None:
            chain.break_at(chain.at.n + 1, f"line {number} is no row of an audit log")
        else:
            chain.take(found[1])
    return [chain.verdict() for chain in chains.values()]


async def export_lines(connection: AsyncConnection, stream: str) -> AsyncIterator[str]:
    """Write the rows of a stream in order, a JSON object each: all that `verify_lines` needs.

    Args:
        connection: as for `verify_stream`. The snapshot is open until the last line is taken.
    """
    async for row in _rows(connection, stream):
        yield _line(stream, row)


async def export_page(connection: AsyncConnection, stream: str, *, after: int, until: int) -> tuple[list[str], int]:
    """Write the next rows as above, at most `PAGE`, from behind a revision up to another; return how far they go, too.

    A log only grows: pages of several snapshots make one export, and none is kept open for who reads slowly.
    """
    found: list[str] = []
    async for row in _rows(connection, stream, after):
        if row.n <= until:
            found.append(_line(stream, row))
            after = row.n
        if row.n >= until or len(found) == PAGE:
            break
    return found, after


async def all_streams(connection: AsyncConnection) -> list[str]:
    """List the streams that there must be, in the order of locks.

    Tenants by the names that were ever given, too: so one that was taken away with its counter is missed.
    """
    counted = await connection.scalars(select(revisions.c.stream))
    named = await connection.scalars(select(names.c.id).where(names.c.kind == "tenant"))
    return in_lock_order([GLOBAL, POLICIES, *counted, *map(stream_of, named)])


def refusals_of(streams: Iterable[str]) -> list[str]:
    """Name the chains of refusals that lie beside streams."""
    return [refused_in(owner) for owner in dict.fromkeys(map(tenant_of, streams))]


async def head_of(connection: AsyncConnection, stream: str) -> Position | None:
    """Return how far a stream is; None: it has no counter."""
    table = refusal_heads if is_of_refusals(stream) else revisions
    found = await connection.execute(select(table.c.n, table.c.head).where(table.c.stream == stream))
    row = found.one_or_none()
    return Position(row.n, row.head) if row is not None else None


def log_of(stream: str) -> tuple[Table, ColumnElement[bool]]:
    """Name the table that holds the rows of a stream, and the condition that picks them."""
    owner = tenant_of(stream)
    shared, own = (platform_refusals, refusals) if is_of_refusals(stream) else (platform_audit_log, audit_log)
    if owner is None:
        return shared, shared.c.stream == stream
    return own, own.c.tenant_id == owner


# --- following a chain ----------------------------------------------------------------------------------


class _Chain:
    """How far a chain has been followed. It stops at its first fault.

    Args:
        head: a position that it must reach, and pass with this hash.
        after: where it was followed to before.
    """

    def __init__(self, stream: str, head: Position | None = None, after: Position = NOWHERE) -> None:
        self.at = after
        self.fault: Break | None = None
        self._stream = stream
        self._head = head

    def take(self, row: AuditRow) -> None:
        """Take the next row."""
        if self.fault is None:
            self.fault = self._fault(row)
        if self.fault is None:
            self.at = Position(row.n, row.hash)

    def break_at(self, n: int, why: str) -> None:
        """Note a fault, unless there is one before."""
        self.fault = self.fault or Break(n, why)

    def verdict(self) -> Verdict:
        """Say how far it holds, now that there are no more rows."""
        head = self._head
        if head is not None and head.n > self.at.n:
            self.break_at(self.at.n + 1, "the row is missing")
        elif head is not None and head not in (NOWHERE, self.at) and head.n in (0, self.at.n):
            self.break_at(head.n, "the stream has another head")
        proven = head.n if head is not None and self.fault is None else 0
        return Verdict(self._stream, self.at, proven, self.fault)

    def _fault(self, row: AuditRow) -> Break | None:
        """Say what is wrong with a row that follows those so far."""
        if row.n > self.at.n + 1:
            return Break(self.at.n + 1, "the row is missing")
        if row.n <= self.at.n:
            return Break(row.n, "the row is one too many, or out of order")
        if row.before != self.at.head:
            return Break(row.n, "it does not follow the row before")
        if row.hash != chained(row.before, self._stream, row.n, row.at, row.actor, row.entries):
            return Break(row.n, "the row was changed")
        if self._head is not None and row.n == self._head.n and row.hash != self._head.head:
            return Break(row.n, "the stream has another head")
        return None


def _read_line(line: str) -> tuple[str, AuditRow] | None:
    """Read a line of an export; None: it is none. What the hash does not cover must not stand there either."""
    try:
        said = json.loads(line, object_pairs_hook=_members)
        stream = said.pop("stream")
        stream.encode()  # half a character is in no name
        row = AuditRow(**said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    is_sound = type(row.n) is int and all(isinstance(getattr(row, name), str) for name in _COLUMNS if name != "n")
    return (stream, row) if is_sound else None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member that stands there twice: readers differ in which one they take."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _line(stream: str, row: AuditRow) -> str:
    return json.dumps({"stream": stream} | {name: getattr(row, name) for name in _COLUMNS}, separators=(",", ":"))


async def _rows(connection: AsyncConnection, stream: str, after: int | None = None) -> AsyncIterator[AuditRow]:
    """Read the rows of a stream in order, page by page, all or those behind a revision."""
    table, whose = log_of(stream)
    wanted = select(*(table.c[name] for name in _COLUMNS)).where(whose).order_by(table.c.n).limit(PAGE)
    first = wanted if not after else wanted.where(table.c.n > after)
    page = (await connection.execute(first)).all()
    while page:
        for row in page:
            yield AuditRow(*row)
        if len(page) < PAGE:
            return
        page = (await connection.execute(wanted.where(table.c.n > page[-1].n))).all()
