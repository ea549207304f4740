"""Freshness: what this process has applied of the change log, and how long ago it last knew that this is all.

A *poll* reads, in one statement on the primary, how far the streams are and what changed; *applying* it drops what
changed and moves all streams together, without an await in between, so that whoever looks in between two awaits sees
facts that stood together. `confirmed` is the clock as it was before the last applied poll was sent: whatever was
committed before then is applied here.

    poll ── sent at T ──▶ primary ──▶ answer ──▶ apply: drop, note, move ──▶ confirmed = T

A load may take a tenant into use, where it read what all tenants share as it is applied here. `confirmed` is then no
later than the clock before that load, and so it is after the next poll, too, if that was sent without knowing of the
tenant: `confirmed` speaks for all that is in use.

INVARIANT: one poll at a time: an older answer is never applied after a newer one.

Where a poll finds stream p moved, the policy that decides from there on is made ready before the poll is applied, and
begins to decide in the same moment: so policy and facts stood together, too. A policy that cannot be had holds nothing
up but itself: facts move on, and `decided_by` stays where the policy is that still decides. Tokens name that; nobody
who demands more is answered, and no receipt is given. But a process that has been too old for any answer does not come
back with the policy before: somebody may have been told meanwhile that nobody answers by that any more (`settling`).

A history that is not the one that was followed (a lower number, another head, timeline or store) drops everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from engine.facts import IMPLICIT_TENANT
from sidecar.histogram import Histogram
from sidecar.views import Cache, StreamViews
from store.answers import UNKNOWN, Change, Polled, known_text
from store.errors import StoreError
from store.streams import GLOBAL, NOWHERE, POLICIES, Position, stream_of, tenant_key, tenant_of
from store.tokens import Line, Token, tenant_digest

#: A poll that takes longer, or half of the time that facts may be old, is given up: the next may reach a database that
#: answers, and what it shows would be old.
POLL_TIMEOUT_S: Final = 2.0
#: How long a check that demands a revision waits for it.
REACH_S: Final = 0.15

_log = logging.getLogger("bylaw.freshness")


def _as_before() -> None:
    """Let the policy decide that does."""


class StaleError(Exception):
    """The facts are older than is allowed, or than is demanded: there is no answer to be trusted."""


class NotAppliedError(StoreError):
    """A poll was answered by a database that is not to be followed as it is."""

    def __init__(self, message: str) -> None:
        super().__init__("not_applied", message)


class Poller(Protocol):
    """Where polls go."""

    async def poll(self, known: str) -> Polled: ...


class Since(NamedTuple):
    """When something began: the clock, and which of the histories was followed."""

    clock: float
    history: int


class Freshness:
    """Follows the change log for one process.

    Args:
        cache: what changes are applied to.
        on_change: told of the tenants whose facts moved; of None where those of all tenants did.
        on_policies: makes ready what decides at a revision of stream p, and gives the step that makes it decide; None
            where it cannot be had. None: policies come from elsewhere.
        clock: seconds that only go forward, and go on while the machine sleeps.

    Attributes:
        policies: how far stream p is applied. decided_by: of which revision the policy is that decides.
        confirmed: see the module; minus infinity before the first poll.
        epoch: how many polls were applied.
        took: what polls took, until they were answered or given up.
        receipts: those that this process can give.
        is_registered: whether the last poll found this process among those that receipts are waited for from.
    """

    def __init__(
        self,
        poller: Poller,
        cache: Cache,
        *,
        max_staleness_s: float,
        clock: Callable[[], float],
        on_change: Callable[[Iterable[str] | None], None],
        on_policies: Callable[[Position], Awaitable[Callable[[], None] | None]] | None = None,
    ) -> None:
        self.cache = cache
        self.max_staleness_s = max_staleness_s
        self.poll_timeout_s = min(POLL_TIMEOUT_S, max_staleness_s / 2)
        self.clock = clock
        self.line: Line | None = None
        self.former: frozenset[str] = frozenset()
        self.policies = NOWHERE
        self.decided_by = 0
        self.confirmed = float("-inf")
        self.is_replica = False
        self.is_registered = False
        self.epoch = 0
        self.took = Histogram()
        self.receipts: set[str] = set()
        self.wake = asyncio.Event()
        self._poller = poller
        self._on_change = on_change
        self._on_policies = on_policies
        self._wanted: set[str] = set()
        self._running: asyncio.Task[None] | None = None
        self._queued: asyncio.Task[None] | None = None
        self._histories = 0
        self._forgot = float("-inf")
        self._known: dict[str, Position] = {}
        self._known_text = ""

    # --- may it be answered? -----------------------------------------------------------------------

    def is_fresh(self) -> bool:
        """Say whether what is applied is young enough to answer from."""
        return self.clock() - self.confirmed <= self.max_staleness_s

    def age_s(self) -> float:
        return self.clock() - self.confirmed

    def token(self, tenant: str) -> str:
        """Name the state that decisions in a tenant are made on; "" for none."""
        if self.line is None:
            return ""
        held = self.cache.tenants.get(tenant) if tenant else None
        g = self.cache.shared.at.n
        if held is None:
            return str(Token(self.line, self.decided_by, g))
        return str(Token(self.line, self.decided_by, g, tenant_digest(tenant), held.at.n))

    async def reach(self, tokens: Iterable[Token], tenants: Iterable[str]) -> None:
        """Apply all that tokens name of what all tenants share, and of these tenants.

        Raises:
            StaleError: not within the time that a check waits.
        """
        wanted, asked = list(tokens), set(tenants)
        if all(self._has_reached(token, asked, is_polled=False) for token in wanted):
            return
        try:
            async with asyncio.timeout(REACH_S):
                self._wanted |= asked  # also those in use: a poll on its way may take them out of it
                await self.poll()
        except (TimeoutError, StoreError) as error:
            raise StaleError from error
        # What was committed before the check came is applied now. Where that is not enough, no waiting helps.
        if not all(self._has_reached(token, asked, is_polled=True) for token in wanted):
            raise StaleError

    def _has_reached(self, token: Token, tenants: set[str], *, is_polled: bool) -> bool:
        if self.line is None:
            return False
        if token.line != self.line:
            # Its numbers say nothing here: of a line that this one took over from, a poll sent from now on is what
            # can be had; of another, and of one that took over from this, nothing.
            return is_polled and (self.line.took_over_from(token.line) or token.line.store in self.former)
        if token.p > self.decided_by or token.g > self.cache.shared.at.n:
            return False
        return all(tenant_digest(tenant) != token.tenant or self._applied(tenant) >= token.t for tenant in tenants)

    def _applied(self, tenant: str) -> int:
        held = self.cache.tenants.get(tenant)
        return held.at.n if held is not None else -1

    # --- polling -----------------------------------------------------------------------------------

    async def activate(self, tenant: str) -> None:
        """Take a tenant into use, by a poll.

        Raises:
            StoreError, TimeoutError: no answer, or none to follow.
        """
        if tenant not in self.cache.tenants:
            self._wanted.add(tenant)
            await self.poll()

    async def poll(self) -> None:
        """Wait for a poll that is sent from now on to be applied. All who wait at one time share one.

        Raises:
            StoreError, TimeoutError: no answer, or none to follow.
        """
        if self._queued is None and self._running is not None and not self._running.done():
            self._queued = _quietly(self._poll_after(self._running))
        if self._queued is not None:
            await asyncio.shield(self._queued)
            return
        self._running = _quietly(self._poll_once())
        await asyncio.shield(self._running)

    async def _poll_after(self, before: asyncio.Task[None]) -> None:
        await asyncio.wait([before])
        self._running, self._queued = asyncio.current_task(), None
        await self._poll_once()

    async def _poll_once(self) -> None:
        wanted, self._wanted = self._wanted, set()
        asked = {stream_of(tenant): UNKNOWN for tenant in wanted} | self._positions()
        text = self._text_of(asked)
        sent = self.clock()
        try:
            async with asyncio.timeout(self.poll_timeout_s):
                polled = await self._poller.poll(text)
        finally:
            self.took.add(self.clock() - sent)
        self.apply(polled, asked, sent, await self._make_ready(polled))

    async def _make_ready(self, polled: Polled) -> Callable[[], None] | None:
        """Make the policy ready that decides where a poll stands; None: it cannot be had. Then it is asked for again by
        each poll."""
        at = polled.at.get(POLICIES)
        if self._on_policies is None or at is None or polled.moment.is_replica or not polled.is_registered:
            return _as_before
        if polled.moment.line == self.line and at == self.policies and self.decided_by == at.n:
            return _as_before
        return await self._on_policies(at)

    def _positions(self) -> dict[str, Position]:
        if self.line is None:
            return {GLOBAL: UNKNOWN, POLICIES: UNKNOWN}
        own = {stream_of(tenant): held.at for tenant, held in self.cache.tenants.items()}
        return {GLOBAL: self.cache.shared.at, POLICIES: self.policies, **own}

    def _text_of(self, asked: dict[str, Position]) -> str:
        if asked != self._known:
            self._known, self._known_text = asked, known_text(asked)
        return self._known_text

    # --- applying ----------------------------------------------------------------------------------

    def apply(
        self,
        polled: Polled,
        asked: Mapping[str, Position],
        sent: float,
        decide: Callable[[], None] | None = _as_before,
    ) -> None:
        """Take in the answer to a poll. INVARIANT: no await in here.

        Args:
            asked: where the streams were that the poll asked for.
            sent: the clock before it was sent.
            decide: makes the policy decide that was made ready for it; None: that cannot be had.

        Raises:
            NotAppliedError: it is not taken in.
        """
        self.is_registered = polled.is_registered
        if not self.is_registered:
            self.wake.set()  # to register at once
            raise NotAppliedError("whoever waits for receipts would not wait for this process")
        self.is_replica = polled.moment.is_replica
        if self.is_replica:
            self.confirmed = float("-inf")
            raise NotAppliedError("the database is a replica, which may lag behind by any time")
        if decide is None and self.line is not None and not self.is_fresh():
            raise NotAppliedError("what is published cannot be loaded here, and what decided before is too old")
        if polled.moment.line != self.line or self._is_other_history(polled, asked):
            self._begin_anew(polled, asked)
        else:
            sent = min(sent, self._judge_unasked(polled, asked))
            self._advance(polled, asked)
        if decide is not None:
            decide()
            self.decided_by = self.policies.n
        self.former = polled.moment.former
        self.confirmed = sent
        self.epoch += 1
        self.receipts = {receipt for receipt, streams in polled.waiting.items() if self._has_applied(streams)}
        self._remember(polled.waiting.values())

    def since(self) -> Since:
        """Tell what a load that begins now can be sure of."""
        return Since(self.clock(), self._histories)

    def may_show(self, at: Mapping[str, Position], since: Since) -> bool:
        """Say whether a state that a load saw is no older than what this process has shown, or acknowledged."""
        return since.history == self._histories and all(each.n >= self._shown(stream) for stream, each in at.items())

    def is_behind(self, at: Mapping[str, Position]) -> bool:
        """Say whether a state is ahead of what this process has shown, or acknowledged."""
        return any(each.n > self._shown(stream) for stream, each in at.items())

    def _shown(self, stream: str) -> int:
        tenant = tenant_of(stream)
        return self._position(stream).n if self._is_held(stream) else self.cache.shown(tenant or "")

    def adopt(self, tenant: str, at: Position, since: Since) -> bool:
        """Take a tenant into use where a load found it, which read what all tenants share as it is applied here; say
        whether it may be: not where the load may have seen less than this process has shown, or acknowledged.

        Args:
            since: of before the load.
        """
        if not self.may_show({stream_of(tenant): at}, since):
            return False
        self.cache.use(tenant, at, at.n).since = since.clock
        self.confirmed = min(self.confirmed, since.clock)
        return True

    def _remember(self, waiting: Iterable[Mapping[str, int]]) -> None:
        """Remember what is acknowledged of tenants that are not in use, for as long as an older load may be answered
        from."""
        if self.confirmed - self._forgot > 2 * self.max_staleness_s:
            self._forgot = self.confirmed
            self.cache.forget_shown()
        for streams in waiting:
            for stream, n in streams.items():
                if (tenant := tenant_of(stream)) is not None:
                    self.cache.show(tenant, n)

    def _judge_unasked(self, polled: Polled, asked: Mapping[str, Position]) -> float:
        """Look at what came into use while the poll was on its way; return since when its facts are known.

        It stays where the poll moves nothing that all tenants share: new facts of theirs and its own may never have
        stood together. Where the poll asked for it, too, from elsewhere, it stays if the poll found it where it is.
        """
        is_moved = (polled.at.get(GLOBAL), polled.at.get(POLICIES)) != (self.cache.shared.at, self.policies)
        since = float("inf")
        for tenant, held in list(self.cache.tenants.items()):
            stream = stream_of(tenant)
            before = asked.get(stream)
            if before == held.at or (before is UNKNOWN and polled.at.get(stream) == held.at):
                continue
            if is_moved or before is not None:
                self.cache.leave(tenant)
            else:
                since = min(since, held.since)
        return since

    def _is_other_history(self, polled: Polled, asked: Mapping[str, Position]) -> bool:
        return any(
            at is not UNKNOWN and not _follows(at, polled.at.get(stream, at), polled.changes.get(stream, []))
            for stream, at in asked.items()
        )

    def _begin_anew(self, polled: Polled, asked: Mapping[str, Position]) -> None:
        """Drop everything, and stand where the poll says."""
        if self.line is not None:
            _log.warning("the database shows another history than before: everything that was held is dropped")
        self.line = polled.moment.line
        at = polled.at.get(GLOBAL, NOWHERE)
        is_told = asked.get(GLOBAL) is UNKNOWN
        self.cache.begin_anew(at, at.n)
        if is_told:
            self._learn(self.cache.shared, polled.changes.get(GLOBAL, []))
        policies = polled.at.get(POLICIES, NOWHERE)
        if policies != self.policies:
            self.decided_by = 0  # it was of a history that is lost, and says nothing in this one
        self.policies = policies
        self._histories += 1
        self._on_change(None)

    def _advance(self, polled: Polled, asked: Mapping[str, Position]) -> None:
        moved = []
        for stream, before in asked.items():
            tenant = tenant_of(stream)
            if tenant is not None and before is UNKNOWN:
                if tenant not in self.cache.tenants:
                    self._take_into_use(tenant, polled)
                continue
            at = polled.at.get(stream, before)
            if at == before:
                continue
            if stream == POLICIES:
                self.policies = at
            elif (held := self.cache.shared if tenant is None else self.cache.tenants.get(tenant)) is not None:
                self._move(held, at, polled.changes.get(stream, []))
            elif tenant is not None:
                self.cache.show(tenant, at.n)  # it went out of use meanwhile
                continue
            moved.append(stream)
        if moved:
            tenants = [tenant for stream in moved if (tenant := tenant_of(stream)) is not None]
            self._on_change(tenants if len(tenants) == len(moved) else None)

    def _move(self, held: StreamViews, at: Position, changes: list[Change]) -> None:
        """Apply changes to a stream; where some are missing, drop all that is held of it."""
        is_whole = _is_whole(held.at.n, at, changes)
        for change in changes if is_whole else ():
            self.cache.note(held, change)
        if not is_whole:
            held.stand(at)
            held.drop_all()

    def _learn(self, held: StreamViews, changes: list[Change]) -> None:
        """Take in what is told of the past of a stream: what was read since, and not touched, is current."""
        if changes and _is_whole(changes[0].n - 1, held.at, changes):
            held.floor = changes[0].n - 1
            for change in changes:
                self.cache.note(held, change)

    def _take_into_use(self, tenant: str, polled: Polled) -> None:
        at = polled.at.get(stream_of(tenant), NOWHERE if tenant == IMPLICIT_TENANT else None)
        if at is None:
            self.cache.store(self.cache.shared, {tenant_key(tenant): None}, self.cache.shared.at.n)
            return
        self._learn(self.cache.use(tenant, at, at.n), polled.changes.get(stream_of(tenant), []))
        self._on_change([tenant])

    def _has_applied(self, streams: Mapping[str, int]) -> bool:
        """Say whether nothing older than this is decided from here. Of a tenant that is not in use nothing is held."""
        return all(self._counts(stream) >= n for stream, n in streams.items() if self._is_held(stream))

    def _counts(self, stream: str) -> int:
        """Say from which revision of a stream on decisions are made here."""
        return self.decided_by if stream == POLICIES else self._position(stream).n

    def _is_held(self, stream: str) -> bool:
        tenant = tenant_of(stream)
        return tenant is None or tenant in self.cache.tenants

    def _position(self, stream: str) -> Position:
        tenant = tenant_of(stream)
        if tenant is not None:
            return self.cache.tenants[tenant].at
        return self.policies if stream == POLICIES else self.cache.shared.at


def _quietly(poll: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Run a poll; should nobody wait for it any more, its failure is nobody's."""
    task = asyncio.create_task(poll)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _follows(before: Position, at: Position, changes: list[Change]) -> bool:
    """Say whether a stream went on from where it was. A gap is no other history: old changes are not kept for ever."""
    if at.n < before.n or (at.n == before.n and at.head != before.head):
        return False
    return not changes or changes[0].n != before.n + 1 or changes[0].before == before.head


def _is_whole(after: int, at: Position, changes: list[Change]) -> bool:
    """Say whether changes lead from a revision to another without a gap."""
    return [change.n for change in changes] == list(range(after + 1, at.n + 1))
