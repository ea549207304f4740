"""Endpoints of the audit logs: a tenant's at `/tenants/{tenant}/audit`, those that belong to none at `/audit`.

What was done stands there, by whom and when. What was refused changes nothing and moves no stream, so it has a log of
its own beside each: `outcome=refused` asks for that. An export is read in several snapshots, since a log only grows;
its last line is the head of the log at the moment it was asked for, which `bylaw audit verify` can be given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from admin.audit import service
from admin.audit.wire import (
    AuditQuery,
    AuditRecord,
    LogQuery,
    PlatformAuditQuery,
    PlatformLogQuery,
    PlatformVerifyQuery,
    Verified,
    VerifyQuery,
)
from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.paging import Page
from admin.writing import reading
from store.audit import export_page
from store.streams import refused_in, stream_of


def _asked(ask: Ask) -> tuple[str | None, str]:
    """Say of which tenant the log is, if of any, and which stream's."""
    tenant = ask.path.get("tenant")
    if ask.query.outcome == "refused":
        return tenant, refused_in(tenant)
    return tenant, ask.query.log if tenant is None else stream_of(tenant)


async def search(ask: Ask) -> Answer:
    tenant, stream = _asked(ask)
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_audit", tenant)
        return Answer(await service.search(connection, stream, ask.query))


async def verify(ask: Ask) -> Answer:
    tenant, stream = _asked(ask)
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_audit", tenant)
        return Answer(await service.verify(connection, stream, ask.query.cursor))


async def export(ask: Ask) -> Answer:
    tenant, stream = _asked(ask)
    async with reading(ask, tenant) as connection:
        await want(ask, connection, "read_audit", tenant)
        until = (await service.head(connection, stream)).n
    return Answer(lines=_lines(ask, tenant, stream, until))


async def _lines(ask: Ask, tenant: str | None, stream: str, until: int) -> AsyncIterator[bytes]:
    """Give an export page by page. Each page asks anew whether it may be read: a slow reader may lose the right."""
    after, more = 0, until > 0
    while more:
        async with reading(ask, tenant) as connection:
            await want(ask, connection, "read_audit", tenant)
            page, after = await export_page(connection, stream, after=after, until=until)
        more = bool(page) and after < until
        yield "".join(f"{line}\n" for line in page).encode()


_OWN: Final = "/tenants/{tenant}/audit"
_NEED: Final = Need("read_audit", frozenset({"audit"}))
_PAGE: Final = Page[AuditRecord]
ENDPOINTS: Final = (
    Endpoint("GET", _OWN, "Search a tenant's audit log, newest first", search, _NEED, _PAGE, query=AuditQuery),
    Endpoint("GET", f"{_OWN}/verify", "Verify its chain", verify, _NEED, Verified, query=VerifyQuery),
    Endpoint("GET", f"{_OWN}/export", "Export it, as lines of JSON", export, _NEED, query=LogQuery, is_lines=True),
    Endpoint("GET", "/audit", "Search an audit log of the platform", search, _NEED, _PAGE, query=PlatformAuditQuery),
    Endpoint("GET", "/audit/verify", "Verify its chain", verify, _NEED, Verified, query=PlatformVerifyQuery),
    Endpoint("GET", "/audit/export", "Export it, as lines of JSON", export, _NEED, query=PlatformLogQuery,
             is_lines=True),
)  # fmt: skip
