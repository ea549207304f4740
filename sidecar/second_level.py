"""The second level: views that other processes loaded, kept in Redis, believed only as far as they prove themselves.

What it holds: the views that a load brought in, each with the revision at which it was read. Why: a process that
starts, or takes a tenant into use, need not ask the database for what its neighbours have just read. Key: `cache_key`,
the tenant (none for what all share) and the key of the view. Settings: `BYLAW_REDIS_URL` says where, `BYLAW_CACHE_KEY`
is the key of the MAC; without either there is no second level. An entry lasts `TTL_S`; nothing else empties it, since a
change need not: an entry that a change made old is refused where it is read. Not kept: that something is absent (who
asks for ids that are not there must not fill Redis), roles place by place, decisions.

    bylaw:v1:t:{acme}:principal:user:ann  →  MAC, [1, store, timeline, "t:acme", "principal:user:ann", n, head, view]

    load ──▶ MGET ──▶ MAC, format ──▶ above what is applied? poll once ──▶ current here? ──▶ the process's cache
                                                                     └─ whatever else ──▶ the database is asked

INVARIANT: who can write, remove, swap, replay and roll back entries at will, but does not know the key, never changes a
decision. What he can make of entries are entries that some process wrote, under any key and at any time; and one is
taken only if

- it is for this very view of this very stream, on the line of history that is followed here (`Freshness.line`);
- the history here had that head at that revision. Where a database was put back without being named anew
  (`migrating.renew_identity`), line and number alone could be those of what was lost;
- the revision is applied here, no change of the key since is known, and none can be unknown (`StreamViews.is_current`).

So what is taken is what a load would have read. Looking and storing are one step, without an await in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from engine import BylawError
from engine.facts import MemberFact
from sidecar.cache_key import cache_key
from sidecar.freshness import Freshness
from sidecar.views import Cache, StreamViews
from store.answers import Loaded
from store.errors import StoreError
from store.facts import is_held
from store.streams import ANYONE_KEY, GLOBAL, Position, group_key, resource_key, stream_of, tenant_key
from store.tokens import Line
from store.views import GroupView, PrincipalView, ResourceView, View, Views, Wanted, dump, undump

#: Moves with the shape of an entry, that of `store.views.dump` included: processes of two releases share one Redis.
FORMAT: Final = 1
TTL_S: Final = 3600
#: A key that can be guessed protects nothing; this many characters are what generators make at least.
MIN_KEY: Final = 32
MAC_BYTES: Final = 32
#: Longer ones are neither written nor looked at.
MAX_ENTRY_BYTES: Final = 1024 * 1024
#: Entries that one MGET asks for: looking at them takes the loop's time. What is beyond is loaded.
MAX_ASKED: Final = 500
#: What was asked for, and what that names: groups, parents, homes of links.
ROUNDS: Final = 2
#: Views that wait to be written; past it they are dropped and counted.
MAX_PENDING: Final = 2000
BATCH: Final = 64
#: How long closing waits for what is still to be written.
CLOSE_S: Final = 0.5

#: A place in the cache: tenant ("" what all share), and the key of the view.
Slot = tuple[str, str]
#: Tells the head that a stream had at a revision; None where that is not known here.
HeadAt = Callable[[StreamViews, int], str | None]

_LABEL: Final = b"bylaw second level 1\0"
_log = logging.getLogger("bylaw.second_level")


class Memory(Protocol):
    """Where entries lie. Nothing raises, nothing takes long: `store.redis_port`."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]: ...
    async def put_many(self, entries: Mapping[str, bytes], ttl_s: int) -> bool: ...


def parse_cache_key(text: str) -> bytes:
    """Read `BYLAW_CACHE_KEY`, and make the key of the MAC of it.

    Raises:
        BylawError: it is too short to be a secret.
    """
    written = text.strip()
    if len(written) < MIN_KEY:
        raise BylawError(
            "bad_settings",
            f"BYLAW_CACHE_KEY is too short: a key has {MIN_KEY} characters at least; `openssl rand -hex 32` makes one",
        )
    return hashlib.sha256(_LABEL + written.encode("utf-8", "surrogateescape")).digest()


# --- entries ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A view, and where and when it was read."""

    line: Line
    slot: Slot
    at: Position
    view: View


class RefusedEntryError(Exception):
    """These bytes are not the entry of this place; `args[0]` is the reason in one word."""


