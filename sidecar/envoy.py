"""Envoy's question whether a request may pass, whichever of its two ways it came by: `Asked` in, `Verdict` out.

    Asked ──▶ gate ──▶ token ──▶ revoked? ──▶ routes and rules ──▶ Verdict
               │         ├─ none: anonymous     └─ not at once: something must be loaded
               │         └─ a bad one: 401
               └─ not let in: 503

Neither gRPC nor HTTP is known here: `handlers/envoy_grpc` and `handlers/envoy_http` read and write.

INVARIANT: nothing is raised. What Envoy takes for an error it lets through where `failure_mode_allow` is set, with
whatever identity the client forged. So each failure, ours too, is a verdict: 503.

A bad token is never nobody's: it is 401 on public routes as well, before anything else is looked at.

Whatever has to wait is waited for no longer than `WAIT_S`, which is less than Envoy does: who can make a check slow, by
a token of an unknown key, could else make an error of it. The load goes on, and the next check finds what it brought.

A request that passes loses every header that could be taken for one of ours, those that Envoy does not show us too: an
application reads `X_Bylaw_Subject` and `x-bylaw-subject` into one variable.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from json.encoder import encode_basestring_ascii as _quote
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from engine import Decision, HttpRequest, RequestError
from engine.claims import context_of
from engine.model import SYSTEM, Model
from sidecar.answering import STALE, Outcome
from sidecar.bearer import Identity, Reason, Rejected, is_revoked, read_authorization
from sidecar.callers import Caller
from sidecar.decider import Decider
from sidecar.decision_id import DecisionIds
from sidecar.errors import PublicError, to_public
from sidecar.exchange import Call
from sidecar.freshness import StaleError
from sidecar.gate import Gate
from sidecar.policies import Policies
from sidecar.readings import Loaded
from sidecar.wire import MAX_ID, render_decision

if TYPE_CHECKING:
    from sidecar.tokens import Verifier  # cryptography, which not every process needs
    from sidecar.tracing import Tracing

Json = dict[str, Any]
#: The endpoint's name, in log and metrics.
ENVOY: Final = "envoy"
#: What every call from Envoy says of its host: the request's own is the end user's, and says nothing of who calls here.
HOST: Final = "localhost"
SUBJECT: Final = "x-bylaw-subject"
TENANT: Final = "x-bylaw-tenant"
DECISION_ID: Final = "x-bylaw-decision-id"
#: What the policy's `with` asks of whoever enforces it, as JSON: Envoy knows none, so the application must see them.
OBLIGATIONS: Final = "x-bylaw-obligations"
#: How long a check may wait for facts or keys; Envoy waits 0.2 s if it is not told otherwise.
WAIT_S: Final = 0.15
#: Why anybody with a bad token is refused; more he is not told.
UNAUTHENTICATED: Final = "unauthenticated"

_RESERVED: Final = re.compile(r"x[-_]bylaw[-_]", re.IGNORECASE)
#: What stays as it is in a header of ours, beside letters, digits and `-._~`. `%` does not, so that it reads back, nor
#: does anything by which a reader might split a value.
_PLAIN: Final = ":@/+="
_CHALLENGE: Final = (("WWW-Authenticate", "Bearer"),)
_BAD_PATH: Final = Decision(False, "bad_path", None)


def is_reserved(name: str) -> bool:
    """Say whether a header has a name that only this service may set, however it is spelt."""
    return _RESERVED.match(name) is not None


def spellings(name: str) -> Iterator[str]:
    """Give all names that an application may take for a header's.

    >>> list(spellings("x-a"))
    ['x-a', 'x_a']
    """
    first, *rest = name.split("-")
    for marks in product("-_", repeat=len(rest)):
        yield first + "".join(mark + part for mark, part in zip(marks, rest, strict=True))


_OURS: Final = tuple(each for name in (SUBJECT, TENANT, DECISION_ID, OBLIGATIONS) for each in spellings(name))


class Asked(NamedTuple):
    """What Envoy tells of a request.

    Args:
        path: as it came, its query included, nothing decoded.
        authorization: all values of the header.
        address: the end user's, as far as it is known; None: it is not.
        reserved: headers of the request that only this service may set, in lower case.
        wants_rule: whether Envoy is told by which rule or role.
    """

    method: str
    path: str
    authorization: tuple[str, ...] = ()
    address: str | None = None
    reserved: tuple[str, ...] = ()
    wants_rule: bool = True


def as_it_came(path: str) -> str:
    """Return a path that Envoy wrote anew, so that none that it changed is decided on.

    It writes `!` for every byte that is no UTF-8, and sends the application the byte. So where a path has one, it may
    be another path, and is put down as one that nobody can read: it is denied.

    >>> as_it_came("/a/b?c!"), as_it_came("/a!/b")
    ('/a/b?c!', '/a�/b')
    """
    if "!" not in path:
        return path
    before, mark, query = path.partition("?")
    return before.replace("!", "\N{REPLACEMENT CHARACTER}") + mark + query


class Verdict(NamedTuple):
    """What Envoy is told.

    Args:
        status: 200: the request may pass; 401, 403: it may not; 503: nobody can say, so it may not.
        headers: those that a request which passes gets, beside `DECISION_ID`; else those of the answer to the client.
        removed: those that it loses.
        body: what the client is told; JSON.
        decision_id: of the decision, if this is one. rule, policy, revision: what it rests on. These and `code` are
            for Envoy's log and its other filters.
    """

    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    body: str = ""
    decision_id: str = ""
    rule: str = ""
    policy: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class EnvoyCheck:
    """Answers what Envoy asks.

    Args:
        verifier: of end users' tokens; None: there are no keys, so every token is a bad one.
        wait_s: how long a check may wait.
        tracing: puts a span round each; None: nobody wants any.
    """

    gate: Gate
    decider: Decider
    policies: Policies
    ids: DecisionIds
    verifier: Verifier | None = None
    wait_s: float = WAIT_S
    tracing: Tracing | None = None

    def judge(self, asked: Asked, call: Call) -> Verdict | Awaitable[Verdict]:
        """Let Envoy in and answer it. Neither this nor what is to be awaited raises anything."""
        return self._judge(asked, call) if self.tracing is None else self.tracing.judged(self._judge)(asked, call)

    def _judge(self, asked: Asked, call: Call) -> Verdict | Awaitable[Verdict]:
        try:
            caller = self.gate.admit(call)
            found = self._admitted(asked, call) if caller is None else self.answer(asked, caller, call)
        except Exception as error:  # the one place: nothing else may leave
            return self.failed(error, call)
        return found if isinstance(found, Verdict) else self._contained(found, call)

    async def _contained(self, found: Awaitable[Verdict], call: Call) -> Verdict:
        traffic = self.gate.traffic
        traffic.count += 1
        try:
            async with asyncio.timeout(self.wait_s):
                return await found
        except TimeoutError:
            return self.failed(PublicError(503, "stale", "what it takes to decide cannot be had in time"), call)
        except Exception as error:  # the same, of what had to wait
            return self.failed(error, call)
        finally:
            traffic.end()

    async def _admitted(self, asked: Asked, call: Call) -> Verdict:
        found = self.answer(asked, await self.gate.admitted(call), call)
        return found if isinstance(found, Verdict) else await found

    def answer(self, asked: Asked, caller: Caller, call: Call) -> Verdict | Awaitable[Verdict]:
        """Answer one who was let in.

        Raises:
            PublicError: he may not ask this.
        """
        caller.require("check")
        token = read_authorization(asked.authorization)
        if token is None:
            return self._decided(asked, caller, call, None)
        if isinstance(token, Rejected):
            return self._rejected(token.reason, call)
        if self.verifier is None:
            return self._rejected("unknown_key", call)
        identity = self.verifier.at_once(token)
        if identity is None:
            return self._verified(asked, caller, call, self.verifier.verify(token))
        if isinstance(identity, Rejected):
            return self._rejected(identity.reason, call)
        return self._decided(asked, caller, call, identity)

    async def _verified(
        self, asked: Asked, caller: Caller, call: Call, verifying: Awaitable[Identity | Rejected]
    ) -> Verdict:
        identity = await verifying
        if isinstance(identity, Rejected):
            return self._rejected(identity.reason, call)
        found = self._decided(asked, caller, call, identity)
        return found if isinstance(found, Verdict) else await found

    def _decided(
        self, asked: Asked, caller: Caller, call: Call, identity: Identity | None
    ) -> Verdict | Awaitable[Verdict]:
        question = question_of(asked, identity, self.policies.loaded.policy.model)
        case = _Case(asked, caller, identity, question, self.ids, is_logged=self.gate.tellings.is_logging)
        began = perf_counter()
        found = self.decider.at_once(case.attempt)
        if found is None:
            return self._waited_for(case, call)
        self.gate.tellings.decided_in(perf_counter() - began)
        return self._told(case, found, call)

    async def _waited_for(self, case: _Case, call: Call) -> Verdict:
        try:
            found = await self.decider.answer(case.attempt, (case.question,), None)
        except StaleError:
            found = case.stale(self.policies.loaded)
        self.gate.tellings.waited += 1
        return self._told(case, found, call)

    # --- telling -----------------------------------------------------------------------------------

    def _told(self, case: _Case, found: _Found, call: Call) -> Verdict:
        """Tell log and metrics of a decision, and make the verdict."""
        decision = found.decision
        if decision is _REVOKED:
            return self._rejected("revoked", call)
        self.gate.tellings.note((Outcome(case.question, decision, found.text),), call, case.caller)
        rule = (decision.by or "") if case.asked.wants_rule else ""
        rests_on = (found.id, rule, found.policy, decision.revision)
        if decision.allowed:
            return Verdict(200, decision.code, *_marks(case, found), "", *rests_on)
        status = 503 if decision is STALE else 401 if case.identity is None else 403
        return _refusal(status, decision.code, call.request_id, decision.because, rests_on)

    def _rejected(self, reason: Reason, call: Call) -> Verdict:
        """Refuse a bad token. Why it is one is counted, and not told."""
        self.gate.tellings.refuse(PublicError(401, reason, "this is no good token"))
        return _refusal(401, UNAUTHENTICATED, call.request_id)

    def failed(self, error: Exception, call: Call) -> Verdict:
        """Answer an error; the gate logs and counts it."""
        request_id = call.request_id or uuid4().hex
        self.gate.refuse(error, request_id)
        return _refusal(503, to_public(error).code, request_id)


def _refusal(
    status: int,
    code: str,
    request_id: str | None,
    because: str | None = None,
    rests_on: tuple[str, str, str, str] = ("", "", "", ""),
) -> Verdict:
    said = "null" if because is None else _quote(because)
    body = f'{{"error": "{code}", "requestId": {_quote(request_id or uuid4().hex)}, "because": {said}}}'
    return Verdict(status, code, _CHALLENGE if status == 401 else (), (), body, *rests_on)


def _marks(case: _Case, found: _Found) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Say which headers a request gets, beside the decision's id, and which it loses: none stands in both, for Envoy
    removes last."""
    given = [(SUBJECT, _quoted(case.question.subject))]
    if found.tenant is not None:
        given.append((TENANT, _quoted(found.tenant)))
    if found.decision.may_oblige and (obligations := found.decision.obligations):
        given.append((OBLIGATIONS, _quoted(json.dumps([each.as_json() for each in obligations]))))
    others = tuple(name for name in case.asked.reserved if name not in _OURS)
    return tuple(given), (*_lost(tuple(name for name, _ in given)), *others)


