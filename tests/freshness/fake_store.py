"""The database as the checker has it: every state that ever was, and what a poll or a load reads of one.

A state is immutable and whole: facts (as views, by stream and key), streams, the change log, receipts, registered
processes. A commit makes the next state; a restore makes an old one the newest. What `store.reading.Reader` answers is
computed from one state, so which state a message sees is all that timing can change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from engine.facts import Grant, MemberFact
from store.answers import HISTORY, Change, Loaded, Moment, Polled
from store.streams import (
    GLOBAL,
    NOWHERE,
    POLICIES,
    TENANT,
    Position,
    group_key,
    resource_key,
    stream_of,
    subject_key,
    tenant_key,
    tenant_of,
)
from store.tokens import Line, Token, tenant_digest
from store.views import GroupView, PrincipalView, ProfileView, ResourceView, View, Wanted
from store.views import Views as Found
from tests.freshness.scene import LATER, TENANTS, Views, first_own, first_shared

#: What a restore leaves of the names of the history: all, the store's, or neither.
Restored = Literal["silent", "timeline", "renewed"]
#: In the place of a published policy: one that no process can have.
REFUSED: Final = -1


@dataclass(frozen=True, slots=True)
class State:
    """All that is stored, at one time.

    Args:
        published: which of the checker's policies decides; None: each process has its own.
        processes: those that are registered, and which registration of all it is.
        given_up: those of them that are to register anew.
    """

    moment: Moment
    at: Mapping[str, Position]
    shared: Views
    own: Mapping[str, Views]
    changes: Mapping[str, tuple[Change, ...]]
    waiting: Mapping[str, Mapping[str, int]]
    published: int | None = None
    acks: frozenset[tuple[str, str]] = frozenset()
    processes: Mapping[str, int] = field(default_factory=dict)
    given_up: frozenset[str] = frozenset()

    def n(self, stream: str) -> int:
        return self.at.get(stream, NOWHERE).n

    def token(self, tenant: str) -> Token:
        """Name the state as a write in a tenant does; "" none."""
        p, g = self.n(POLICIES), self.n(GLOBAL)
        if tenant not in self.own:
            return Token(self.moment.line, p, g)
        return Token(self.moment.line, p, g, tenant_digest(tenant), self.n(stream_of(tenant)))


class Draft:
    """A write while it is under way."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.shared: dict[str, View] = dict(state.shared)
        self.own: dict[str, dict[str, View]] = {tenant: dict(views) for tenant, views in state.own.items()}
        self.published = state.published
        self.touched: dict[str, set[str]] = {}

    def touch(self, stream: str, *keys: str) -> None:
        """Note what changed."""
        self.touched.setdefault(stream, set()).update(keys)

    def put_shared(self, key: str, view: View | None) -> None:
        """Store a view of what all tenants share."""
        _put(self.shared, key, view)
        self.touch(GLOBAL, key)

    def put_own(self, tenant: str, key: str, view: View | None) -> None:
        """Store a view of what a tenant owns."""
        _put(self.own[tenant], key, view)
        self.touch(stream_of(tenant), key)


def _put(views: dict[str, View], key: str, view: View | None) -> None:
    if view is None:
        views.pop(key, None)
    else:
        views[key] = view


