"""Judges answers: a `Chronicle` knows which facts stood when, and every answer must be theirs.

An answer names its state by a token. All times at which the store stood at just these numbers of p, g and the tenant's
t are a few *spans*, mostly one; more where a restore let another history come to the same numbers. Laws are filters on
spans, and an answer breaks the first law that leaves it none:

    policy_is_of_its_revision  what decided is what was published at the p that it names, or a process's own where
                             nothing was; it may stay behind what no process can have, and behind nothing else
    decision_is_a_cut        the numbers stood together, and the engine decides the same on those very facts, in memory
    expiry_is_exact          and at the very instant, not at one before something of them ended
    never_older_than_asked   the numbers are not below those that were demanded (`read_your_writes`: by who wrote them)
    receipts_are_true        nor below those that this process gave a receipt for
    restore_and_failover     the span had not ended in a restore that this process has seen of it,
    past_never_comes_back    nor in anything else that it has seen: of what all tenants share by its last poll, of a
                             tenant by the last that asked for it, and by its own answers on what it holds
    stale_is_bounded         nor longer ago than facts may be old
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine import Policy
from engine.policy import Facts
from sidecar.wire import render_decision
from store.streams import GLOBAL, POLICIES, Position, stream_of
from store.tokens import Line, Token, tenant_digest
from tests.freshness.fake_store import REFUSED, State
from tests.freshness.scene import TENANTS, Asked, Views, ends, in_memory

INVARIANTS: Final = (
    "policy_is_of_its_revision",
    "decision_is_a_cut",
    "expiry_is_exact",
    "never_older_than_asked",
    "read_your_writes",
    "receipts_are_true",
    "restore_and_failover",
    "past_never_comes_back",
    "no_recaching_of_the_past",
    "stale_is_bounded",
    "every_question_is_answered",
    "every_receipt_is_given",
)

Key = tuple[Line, int, int, bytes | None, int]
Positions = tuple[Line, Mapping[str, Position]]
FOREVER: Final = float("inf")


class ViolationError(Exception):
    """A law was broken: its name, and how."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


@dataclass(slots=True, eq=False)
class Span:
    """A time through which what one tenant's decisions depend on stood still.

    Args:
        since, until: moves of the checker; `until_s`: the clock.
        is_cut: whether a restore ended it.
        at: where the streams stood.
    """

    at: Positions
    tenant: str
    shared: Views
    own: Views
    since: int
    until: float = FOREVER
    until_s: float = FOREVER
    is_cut: bool = False
    published: int | None = None

    @property
    def p(self) -> int:
        """How far the published policies were."""
        return self.at[1][POLICIES].n


@dataclass(frozen=True, slots=True)
class Demand:
    """A token that a question came with."""

    token: Token
    is_of_write: bool


