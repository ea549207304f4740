"""What a tenant demands of invitations, links and keys (stream t). What the demands mean is for callers to say: here
they are a JSON object. No fact is among them, so nobody who decides reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.changes import Write
from store.tables import tenant_security
from store.writes.rows import add, remove, where


async def put(write: Write, settings: Mapping[str, Any]) -> None:
    """Put settings in the place of all that the write's tenant had."""
    await remove(write, tenant_security, where(tenant_security, tenant_id=write.owner))
    written = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    await add(write, tenant_security, tenant_id=write.owner, settings=written)
    write.record("tenant.security", tenant=write.owner, settings=dict(settings))


async def read(connection: AsyncConnection, tenant: str) -> Mapping[str, Any]:
    """Read the settings of a tenant; the connection is of that tenant. Empty where nothing was set."""
    c = tenant_security.c
    found = await connection.scalar(select(c.settings).where(c.tenant_id == tenant))
    return json.loads(found) if found is not None else {}
