"""Published policies, as the store holds them: which one decides from a revision of stream p on, and what it says.

A policy that was uploaded never changes, and neither does what was published at a revision: so what is read here of a
revision is the same whenever it is read, in whichever process. A number alone tells no revision, since a store that was
put back may come to it once more: the head of the stream goes with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select

from engine.source import Source
from store.database import Connection, Database
from store.errors import UnavailableError
from store.streams import NOWHERE, POLICIES, Position
from store.tables import changes, policies, publications, revisions
from store.times import read_time


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that was uploaded.

    Attributes:
        lock: the text of its `bylaw.lock`; None: it came without one.
        made: when it was uploaded, in nanoseconds since 1970. made_by: by whom.
    """

    id: str
    digest: str
    sources: tuple[Source, ...]
    lock: bytes | None
    note: str
    made: int
    made_by: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What decides from a revision of stream p on; without a policy, each process's own directory."""

    n: int
    policy: str | None
    at: int
    by: str


_BEGINNING: Final = Publication(0, None, 0, "")


class Published:
    """Reads what is published in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self) -> Position:
        """Read how far stream p is."""
        async with self._database.reading() as connection:
            return await position(connection)

    async def decides(self, at: Position) -> str | None:
        """Read the id of the policy that decides at a revision of stream p; None: each process's own directory does.

        Raises:
            UnavailableError: the store was put back meanwhile, and knows of no such revision.
        """
        if at == NOWHERE:
            return None
        async with self._database.reading() as connection:
            if not await _was(connection, at):
                raise UnavailableError("the store was put back to an earlier state while it was read")
            return (await publication_at(connection, at.n)).policy

    async def read(self, identity: str) -> StoredPolicy | None:
        """Read a policy that was uploaded; None: there is none of that id."""
        async with self._database.reading() as connection:
            return await policy_of(connection, identity)


async def position(connection: Connection, *, is_held: bool = False) -> Position:
    """Read how far stream p is.

    Args:
        is_held: nobody may move it until the transaction ends. SQLite has one writer at a time anyway.
    """
    wanted = select(revisions.c.n, revisions.c.head).where(revisions.c.stream == POLICIES)
    row = (await connection.execute(wanted.with_for_update(read=True) if is_held else wanted)).one_or_none()
    return NOWHERE if row is None else Position(row.n, row.head)


async def _was(connection: Connection, at: Position) -> bool:
    """Say whether stream p is at a revision, or was there not long ago."""
    now = await position(connection)
    if now.n <= at.n:
        return now == at
    following = select(changes.c.before).where(changes.c.stream == POLICIES, changes.c.n == at.n + 1)
    return await connection.scalar(following) == at.head


async def publication_at(connection: Connection, n: int | None = None) -> Publication:
    """Read what was published last, or was at a revision; nothing was, before anything was."""
    wanted = select(publications).order_by(publications.c.n.desc()).limit(1)
    row = (await connection.execute(wanted if n is None else wanted.where(publications.c.n <= n))).one_or_none()
    return _BEGINNING if row is None else publication_of(row)


async def policy_of(connection: Connection, identity: str) -> StoredPolicy | None:
    """Read a policy that was uploaded; None: there is none of that id."""
    found = await connection.execute(select(policies).where(policies.c.id == identity))
    row = found.one_or_none()
    return None if row is None else _policy(row)


def publication_of(row: Row[Any]) -> Publication:
    return Publication(row.n, row.policy_id, read_time(row.at), row.by)


def _policy(row: Row[Any]) -> StoredPolicy:
    sources = tuple(Source(name, text) for name, text in json.loads(row.files).items())
    lock = None if row.lock is None else row.lock.encode()
    return StoredPolicy(row.id, row.digest, sources, lock, row.note, read_time(row.made), row.made_by)
