"""Deciding: the one place where policy, facts and freshness meet.

An *attempt* decides and writes the whole answer, all at once, from facts that it is given. Over facts in a file that is
all. Over a store an attempt is made on the views that are held, if they are fresh; where one is missing it comes to
nothing, what is missing is loaded, and the attempt is made again. After `ROUNDS` (changes may overtake every load) one
snapshot is read for this answer alone, and nothing of it kept.

    attempt ──▶ answer                                  warm: no await, no query
       └─ a view is missing ──▶ load ──▶ attempt …      cold
                                  └─ three times ──▶ snapshot ──▶ attempt

INVARIANT: no await lies between looking at freshness and the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from engine import HttpRequest, Request, RequestError
from engine.facts import IMPLICIT_TENANT
from engine.model import Model
from engine.policy import BoundFacts, Policy
from sidecar.errors import PublicError, bad_request
from sidecar.freshness import Freshness, Since, StaleError
from sidecar.loader import FLIGHT_S, Gathered, Loader, Snapshots, gather
from sidecar.readings import Loaded
from sidecar.views import Cache, StreamViews
from store.errors import StoreError
from store.facts import CachedFacts, Collector, NotLoadedError, Shelf, is_held
from store.streams import (
    ANYONE_KEY,
    GLOBAL,
    NOWHERE,
    POLICIES,
    TENANT,
    Position,
    principal_key,
    resource_key,
    stream_of,
    tenant_key,
)
from store.tokens import Line, Token, tenant_digest
from store.views import Views, Wanted

ROUNDS: Final = 3
MAX_TOKENS: Final = 8

Asked = Request | HttpRequest
T = TypeVar("T")


class Decider(Protocol):
    """Answers. An *attempt* decides from what it is given and makes the answer, which is never None; it may be made
    several times, and the last one counts."""

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        """Make an attempt that waits for nothing; None: it must wait, or there are no fresh facts."""
        ...

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked], at_least: str | None) -> T:
        """Make an attempt come true.

        Args:
            asked: the questions that it decides.
            at_least: tokens of states that the facts must have reached, as in the header.

        Raises:
            StaleError: there are no facts that may be answered from.
            PublicError: what was demanded cannot be had, or is malformed.
        """
        ...


class FileDecider:
    """Decides from facts in memory. They are the newest there are; no token names them."""

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self._loaded = loaded

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        return attempt(self._loaded())

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked], at_least: str | None) -> T:
        if at_least is not None:
            read_tokens(at_least)
            raise PublicError(503, "stale", "facts come from a file here: no revision can be waited for")
        return attempt(self._loaded())


class StoreDecider:
    """Decides from the store's facts, as far as this process holds them."""

    def __init__(
        self,
        loaded: Callable[[], Loaded],
        cache: Cache,
        freshness: Freshness,
        loader: Loader,
        snapshots: Snapshots,
    ) -> None:
        self._loaded = loaded
        self._cache = cache
        self._freshness = freshness
        self._loader = loader
        self._snapshots = snapshots

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        if not self._freshness.is_fresh():
            return None
        try:
            return attempt(self._loaded())
        except NotLoadedError:
            return None

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked], at_least: str | None) -> T:
        if at_least is None:
            return await self._answer(attempt, asked)
        tokens = read_tokens(at_least)
        try:
            model = self._loaded().policy.model
            tenants = {IMPLICIT_TENANT} if not model.has_tenant else {name for one in asked for name in voices(one)}
            await self._freshness.reach(tokens, tenants)
            history = self._freshness.since().history
            said = await self._answer(attempt, asked)
            if self._freshness.since().history != history:
                raise StaleError  # what was reached was lost meanwhile
            return said
        except StaleError as error:
            raise PublicError(503, "stale", "the facts asked for cannot be had in time") from error

    async def _answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked]) -> T:
        for number in range(ROUNDS):
            if not self._freshness.is_fresh():
                raise StaleError
            with suppress(NotLoadedError):
                return attempt(self._loaded())
            await self._load(attempt, () if number else asked)
        if self._freshness.is_fresh():
            with suppress(NotLoadedError):
                return attempt(self._loaded())
        return await self._answer_from_snapshots(attempt, asked)

    async def _load(self, attempt: Callable[[Loaded], object], asked: Sequence[Asked]) -> None:
        """Load what an attempt misses, and what questions will surely need, tenant by tenant."""
        missing = self._missing(attempt, self._cache)
        for one in asked:
            for tenant, wanted in first_wanted(one, self._loaded().policy, self._cache).items():
                missing.setdefault(tenant, Wanted()).add(wanted)
        for tenant, wanted in together(missing).items():
            await self._loader.load(tenant, wanted, self._more(attempt, tenant))

    def _missing(self, attempt: Callable[[Loaded], object], shelf: Shelf) -> dict[str, Wanted]:
        """Make an attempt for nobody, to see what it misses."""
        loaded = self._loaded()
        collector = Collector(shelf, loaded.policy.model)
        with suppress(RequestError, PublicError):
            attempt(replace(loaded, facts=BoundFacts(collector, loaded.policy)))
        return collector.missed

    def _more(self, attempt: Callable[[Loaded], object], tenant: str) -> Callable[[Shelf], Wanted]:
        def more(shelf: Shelf) -> Wanted:
            missing = self._missing(attempt, shelf)
            found = missing.get(tenant, Wanted())
            if tenant:
                found.add(missing.get("", Wanted()))
            return found

        return more

    # --- one snapshot for one answer ---------------------------------------------------------------

    async def _answer_from_snapshots(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked]) -> T:
        """Read all that an attempt needs for it alone: one snapshot for each tenant."""
        since, epoch = self._freshness.since(), self._freshness.epoch
        private = Private()
        policy = self._loaded().policy
        wanted: dict[str, Wanted] = {}
        for one in asked:
            for tenant, keys in first_wanted(one, policy, private).items():
                wanted.setdefault(tenant, Wanted()).add(keys)
        try:
            async with asyncio.timeout(FLIGHT_S):
                for tenant, keys in together(wanted).items():
                    more = self._more(attempt, tenant)
                    private.take(tenant, await gather(self._snapshots, tenant, keys, more, private))
        except (StoreError, TimeoutError) as error:
            raise StaleError from error
        may_be_undone = self._freshness.epoch != epoch and self._freshness.is_behind(private.at)
        if may_be_undone or not self._may_answer(private, since):
            raise StaleError  # a poll since then knew less: perhaps a restore was in between
        loaded = self._loaded()
        p = self._freshness.decided_by
        facts = BoundFacts(
            CachedFacts(private, loaded.policy.model, lambda tenant: private.token(p, tenant)), loaded.policy
        )
        with suppress(NotLoadedError):
            return attempt(replace(loaded, facts=facts))
        raise StaleError

    def _may_answer(self, private: Private, since: Since) -> bool:
        """Say whether snapshots are of one state, young enough, and no older than what this process has shown; whether
        no other policy was published before them than is known here; and whether the process is known to whoever waits
        for receipts, as it is while it is fresh."""
        freshness = self._freshness
        is_late = freshness.clock() - since.clock > freshness.max_staleness_s
        is_one = private.is_one and private.line == freshness.line and private.at.get(POLICIES) == freshness.policies
        return is_one and not is_late and freshness.is_fresh() and freshness.may_show(private.at, since)


