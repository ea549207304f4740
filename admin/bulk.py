"""Many changes in one request: one write, one revision, and for each item an answer of its own.

    items ──▶ one transaction: (savepoint ──▶ judged and done as a request of its own) … ──▶ results, by index

An item that is refused leaves nothing, neither rows nor words in the audit log, and those before and after it stand;
with `?atomic=true` it undoes them all. Each is judged by what the items before it did, by the same functions as the
single request: here is no second way to anything. Whatever is no answer to one item (the store does not answer, a
mistake of ours) undoes the whole and is the answer to the request. Where no item was done nothing is written, no
revision either: who may do nothing leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import Discriminator, Field

from admin.endpoint import Answer, Ask
from admin.errors import PublicError, to_public
from admin.wire import Shape
from admin.writing import Sharing, changing, rewriting
from engine import BylawError
from store.changes import NeedsSharedError, Write, refusing_clearly

#: So many fit a body, with all that a usual one says, and a moment: the tenant's other writes wait.
MAX_ITEMS: Final = 100
#: The code of the answer where all or none was wished.
UNDONE: Final = "undone"
_BODY: Final = "body"

T = TypeVar("T")


class BulkQuery(Shape):
    """What is to become of the others if an item is refused."""

    atomic: bool = Field(default=False, description="all or nothing: if one is refused, none is done, and it is 409")


class Fault(Shape):
    """Why an item was not done, as the request of its own would have been answered."""

    error: str
    message: str
    details: dict[str, Any]


class Result(Shape):
    """What became of an item: the status that a request of its own would have had."""

    index: int
    status: int
    id: str | None = None
    approval: str | None = Field(default=None, description="it waits for this approval")
    error: Fault | None = None


class BulkResult(Shape):
    """What became of each item, in their order."""

    results: list[Result]
    succeeded: int
    failed: int


class Done(NamedTuple):
    """An item that was done, or that waits for an approval."""

    status: int
    id: str | None = None
    approval: str | None = None


class _NothingDoneError(Exception):
    """No item was done. Nobody but `in_bulk` catches this: what it began is to be undone."""


def told_apart(*ops: str) -> Discriminator:
    """Tell the shapes of items apart by their `op`; without one an item is what a POST takes. Shapes are tagged with
    the word in parentheses, since the tag is a name of ours, and no member."""
    words = " or ".join(f"`{op}`" for op in ops)
    return Discriminator(
        lambda item: f"({item.get('op', ops[0])})" if isinstance(item, Mapping) else None,
        custom_error_type="bad_item",
        custom_error_message=f"an item is an object, whose `op` is {words}",
    )


async def in_bulk(ask: Ask, do: Callable[[Write, Any], Awaitable[Done]]) -> Answer:
    """Do each item of the body in a part of one write of the tenant.

    Args:
        do: does one item, and refuses it by raising.

    Raises:
        PublicError: all were to be done or none, and one was refused.
    """
    results: list[Result] = []

    async def work(shared: Sharing) -> Answer:
        results.clear()
        lacking: list[NeedsSharedError] = []
        async with changing(ask, tenant=ask.tenant, shared=shared) as changed:
            for index, item in enumerate(ask.body.items):
                try:
                    results.append(await _result(index, item, changed.write, do))
                except NeedsSharedError as error:  # what the others need is found in the same go
                    lacking.append(error)
            if lacking:
                raise NeedsSharedError(frozenset[str]().union(*(each.others for each in lacking)))
            if ask.query.atomic:
                _want_all(results)
            if all(each.error is not None for each in results):
                raise _NothingDoneError
        return changed.answer(_counted(results))

    try:
        return await rewriting(work)
    except _NothingDoneError:
        return Answer(_counted(results))


async def _result(index: int, item: T, write: Write, do: Callable[[Write, T], Awaitable[Done]]) -> Result:
    """Do one item; what it is refused for is its result."""
    try:
        with refusing_clearly():
            async with write.part():
                done = await do(write, item)
    except NeedsSharedError:
        raise
    except (PublicError, BylawError) as error:
        problem = to_public(error)
        if problem.status >= 500:
            raise
        return Result(index=index, status=problem.status, error=_fault(index, problem))
    return Result(index=index, status=done.status, id=done.id, approval=done.approval)


def _want_all(results: Sequence[Result]) -> None:
    """Refuse all where one was refused."""
    failed = [each.model_dump(mode="json", exclude_none=True) for each in results if each.error is not None]
    if failed:
        said = f"{len(failed)} of {len(results)} items were refused, so none was done"
        raise PublicError(409, UNDONE, said, details={"results": failed})


def _counted(results: Sequence[Result]) -> BulkResult:
    failed = sum(each.error is not None for each in results)
    return BulkResult(results=list(results), succeeded=len(results) - failed, failed=failed)


def _fault(index: int, problem: PublicError) -> Fault:
    """Tell why, with the names of fields as they are in this body."""
    details, message = dict(problem.details), problem.message
    fields = details.get("fields")
    if isinstance(fields, Mapping):
        named = {f"{_BODY}.items[{index}]{name.removeprefix(_BODY)}": said for name, said in fields.items()}
        details["fields"] = named
        message = f"not as it must be: {', '.join(sorted(named))}"
    return Fault(error=problem.code, message=message, details=details)
