"""All that is stored of a user, put together for himself: facts, what tenants keep of him, and what the logs tell.

Each tenant is a snapshot of its own, since no transaction shows two. Of other persons, with whom he stands in one row,
it is not said who they are.
"""

from __future__ import annotations

from typing import Any, Final

from admin.personal_data import repository
from admin.personal_data.wire import (
    Asked,
    Block,
    Entry,
    ExportedMembership,
    HeldGroup,
    HeldLink,
    HeldRole,
    InTenant,
    Invited,
    Log,
    OfPlatform,
    Record,
)
from admin.repository import Found, split
from admin.wire import shown_time
from store.audit_search import MAX_LIMIT, AuditFilter, AuditRecord, search_audit
from store.database import Connection, Database
from store.pseudonyms import persons_in, veiled
from store.streams import GLOBAL, stream_of
from store.tables import approvals, invitations
from store.times import read_end, read_start, read_time
from store.writes import platform_groups, principals, traces

#: In the place of another.
_OTHER: Final = "another person"


async def of_platform(connection: Connection, ref: str) -> OfPlatform:
    """Read what all tenants share of him."""
    who = split(ref)
    return OfPlatform(
        valid_after=_time(await repository.valid_after(connection, *who)),
        blocked_tokens=[
            Block(jti=row.jti, until=_time(row.until) or "") for row in await repository.blocks(connection, *who)
        ],
        groups=[_group(row) for row in await repository.platform_groups(connection, *who)],
        roles=[
            HeldRole(role=row.role, on="system", **_span(row))
            for row in await repository.system_roles(connection, *who)
        ],
        links=[_link(row) for row in await repository.crossing(connection, *who)],
        audit=await _told(connection, GLOBAL, ref),
    )


async def of_tenants(database: Database, ref: str) -> list[InTenant]:
    """Read what each tenant has of him, in which he is or by which he is named."""
    present, found = set(await principals.tenants_of(database, ref)), []
    async for tenant in platform_groups.all_tenants(database):
        async with database.reading(tenant) as connection:
            if tenant in present or await traces.is_named(connection, tenant, ref):
                found.append(await _of_tenant(connection, tenant, ref))
    return found


async def _of_tenant(connection: Connection, tenant: str, ref: str) -> InTenant:
    who = split(ref)
    member = await repository.membership(connection, tenant, *who)
    return InTenant(
        tenant=tenant,
        membership=None if member is None else ExportedMembership(status=member.status, **_span(member)),
        roles=[
            HeldRole(role=row.role, on=f"{row.place_type}:{row.place_id}", **_span(row))
            for row in await repository.roles(connection, tenant, *who)
        ],
        groups=[_group(row) for row in await repository.groups(connection, tenant, *who)],
        approvals=[_asked(row, ref) for row in await traces.rows_naming(connection, approvals, tenant, ref)],
        invitations=[_invited(row, ref) for row in await traces.rows_naming(connection, invitations, tenant, ref)],
        audit=await _told(connection, stream_of(tenant), ref),
    )


async def _told(connection: Connection, stream: str, ref: str) -> Log:
    """Read the newest of what a log tells of him, and of what he did."""
    pages = [
        await search_audit(connection, stream, wanted, limit=MAX_LIMIT)
        for wanted in (AuditFilter(names=ref), AuditFilter(actor=ref))
    ]
    records = {record.n: record for page in pages for record in page.records}
    shown = [_record(records[n], ref) for n in sorted(records, reverse=True)]
    return Log(records=shown, more=any(page.cursor is not None for page in pages))


def _record(record: AuditRecord, ref: str) -> Record:
    is_his = record.actor == ref
    entries = [
        Entry(action=each.action, details=_of_him(each.details, ref))
        for each in record.entries or ()
        if is_his or ref in persons_in(each.details)
    ]
    return Record(revision=record.n, at=record.at, by_himself=is_his, entries=entries)


def _of_him(details: Any, ref: str) -> dict[str, Any]:
    """Show what an entry says, without who others are."""
    shown: dict[str, Any] = veiled(details, {each: _OTHER for each in persons_in(details) if each != ref})
    return shown


def _asked(row: Found, ref: str) -> Asked:
    subject = f"{row.subject_type}:{row.subject_id}"
    return Asked(
        id=row.id,
        for_himself=subject == ref,
        asked_by_himself=row.requested_by == ref,
        decided_by_himself=row.decided_by == ref,
        role=row.role,
        on=f"{row.place_type}:{row.place_id}",
        requested_at=_time(row.requested_at) or "",
        decided_at=_time(row.decided_at),
        outcome=row.outcome,
    )


def _invited(row: Found, ref: str) -> Invited:
    return Invited(
        id=row.id,
        made_by_himself=row.invited_by == ref,
        accepted_by_himself=row.accepted_by == ref,
        status=row.status,
        made=_time(row.made) or "",
        accepted_at=_time(row.accepted_at),
    )


def _group(row: Found) -> HeldGroup:
    return HeldGroup(group=row.group_id, **_span(row))


def _link(row: Found) -> HeldLink:
    place = f"{row.place_type}:{row.place_id}"
    return HeldLink(home=row.home_id, tenant=row.tenant_id, role=row.role, on=place, **_span(row))


def _span(row: Found) -> dict[str, str | None]:
    return {"starts": shown_time(read_start(row.starts)), "expires": shown_time(read_end(row.expires))}


def _time(stored: str | None) -> str | None:
    return None if stored is None else shown_time(read_time(stored))
