"""`/tenants/{tenant}/access`: what somebody may do with a thing, and why.

Anyone may ask about himself. Whom the policy does not let `read_access` is then told of a deny what the enforcement
point would tell him, its `because`, and no more: the rest would say what is there that he may not see. The whole
reasoning shows attributes and roles of others, so it is for those alone who may read them.
"""

from __future__ import annotations

from typing import Final

from admin.access import service
from admin.access.aside import slot
from admin.access.wire import Access, AccessQuery, Explanation, Question
from admin.actors import EndUser, Key
from admin.door import want, want_current
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import PublicError, not_found
from admin.fits import place_of, principal_of, type_of
from admin.paging import read_cursor, write_cursor
from admin.writing import reading
from engine import Request
from store.audit import head_of
from store.database import Connection
from store.streams import stream_of


async def read_access(ask: Ask) -> Answer:
    query: AccessQuery = ask.query
    policy = ask.services.policy()
    subject = principal_of(policy.model, query.subject, "query.subject")
    resource = place_of(policy.model, query.resource, ask.tenant, "query.resource")
    kind = resource.partition(":")[0]
    after = "" if query.cursor is None else str(read_cursor(query.cursor, f"access:{kind}", 1)[0])
    every = sorted(type_of(policy.model, kind, "query.resource").actions)
    left = [action for action in every if action > after]
    page, more = left[: query.limit], len(left) > query.limit
    async with slot(), reading(ask, ask.tenant) as connection:
        await want_current(ask, connection, policy)
        is_told_why = await _is_told_why(ask, connection, subject)
        asked = service.questions(ask, subject, resource, page)
        items, revision = await service.decide_all(connection, ask.tenant, policy, asked, is_told_why=is_told_why)
    return Answer(
        Access(
            subject=subject,
            resource=resource,
            policy=policy.digest,
            revision=revision,
            items=items,
            next=write_cursor(f"access:{kind}", [page[-1]]) if more else None,
        )
    )


async def explain(ask: Ask) -> Answer:
    new: Question = ask.body
    policy = ask.services.policy()
    subject = principal_of(policy.model, new.subject, "body.subject")
    resource = place_of(policy.model, new.resource, ask.tenant, "body.resource")
    asked = Request(
        ask.tenant, subject, new.action, resource, context=new.context or None, now=service.instant(ask.now)
    )
    async with slot(), reading(ask, ask.tenant) as connection:
        await want_current(ask, connection, policy)
        await want(ask, connection, "read_access", ask.tenant)
        await _want_tenant(ask, connection)
        return Answer(Explanation(reasoning=await service.reason(connection, ask.tenant, policy, asked)))


async def _is_told_why(ask: Ask, connection: Connection, subject: str) -> bool:
    """Say whether who asks may know why not.

    Raises:
        PublicError: he asks about another, whom he may not ask about.
    """
    try:
        await want(ask, connection, "read_access", ask.tenant)
    except PublicError:
        if isinstance(ask.actor, EndUser) and ask.actor.ref == subject:
            return False
        raise
    await _want_tenant(ask, connection)
    return True


async def _want_tenant(ask: Ask, connection: Connection) -> None:
    """Tell a key that there is no such tenant; an end user whom the policy let in knows that there is."""
    if isinstance(ask.actor, Key) and await head_of(connection, stream_of(ask.tenant)) is None:
        raise not_found("tenant of that name")


_PATH: Final = "/tenants/{tenant}/access"
ENDPOINTS: Final = (
    Endpoint("GET", _PATH, "What may somebody do with a thing, and why", read_access, Need("anybody"), Access,
             query=AccessQuery),
    Endpoint("POST", f"{_PATH}/explain", "Explain one decision", explain, Need("read_access"), Explanation, Question,
             is_question=True),
)  # fmt: skip
