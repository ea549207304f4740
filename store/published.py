"""Published policies, as the store holds them: which one decides from a revision of stream p on, and what it says.

A policy that was uploaded never changes, and neither does what was published at a revision: so what is read here of a
revision is the same whenever it is read, in whichever process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select

from engine.source import Source
from store.database import Connection, Database
from store.streams import POLICIES
from store.tables import policies, publications, revisions
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

    async def newest(self) -> int:
        """Read how far stream p is."""
        async with self._database.reading() as connection:
            return await position(connection)

    async def read(self, n: int) -> StoredPolicy | None:
        """Read the policy that decides at a revision of stream p; None: each process's own directory does."""
        async with self._database.reading() as connection:
            found = await publication_at(connection, n)
            return None if found.policy is None else await policy_of(connection, found.policy)


async def position(connection: Connection) -> int:
    """Read how far stream p is."""
    found = await connection.scalar(select(revisions.c.n).where(revisions.c.stream == POLICIES))
    return int(found or 0)


async def publication_at(connection: Connection, n: int) -> Publication:
    """Read what was published last at a revision; nothing was, before anything was."""
    newest = publications.c.n.desc()
    found = await connection.execute(select(publications).where(publications.c.n <= n).order_by(newest).limit(1))
    row = found.one_or_none()
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
