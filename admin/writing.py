"""Transactions of requests: a snapshot to read, a write with its revision and receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from admin.actors import Key
from admin.endpoint import Answer, Ask
from admin.errors import PublicError, no_policy
from admin.wire import Shape, etag_of
from store.changes import SHARING_TRIES, NeedsSharedError, Write
from store.database import Connection
from store.writes import tenants

#: Whether what all tenants share is locked; names: with these tenants, whose logs are to tell of the write, too.
Sharing = bool | frozenset[str]
#: So often a write is begun anew because another policy was published.
_TRIES: Final = 3


@asynccontextmanager
async def reading(ask: Ask, tenant: str | None = None) -> AsyncIterator[Connection]:
    """Open a snapshot: of a tenant, or of what all share."""
    async with ask.services.database.reading(tenant) as connection:
        yield connection


@dataclass(slots=True)
class Changed:
    """A write of one request; once it is committed, `answer` tells of it."""

    write: Write

    def answer(self, body: BaseModel | None, *, location: str | None = None) -> Answer:
        return Answer(body, None, self.write.token, location)


@asynccontextmanager
async def changing(
    ask: Ask,
    *,
    tenant: str | None = None,
    shared: Sharing = False,
    others: Iterable[str] = (),
    making: bool = False,
    publishing: bool = False,
) -> AsyncIterator[Changed]:
    """Open a write, as `Writer.write` does; all that the block raises undoes it.

    Args:
        publishing: of a policy; no policy is asked, so that one that cannot be loaded can be replaced.

    It is committed when the block ends, or where the answer is to be kept, with that.

    Raises:
        PublicError: the tenant is deleted.
    """
    writer = ask.services.writer
    named = {*others, *(shared if isinstance(shared, frozenset) else ())}

    def opened() -> AbstractAsyncContextManager[Write]:
        write = writer.write(
            tenant=tenant, shared=bool(shared), others=named, making=making, publishing=publishing, actor=ask.actor.ref
        )
        return write if ask.once is None else ask.once.held(write)

    async with AsyncExitStack() as rest:
        write = await _entered(ask, opened, rest, is_judged=not publishing)
        is_deleted = (
            tenant is not None and not making and await tenants.status_of(write.connection, tenant) == "deleted"
        )
        if is_deleted and isinstance(ask.actor, Key):
            raise _deleted(write.owner)
        if ask.receipt:
            write.want_receipt()
        yield Changed(write)
        if is_deleted:  # now: an end user who may do nothing there was told so, and no more
            raise _deleted(write.owner)


def _deleted(tenant: str) -> PublicError:
    return PublicError(409, "deleted", f"the tenant `{tenant}` is deleted, for ever")


class _MovedError(Exception):
    """Another policy was published."""


async def _entered(
    ask: Ask, opened: Callable[[], AbstractAsyncContextManager[Write]], rest: AsyncExitStack, *, is_judged: bool
) -> Write:
    """Enter a write in which the policy that runs here is the one that decides.

    INVARIANT: it is looked at within the transaction, and whoever publishes waits for that to end: what is written
    stands beside the policy that let it.

    Raises:
        PublicError: the policy that decides cannot be had.
    """
    for _ in range(_TRIES):
        with suppress(_MovedError):
            async with AsyncExitStack() as trial:
                write = await trial.enter_async_context(opened())
                if is_judged and not await ask.services.is_current(write.connection, is_held=True):
                    raise _MovedError
                rest.push_async_exit(trial.pop_all())
                return write
        await ask.services.catch_up()
    raise no_policy()


def unchanged(ask: Ask, now: Shape) -> None:
    """Refuse to change what is not as the caller last saw it.

    Raises:
        PublicError: it is otherwise.
    """
    if ask.if_match is not None and etag_of(now) not in ask.if_match:
        raise PublicError(
            412, "changed", "it was changed since you read it: read it again", headers={"ETag": etag_of(now)}
        )


async def rewriting(work: Callable[[Sharing], Awaitable[Answer]]) -> Answer:
    """Do work in a write of its own; do it again, with what all tenants share locked, if it turns out to touch that,
    and with the tenants that it turns out to concern."""
    sharing: Sharing = False
    others: frozenset[str] = frozenset()
    for _ in range(SHARING_TRIES):
        try:
            return await work(sharing)
        except NeedsSharedError as error:
            others |= error.others
            sharing = others or True
    return await work(sharing)
