"""Circumstances: how something was asked for that is judged again later (stream t).

What an end user's request says of him, such as his address and what his token claims, can decide whether he may give
something. Where that waits, for an approval or until an invitation is accepted, it is judged again then, as it was
asked for. So it is kept as long, and not a moment longer: whoever ends the waiting forgets it in the same write.

It is opaque here; it comes encrypted if there are keys.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.tables import circumstances
from store.writes.rows import add, remove, where

#: Of what they are.
APPROVAL: Final = "approval"
INVITATION: Final = "invitation"


async def keep(write: Write, kind: str, identity: str, said: str | None) -> None:
    """Keep how something was asked for; None: there is nothing to keep."""
    if said is not None:
        await add(write, circumstances, tenant_id=write.owner, kind=kind, id=identity, said=said)


async def read(connection: AsyncConnection, tenant: str, kind: str, identity: str) -> str | None:
    """Read how something was asked for; the connection is of that tenant."""
    own = where(circumstances, tenant_id=tenant, kind=kind, id=identity)
    return (await connection.execute(select(circumstances.c.said).where(own))).scalar_one_or_none()


async def forget(write: Write, kind: str, identity: str) -> None:
    """Forget how something was asked for: nobody judges it any more."""
    await remove(write, circumstances, where(circumstances, tenant_id=write.owner, kind=kind, id=identity))
