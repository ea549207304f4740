"""Deciding by what one transaction shows: a snapshot that is read, or a write that is under way.

An *attempt* decides from facts that it is given. What it needs it shows by being made for nobody: what it misses is
loaded, until nothing is missing, and then it is made for good.

    attempt as if the tenant were empty ──▶ load ──▶ attempt: is anything missing? ──▶ load … ──▶ attempt, the answer

Mostly the first load brings all, and the second what attributes name. Nothing is kept: who checks many times a second
keeps views and follows their changes (`sidecar/`), but who writes must decide by what the write itself has done, which
nobody else can see yet.

INVARIANT: an answer stands on one statement. A write sees between two of them what others commit, and only the streams
that it moves are locked; so each load asks again for all that the one before was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.decision import Decision
from engine.facts import Grant
from engine.model import Model
from engine.policy import BoundFacts, Policy
from engine.request import HttpRequest, Request
from store.answers import Loaded, Moment
from store.database import TENANT_OPTION
from store.errors import StoreError, UnfitError
from store.facts import CachedFacts, Collector, NotLoadedError
from store.reading import Snapshot
from store.streams import ANYONE_KEY, GLOBAL, NOWHERE, POLICIES, TENANT, stream_of, tenant_key
from store.tokens import Line, Token, tenant_digest
from store.views import ProfileView, Views, Wanted

#: How often facts are loaded for one answer, at the most.
ROUNDS: Final = 16

T = TypeVar("T")


class SeenFacts(BoundFacts):
    """Facts for one attempt: to decide on, and in `source` to be read one by one."""

    def __init__(self, source: CachedFacts, policy: Policy) -> None:
        super().__init__(source, policy)
        self.source = source


async def decide_within(connection: AsyncConnection, policy: Policy, request: Request | HttpRequest) -> Decision:
    """Decide one question by what a transaction shows. The decision knows its reasons, too.

    Raises:
        RequestError: the question is malformed.
        StoreError: as in `seen`.
    """

    def attempt(facts: SeenFacts) -> Decision:
        decision = policy.decide(request, facts)
        _ = decision.reasons, decision.failed  # worked out when first read, by facts that can still be loaded now
        return decision

    return await seen(connection, tenant_of(connection), policy, attempt)


class Run(Protocol):
    """Makes a call, here or beside the loop."""

    async def __call__(self, call: Callable[[], T], /) -> T: ...


async def at_once(call: Callable[[], T]) -> T:
    """Make a call here and now: most are a matter of microseconds."""
    return call()


async def seen(
    connection: AsyncConnection, tenant: str, policy: Policy, attempt: Callable[[SeenFacts], T], *, run: Run = at_once
) -> T:
    """Make an attempt come true on what a transaction shows.

    Args:
        tenant: whose facts are decided on, the same that the transaction was begun for. "": it was begun for none, and
            shows what all tenants share.
        attempt: makes the whole answer, and nothing else. It is made several times, first on facts that are not whole,
            and the last time counts: what it returns, or raises. An attempt of many questions asks all of them before
            it looks at an answer; what it does not come to ask costs a load of its own.
        run: makes attempts; those that take long can be made in a thread.

    Raises:
        UnfitError: the transaction, or a question, is of another tenant; or the database is a replica.
        StoreError: there is no end to what is missing.
    """
    if tenant != tenant_of(connection):
        raise _of_another(tenant_of(connection), tenant)
    snapshot = Snapshot(connection, tenant)
    wanted = await run(lambda: _first_wanted(tenant, policy, attempt))
    for _ in range(ROUNDS):
        loaded = await snapshot.load(wanted)
        if loaded.moment.is_replica:
            raise UnfitError("replica", "the database is a replica, which may lag behind by any time: ask the primary")
        shown = _Shown(tenant, loaded)
        missing = await run(partial(_missing, shown, policy, attempt))
        if missing:
            wanted.add(missing)
            continue
        try:
            return await run(partial(attempt, SeenFacts(_ShownFacts(shown, policy.model), policy)))
        except _OtherTenantError as error:
            raise _of_another(tenant, error.tenant) from error
        except NotLoadedError:
            continue  # time has passed since it was asked what is missing
    raise StoreError(
        "too_deep", f"there is no decision: after {ROUNDS} loads facts are still missing; ask less in one attempt"
    )


def tenant_of(connection: AsyncConnection) -> str:
    """Name the tenant that a transaction was begun for; "" for none."""
    begun = connection.sync_connection
    tenant = begun.get_execution_options().get(TENANT_OPTION) if begun is not None else None
    return tenant or ""


# --- what is missing ----------------------------------------------------------------------------------


def _first_wanted(tenant: str, policy: Policy, attempt: Callable[[SeenFacts], object]) -> Wanted:
    """List what an attempt needs before anything is known: what it asks of a tenant that is there and has nothing."""
    shared: Views = {tenant_key(tenant): "active"} if tenant else {}
    own: Views = {TENANT: ProfileView(), ANYONE_KEY: None} if tenant else {}
    wanted = _missing(_Shown(tenant, Loaded(Moment(Line("")), {}, shared, own)), policy, attempt)
    wanted.add(Wanted(set(shared), set(own)))
    return wanted


def _missing(shown: _Shown, policy: Policy, attempt: Callable[[SeenFacts], object]) -> Wanted:
    """Make an attempt for nobody, to see what it misses of what the transaction can show."""
    collector = Collector(shown, policy.model)
    with suppress(Exception):  # it is for nobody, as what would be returned
        attempt(SeenFacts(collector, policy))
    found = Wanted()
    for tenant in {"", shown.tenant}:
        found.add(collector.missed.get(tenant, Wanted()))
    return found


# --- what was shown -----------------------------------------------------------------------------------


class _Stream:
    """What was found of one stream, as `facts.Held`."""

    def __init__(self, found: Views, placed: Mapping[tuple[str, str], tuple[Grant, ...]]) -> None:
        self.views: Views = {key: view for key, view in found.items() if view is not None}
        self.absent: dict[str, None] = {key: None for key, view in found.items() if view is None}
        self.placed = placed


class _Tenants(dict[str, _Stream]):
    """What was found of the transaction's tenant. Nothing is shown of others: who is linked needs to know no more of
    his home than its status, which all tenants share; of anything but its profile it is said that it is missing."""

    _ELSEWHERE: Final = _Stream({TENANT: None}, {})

    def __missing__(self, tenant: str) -> _Stream:
        return self._ELSEWHERE


class _Shown:
    """What one load showed, as `facts.Shelf`."""

    def __init__(self, tenant: str, loaded: Loaded) -> None:
        self.tenant = tenant
        self.shared = _Stream(loaded.shared, {})
        self.tenants = _Tenants({tenant: _Stream(loaded.own, loaded.placed)} if tenant else {})
        self._line = loaded.moment.line
        self._at = loaded.at

    def token(self, tenant: str) -> str:
        """Name the state, as decisions in a tenant carry it: in a write, the one that it makes if it is committed.

        Raises:
            _OtherTenantError: another tenant's is not shown.
        """
        if tenant not in ("", self.tenant):
            raise _OtherTenantError(tenant)
        p, g, t = (self._at.get(stream, NOWHERE).n for stream in (POLICIES, GLOBAL, stream_of(tenant)))
        return str(Token(self._line, p, g, tenant_digest(tenant), t) if tenant else Token(self._line, p, g))


class _OtherTenantError(NotLoadedError):
    """A decision needs facts of a tenant that the transaction does not show."""

    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant


class _ShownFacts(CachedFacts):
    """Facts that a transaction has shown. That it shows no other tenant's is told apart from their being missing."""

    def __init__(self, shown: _Shown, model: Model) -> None:
        super().__init__(shown, model, shown.token)
        self._tenant = shown.tenant

    def miss(self, tenant: str, wanted: Wanted) -> None:
        if tenant not in ("", self._tenant):
            raise _OtherTenantError(tenant)
        super().miss(tenant, wanted)


def _of_another(shown: str, asked: str) -> UnfitError:
    """Say that a transaction was begun for another tenant than it is asked about."""
    begun = f"tenant `{shown}`" if shown else "no tenant"
    wanted = f"of tenant `{asked}`" if asked else "of none"
    return UnfitError("wrong_tenant", f"this transaction was begun for {begun}, and is asked {wanted}: begin another")
