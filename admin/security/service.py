"""What the security settings of a tenant hold to: invitations, links into it, and keys for it. Nothing here commits.

Each is looked at where the thing is made, whoever makes it. Invitations and links are made in a write of the tenant, so
that none comes beside a setting that was just written. What was made before stays as it was made.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from admin.actors import TENANT
from admin.encryption import normalised
from admin.errors import PublicError
from admin.security.wire import Security
from admin.wire import nanoseconds
from engine.values import SECOND
from store.changes import Write
from store.database import Connection, Database
from store.writes import tenant_security

DAY: Final = 86_400 * SECOND


async def read(connection: Connection, tenant: str) -> Security:
    """Read the settings of a tenant; the connection is of that tenant."""
    return Security.model_validate(await tenant_security.read(connection, tenant))


async def put(write: Write, wanted: Security) -> None:
    """Put settings in the place of those that the write's tenant had."""
    await tenant_security.put(write, wanted.model_dump())


async def open_until(write: Write, wanted: datetime | None, email: str | None) -> int:
    """Say until when an invitation into the write's tenant is open.

    Args:
        wanted: None: as long as may be.
        email: of the invited; None: nobody knows.

    Raises:
        PublicError: the tenant does not invite so long, or nobody of this address.
    """
    settings = await read(write.connection, write.owner)
    latest = write.now + settings.invitation_days * DAY
    expires = nanoseconds(wanted, latest)
    if expires > latest:
        raise _refused("invitation_days", f"an invitation is open for at most {_days(settings.invitation_days)} here")
    domains = settings.invited_domains
    if domains is not None and (email is None or _domain_of(email) not in domains):
        raise _refused("invited_domains", f"only addresses of these domains are invited here: {', '.join(domains)}")
    return expires


async def check_link(write: Write, expires: int) -> None:
    """Refuse a link into the write's tenant that would last too long.

    Raises:
        PublicError: it would.
    """
    days = (await read(write.connection, write.owner)).max_link_days
    if days is not None and expires > write.now + days * DAY:
        raise _refused("max_link_days", f"a link from elsewhere ends after at most {_days(days)} here: say `expires`")


async def check_key(database: Database, scopes: Iterable[str], expires: int, *, now: int) -> None:
    """Refuse a key that would last longer than a tenant lets one that is for it. Each tenant is a snapshot of its own,
    since no transaction shows two.

    Raises:
        PublicError: it would.
    """
    for scope in sorted(scopes):
        tenant = scope.removeprefix(TENANT)
        if tenant == scope:
            continue
        async with database.reading(tenant) as connection:
            days = (await read(connection, tenant)).max_key_days
        if days is not None and expires > now + days * DAY:
            raise _refused("max_key_days", f"a key for `{tenant}` ends after at most {_days(days)}: say `expires`")


def _domain_of(email: str) -> str:
    """Name the domain of an address; "" where readers might not agree on it."""
    address = normalised(email)
    return address.rpartition("@")[2] if address.count("@") == 1 else ""


def _days(days: int) -> str:
    return "one day" if days == 1 else f"{days} days"


def _refused(setting: str, said: str) -> PublicError:
    return PublicError(409, "security_settings", said, details={"setting": setting})
