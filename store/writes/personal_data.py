"""What is known of persons beside facts, and the register of who is to be forgotten.

Values come encrypted, and are opaque here. One that is to be found by its value comes with a blind index, which no two
principals have in the same field. No policy reads any of it, and the decision service has no right on it.

All writes here hold the lock of what all tenants share, so that nothing is put beside a deletion and stays.

The register says who asked to be forgotten, and whether that was done: after a restore from a backup it must be done
again. It names the person as the audit log does, by a pseudonym, and so tells nothing once that is erased. What is
recorded here names the pseudonym for the same reason: one who is named by his reference, in the write that erases it,
would get a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id, new_id
from store.pseudonyms import erase, persons_in, pseudonym, stand_ins
from store.streams import GLOBAL
from store.tables import erasures, personal_data, pseudonyms
from store.times import read_time, write_time
from store.writes import departures, idempotency, tokens
from store.writes.rows import add, change, find, has, remove, where
from store.writes.standing import principal_of, refuse_absent, want_principal

_USER: Final = "user"


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request to be forgotten.

    Args:
        pseudonym: whose it was in the audit logs.
        done_at: None: it is not done.
    """

    id: str
    pseudonym: str
    requested_at: int
    requested_by: str
    done_at: int | None


# --- what is known --------------------------------------------------------------------------------------


async def put(write: Write, ref: str, field: str, value: str, *, blind_index: str | None = None) -> None:
    """Put a value, encrypted, in the place of what was known of a principal in a field.

    Raises:
        NeedsSharedError: what all tenants share is not locked.
    """
    write.want_shared()
    kind, identity = await want_principal(write, ref)
    own = {"type": kind, "id": identity, "field": check_id(field, "a field")}
    await remove(write, personal_data, where(personal_data, **own))
    if blind_index is not None and await has(
        write, personal_data, where(personal_data, field=field, blind_index=blind_index)
    ):
        raise RefusedError("taken", f"this `{field}` is known of somebody else")
    await add(write, personal_data, **own, value=value, blind_index=blind_index, changed=write_time(write.now))
    write.record("personal_data.put", GLOBAL, principal=ref, field=field)


async def remove_all(write: Write, ref: str) -> int:
    """Forget all that is known of a principal; return how many fields.

    Raises:
        NeedsSharedError: what all tenants share is not locked.
    """
    write.want_shared()
    kind, identity = principal_of(ref)
    fields = len(await remove(write, personal_data, where(personal_data, type=kind, id=identity)))
    whose = {"pseudonym": await pseudonym(write, ref)} if kind == _USER else {"principal": ref}
    write.record("personal_data.removed", GLOBAL, fields=fields, **whose)
    return fields


async def read(connection: AsyncConnection, ref: str) -> dict[str, str]:
    """Read what is known of a principal: values as they were put, by field."""
    kind, identity = principal_of(ref)
    found = await connection.execute(
        select(personal_data.c.field, personal_data.c.value)
        .where(where(personal_data, type=kind, id=identity))
        .order_by(personal_data.c.field)
    )
    return {row.field: row.value for row in found}


async def find_by_index(connection: AsyncConnection, field: str, blind_index: str) -> str | None:
    """Find of whom a value is known, `"user:ann"`."""
    found = await connection.execute(
        select(personal_data.c.type, personal_data.c.id).where(
            where(personal_data, field=field, blind_index=blind_index)
        )
    )
    row = found.one_or_none()
    return None if row is None else f"{row.type}:{row.id}"


# --- who is to be forgotten -----------------------------------------------------------------------------


async def request_erasure(write: Write, ref: str) -> str:
    """Note that a user is to be forgotten; return the request's id.

    Raises:
        NeedsSharedError: what all tenants share is not locked.
    """
    write.want_shared()
    kind, _ = principal_of(ref)
    if kind != _USER:
        raise RefusedError("bad_id", f"`{ref}` is no person: a user is")
    names = await stand_ins(write.connection, [ref, *persons_in(write.actor)])
    identity, whose = new_id(lambda: write.now), names[ref].removeprefix(f"{_USER}:")
    begun = select(erasures.c.id).where(where(erasures, pseudonym=whose, done_at=None)).order_by(erasures.c.id).limit(1)
    if (cut_off := (await write.connection.execute(begun)).scalar_one_or_none()) is not None:
        return str(cut_off)
    asked = {"requested_at": write_time(write.now), "requested_by": names.get(write.actor, write.actor)}
    await add(write, erasures, id=identity, pseudonym=whose, **asked)
    write.record("erasure.requested", GLOBAL, erasure=identity, pseudonym=whose)
    return identity


async def finish_erasure(write: Write, identity: str, *, done_ok: bool = False) -> None:
    """Note that somebody is forgotten.

    Args:
        done_ok: another may have done it meanwhile.
    """
    row = await find(write, erasures, id=identity)
    if row is None:
        raise refuse_absent("such erasure")
    if not await change(write, erasures, where(erasures, id=identity, done_at=None), done_at=write_time(write.now)):
        if done_ok:
            return
        raise RefusedError("over", "this erasure was done before")
    write.record("erasure.done", GLOBAL, erasure=identity, pseudonym=row.pseudonym)


async def forget(write: Write, ref: str) -> None:
    """Forget a user who is deleted: what is known of him, what he was answered, which of his tokens were taken back,
    and who stands behind his pseudonym. What tenants have of him is to be gone by then (`traces`).

    Raises:
        NeedsSharedError: what all tenants share is not locked.
    """
    await remove_all(write, ref)
    await idempotency.forget_actor(write, ref)
    await tokens.forget(write, ref)
    await departures.mark_forgotten(write, principal_of(ref))
    await erase(write, ref)


async def read_open_erasures(connection: AsyncConnection, before: int, limit: int) -> list[tuple[str, str | None]]:
    """List requests to be forgotten that were made before an instant and are not done, each with whom it names; None:
    nobody knows any more."""
    c = erasures.c
    found = await connection.execute(
        select(c.id, pseudonyms.c.ref)
        .outerjoin(pseudonyms, pseudonyms.c.pseudonym == c.pseudonym)
        .where(c.done_at.is_(None), c.requested_at <= write_time(before))
        .order_by(c.id)
        .limit(limit)
    )
    return [(row.id, row.ref) for row in found]


async def read_erasures(connection: AsyncConnection, *, after: str = "", limit: int) -> tuple[Erasure, ...]:
    """List requests to be forgotten in the order in which they were made, from behind an id."""
    found = await connection.execute(select(erasures).where(erasures.c.id > after).order_by(erasures.c.id).limit(limit))
    return tuple(_erasure(row) for row in found)


def _erasure(row: Row[Any]) -> Erasure:
    done_at = None if row.done_at is None else read_time(row.done_at)
    return Erasure(row.id, row.pseudonym, read_time(row.requested_at), row.requested_by, done_at)
