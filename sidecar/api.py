"""The decision API as functions from a body to a reply, for both lanes.

    body ──▶ strict_json ──▶ wire ──▶ decider ──▶ answering ──▶ reply
                                        └─ not at once: something must be loaded, or waited for

Each endpoint gives a `Reply`, or something to await where facts must be loaded first: nearly all requests await
nothing, and the fast lane makes no task for them. Errors are raised; `gate` says how they are answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from engine import Request
from sidecar.answering import Answer, answer, answer_stale, questions
from sidecar.callers import Caller
from sidecar.decider import Decider
from sidecar.decision_id import DecisionIds
from sidecar.exchange import Call, Reply, said
from sidecar.freshness import StaleError
from sidecar.policies import Policies
from sidecar.readings import Loaded
from sidecar.strict_json import parse
from sidecar.tellings import Tellings
from sidecar.tracing import Tracing
from sidecar.wire import Batch, Reader

CHECK: Final = "/check"
EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
#: On the paths of the standard these are answered by a deny.
UNKNOWN: Final = frozenset(("unknown_type", "unknown_action", "tenant_required"))

#: Readers by (whether short forms are read, whether roles may be claimed).
_READERS: Final = {
    (short, claims): Reader(short_forms=short, may_claim=claims) for short in (False, True) for claims in (False, True)
}

Endpoint = Callable[[Call, Caller, bytes], Reply | Awaitable[Reply]]


def reader_for(caller: Caller, *, short_forms: bool = True) -> Reader:
    """Say how a caller's questions are read."""
    return _READERS[short_forms, "claims" in caller.scopes]


@dataclass(frozen=True, slots=True)
class Api:
    """Answers bodies. `endpoints` lists by path what both lanes serve."""

    decider: Decider
    policies: Policies
    ids: DecisionIds
    tellings: Tellings
    tracing: Tracing | None = None

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        found: dict[str, Endpoint] = {
            CHECK: self.check,
            EVALUATION: self.evaluation,
            EVALUATIONS: self.evaluations,
        }
        return found if self.tracing is None else {path: self.tracing.traced(each) for path, each in found.items()}

    def check(self, call: Call, caller: Caller, body: bytes) -> Reply | Awaitable[Reply]:
        """Answer `POST /check`."""
        caller.require("check")
        question = caller.held(reader_for(caller).question(parse(body)))
        return self._decided(call, caller, question, frozenset())

    def evaluation(self, call: Call, caller: Caller, body: bytes) -> Reply | Awaitable[Reply]:
        """Answer one question; `evaluations` in the body count for nothing here."""
        return self._evaluated(call, caller, body, is_single=True)

    def evaluations(self, call: Call, caller: Caller, body: bytes) -> Reply | Awaitable[Reply]:
        """Answer many questions, or one where the body has no list of them."""
        return self._evaluated(call, caller, body, is_single=False)

    def _evaluated(self, call: Call, caller: Caller, body: bytes, *, is_single: bool) -> Reply | Awaitable[Reply]:
        caller.require("check")
        read = parse(body)
        if is_single and isinstance(read, dict):
            read.pop("evaluations", None)
        question = caller.held(reader_for(caller, short_forms=False).question(read))
        return self._decided(call, caller, question, UNKNOWN)

    def _decided(
        self, call: Call, caller: Caller, question: Request | Batch, unknown: Set[str]
    ) -> Reply | Awaitable[Reply]:
        def attempt(loaded: Loaded) -> Answer:
            return answer(question, loaded, self.ids, unknown=unknown)

        if call.at_least is None:
            began = perf_counter()
            found = self.decider.at_once(attempt)
            if found is not None:
                self.tellings.decided_in(perf_counter() - began)
                return self._told(call, caller, found)
        return self._waited_for(call, caller, question, attempt)

    async def _waited_for(
        self, call: Call, caller: Caller, question: Request | Batch, attempt: Callable[[Loaded], Answer]
    ) -> Reply:
        try:
            found = await self.decider.answer(attempt, questions(question), call.at_least)
        except StaleError:
            found = answer_stale(question, self.policies.loaded, self.ids)
        self.tellings.waited += 1
        return self._told(call, caller, found)

    def _told(self, call: Call, caller: Caller, found: Answer) -> Reply:
        """Tell log and metrics of the decisions, and reply."""
        self.tellings.note(found.outcomes, call, caller)
        return said(found.text)