@dataclass(frozen=True, slots=True)
class Promises:
    """What a process has said, and seen.

    Attributes:
        receipts: the revisions that it gave receipts for, by stream.
        seen: the move at which the last poll that it applied was answered.
        own: by tenant, that of the last that asked for it, or the one at which began what was answered last.
    """

    receipts: Mapping[str, int] = field(default_factory=dict)
    seen: int = -1
    own: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, and what must be known to judge it.

    Attributes:
        settled: the revisions whose receipts are settled: no process answers from before them any more.
    """

    asked: Asked
    said: Mapping[str, Any]
    policy: Policy
    now: int
    clock_s: float
    since: int
    demands: tuple[Demand, ...]
    promises: Promises
    settled: Mapping[str, int]
    max_staleness_s: float


class Chronicle:
    """Which facts stood when, and which of the policies decided then.

    Args:
        policies: those that may be published.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies
        self._published: dict[tuple[Line, int], set[int | None]] = {}
        self._refused: dict[Key, list[Span]] = {}
        self._spans: dict[Key, list[Span]] = {}
        self._open: dict[str, tuple[Positions, Span]] = {}
        self._facts: dict[tuple[int, int, str, str, int], Facts] = {}
        self._ends: dict[tuple[int, int], tuple[int, ...]] = {}
        self._restored: list[tuple[int, dict[str, Token]]] = []

    def note(self, state: State, step: int, clock_s: float, *, is_restore: bool = False) -> None:
        """Take in the state that now is."""
        if is_restore:
            self._restored.append((step, {tenant: state.token(tenant) for tenant in ("", *TENANTS)}))
        for tenant in ("", *TENANTS):
            token = state.token(tenant)
            streams = (POLICIES, GLOBAL, stream_of(tenant))
            at = token.line, {stream: state.at[stream] for stream in streams if stream in state.at}
            known = self._open.get(tenant)
            if known is not None and known[0] == at:
                continue
            if known is not None:
                known[1].until, known[1].until_s, known[1].is_cut = step, clock_s, is_restore
            self._published.setdefault((token.line, token.p), set()).add(state.published)
            span = Span(at, tenant, state.shared, state.own.get(tenant, {}), step, published=state.published)
            self._open[tenant] = at, span
            if token.tenant is not None or not tenant:
                self._spans.setdefault(_key(token), []).append(span)
                if state.published == REFUSED:
                    self._refused.setdefault(_key(replace(token, p=0)), []).append(span)

    @property
    def restored(self) -> int:
        """The move of the last restore."""
        return self._restored[-1][0] if self._restored else -1

    def spans(self, token: Token) -> list[Span]:
        """List the times of a state; also those at which something was published that no process can have."""
        behind = self._refused.get(_key(replace(token, p=0)), [])
        return [*self._spans.get(_key(token), []), *(span for span in behind if token.p < span.p)]

    def judge(self, heard: Heard) -> list[Span]:
        """Hold an answer against the laws; return what it may stand on.

        Raises:
            ViolationError: it breaks one.
        """
        token = Token.parse(heard.said["context"]["revision"])
        spans = self._true_ones(heard, token)
        self._check_receipts(heard, token)
        spans = self._check_demands(heard, token, spans)
        own = heard.promises.own.get(heard.asked.tenant or "", -1)
        current = [span for span in spans if span.until > own and self._shared_until(span, token) > heard.promises.seen]
        if not current:
            law = "restore_and_failover" if any(span.is_cut for span in spans) else "past_never_comes_back"
            seen = f"{heard.promises.seen}, of the tenant {own}"
            raise ViolationError(law, f"{shown(token)} ended at {spans[-1].until}, and {seen} was seen")
        oldest = heard.clock_s - heard.max_staleness_s
        if not any(span.until_s >= oldest for span in current):
            raise ViolationError(
                "stale_is_bounded", f"{shown(token)} ended {heard.clock_s - spans[-1].until_s:.3f} s ago"
            )
        return current

    def _shared_until(self, span: Span, token: Token) -> float:
        """Tell until when what all tenants share stood as in a span, the last time."""
        shared = self.spans(Token(token.line, token.p, token.g))
        at = [each.at for each in shared if each.since <= span.since and span.until <= each.until]
        return max((each.until for each in shared if each.at in at), default=0)

    def _true_ones(self, heard: Heard, token: Token) -> list[Span]:
        """List the spans on whose facts the engine says the same."""
        stood = self.spans(token)
        if not stood:
            raise ViolationError("decision_is_a_cut", f"{shown(token)} never stood together")
        if not self._is_its_policy(heard.policy, token):
            raise ViolationError(
                "policy_is_of_its_revision", f"{shown(token)} was not decided by {heard.policy.digest}"
            )
        said = _told(heard.said)
        expected = [_told(self._decide(heard, span, heard.now)) for span in stood]
        found = [span for span, other in zip(stood, expected, strict=True) if other == said]
        if not found:
            law = "expiry_is_exact" if any(self._was(said, heard, span) for span in stood) else "decision_is_a_cut"
            raise ViolationError(law, f"{shown(token)}: said {said}, but it is {expected[0]}")
        return found

    def _is_its_policy(self, policy: Policy, token: Token) -> bool:
        """Say whether a policy may decide at a revision: of 0, nobody knows which."""
        published = self._published.get((token.line, token.p), {None})
        allowed = [self._policies[each] for each in published if each is not None and each != REFUSED]
        return None in published or any(each is policy for each in allowed)

    def _was(self, said: Mapping[str, Any], heard: Heard, span: Span) -> bool:
        """Say whether an answer was right before something ended."""
        return any(_told(self._decide(heard, span, end - 1)) == said for end in self._ended(span, heard.now))

    def is_of_time(self, heard: Heard, spans: Iterable[Span]) -> bool:
        """Say whether an answer would be another one, had nothing of the facts ended by then."""
        said = _told(heard.said)
        ended = [(span, end) for span in spans for end in self._ended(span, heard.now)[-1:]]
        return any(_told(self._decide(heard, span, end - 1)) != said for span, end in ended)

    def _ended(self, span: Span, now: int) -> list[int]:
        """List the instants up to now at which something of a span's facts ended."""
        key = id(span.shared), id(span.own)
        if key not in self._ends:
            self._ends[key] = ends((*span.shared.values(), *span.own.values()))
        return [end for end in self._ends[key] if end <= now]

    def _check_receipts(self, heard: Heard, token: Token) -> None:
        numbers = {GLOBAL: token.g, POLICIES: token.p}
        if token.tenant is not None:
            numbers[stream_of(heard.asked.tenant or "")] = token.t
        for said, bounds in (("acknowledged", heard.promises.receipts), ("settled", heard.settled)):
            for stream, n in numbers.items():
                if n < bounds.get(stream, 0):
                    raise ViolationError("receipts_are_true", f"{shown(token)}: {stream} {bounds[stream]} was {said}")

    def _check_demands(self, heard: Heard, token: Token, spans: list[Span]) -> list[Span]:
        """What was lost in a restore cannot be had: a token of it stands for whatever was there when the question
        came."""
        for demand in heard.demands:
            asked = demand.token
            is_of_line = asked.line == token.line
            if is_of_line and not is_below(token, asked, heard.asked.tenant or ""):
                continue
            if is_of_line and not self._is_lost(asked):
                raise ViolationError(_law_of(demand), f"{shown(token)} is below {shown(asked)}")
            spans = [span for span in spans if span.until > heard.since]
            if not spans:
                raise ViolationError(_law_of(demand), f"{shown(token)} had ended when {shown(asked)} was asked for")
        return spans

    def _is_lost(self, token: Token) -> bool:
        """Say whether a restore undid a state."""
        since = min((span.since for span in self.spans(token)), default=0)
        tenant = next((name for name in TENANTS if tenant_digest(name) == token.tenant), "")
        return any(step > since and is_below(now[tenant], token, tenant) for step, now in self._restored)

    def _decide(self, heard: Heard, span: Span, now: int) -> Mapping[str, Any]:
        """Decide on the facts of a span, in memory. What was derived before something ended is not looked at."""
        policy = heard.policy
        key = id(span.shared), id(span.own), span.tenant, policy.digest, len(self._ended(span, now))
        facts = self._facts.get(key)
        if facts is None:
            made = in_memory(policy.model, span.tenant, span.shared, span.own)
            facts = self._facts[key] = Facts.made(lambda model: replace(made, model=model), policy)
        request = heard.asked.request()
        request.now = now
        told: Mapping[str, Any] = json.loads(render_decision(policy.decide(request, facts), policy.digest, ""))
        return told


