"""Answering what was read, in one go: a question, or a batch of them, to the text of the answer.

One request is decided by one policy on one state of the facts at one instant: nothing here waits. What cannot be
decided because a view is not held comes to nothing, and is asked again (`decider`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Final, NamedTuple

from engine import Decision, HttpRequest, Request, RequestError
from sidecar.decision_id import DecisionIds
from sidecar.errors import PublicError, to_public
from sidecar.readings import Loaded
from sidecar.wire import Batch, render_batch, render_decision, render_item_error

STALE: Final = Decision(False, "stale", None)


class Outcome(NamedTuple):
    """One decision, or why there is none, and how it is written; for log and metrics."""

    question: Request | HttpRequest | None
    decision: Decision | PublicError
    text: str


class Answer(NamedTuple):
    """The text of an answer, and the decisions in it."""

    text: str
    outcomes: Sequence[Outcome]


def questions(question: Request | Batch) -> Sequence[Request]:
    """List what is asked, as far as it can be asked at all."""
    if isinstance(question, Request):
        return (question,)
    return [item for item in question.items if isinstance(item, Request)]


def answer(question: Request | Batch, loaded: Loaded, ids: DecisionIds, *, unknown: Set[str] = frozenset()) -> Answer:
    """Decide and write the answer.

    Args:
        unknown: codes of what makes no sense under this policy that are a deny, not an error.

    Raises:
        RequestError: a single question makes no sense under this policy; of many, each has its own answer.
    """
    policy = loaded.policy
    if isinstance(question, Request):
        question.now = policy.clock()  # of this attempt: an earlier one may have waited for facts since
        try:
            decision = policy.decide(question, loaded.facts)
        except RequestError as error:
            if error.code not in unknown:
                raise
            decision = Decision(False, error.code, None)
        text = render_decision(decision, policy.digest, ids.next())
        return Answer(text, (Outcome(question, decision, text),))
    outcomes = list(_answers(question, loaded, ids, unknown))
    return Answer(render_batch([each.text for each in outcomes]), outcomes)


def answer_stale(question: Request | Batch, loaded: Loaded, ids: DecisionIds) -> Answer:
    """Deny everything, since there are no facts to be trusted."""
    digest, now = loaded.policy.digest, loaded.policy.clock()

    def denied(item: Request | PublicError) -> Outcome:
        if isinstance(item, PublicError):
            return Outcome(None, item, render_item_error(item))
        item.now = now
        return Outcome(item, STALE, render_decision(STALE, digest, ids.next()))

    if isinstance(question, Request):
        only = denied(question)
        return Answer(only.text, (only,))
    first = question.items[:1] if question.semantic == "deny_on_first_deny" else question.items
    outcomes = [denied(item) for item in first]
    return Answer(render_batch([each.text for each in outcomes]), outcomes)


def _answers(batch: Batch, loaded: Loaded, ids: DecisionIds, unknown: Set[str]) -> Iterator[Outcome]:
    """Answer item by item until the semantic says stop."""
    now = loaded.policy.clock()
    for item in batch.items:
        outcome = _decide(item, loaded, now)
        if isinstance(outcome, PublicError) and outcome.code in unknown:
            outcome = Decision(False, outcome.code, None)
        question = item if isinstance(item, Request) else None
        if isinstance(outcome, Decision):
            yield Outcome(question, outcome, render_decision(outcome, loaded.policy.digest, ids.next()))
            is_allowed = outcome.allowed
        else:
            yield Outcome(question, outcome, render_item_error(outcome))
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
