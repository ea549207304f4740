"""Endpoints of invitations."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from admin.actors import Key
from admin.door import want, want_change, want_of
from admin.encryption import DecryptionError, Place
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import PublicError, forbidden, not_found
from admin.invitations import repository, service
from admin.invitations.wire import (
    Acceptance,
    Accepted,
    Invitation,
    InvitationQuery,
    MadeInvitation,
    NewInvitation,
)
from admin.paging import Page, page_of
from admin.repository import Found, order_of
from admin.security.service import open_until
from admin.wire import shown_time
from admin.writing import Sharing, changing, reading, rewriting
from store.ids import new_id
from store.keys import digest_of, new_key
from store.writes import invitations

_PURPOSE: Final = "invitations"


async def list_invitations(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        rows = await repository.list_page(connection, ask.tenant, ask.query, ask.now)

    def shown(row: Found) -> Invitation:
        stored = invitations.invitation_of(row)
        return service.shown(stored, _read_email(ask, ask.tenant, stored.id, stored.email))

    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.sort), ask.query, shown))


async def make_invitation(ask: Ask) -> Answer:
    new: NewInvitation = ask.body
    token, identity = new_key(), new_id(lambda: ask.now)
    pairs = service.pairs_of(ask.services.policy().model, ask.tenant, new)
    email, index = _written_email(ask, ask.tenant, identity, new.email)
    async with changing(ask, tenant=ask.tenant) as changed:
        async with invitations.somebody(changed.write) as ref:
            for change in service.changes_of(ref, new.status, pairs):
                if await want_change(ask, changed.write, change) is not None:
                    raise forbidden(
                        "a role that waits for approval is not promised: give it once he is here", "approval"
                    )
        expires = await open_until(changed.write, new.expires, new.email)
        said = service.circumstances_of(ask, identity)
        await invitations.make(
            changed.write,
            token_digest=digest_of(token),
            identity=identity,
            email=email,
            email_index=index,
            roles=pairs,
            status=new.status,
            expires=expires,
            said=said,
        )
    return changed.answer(MadeInvitation(id=identity, token=token, expires=shown_time(expires) or ""))


async def withdraw(ask: Ask) -> Answer:
    async with changing(ask, tenant=ask.tenant) as changed:
        async with invitations.somebody(changed.write) as ref:
            for change in service.changes_of(ref, "active", ()):
                await want_change(ask, changed.write, change)
        await invitations.withdraw(changed.write, ask.path["id"])
    return changed.answer(None)


async def accept(ask: Ask) -> Answer:
    wanted: Acceptance = ask.body
    if isinstance(ask.actor, Key):
        raise forbidden("the invited accepts himself, with a token of his own")
    ref, digest = ask.actor.ref, digest_of(wanted.token)
    async with reading(ask) as connection:
        tenant = await invitations.tenant_of_token(connection, digest)
    if tenant is None:
        absent = not_found("open invitation by this token")
        if ask.once is not None:  # whoever sends this once more used it up, and is told what he was told
            async with changing(ask):
                raise absent
        raise absent

    async def work(shared: Sharing) -> Answer:
        async with changing(ask, tenant=tenant, shared=shared or True) as changed:
            stored = await invitations.accept(changed.write, digest, ref)
            await service.want_open(changed.write)
            giver = service.giver_of(ask, stored)
            await service.introduce(changed.write, ref)
            for change in await service.needed(changed.write, ref, stored):
                await want_of(ask, changed.write, giver, change)
            await service.welcome(changed.write, ref, stored)
        roles = service.offered(stored.roles)
        return changed.answer(Accepted(tenant=tenant, subject=ref, status=stored.status, roles=roles))

    return await rewriting(work)


def _written_email(ask: Ask, tenant: str, identity: str, email: str | None) -> tuple[str | None, str | None]:
    """Write an address as it is stored, and the index by which it is found."""
    if email is None:
        return None, None
    ring = ask.services.ring
    if ring is None:
        raise PublicError(409, "no_keys", "no address is kept here: leave out `email`, or set BYLAW_ENCRYPTION_KEYS")
    return ring.encrypt(email, _place(tenant, identity)), ring.email_index(email, purpose=_PURPOSE)


def _read_email(ask: Ask, tenant: str, identity: str, stored: str | None) -> str | None:
    """Read an address; None: there is none, or none that can be read with the keys of this service."""
    if not stored or ask.services.ring is None:
        return None
    with suppress(DecryptionError):
        return ask.services.ring.decrypt(stored, _place(tenant, identity))
    return None


def _place(tenant: str, identity: str) -> Place:
    return Place(tenant, "invitations", "email", (identity,))


_ALL: Final = "/tenants/{tenant}/invitations"
_READ: Final = Need("read_access")
_WRITE: Final = Need("by_assign")
ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List invitations", list_invitations, _READ, Page[Invitation], query=InvitationQuery),
    Endpoint("POST", _ALL, "Invite somebody", make_invitation, _WRITE, MadeInvitation, NewInvitation, status=201),
    Endpoint("DELETE", f"{_ALL}/{{id}}", "Withdraw an invitation", withdraw, _WRITE),
    Endpoint("POST", "/invitations/accept", "Accept an invitation", accept, Need("anybody", frozenset()), Accepted,
             Acceptance),
)  # fmt: skip