def seal(key: bytes, entry: Entry) -> bytes:
    """Write an entry: the MAC, and all that it is over."""
    tenant, name = entry.slot
    stream = stream_of(tenant) if tenant else GLOBAL
    line, at = entry.line, entry.at
    said = [FORMAT, line.store, line.timeline, stream, name, at.n, at.head, dump(entry.view)]
    body = json.dumps(said, separators=(",", ":")).encode()
    return _mac(key, body) + body


def unseal(key: bytes, slot: Slot, raw: bytes) -> Entry:
    """Read the entry of a place.

    Raises:
        RefusedEntryError: it was not written with this key, is too long, or is of another format or place.
    """
    mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if len(raw) > MAX_ENTRY_BYTES:
        raise RefusedEntryError("size")
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise RefusedEntryError("mac")
    # From here on it is something that a process with the key wrote, though maybe of another release.
    tenant, name = slot
    try:
        version, *said = json.loads(body)
        if version != FORMAT:
            raise RefusedEntryError("format")
        store, timeline, stream, written, n, head, dumped = said
        view = undump(dumped)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise RefusedEntryError("format") from error
    if (stream, written) != (stream_of(tenant) if tenant else GLOBAL, name):
        raise RefusedEntryError("place")
    if view is None:
        raise RefusedEntryError("format")
    return Entry(Line(store, timeline), slot, Position(n, head), view)


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")


# --- the cache ----------------------------------------------------------------------------------------