class Private:
    """What snapshots showed, for one answer.

    Attributes:
        at: how far the streams were.
        is_one: whether all snapshots showed the same state of what tenants share.
    """

    def __init__(self) -> None:
        self.shared = StreamViews(NOWHERE, 0)
        self.tenants: dict[str, StreamViews] = {}
        self.at: dict[str, Position] = {}
        self.line: Line | None = None
        self.is_one = True

    def take(self, tenant: str, found: Gathered) -> None:
        """Take one snapshot in."""
        line = found.loaded.moment.line
        for stream in (GLOBAL, POLICIES):
            if self.at.setdefault(stream, found.at(stream)) != found.at(stream) or self.line not in (None, line):
                self.is_one = False
        self.line = line
        _fill(self.shared, found.shared)
        if tenant:
            own = stream_of(tenant)
            self.at[own] = found.at(own)
            held = self.tenants[tenant] = StreamViews(found.at(own), 0)
            held.placed.update(found.placed)
            _fill(held, found.own)

    def token(self, p: int, tenant: str) -> str:
        """Name the state, as decisions in a tenant carry it.

        Args:
            p: of which revision the policy is that decides.
        """
        if self.line is None:
            return ""
        g = self.at[GLOBAL].n
        if tenant not in self.tenants:
            return str(Token(self.line, p, g))
        return str(Token(self.line, p, g, tenant_digest(tenant), self.tenants[tenant].at.n))


