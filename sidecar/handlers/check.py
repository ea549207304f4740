"""`POST /check`: one question, or many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Final

from aiohttp import web

from engine import Decision, Request, RequestError
from sidecar.answers import json_answer
from sidecar.body import read_json
from sidecar.callers import Caller
from sidecar.decision_id import DecisionIds
from sidecar.errors import PublicError, to_public
from sidecar.freshness import StaleError
from sidecar.keys import DECIDER, IDS, POLICIES
from sidecar.readings import Loaded
from sidecar.wire import Batch, Reader, render_batch, render_decision, render_item_error

AT_LEAST: Final = "Bylaw-At-Least"
STALE: Final = Decision(False, "stale", None)

_PLAIN, _CLAIMING = Reader(), Reader(may_claim=True)


def reader_for(caller: Caller) -> Reader:
    """Say how a caller's questions are read."""
    return _CLAIMING if "claims" in caller.scopes else _PLAIN


async def check(request: web.Request, caller: Caller) -> web.Response:
    """Answer a check."""
    caller.require("check")
    return await decided(request, reader_for(caller).question(await read_json(request)))


async def decided(request: web.Request, question: Request | Batch, *, unknown: Set[str] = frozenset()) -> web.Response:
    """Answer what was read; `unknown` is as in `answer`."""
    ids = request.app[IDS]
    try:
        said = await request.app[DECIDER].answer(
            lambda loaded: answer(question, loaded, ids, unknown=unknown), questions(question), demanded(request)
        )
    except StaleError:
        said = answer_stale(question, request.app[POLICIES].loaded, ids)
    return json_answer(said)


def demanded(request: web.Request) -> str | None:
    """Return the tokens of states that the facts must have reached; None: none are named."""
    if AT_LEAST not in request.headers:
        return None
    return ",".join(request.headers.getall(AT_LEAST))


def questions(question: Request | Batch) -> Sequence[Request]:
    """List what is asked, as far as it can be asked at all."""
    if isinstance(question, Request):
        return (question,)
    return [item for item in question.items if isinstance(item, Request)]


def answer(question: Request | Batch, loaded: Loaded, ids: DecisionIds, *, unknown: Set[str] = frozenset()) -> str:
    """Decide and write the answer, in one go: one request is decided by one policy on one state of the facts.

    Args:
        unknown: codes of what makes no sense under this policy that are a deny, not an error.

    Raises:
        RequestError: a single question makes no sense under this policy; of many, each has its own answer.
    """
    if isinstance(question, Request):
        try:
            decision = loaded.policy.decide(question, loaded.facts)
        except RequestError as error:
            if error.code not in unknown:
                raise
            decision = Decision(False, error.code, None)
        return render_decision(decision, loaded.policy.digest, ids.next())
    return render_batch(list(_answers(question, loaded, ids, unknown)))


def answer_stale(question: Request | Batch, loaded: Loaded, ids: DecisionIds) -> str:
    """Deny everything, since there are no facts to be trusted."""
    digest = loaded.policy.digest
    if isinstance(question, Request):
        return render_decision(STALE, digest, ids.next())
    first = question.items[:1] if question.semantic == "deny_on_first_deny" else question.items
    return render_batch([
        render_item_error(item) if isinstance(item, PublicError) else render_decision(STALE, digest, ids.next())
        for item in first
    ])  # fmt: skip


def _answers(batch: Batch, loaded: Loaded, ids: DecisionIds, unknown: Set[str]) -> Iterator[str]:
    """Answer item by item until the semantic says stop."""
    now = loaded.policy.clock()
    for item in batch.items:
        outcome = _decide(item, loaded, now)
        if isinstance(outcome, PublicError) and outcome.code in unknown:
            outcome = Decision(False, outcome.code, None)
        if isinstance(outcome, Decision):
            yield render_decision(outcome, loaded.policy.digest, ids.next())
            is_allowed = outcome.allowed
        else:
            yield render_item_error(outcome)
            is_allowed = False
        if batch.semantic == ("permit_on_first_permit" if is_allowed else "deny_on_first_deny"):
            return


def _decide(item: Request | PublicError, loaded: Loaded, now: int) -> Decision | PublicError:
    if isinstance(item, PublicError):
        return item
    item.now = now  # all items at one instant
    try:
        return loaded.policy.decide(item, loaded.facts)
    except RequestError as error:
        return to_public(error)