class FakeStore:
    """The states that were, and the one that is. `past` begins with the first."""

    def __init__(self) -> None:
        self._serial = 0
        at = {
            stream: self._next(NOWHERE)
            for stream in (GLOBAL, POLICIES, *map(stream_of, TENANTS))
            if LATER not in stream
        }
        own = {tenant: first_own(tenant) for tenant in TENANTS if tenant != LATER}
        line = Line(self._name(32), self._name(16))
        self.state = State(Moment(line), at, first_shared(), own, {}, {})
        self.past = [self.state]
        self._stood: dict[Position, Views] = {}
        self._published: dict[Position, int | None] = {}
        self._remember()

    def _name(self, length: int) -> str:
        self._serial += 1
        return f"{self._serial:0{length}x}"

    def _next(self, before: Position) -> Position:
        return Position(before.n + 1, self._name(8))

    def _become(self, state: State) -> State:
        self.state = state
        self.past.append(state)
        self._remember()
        return state

    def _remember(self) -> None:
        for stream, at in self.state.at.items():
            tenant = tenant_of(stream)
            self._stood[at] = self.state.own[tenant] if tenant is not None else self.state.shared
        self._published[self.state.at[POLICIES]] = self.state.published

    def published_at(self, at: Position) -> int | None:
        """Say which policy decides where stream p stands."""
        return self._published[at]

    def stood(self, at: Position) -> Views:
        """Return what was stored when a stream stood there. Heads are given once, so they tell the stream, too."""
        return self._stood[at]

    # --- what moves it on --------------------------------------------------------------------------

    def commit(self, draft: Draft, receipt: str | None = None) -> State:
        """End a write.

        Args:
            receipt: asked for with it.
        """
        before = self.state
        at, changes = dict(before.at), dict(before.changes)
        for stream, keys in draft.touched.items():
            old = at.get(stream, NOWHERE)
            at[stream] = new = self._next(old)
            changes[stream] = (*changes.get(stream, ()), Change(new.n, old.head, new.head, tuple(sorted(keys))))
        waiting = before.waiting
        if receipt is not None:
            waiting = {**waiting, receipt: {stream: at[stream].n for stream in draft.touched}}
        made = replace(before, at=at, shared=draft.shared, own=draft.own, changes=changes, waiting=waiting)
        return self._become(replace(made, published=draft.published))

    def restore(self, back: int, kind: Restored) -> State:
        """Go back some states, to go on from there with other facts."""
        old = self.past[max(0, len(self.past) - 1 - back)]
        line, former = old.moment.line, old.moment.former
        if kind == "timeline":
            line = Line(line.store, self._name(16))
        elif kind == "renewed":
            line, former = Line(self._name(32), line.timeline), former | {line.store}
        return self._become(replace(old, moment=Moment(line, former)))

    def prune(self, stream: str) -> None:
        """Forget the older changes of a stream."""
        kept = self.state.changes.get(stream, ())
        self._become(replace(self.state, changes={**self.state.changes, stream: kept[(len(kept) + 1) // 2 :]}))

    def register(self, name: str) -> None:
        state = self.state
        self._serial += 1
        processes = {**state.processes, name: self._serial}
        self._become(replace(state, processes=processes, given_up=state.given_up - {name}))

    def give_up(self, name: str) -> None:
        """Have a process register anew before it is believed to follow."""
        if name in self.state.processes:
            self._become(replace(self.state, given_up=self.state.given_up | {name}))

    def unregister(self, names: set[str]) -> None:
        state = self.state
        processes = {name: serial for name, serial in state.processes.items() if name not in names}
        self._become(replace(state, processes=processes, given_up=state.given_up - names))

    def acknowledge(self, name: str, receipts: Iterable[str]) -> None:
        given = {(receipt, name) for receipt in receipts if receipt in self.state.waiting}
        self._become(replace(self.state, acks=self.state.acks | given))


# --- what is read -------------------------------------------------------------------------------------


def poll(state: State, known: str, me: str, *, is_replica: bool = False) -> Polled:
    """Answer a poll, as `queries.poll_statement` does."""
    at: dict[str, Position] = {}
    changes: dict[str, list[Change]] = {}
    for stream, n, head in json.loads(known):
        now = state.at.get(stream)
        if now is None:
            continue
        if (now.n, now.head[:8]) != (n, head) or stream in (GLOBAL, POLICIES):
            at[stream] = now
        kept = state.changes.get(stream, ())
        since = now.n - HISTORY if n < 0 else n
        if kept and kept[-1].n > since:
            changes[stream] = list(kept[max(0, since + 1 - kept[0].n) :])
    waiting = {receipt: dict(streams) for receipt, streams in state.waiting.items() if (receipt, me) not in state.acks}
    is_registered = me in state.processes and me not in state.given_up
    return Polled(moment_of(state, is_replica=is_replica), at, changes, waiting, is_registered)


def moment_of(state: State, *, is_replica: bool) -> Moment:
    """Say which history this is. A replica says another one than its primary, and says that it is one."""
    if not is_replica:
        return state.moment
    return replace(state.moment, line=Line(state.moment.line.store, "f" * 16), is_replica=True)


def load(state: State, tenant: str, wanted: Wanted, *, bound: int, is_replica: bool = False) -> Loaded:
    """Answer a load, as `queries.load_statement` and `reading` do: with all that lies above.

    Args:
        bound: who holds more than this is asked place by place.
    """
    shared: Found = dict.fromkeys(sorted(wanted.shared))
    own: Found = dict.fromkeys(sorted(wanted.own))
    stored = state.own.get(tenant, {})
    asked = sorted({*wanted.shared, *wanted.own})
    own_groups = shared_groups = {key.partition(":")[2] for key in asked if key.startswith("group:")}
    for key in asked:
        if key.startswith("principal:"):
            person, member = state.shared.get(key), stored.get(key)
            shared[key], own[key] = person, _cut(member, bound)
            if isinstance(person, PrincipalView):
                shared_groups = shared_groups | {each.group for each in person.groups}
                shared.update((tenant_key(link.home), state.shared.get(tenant_key(link.home))) for link in person.links)
            if isinstance(member, MemberFact):
                own_groups = own_groups | {each.group for each in member.groups}
        elif key.startswith("resource:"):
            own.update(_chain(stored, key))
        elif key.startswith("tenant:"):
            shared[key] = state.shared.get(key)
    for name in sorted(_around(stored, own_groups) | _around(state.shared, shared_groups)):
        key = group_key(name)
        shared[key], own[key] = state.shared.get(key), _cut(stored.get(key, GroupView(None)), bound)
    if TENANT in wanted.own:
        own[TENANT] = stored.get(TENANT, ProfileView())
    streams = (GLOBAL, POLICIES, stream_of(tenant))
    return Loaded(
        moment_of(state, is_replica=is_replica),
        {stream: state.at[stream] for stream in streams if stream in state.at},
        shared,
        own if tenant else {},
        {pair: placed_of(stored, *pair) for pair in sorted(wanted.placed)},
    )


def _cut(view: View | None, bound: int) -> View | None:
    """Leave out grants that are too many to be listed."""
    if isinstance(view, MemberFact | GroupView) and len(view.grants or ()) > bound:
        return replace(view, grants=None)
    return view


def _chain(stored: Views, key: str) -> Iterable[tuple[str, View]]:
    """List a resource and what it lies in."""
    seen: set[str] = set()
    while key not in seen and isinstance(view := stored.get(key), ResourceView):
        yield key, view
        seen.add(key)
        key = resource_key(view.parent or "")


def _around(views: Views, names: set[str]) -> set[str]:
    """List groups and those that they are in."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            view = views.get(group_key(name))
            pending += view.outer if isinstance(view, GroupView) else ()
    return found


def view_of(stored: Views, tenant: str, key: str, bound: int) -> View | None:
    """Say what a load shows under a key."""
    if tenant and key.startswith("group:"):
        return _cut(stored.get(key, GroupView(None)), bound)
    return _cut(stored.get(key, ProfileView() if key == TENANT and tenant else None), bound)


def placed_of(stored: Views, holder: str, place: str) -> tuple[Grant, ...]:
    view = stored.get(subject_key(holder))
    grants = view.grants if isinstance(view, MemberFact | GroupView) else ()
    return tuple(grant for grant in grants or () if grant.place == place)
