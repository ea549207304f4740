"""One process of the product: its own keeper, cache, freshness, loader and decider, over the fake database.

All of it is the product's own code; only what lies below `store.reading.Reader` is not. Each call of the reader is two
or more gates, so that the moment at which the database looks is apart from the sending, and apart from the answer.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar
from unittest.mock import patch

from engine import Policy
from sidecar import decider, keeper
from sidecar.decision_id import DecisionIds
from sidecar.keeper import Keeper
from sidecar.readings import Loaded as LoadedPolicy
from store.answers import Loaded, Polled
from store.errors import UnavailableError
from store.streams import NOWHERE, Position, tenant_of
from store.tokens import Token
from store.views import Wanted
from tests.freshness import fake_store
from tests.freshness.fake_store import REFUSED, FakeStore, State
from tests.freshness.loop import Gates, SteppedLoop
from tests.freshness.oracle import Promises, ViolationError
from tests.freshness.scene import Asked

T = TypeVar("T")
#: So many questions of late are asked again where something was loaded or applied.
RECENT: Final = 6


class Stage(Protocol):
    """What a process stands on."""

    store: FakeStore
    loop: SteppedLoop
    gates: Gates
    step: int
    tally: Counter[str]
    max_grants: int

    @property
    def policies(self) -> Sequence[Policy]: ...

    def say(self, *words: object) -> None: ...


@dataclass(frozen=True, slots=True)
class SeenPolled(Polled):
    """The answer to a poll, and the move at which the database looked."""

    step: int = -1


class FakeReader:
    """`store.reading.Reader`, over the fake database.

    Attributes:
        replica: the state that a replica shows in place of the primary; None: it is connected to the primary.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.replica: State | None = None
        self.on_acknowledge: Callable[[Sequence[str]], None] = lambda _: None
        self._calls: Counter[str] = Counter()

    def call(self, kind: str) -> Call:
        """Begin a message."""
        self._calls[kind] += 1
        return Call(self.stage, f"{self.name}.{kind}", self._calls[kind])

    def state(self) -> State:
        """Look at the database."""
        return self.stage.store.state if self.replica is None else self.replica

    async def poll(self, known: str) -> Polled:
        call = self.call("poll")
        self.stage.tally["polls"] += 1
        await call.arrives("request")
        found = fake_store.poll(self.state(), known, self.name, is_replica=self.replica is not None)
        call.say("sees", _shown(self.state()))
        seen = SeenPolled(found.moment, found.at, found.changes, found.waiting, found.is_registered, self.stage.step)
        await call.arrives("answer")
        return seen

    @asynccontextmanager
    async def snapshot(self, tenant: str) -> AsyncIterator[FakeSnapshot]:
        call = self.call("load")
        self.stage.tally["snapshots"] += 1
        await call.arrives("begin")
        call.say("sees", _shown(self.state()))
        yield FakeSnapshot(call, tenant, self.state(), is_replica=self.replica is not None)

    async def register(self, _: int) -> None:
        await self.write("register", self.stage.store.register)

    async def acknowledge(self, receipts: Iterable[str]) -> None:
        given = list(receipts)
        self.on_acknowledge(given)
        await self.write("ack", lambda name: self.stage.store.acknowledge(name, given))

    async def seen(self) -> None:
        pass

    async def write(self, kind: str, effect: Callable[[str], None]) -> None:
        call = self.call(kind)
        await call.arrives("request")
        effect(self.name)
        await call.arrives("answer")


class Call:
    """A message and its answers."""

    def __init__(self, stage: Stage, kind: str, number: int) -> None:
        self._stage = stage
        self._kind = kind
        self._number = number

    async def arrives(self, what: str) -> None:
        """Wait until a part of it has come through."""
        await self._stage.gates.wait(f"{self._kind}.{what}")

    def say(self, *words: object) -> None:
        self._stage.say(f"  {self._kind}{self._number}", *words)

    def count_overtaken(self, state: State) -> None:
        """Count an answer that was old before it arrived."""
        self._stage.tally["overtaken loads"] += state.at != self._stage.store.state.at

    @property
    def max_grants(self) -> int:
        return self._stage.max_grants


class FakeSnapshot:
    """One state, open for loads."""

    def __init__(self, call: Call, tenant: str, state: State, *, is_replica: bool) -> None:
        self._call = call
        self._tenant = tenant
        self._state = state
        self._is_replica = is_replica

    async def load(self, wanted: Wanted) -> Loaded:
        await self._call.arrives("answer")
        self._call.count_overtaken(self._state)
        self._call.say("loads", self._tenant, *sorted(wanted.shared), "|", *sorted(wanted.own), *sorted(wanted.placed))
        return fake_store.load(
            self._state, self._tenant, wanted, bound=self._call.max_grants, is_replica=self._is_replica
        )


class CountingDecider(decider.StoreDecider):
    """Counts the answers that are given from snapshots of their own."""

    def __init__(self, tally: Counter[str], loaded: Callable[[], LoadedPolicy], made: Keeper) -> None:
        super().__init__(loaded, made.cache, made.freshness, made.loader, made.reader)
        self.tally = tally

    async def _answer_from_snapshots(self, attempt: Callable[[LoadedPolicy], T], asked: Sequence[decider.Asked]) -> T:
        self.tally["fallback"] += 1
        said = await super()._answer_from_snapshots(attempt, asked)
        self.tally["from snapshots"] += 1
        return said


