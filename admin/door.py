"""The one door: whether an actor may do something, by the policy and by facts as the same transaction shows them.

    read ──▶ `want(right)`          an action of the tenant's type or of `system`, which the policy grants
    write ─▶ `want_change(change)`  the policy's `assign`, with all that it binds giving to

What a key may do was said by its scopes before a handler was called. For an end user nothing was: each handler of an
endpoint that lets him in asks here, within the transaction that reads or writes, so that nothing lies between the
answer and what rests on it. INVARIANT: no handler changes facts without having asked.
"""

from __future__ import annotations

from typing import Final

from admin.actors import EndUser, Key, unauthorized
from admin.changes import asker_of
from admin.endpoint import Ask, Right
from admin.errors import PublicError, forbidden, no_policy, not_found
from admin.services import Services
from admin.uses import Uses
from engine import Policy, Request, RequestError
from engine.assign_changes import Actor, Change, GiveRole, Pending, PutInGroup, Ruling, SetStatus
from engine.assigning import Assigner
from engine.claims import context_of
from engine.facts import Status
from engine.model import SYSTEM
from store.audit import head_of
from store.changes import Write
from store.database import Connection
from store.holdings import StoredHoldings, groups_around, held_by_groups, judged
from store.keys import digest_of
from store.seen import SeenFacts, decide_within, seen
from store.streams import stream_of
from store.writes import api_keys, principals
from store.writes.api_keys import find_by_digest
from store.writes.approvals import Approval

#: Of the implicit tenant, where the policy has none.
_CLAIMED: Final = "roles"


async def find_key(services: Services, uses: Uses, written: str) -> Key:
    """Say who holds a key, and note that it is used.

    Raises:
        PublicError: nobody does, or not any more.
    """
    async with services.database.reading() as connection:
        found = await find_by_digest(connection, digest_of(written))
    if found is None or found.revoked_at is not None or services.clock() >= found.expires:
        raise unauthorized()
    uses.note(found)
    return Key(found.id, frozenset(found.scopes))


async def want(ask: Ask, connection: Connection, right: Right, tenant: str | None = None) -> None:
    """Refuse an end user whom the policy does not let do something in a tenant; None: with the system.

    A tenant that is not there has nothing: a key is told so. To an end user it is one in which he may do nothing.

    Raises:
        PublicError: it does not, or there is no such tenant.
    """
    if isinstance(ask.actor, Key):
        if tenant is not None and await head_of(connection, stream_of(tenant)) is None:
            raise not_found(f"tenant `{tenant}`")
        return
    await _want_of(ask, ask.actor, connection, right, tenant)


async def _want_of(ask: Ask, user: EndUser, connection: Connection, right: Right, tenant: str | None) -> None:
    policy = ask.services.policy()
    await want_current(ask, connection, policy)
    model = policy.model
    kind, identity = (SYSTEM, SYSTEM) if tenant is None else (model.tenant, tenant)
    if right not in model.types[kind].actions:
        raise forbidden(f"the policy lets no end user do this: `{kind}` declares no action `{right}`", "no_action")
    request = Request(
        tenant=tenant,
        subject=user.ref,
        action=f"{kind}.{right}",
        resource=f"{kind}:{identity}",
        context=context_of(ask.address, model, user.said),
        subject_properties={_CLAIMED: list(user.claims)} if user.claims else None,
        token_tenant=user.tenant if tenant is not None else None,  # what is asked of the system is of no tenant
    )
    try:
        decision = await decide_within(connection, policy, request)
    except RequestError as error:
        raise forbidden(f"the policy cannot say whether this may be done: {error.message}", error.code) from error
    if not decision.allowed:
        raise forbidden(f"the policy does not let you `{right}` in `{kind}:{identity}`", decision.code)


async def want_current(ask: Ask, connection: Connection, policy: Policy) -> None:
    """Refuse to answer from a snapshot by a policy that is not the one that decides there.

    Raises:
        PublicError: it is another: one was published since the request came, or cannot be loaded here.
    """
    if not await ask.services.is_current(connection) or policy is not ask.services.policy():
        raise no_policy()


async def want_inside(ask: Ask, tenant: str) -> None:
    """Refuse an end user who is outside of a tenant, before anything there is looked for: from how he is refused he is
    not to learn what is there.

    Raises:
        PublicError: he is outside.
    """
    policy, user = ask.services.policy(), ask.actor
    if isinstance(user, Key):
        return

    def answer(facts: SeenFacts, holdings: StoredHoldings) -> Ruling | None:
        asker = asker_of(ask, user, policy.model)
        return Assigner(policy.program, facts.source, holdings).outside(asker, tenant, ask.now)

    async with ask.services.database.reading(tenant) as connection:
        await want_current(ask, connection, policy)
        try:
            ruling = await judged(connection, policy, answer)
        except RequestError as error:
            raise forbidden(f"the policy cannot say whether this may be done: {error.message}", error.code) from error
    if ruling is not None and ruling.code == "boundary":
        raise refused(ruling)


