"""Rules of users and services. Nothing here commits."""

from __future__ import annotations

import json

from admin.errors import not_found
from admin.principals import repository
from admin.principals.wire import Principal, PrincipalChange
from store.changes import Write
from store.database import Connection
from store.writes import principals, tokens


async def read(connection: Connection, kind: str, identity: str) -> Principal:
    """Read one.

    Raises:
        PublicError: there is none.
    """
    row = await repository.read(connection, kind, identity)
    if row is None:
        raise not_found(f"{kind} `{identity}`")
    return Principal(id=row.id, status=row.status, attributes=json.loads(row.attributes or "{}"))


async def change(write: Write, ref: str, wanted: PrincipalChange) -> None:
    """Change one. Who is suspended has his tokens taken back, so that none of them counts again once he is let in."""
    if wanted.attributes is not None:
        await principals.set_attributes(write, ref, wanted.attributes)
    if wanted.status is not None:
        await principals.set_status(write, ref, wanted.status)
    if wanted.status == "suspended":
        await tokens.set_valid_after(write, ref, write.now)


async def is_cut_off(write: Write, status: str, ref: str) -> bool:
    """Say whether one is deleted and tenants still have rows of him: his deletion was cut off, and is to go on."""
    if status != "deleted" or not await principals.is_left_behind(write.connection, ref):
        return False
    write.record("principal.deletion_resumed", principal=ref)
    return True