class Process:
    """One process.

    Attributes:
        promises: what it has said, and seen.
        recent: what it was asked of late.
        swept: the last restore after which all questions were asked.
    """

    def __init__(self, stage: Stage, name: str, policy: Policy, *, max_staleness_s: float) -> None:
        self.stage = stage
        self.name = name
        self.ids = DecisionIds(clock=lambda: 0, randomness=bytes)
        self.promises = Promises()
        self.swept = -1
        self.recent: deque[Asked] = deque(maxlen=RECENT)
        self.own = policy
        self.published: int | None = None
        self.reader = FakeReader(stage, name)
        self.keeper = self._make_keeper(max_staleness_s)
        self.loaded = LoadedPolicy(policy, self.keeper.bind(policy), policy.digest)
        self.decider = CountingDecider(stage.tally, lambda: self.loaded, self.keeper)
        self.reader.on_acknowledge = self._acknowledged

    def _make_keeper(self, max_staleness_s: float) -> Keeper:
        fakes: dict[str, Any] = {
            "Database": lambda _: None,
            "Reader": lambda *_: self.reader,
            "clock": self.stage.loop.time,
        }
        with patch.multiple(keeper, **fakes):
            made = Keeper(
                "",
                max_staleness_s=max_staleness_s,
                questioner=self._questioner,
                on_policies=self.prepare,
                name=self.name,
            )
        vars(made.freshness)["apply"] = self._watched(made.freshness.apply)
        return made

    def _watched(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        """Tell which polls are applied."""

        def watched(polled: Polled, asked: Mapping[str, Position], *rest: Any) -> Any:
            epoch = self.keeper.freshness.epoch
            said = apply(polled, asked, *rest)
            if self.keeper.freshness.epoch != epoch and isinstance(polled, SeenPolled):
                self._applied(polled.step, asked)
            return said

        return watched

    def _questioner(self) -> Any:
        return self.loaded.facts.questioner if hasattr(self, "loaded") else None

    async def prepare(self, at: Position) -> Callable[[], None] | None:
        """Make ready what is published, as `Policies` does it. Who cannot have it when he begins does not begin."""
        which = self.stage.store.published_at(at)
        if which != self.published:
            await self.reader.call("policy").arrives("answer")
        if which == REFUSED and self.keeper.freshness.line is None:
            raise UnavailableError("it does not start")
        return None if which == REFUSED else lambda: self._take(which)

    def _take(self, which: int | None) -> None:
        self.published = which
        self._decide_by(self.own if which is None else self.stage.policies[which])

    def swap(self, policy: Policy) -> None:
        """Decide by another policy from now on, unless one is published."""
        self.own = policy
        if self.published is None:
            self._decide_by(policy)

    def _decide_by(self, policy: Policy) -> None:
        if policy is self.loaded.policy:
            return
        self.loaded = LoadedPolicy(policy, self.keeper.bind(policy), policy.digest)

    async def live(self) -> None:
        """Register, be up to date, and follow."""
        self.keeper.freshness.wake.set()
        await self.keeper._follow()

    def _applied(self, step: int, asked: Iterable[str]) -> None:
        tenants = {tenant: step for stream in asked if (tenant := tenant_of(stream)) is not None}
        self.promises = replace(self.promises, seen=max(step, self.promises.seen), own={**self.promises.own, **tenants})
        at = {tenant: held.at.n for tenant, held in self.keeper.cache.tenants.items()}
        self.stage.say(f"  {self.name} has applied what was at {step}: g{self.keeper.cache.shared.at.n}", at or "")
        self.stage.tally["applied"] += 1

    def shows(self, token: Token, tenant: str, since: int) -> None:
        """Note an answer on what is held of a tenant, which it has since then."""
        if str(token) != self.keeper.freshness.token(tenant):
            return  # it stands on a snapshot of its own
        own = self.promises.own
        self.promises = replace(self.promises, own={**own, tenant: max(since, own.get(tenant, -1))})

    def _acknowledged(self, receipts: Sequence[str]) -> None:
        """Note what is promised from now on."""
        state = self.stage.store.state
        streams = dict(self.promises.receipts)
        for receipt in receipts:
            for stream, n in state.waiting.get(receipt, {}).items():
                streams[stream] = max(n, streams.get(stream, 0))
        self.promises = replace(self.promises, receipts=streams)
        self.stage.tally["acknowledged"] += len(receipts)
        self.stage.say(f"  {self.name} acknowledges", *receipts)

    def check_held(self) -> None:
        """Compare what is held with what was stored where the streams stand.

        Raises:
            ViolationError: something is held that was not.
        """
        cache, bound = self.keeper.cache, self.stage.max_grants
        for tenant, held in (("", cache.shared), *cache.tenants.items()):
            if held.at == NOWHERE:
                continue
            stored = self.stage.store.stood(held.at)
            self.stage.tally["views compared"] += len(held.views) + len(held.absent) + len(held.placed)
            for key, view in (*held.views.items(), *held.absent.items()):
                if view != fake_store.view_of(stored, tenant, key, bound):
                    raise ViolationError("no_recaching_of_the_past", f"{self.name} {tenant} {held.at.n}: {key} {view}")
            for pair, grants in held.placed.items():
                if grants != fake_store.placed_of(stored, *pair):
                    raise ViolationError("no_recaching_of_the_past", f"{self.name} {tenant} {held.at.n}: {pair}")

    def release(self) -> None:
        """Be bound by no receipt: the history that they were given for was lost."""
        self.promises = replace(self.promises, receipts={})


def _shown(state: State) -> str:
    return " ".join(f"{stream}{at.n}" for stream, at in state.at.items())
