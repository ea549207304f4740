"""The cache of views: what this process holds of the facts, and what it knows of their changes.

What it holds: per stream (what all tenants share, and each tenant in use) views by key, as they were read. Key: the
stream and the key as in `store.streams`. Why: a decision must cost no query. Only whole views of one snapshot come in,
only through `store`, which refuses what a known change made old; what goes out is frozen. What a poll says changed is
dropped; nothing expires by time, since every view stands until a change is seen, and whether changes are still seen is
`freshness`'s to say.

Example: `cache.tenants["acme"].views["principal:user:ann"]` is ann's membership, groups and roles in acme.

Bounds, each over all streams: `max_views`; `MAX_ABSENT` of unknown ids, kept apart, so that somebody who asks for what
is not there displaces nothing that is; `MAX_PLACED`; `MAX_CHANGED`; `MAX_TENANTS` in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.facts import Grant
from store.answers import Change
from store.streams import CALLERS, EVERYTHING, NOWHERE, Position
from store.views import Views

MAX_VIEWS: Final = 500_000
MAX_ABSENT: Final = 50_000
MAX_TENANTS: Final = 10_000
#: Most keys whose last change is remembered; past it all that was read before is taken for old.
MAX_CHANGED: Final = 200_000
#: Most revisions of a stream whose heads are remembered.
MAX_HEADS: Final = 256
#: Most places at which holders of too many roles were looked up.
MAX_PLACED: Final = 200_000

Placed = dict[tuple[str, str], tuple[Grant, ...]]


class StreamViews:
    """What is held of one stream, applied up to `at`.

    Attributes:
        floor: what changed up to this revision is not known in detail; what was read before is old.
        changed: the last change of each key since.
        heads: of the last revisions, by which an entry from another history is told.
        absent: keys under which nothing is stored.
        placed: what holders of too many roles hold on one place.
        since: the clock before the load that brought the stream into use.
    """

    __slots__ = ("absent", "at", "changed", "floor", "heads", "placed", "since", "views")

    def __init__(self, at: Position, floor: int) -> None:
        self.at = at
        self.floor = floor
        self.changed: dict[str, int] = {}
        self.heads: dict[int, str] = {at.n: at.head}
        self.views: Views = {}
        self.absent: dict[str, None] = {}
        self.placed: Placed = {}
        self.since = float("-inf")

    def note(self, change: Change) -> None:
        """Take in one change: drop what it touched, remember that it did."""
        self.stand(Position(change.n, change.head))
        if EVERYTHING in change.keys:
            self.drop_all()
            return
        for key in change.keys:
            self.changed[key] = change.n
            self.views.pop(key, None)
            self.absent.pop(key, None)
        if self.placed and change.keys:
            self.placed.clear()

    def forget_changes(self) -> None:
        """Know no change in detail: what was read before now is old."""
        self.floor = self.at.n
        self.changed.clear()

    def stand(self, at: Position) -> None:
        """Move on to a revision."""
        self.at = at
        self.heads[at.n] = at.head
        if len(self.heads) > MAX_HEADS:
            del self.heads[next(iter(self.heads))]

    def drop_all(self) -> None:
        """Hold nothing, and take nothing that was read before now."""
        self.floor = self.at.n
        for held in (self.changed, self.views, self.absent, self.placed):
            held.clear()

    def head_at(self, n: int) -> str | None:
        """Return the head that the stream had at a revision, as far as that is remembered."""
        return self.at.head if n == self.at.n else self.heads.get(n)

    def is_current(self, key: str, n: int) -> bool:
        """Say whether what was read of a key at a revision is still what is stored, as far as changes are applied."""
        return self.floor <= n <= self.at.n and self.changed.get(key, 0) <= n


class Cache:
    """All views. `shared` is the stream of what all tenants share. `on_turn` is told which tenant comes into use, or is
    no longer: what was derived of it before is of a state that had another name."""

    def __init__(self, *, max_views: int = MAX_VIEWS, on_turn: Callable[[str], None] = lambda _: None) -> None:
        self.max_views = max_views
        self.on_turn = on_turn
        self.shared = StreamViews(NOWHERE, 0)
        self.tenants: dict[str, StreamViews] = {}
        self.evictions = 0
        self._shown: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._stored = self._absent = self._placed = self._changed = 0

    def begin_anew(self, at: Position, floor: int) -> None:
        """Hold nothing: another history begins, or the first."""
        self.shared = StreamViews(at, floor)
        self.tenants.clear()
        self._shown = ({}, {})
        self._stored = self._absent = self._placed = self._changed = 0

    def use(self, tenant: str, at: Position, floor: int) -> StreamViews:
        """Take a tenant into use, where it stands now."""
        while len(self.tenants) >= MAX_TENANTS:
            self._evict_oldest()
        found = self.tenants[tenant] = StreamViews(at, floor)
        self.on_turn(tenant)
        return found

    def leave(self, tenant: str) -> None:
        """Take a tenant out of use."""
        held = self.tenants.pop(tenant, None)
        if held is not None:
            self.show(tenant, held.at.n)
            self.on_turn(tenant)

    def show(self, tenant: str, n: int) -> None:
        """Remember that no older state of a tenant may be shown any more."""
        self._shown[0][tenant] = max(n, self.shown(tenant))

    def shown(self, tenant: str) -> int:
        """Return the last revision that `show` told of a tenant; -1: none is remembered."""
        return max(shown.get(tenant, -1) for shown in self._shown)

    def forget_shown(self) -> None:
        """Forget what was told before this was last called."""
        self._shown = ({}, self._shown[0])

    def store(self, stream: StreamViews, found: Views, n: int) -> bool:
        """Take views in that were read at a revision; say whether all of them were still current."""
        is_whole = True
        for key, view in found.items():
            if not stream.is_current(key, n):
                is_whole = False
            elif view is None:
                stream.absent[key] = None
                self._absent += 1
            else:
                stream.views[key] = view
                self._stored += 1
        self._keep_bounds()
        return is_whole

    def store_placed(self, stream: StreamViews, found: Placed, n: int, key_of: Callable[[str], str]) -> None:
        """Take in what holders hold on single places."""
        for (holder, place), grants in found.items():
            if stream.is_current(key_of(holder), n):
                stream.placed[holder, place] = grants
                self._placed += 1
        if self._placed > MAX_PLACED:
            self._forget_placed(stream)

    def note(self, stream: StreamViews, change: Change) -> None:
        """Take in one change of a stream."""
        stream.note(change)
        self._changed += len(change.keys)
        if self._changed > MAX_CHANGED:
            self._forget_changes()

    def counts(self) -> dict[str, int]:
        """How many of what there are."""
        streams = [self.shared, *self.tenants.values()]
        return {
            "views": sum(len(stream.views) for stream in streams),
            "absent": sum(len(stream.absent) for stream in streams),
            "placed": sum(len(stream.placed) for stream in streams),
            "changed": sum(len(stream.changed) for stream in streams),
            "tenants": len(self.tenants),
        }

    # --- bounds ------------------------------------------------------------------------------------

    # The tallies count what came in since they were last set right: never less than there is.

    def _keep_bounds(self) -> None:
        if self._absent > MAX_ABSENT:
            self._forget_absent()
        if self._stored > self.max_views:
            self._stored = self.counts()["views"]
            while self._stored > self.max_views:
                self._evict()

    def _forget_absent(self) -> None:
        self._absent = self.counts()["absent"]
        if self._absent > MAX_ABSENT:
            for stream in (self.shared, *self.tenants.values()):
                stream.absent.clear()
            self._absent = 0

    def _forget_placed(self, latest: StreamViews) -> None:
        self._placed = self.counts()["placed"]
        if self._placed > MAX_PLACED:
            for stream in self.tenants.values():
                if stream is not latest or len(stream.placed) > MAX_PLACED:
                    stream.placed.clear()
            self._placed = self.counts()["placed"]

    def _forget_changes(self) -> None:
        self._changed = self.counts()["changed"]
        if self._changed > MAX_CHANGED:
            for stream in (self.shared, *self.tenants.values()):
                stream.forget_changes()
            self._changed = 0

    def _evict(self) -> None:
        """Drop the older half of the largest stream. Memos that stand on it stay: they were derived from facts that
        no change has touched."""
        largest = max((self.shared, *self.tenants.values()), key=lambda stream: len(stream.views))
        # Who may ask is asked with every request: that goes last.
        keys = [key for key in largest.views if key != CALLERS] or [CALLERS]
        gone = keys[: max(1, len(keys) // 2)]
        for key in gone:
            del largest.views[key]
        self._stored -= len(gone)
        self.evictions += len(gone)

    def _evict_oldest(self) -> None:
        tenant = next(iter(self.tenants))
        self.evictions += len(self.tenants[tenant].views)
        self.leave(tenant)