def _fill(held: StreamViews, found: Views) -> None:
    for key, view in found.items():
        if view is None:
            held.absent[key] = None
        else:
            held.views[key] = view


# --- what a question needs ----------------------------------------------------------------------------


def read_tokens(written: str) -> list[Token]:
    """Read the header `Bylaw-At-Least`.

    Raises:
        PublicError: it is malformed.
    """
    parts = [part.strip() for part in written.split(",")]
    if len(parts) > MAX_TOKENS:
        raise bad_request(f"Bylaw-At-Least: at most {MAX_TOKENS} tokens")
    try:
        return [Token.parse(part) for part in parts]
    except ValueError as error:
        raise bad_request("Bylaw-At-Least: expected tokens as `Bylaw-Revision` has them, between commas") from error


def voices(one: Asked) -> set[str]:
    """List the tenants that a question may be of."""
    said = [one.tenant, one.subject_properties.get("tenant") if one.has_properties else None]
    if isinstance(one, Request):
        said.append(one.resource_properties.get("tenant"))
    named = {name for name in said if isinstance(name, str) and name}
    return named or ({one.token_tenant} if one.token_tenant else set())


def first_wanted(one: Asked, policy: Policy, shelf: Shelf) -> dict[str, Wanted]:
    """List what a question will surely need, by tenant, as far as it is not held; what else, an attempt shows."""
    model = policy.model
    tenants = voices(one) if model.has_tenant else {IMPLICIT_TENANT}
    shared, own = set(), {TENANT, ANYONE_KEY}
    kind, _, identity = one.subject.partition(":")
    if identity:
        key = principal_key(f"{model.aliases.get(kind, kind)}:{identity}")
        shared.add(key)
        own.add(key)
    if isinstance(one, Request):
        parent = one.resource_properties.get("parent")
        refs = [one.resource, parent if isinstance(parent, str) else ""]
        own |= {resource_key(ref) for ref in refs if _is_kept(ref, model)}
    found = {}
    for tenant in tenants:
        held = shelf.tenants.get(tenant)
        status = {tenant_key(tenant)} if model.has_tenant else set()
        found[tenant] = Wanted(
            {key for key in shared | status if not is_held(shelf.shared, key)},
            {key for key in own if held is None or not is_held(held, key)},
        )
    return {tenant: wanted for tenant, wanted in found.items() if wanted}


def _is_kept(ref: str, model: Model) -> bool:
    """Say whether something is a reference to a resource that has a row."""
    kind, _, identity = ref.partition(":")
    info = model.types.get(kind)
    return bool(identity) and info is not None and info.kind == "resource" and not info.external


def together(missing: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """Have what all tenants share loaded along with one tenant's, where there is one."""
    found = {tenant: wanted for tenant, wanted in missing.items() if wanted and tenant}
    shared = missing.get("", Wanted())
    if not found:
        return {"": shared} if shared else {}
    next(iter(found.values())).add(shared)
    return found
