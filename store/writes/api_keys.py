"""Who may administer, by a key: what for, and until when.

Of a key its digest is stored, and its first characters for lists, as `store.keys` says. Keys are no facts, and no
process that decides reads them: they touch no view, and the role of the decision service has no right on them. A
revoked key keeps its row, so that what it did can still be told from what another of the same name did.

Whether somebody may give out a scope is for callers to say; here only that there is such a scope.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.facts import NEVER
from store.changes import Write
from store.database import Database
from store.errors import RefusedError
from store.ids import check_id, new_id
from store.keys import KEY, PREFIX_LENGTH, digest_of
from store.tables import api_keys, tenants
from store.times import read_end, read_time, write_end, write_time
from store.writes.rows import add, change, find, has, where
from store.writes.standing import refuse_absent

#: What a key may be for, beside `tenant:<id>`.
SCOPES: Final = ("system", "facts", "policies", "audit")
TENANT_SCOPE: Final = "tenant:"
#: So many scopes a key may have; one who administers more tenants takes `system`.
MAX_SCOPES: Final = 1000
#: That a key is used is written down at most so often.
USED_EVERY_NS: Final = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as lists show it.

    Args:
        prefix: its first characters.
        expires: until when it counts.
        revoked_at: since when it counts no more; None: it does.
        last_used: to the minute; None: never.
    """

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    made: int
    made_by: str
    expires: int
    revoked_at: int | None
    last_used: int | None


async def make(write: Write, key: str, name: str, *, scopes: Iterable[str], expires: int = NEVER) -> str:
    """Let somebody administer by a key; return its id.

    Args:
        key: from `store.keys.new_key`. It is not stored.
        name: what it is for, in words for people.
    """
    if not KEY.fullmatch(key):
        raise RefusedError("bad_key", "this is no key: make one with `new_key`")
    check_id(name, "a key's name", spaces=True)
    if expires <= write.now:
        raise RefusedError("bad_times", "it would be over already: name a time that is to come")
    wanted = await _scopes(write, scopes)
    digest = digest_of(key)
    if await has(write, api_keys, where(api_keys, digest=digest)):
        raise RefusedError("taken", "this key is given out already: make another")
    identity, until = new_id(lambda: write.now), write_end(expires)
    await add(
        write,
        api_keys,
        id=identity,
        name=name,
        prefix=key[:PREFIX_LENGTH],
        digest=digest,
        scopes=json.dumps(wanted, separators=(",", ":"), ensure_ascii=False),
        made=write_time(write.now),
        made_by=write.actor,
        expires=until,
    )
    write.record("api_key.made", key=identity, scopes=wanted, expires=until)
    return identity


async def revoke(write: Write, identity: str) -> None:
    """Let a key count no more, for ever."""
    live = where(api_keys, id=identity, revoked_at=None)
    if not await change(write, api_keys, live, revoked_at=write_time(write.now)):
        if not await has(write, api_keys, where(api_keys, id=identity)):
            raise refuse_absent("such key")
        raise RefusedError("over", "this key was revoked before")
    write.record("api_key.revoked", key=identity)


async def note_use(database: Database, key: ApiKey, *, now: int) -> bool:
    """Write down that a key is used, unless that was done a moment ago; say whether it was written.

    This is no write of facts: it moves no revision and leaves no audit row.
    """
    if is_noted(key, now=now):
        return False
    is_due = api_keys.c.last_used.is_(None) | (api_keys.c.last_used <= write_time(now - USED_EVERY_NS))
    async with database.changing() as connection:
        noted = await connection.execute(
            update(api_keys).where(api_keys.c.id == key.id, is_due).values(last_used=write_time(now))
        )
    return noted.rowcount == 1


def is_noted(key: ApiKey, *, now: int) -> bool:
    """Say whether that a key is used was written down a moment ago."""
    return key.last_used is not None and key.last_used > now - USED_EVERY_NS


async def find_by_digest(connection: AsyncConnection, digest: str) -> ApiKey | None:
    """Find a key by its digest, though it may be revoked or over."""
    found = await connection.execute(select(api_keys).where(api_keys.c.digest == digest))
    row = found.one_or_none()
    return None if row is None else key_of(row)


async def is_live(connection: AsyncConnection, identity: str, *, now: int) -> bool:
    """Say whether a key, by its id, still counts."""
    found = (await connection.execute(select(api_keys).where(api_keys.c.id == identity))).one_or_none()
    if found is None:
        return False
    key = key_of(found)
    return key.revoked_at is None and now < key.expires


async def read_page(connection: AsyncConnection, *, after: str = "", limit: int) -> tuple[ApiKey, ...]:
    """List keys in the order in which they were made, from behind an id."""
    found = await connection.execute(select(api_keys).where(api_keys.c.id > after).order_by(api_keys.c.id).limit(limit))
    return tuple(key_of(row) for row in found)


def key_of(row: Row[Any]) -> ApiKey:
    """Read a row."""
    return ApiKey(
        row.id,
        row.name,
        row.prefix,
        tuple(json.loads(row.scopes)),
        read_time(row.made),
        row.made_by,
        read_end(row.expires),
        None if row.revoked_at is None else read_time(row.revoked_at),
        None if row.last_used is None else read_time(row.last_used),
    )


async def _scopes(write: Write, named: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, each once.

    Raises:
        RefusedError: one is none, its tenant is not there, or there are none or too many.
    """
    wanted = set(named)
    if not 1 <= len(wanted) <= MAX_SCOPES:
        raise RefusedError("bad_scope", f"a key has 1 to {MAX_SCOPES} scopes")
    of_tenants = sorted(scope for scope in wanted if scope.startswith(TENANT_SCOPE))
    if unknown := sorted(wanted.difference(SCOPES, of_tenants)):
        known = ", ".join(f"`{scope}`" for scope in (*SCOPES, f"{TENANT_SCOPE}<id>"))
        raise RefusedError("bad_scope", f"`{unknown[0]}` is no scope: known are {known}")
    for scope in of_tenants:
        await _want_tenant(write, scope.removeprefix(TENANT_SCOPE))
    return (*(scope for scope in SCOPES if scope in wanted), *of_tenants)


async def _want_tenant(write: Write, tenant: str) -> None:
    row = await find(write, tenants, id=check_id(tenant, "a tenant's id"))
    if row is None:
        raise RefusedError("unknown", f"there is no tenant `{tenant}`")
    if row.status == "deleted":
        raise RefusedError("deleted", f"the tenant `{tenant}` is deleted, for ever")