async def want_change(ask: Ask, write: Write, change: Change) -> Ruling | None:
    """Refuse a change that the policy's `assign`s do not let the actor make, or that leaves a role without its last
    holder; return the ruling where it waits for the approval of another.

    Raises:
        PublicError: he may not.
    """
    policy, tenant, now, user = ask.services.policy(), write.tenant, write.now, ask.actor

    def answer(facts: SeenFacts, holdings: StoredHoldings) -> Ruling | None:
        assigner = Assigner(policy.program, facts.source, holdings)
        if isinstance(user, Key):
            return assigner.guard(change, tenant, now)
        return assigner.rule(asker_of(ask, user, policy.model), change, tenant, now)

    try:
        ruling = await judged(write.connection, policy, answer, is_writing=True)
    except RequestError as error:
        raise forbidden(f"the policy cannot say whether this may be done: {error.message}", error.code) from error
    if ruling is None or ruling.outcome == "allowed":
        return None
    if ruling.outcome == "pending":
        return ruling
    raise refused(ruling)


async def want_of(ask: Ask, write: Write, giver: Actor, change: Change) -> None:
    """Refuse a change that was promised by somebody who may not make it any more, or that leaves a role without its
    last holder.

    Args:
        giver: `"user:ann"` or `"key:ID"`, and what his request said when he promised it.

    Raises:
        PublicError: he may not.
    """
    policy = ask.services.policy()
    key = giver.reference.removeprefix("key:")
    is_key = key != giver.reference
    if is_key and not await api_keys.is_live(write.connection, key, now=write.now):
        raise forbidden("who invited may not do so any more: ask for another invitation", "giver")

    def answer(facts: SeenFacts, holdings: StoredHoldings) -> Ruling | None:
        assigner = Assigner(policy.program, facts.source, holdings)
        if is_key:
            return assigner.guard(change, write.tenant, write.now)
        return assigner.rule(giver, change, write.tenant, write.now)

    try:
        ruling = await judged(write.connection, policy, answer, is_writing=True)
    except RequestError as error:
        message = f"the policy cannot say any more whether who invited may give this: {error.message}"
        raise forbidden(message, error.code) from error
    if ruling is None or ruling.outcome == "allowed":
        return
    if ruling.code == "last_holder":
        raise refused(ruling)
    raise forbidden("who invited may not give this any more: ask for another invitation", "giver")


async def want_approval(ask: Ask, write: Write, stored: Approval, change: Change, asked_by: Actor) -> None:
    """Refuse an actor who may not approve a change that waits, or one that may not be made any more.

    Raises:
        PublicError: he may not, or it may not.
    """
    policy, user = ask.services.policy(), ask.actor
    pending = Pending(stored.id, asked_by, change, write.tenant, stored.requested_at)

    def answer(facts: SeenFacts, holdings: StoredHoldings) -> Ruling | None:
        assigner = Assigner(policy.program, facts.source, holdings)
        if isinstance(user, Key):
            return assigner.guard(change, write.tenant, write.now)
        return assigner.approve(asker_of(ask, user, policy.model), pending, write.now)

    try:
        ruling = await judged(write.connection, policy, answer, is_writing=True)
    except RequestError as error:
        raise forbidden(f"the policy cannot say whether this may be done: {error.message}", error.code) from error
    if ruling is not None and ruling.outcome != "allowed":
        raise refused(ruling)


async def want_someone_left(ask: Ask, write: Write, ref: str, status: Status = "suspended") -> None:
    """Refuse to suspend or delete the last who holds a role, in any tenant where he is.

    INVARIANT: it is asked within the write, once that has written the status, and looks at snapshots begun since. The
    row that was written is one that every write which counts him keeps as it is (`holdings`): so one that came before
    is seen here, and one that comes after sees the status.

    Raises:
        PublicError: he is the last.
    """
    policy, database = ask.services.policy(), ask.services.database
    for tenant in (None, *await principals.tenants_of(database, ref)):

        def answer(facts: SeenFacts, holdings: StoredHoldings, tenant: str | None = tenant) -> Ruling | None:
            return Assigner(policy.program, facts.source, holdings).guard(SetStatus(ref, status), tenant, write.now)

        async with database.reading(tenant) as connection:
            ruling = await judged(connection, policy, answer)
        if ruling is not None:
            raise refused(ruling)


def refused(ruling: Ruling) -> PublicError:
    """Make the error of a change that may not be made."""
    details = {"assign": ruling.at} if ruling.at is not None else {}
    status = 409 if ruling.code == "last_holder" else 403
    return PublicError(status, ruling.code, ruling.message, details=details)


async def want_everywhere(ask: Ask, group: str, change: PutInGroup) -> None:
    """Refuse an end user to put somebody into a group of the platform, unless he may give every role that it, or a
    group around it, holds in any tenant.

    No transaction shows two tenants, so each is looked at by itself, while the write that fills the group holds what
    all share: a role is given to such a group under that lock, too (`changes.perform`).

    Raises:
        PublicError: he may not, in one of them.
    """
    if isinstance(ask.actor, Key):
        return
    policy, user, database = ask.services.policy(), ask.actor, ask.services.database
    async with database.reading() as connection:
        around = await seen(connection, "", policy, lambda facts: groups_around(facts.source, group))
    for tenant, held in [each async for each in held_by_groups(database, around)]:
        for role, place in held:
            give = GiveRole(change.subject, role, place, change.starts, change.expires)

            def answer(
                facts: SeenFacts, holdings: StoredHoldings, give: GiveRole = give, tenant: str = tenant
            ) -> Ruling:
                assigner = Assigner(policy.program, facts.source, holdings)
                return assigner.rule(asker_of(ask, user, policy.model), give, tenant, ask.now)

            async with database.reading(tenant) as connection:
                ruling = await judged(connection, policy, answer)
            if ruling.outcome != "allowed":
                raise refused(ruling)
