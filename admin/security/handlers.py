"""Endpoints of a tenant's security settings."""

from __future__ import annotations

from typing import Final

from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.security import service
from admin.security.wire import Security
from admin.tenants import service as tenants
from admin.writing import changing, reading, unchanged


async def read_security(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "manage", ask.tenant)
        await tenants.read(connection, ask.tenant)
        return Answer(await service.read(connection, ask.tenant))


async def put_security(ask: Ask) -> Answer:
    wanted: Security = ask.body
    async with changing(ask, tenant=ask.tenant) as changed:
        await want(ask, changed.write.connection, "manage", ask.tenant)
        unchanged(ask, await service.read(changed.write.connection, ask.tenant))
        await service.put(changed.write, wanted)
    return changed.answer(wanted)


_PATH: Final = "/tenants/{tenant}/security"
_NEED: Final = Need("manage", frozenset())
ENDPOINTS: Final = (
    Endpoint("GET", _PATH, "Read a tenant's security settings", read_security, _NEED, Security),
    Endpoint("PUT", _PATH, "Set all of them", put_security, _NEED, Security, Security, errors=(412,)),
)
