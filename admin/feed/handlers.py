"""`/tenants/{tenant}/changes`: which facts of a tenant changed, for who keeps a copy and follows.

A place in the feed is a revision token: it names the line of history too, so that one who followed a store that was
restored since is told so, and not that nothing happened. What all tenants share is another stream and is not here. It
is polled; an answer is given at once, whether or not there is anything new.
"""

from __future__ import annotations

from typing import Final

from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import PublicError, bad_request, not_found
from admin.feed.wire import Change, Feed, FeedQuery
from admin.writing import reading
from store.audit import head_of
from store.feed import read_changes
from store.queries import read_line
from store.streams import stream_of
from store.tokens import Line, Token, tenant_digest


async def read_feed(ask: Ask) -> Answer:
    query: FeedQuery = ask.query
    stream = stream_of(ask.tenant)
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        line, head = await read_line(connection), await head_of(connection, stream)
        if head is None:
            raise not_found("tenant of that name")
        after = head.n if query.after is None else _after(query.after, ask.tenant, line)
        found = await read_changes(connection, stream, after=after, limit=query.limit, now=ask.now)
    if found is None:
        raise _gone()
    changes, more = found
    last = changes[-1].n if changes else after
    items = [Change(revision=each.n, at=each.at, keys=list(each.keys)) for each in changes]
    return Answer(Feed(items=items, next=str(Token(line, 0, 0, tenant_digest(ask.tenant), last)), more=more))


def _after(text: str, tenant: str, line: Line) -> int:
    """Read behind which revision to read on.

    Raises:
        PublicError: it is none, or of another tenant, or of another history.
    """
    try:
        token = Token.parse(text)
    except ValueError:
        raise _no_revision() from None
    if token.tenant != tenant_digest(tenant):
        raise _no_revision()
    if token.line != line:
        raise _gone()
    return token.t


def _no_revision() -> PublicError:
    return bad_request(
        "not as it must be: query.after",
        {"query.after": "take it from `next` of the page before, or from `Bylaw-Revision` of a write to this tenant"},
    )


def _gone() -> PublicError:
    return PublicError(
        410, "changes_gone", "what changed since then is not known any more: read all anew, and follow from now on"
    )


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/tenants/{tenant}/changes",
        "Follow what changes in a tenant",
        read_feed,
        Need("read_access"),
        Feed,
        query=FeedQuery,
        errors=(410,),
    ),
)
