"""Pseudonyms: who stands behind a name in the audit logs.

A user's reference never gets into an audit row; a random name does, and one table says whose it is. Erasure empties
that row: the chains of hashes still verify, and nobody can tell any more who it was. Services and groups are no persons
and keep their names.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from store.tables import pseudonyms

if TYPE_CHECKING:
    from store.changes import Write

_PERSON: Final = "user:"


async def pseudonym(write: Write, ref: str) -> str:
    """Return the pseudonym of a user, `"user:ann"`; make one if there is none."""
    return (await stand_ins(write.connection, [ref]))[ref].removeprefix(_PERSON)


async def erase(write: Write, ref: str) -> bool:
    """Forget who stands behind a pseudonym, for ever; say whether there was one."""
    forgotten = await write.connection.execute(
        update(pseudonyms).where(pseudonyms.c.ref == ref).values(ref=None).returning(pseudonyms.c.pseudonym)
    )
    found = forgotten.scalar_one_or_none()
    if found is not None:
        write.record("pseudonym.erased", pseudonym=found)
    return found is not None


async def stand_ins(connection: AsyncConnection, refs: Iterable[str]) -> dict[str, str]:
    """Return for each user what stands in an audit row, `"user:<pseudonym>"`.

    In one order whoever asks, and among the last statements of a write: so no two writes wait for each other.
    """
    wanted = sorted(set(refs))
    if not wanted:
        return {}
    await connection.execute(
        text("INSERT INTO pseudonyms (pseudonym, ref) VALUES (:pseudonym, :ref) ON CONFLICT (ref) DO NOTHING"),
        [{"pseudonym": str(uuid.uuid4()), "ref": ref} for ref in wanted],
    )
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 1000):
        part = pseudonyms.c.ref.in_(wanted[start : start + 1000])
        rows = await connection.execute(select(pseudonyms.c.ref, pseudonyms.c.pseudonym).where(part))
        found |= {row.ref: _PERSON + row.pseudonym for row in rows}
    return found


def persons_in(value: object) -> Iterator[str]:
    """List the references of users in what an audit row says."""
    if isinstance(value, str):
        if value.startswith(_PERSON):
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from persons_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from persons_in(each)


def veiled(value: Any, names: Mapping[str, str]) -> Any:
    """Put stand-ins in the place of users."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {key: veiled(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [veiled(each, names) for each in value]
    return value