class SecondLevel:
    """Views that other processes loaded, for `loader.Loader`.

    Args:
        key: of the MAC, as `parse_cache_key` makes it.
        head_at: tells heads; an entry of whose revision the head is not known, or not any more, is not taken.

    Attributes:
        hits, misses: of what was asked for. refused: why entries were not taken, and how many.
        written, dropped: of what was put.
    """

    def __init__(
        self, redis: Memory, cache: Cache, freshness: Freshness, key: bytes, *, head_at: HeadAt = StreamViews.head_at
    ) -> None:
        self._redis = redis
        self._cache = cache
        self._freshness = freshness
        self._key = key
        self._head_at = head_at
        self._pending: dict[Slot, Entry] = {}
        self._writing: asyncio.Task[None] | None = None
        self.hits = self.misses = self.written = self.dropped = 0
        self.refused: Counter[str] = Counter()

    async def close(self) -> None:
        """Give what is still to be written a moment, and end."""
        if self._writing is not None:
            _, late = await asyncio.wait({self._writing}, timeout=CLOSE_S)
            for task in late:
                task.cancel()

    # --- getting -----------------------------------------------------------------------------------

    async def get(self, tenant: str, wanted: Wanted) -> Wanted:
        """Take what other processes loaded into the cache; return what is still to be loaded.

        Args:
            tenant: whose own views are wanted. They are taken only if it is in use.
        """
        rest = Wanted(set(wanted.shared), set(wanted.own), set(wanted.placed))
        asked = [("", key) for key in wanted.shared] + [(tenant, key) for key in wanted.own if tenant]
        seen: set[Slot] = set()
        for _ in range(ROUNDS):
            asked = [slot for slot in asked if self._may_ask(slot)][:MAX_ASKED]
            if not asked:
                break
            seen.update(asked)
            taken = await self._take(await self._read(asked))
            rest.shared -= {entry.slot[1] for entry in taken if not entry.slot[0]}
            rest.own -= {entry.slot[1] for entry in taken if entry.slot[0]}
            named = {slot for entry in taken for slot in _named_by(tenant, entry.view)}
            asked = [slot for slot in named - seen if not self._is_held(slot)]
        return rest

    async def _read(self, asked: Sequence[Slot]) -> list[Entry]:
        """Fetch entries; leave out what proves not to be one."""
        found = await self._redis.get_many([cache_key(*slot) for slot in asked])
        entries = []
        for slot, raw in zip(asked, found, strict=True):
            if raw is None:
                self.misses += 1
                continue
            try:
                entries.append(unseal(self._key, slot, raw))
            except RefusedEntryError as error:
                self._refuse(error.args[0])
        return entries

    async def _take(self, entries: Sequence[Entry]) -> list[Entry]:
        """Store what is current; return it."""
        if any(self._is_above(entry) for entry in entries):
            with suppress(StoreError, TimeoutError):  # then it stays above, and what loads next sees the same
                await self._freshness.poll()
        # INVARIANT: no await from here on.
        return [entry for entry in entries if self._store(entry)]

    def _store(self, entry: Entry) -> bool:
        """Store an entry if it says what a load would read now."""
        stream = self._stream(entry.slot[0])
        if stream is None:
            return False  # the tenant went out of use meanwhile
        fault = self._fault(entry, stream)
        if fault is not None:
            self._refuse(fault)
            return False
        self.hits += 1
        return self._cache.store(stream, {entry.slot[1]: entry.view}, entry.at.n)

    def _fault(self, entry: Entry, stream: StreamViews) -> str | None:
        """Say why an entry is not to be taken; None: it is what is stored now."""
        if entry.line != self._freshness.line:
            return "line"
        if entry.at.n > stream.at.n:
            return "above"
        if not stream.is_current(entry.slot[1], entry.at.n):
            return "old"
        return None if self._head_at(stream, entry.at.n) == entry.at.head else "history"

    def _is_above(self, entry: Entry) -> bool:
        stream = self._stream(entry.slot[0])
        return stream is not None and entry.line == self._freshness.line and entry.at.n > stream.at.n

    def _stream(self, tenant: str) -> StreamViews | None:
        """Return what is held of a stream; None: the tenant is not in use."""
        return self._cache.tenants.get(tenant) if tenant else self._cache.shared

    def _may_ask(self, slot: Slot) -> bool:
        return self._stream(slot[0]) is not None

    def _is_held(self, slot: Slot) -> bool:
        stream = self._stream(slot[0])
        return stream is not None and is_held(stream, slot[1])

    def _refuse(self, reason: str) -> None:
        self.refused[reason] += 1
        if reason == "mac" and self.refused[reason] == 1:
            _log.warning("an entry of the second level was not written with this BYLAW_CACHE_KEY: it is not believed")

    # --- putting -----------------------------------------------------------------------------------

    def put(self, tenant: str, loaded: Loaded) -> None:
        """Give what was loaded to other processes, some time soon, if that is possible."""
        if loaded.moment.is_replica:
            return  # it does not say what it lacks
        for scope, stream, views in (("", GLOBAL, loaded.shared), (tenant, stream_of(tenant), loaded.own)):
            at = loaded.at.get(stream)
            if at is None:
                continue  # there is no such stream
            for key, view in views.items():
                if view is not None and _is_known(key, view, loaded.shared):
                    self._queue(Entry(loaded.moment.line, (scope, key), at, view))
        if self._pending and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    def _queue(self, entry: Entry) -> None:
        if len(self._pending) >= MAX_PENDING and entry.slot not in self._pending:
            self.dropped += 1
            return
        self._pending[entry.slot] = entry

    async def _write(self) -> None:
        """Write what waits, a batch at a time, so that the loop gets its turns."""
        while self._pending:
            batch = [self._pending.pop(slot) for slot in list(islice(self._pending, BATCH))]
            sealed = {cache_key(*entry.slot): seal(self._key, entry) for entry in batch}
            fitting = {key: raw for key, raw in sealed.items() if len(raw) <= MAX_ENTRY_BYTES}
            self.dropped += len(batch) - len(fitting)
            if await self._redis.put_many(fitting, TTL_S):
                self.written += len(fitting)
            else:
                self.dropped += len(fitting) + len(self._pending)
                self._pending.clear()  # it takes none now, and what waits grows old


def _is_known(key: str, view: View, shared: Views) -> bool:
    """Say whether something is stored under a key. Of a group that nobody made a tenant says an empty view; it counts
    where the name is known all the same: `anyone`, and groups of the platform."""
    return view != GroupView(None) or key == ANYONE_KEY or shared.get(key) is not None


def _named_by(tenant: str, view: View) -> Iterator[Slot]:
    """List the views that a decision needs next, as a load would bring them along."""
    match view:
        case PrincipalView():
            yield from _groups(tenant, (each.group for each in view.groups))
            yield from (("", tenant_key(link.home)) for link in view.links)
        case MemberFact():
            yield from _groups(tenant, (each.group for each in view.groups))
        case GroupView():
            yield from _groups(tenant, view.outer)
        case ResourceView(parent=str(parent)) if tenant:
            yield tenant, resource_key(parent)


def _groups(tenant: str, names: Iterable[str]) -> Iterator[Slot]:
    """Name the views of groups: a group may be the tenant's or the platform's."""
    for name in names:
        yield "", group_key(name)
        if tenant:
            yield tenant, group_key(name)