@lru_cache(4096)
def _quoted(text: str) -> str:
    return quote(text, _PLAIN)


@lru_cache(16)
def _lost(given: tuple[str, ...]) -> tuple[str, ...]:
    """List all names that an application may take for one of ours, but those that are given."""
    return tuple(name for name in _OURS if name != DECISION_ID and name not in given)


# --- one request ------------------------------------------------------------------------------------------------------

_REVOKED: Final = Decision(False, "revoked", None)


class _Found(NamedTuple):
    """What an attempt came to: a decision, its id, how the log writes it, its tenant, the policy's digest."""

    decision: Decision
    id: str = ""
    text: str = ""
    tenant: str | None = None
    policy: str = ""


class _Case(NamedTuple):
    """One request: what is asked, by which caller, on whose behalf."""

    asked: Asked
    caller: Caller
    identity: Identity | None
    question: HttpRequest
    ids: DecisionIds
    is_logged: bool

    def attempt(self, loaded: Loaded) -> _Found:
        """Decide, all at once.

        Raises:
            PublicError: the caller may not ask in this tenant.
        """
        identity, policy = self.identity, loaded.policy
        if identity is not None and is_revoked(identity, *loaded.facts.revoked(identity.subject)):
            return _Found(_REVOKED)
        self.question.now = policy.clock()  # of this attempt: an earlier one may have waited for facts since
        decision = self.decide(loaded)
        tenant = (decision.tenant or None) if policy.model.has_tenant else None
        mine = self.caller.tenants
        if mine is not None and (tenant not in mine or decision.action.startswith(f"{SYSTEM}.")):
            raise PublicError(403, "forbidden", "the caller's key is not for this tenant")
        return self.written(decision, tenant, policy.digest)

    def decide(self, loaded: Loaded) -> Decision:
        if not has_short_segments(self.asked.path):
            return _BAD_PATH
        try:
            return loaded.policy.decide(self.question, loaded.facts)
        except RequestError as error:
            if error.code != "tenant_required":
                raise
            return Decision(False, error.code, None)  # whoever sends a request knows of no tenant: he lacks a token

    def stale(self, loaded: Loaded) -> _Found:
        """Deny, since there are no facts to be trusted."""
        self.question.now = loaded.policy.clock()
        return self.written(STALE, None, loaded.policy.digest)

    def written(self, decision: Decision, tenant: str | None, digest: str) -> _Found:
        if self.asked.wants_rule or self.is_logged or not decision.allowed or decision.may_oblige:
            _ = decision.reasons  # while the facts are at hand: what is missing is loaded
        decision_id = self.ids.next()
        text = render_decision(decision, digest, decision_id) if self.is_logged else ""
        return _Found(decision, decision_id, text, tenant, digest)


def question_of(asked: Asked, identity: Identity | None, model: Model) -> HttpRequest:
    """Make the question: who asks, and from where, is only what a good token and Envoy say."""
    if identity is None:
        return HttpRequest(asked.method, asked.path, context=context_of(asked.address, model))
    context = context_of(asked.address, model, identity.claims)
    return HttpRequest(
        asked.method,
        asked.path,
        identity.subject,
        token_tenant=identity.tenant,
        context=context,
        subject_properties={"roles": list(identity.roles)} if identity.roles else None,
    )


def has_short_segments(path: str) -> bool:
    """Say whether everything in a path that may be an id is as short as ids are: views and memos are kept by them."""
    if len(path) <= MAX_ID:
        return True
    return all(len(each) - 2 * each.count("%") <= MAX_ID for each in path.partition("?")[0].split("/"))