def are_one(spans: Iterable[list[Span]]) -> bool:
    """Say whether there was a moment that lies in a span of each of these answers."""
    listed = list(spans)
    starts = [span.since for choice in listed for span in choice]
    return any(all(any(span.since <= start < span.until for span in choice) for choice in listed) for start in starts)


def is_below(token: Token, asked: Token, tenant: str) -> bool:
    """Say whether a state of a tenant lacks something of another."""
    is_own = asked.tenant == tenant_digest(tenant)
    return token.p < asked.p or token.g < asked.g or (is_own and token.t < asked.t)


def _law_of(demand: Demand) -> str:
    return "read_your_writes" if demand.is_of_write else "never_older_than_asked"


def _key(token: Token) -> Key:
    return token.line, token.p, token.g, token.tenant, token.t


def _told(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an answer says, without what names it."""
    kept = {name: value for name, value in said["context"].items() if name not in ("id", "revision")}
    return {"decision": said["decision"], **kept}


def shown(token: Token) -> str:
    """Write a token for people."""
    tenant = next((name for name in TENANTS if tenant_digest(name) == token.tenant), None)
    line = f"{token.line.store.lstrip('0')}/{token.line.timeline.lstrip('0')}"
    return f"[{line} p{token.p} g{token.g}{f' {tenant} t{token.t}' if tenant else ''}]"
