"""Transactions of requests: a snapshot to read, a write with its revision and receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from admin.endpoint import Answer, Ask
from admin.errors import PublicError
from admin.wire import Shape, etag_of
from store.changes import NeedsSharedError, Write
from store.database import Connection


@asynccontextmanager
async def reading(ask: Ask, tenant: str | None = None) -> AsyncIterator[Connection]:
    """Open a snapshot: of a tenant, or of what all share."""
    async with ask.services.database.reading(tenant) as connection:
        yield connection


@dataclass(slots=True)
class Changed:
    """A write of one request; once it is committed, `answer` tells of it."""

    write: Write
    receipt: str | None = None

    def answer(self, body: BaseModel | None, *, location: str | None = None) -> Answer:
        return Answer(body, None, self.write.token, self.receipt, location)


@asynccontextmanager
async def changing(
    ask: Ask, *, tenant: str | None = None, shared: bool = False, others: Iterable[str] = (), making: bool = False
) -> AsyncIterator[Changed]:
    """Open a write, as `Writer.write` does; all that the block raises undoes it.

    It is committed when the block ends, or where the answer is to be kept, with that.
    """
    writer = ask.services.writer
    opened = writer.write(tenant=tenant, shared=shared, others=others, making=making, actor=ask.actor.ref)
    async with opened if ask.once is None else ask.once.held(opened) as write:
        changed = Changed(write)
        if ask.receipt:
            changed.receipt = write.want_receipt()
        yield changed


def unchanged(ask: Ask, now: Shape) -> None:
    """Refuse to change what is not as the caller last saw it.

    Raises:
        PublicError: it is otherwise.
    """
    if ask.if_match is not None and etag_of(now) not in ask.if_match:
        raise PublicError(
            412, "changed", "it was changed since you read it: read it again", headers={"ETag": etag_of(now)}
        )


async def rewriting(work: Callable[[bool], Awaitable[Answer]]) -> Answer:
    """Do work in a write of its own; do it again, with what all tenants share locked, if it turns out to touch that."""
    try:
        return await work(False)
    except NeedsSharedError:
        return await work(True)
