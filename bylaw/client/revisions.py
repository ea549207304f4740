"""Revisions that this process knows of, so that its checks are answered from facts that have them: read your writes.

An application that wrote something calls `saw` with the revision that the write was answered with. For a while every
check of that tenant carries it as `Bylaw-At-Least`; a write that was named no tenant, every check.

What it holds: per tenant, and for no tenant, the newest `MAX_TOKENS` revisions and when each is dropped. Several, since
answers to concurrent writes come in any order and nobody but the service can tell which revision is the later.
Dropped: after `remember_s`. By then every process of the service has them or does not answer (`BYLAW_MAX_STALENESS`),
so they say nothing any more. Bounded by `MAX_TENANTS`, of which those written longest ago go first. Example: `acme` →
the revision of the role that was given a second ago.

The revisions of decisions are not taken. Each check would then demand of whichever process answers it what another one
had when it answered the last: all would wait for the quickest, and for nobody's write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final

from bylaw.client.scope import MAX_TOKENS, current_scope, read_tokens

MAX_TENANTS: Final = 1000

#: When it is dropped, and the token; the newest first.
_Held = tuple[tuple[float, str], ...]


class Revisions:
    """Remembers revisions for a while. Any thread may call it.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, remember_s: float, clock: Callable[[], float]) -> None:
        self._remember_s = remember_s
        self._clock = clock
        self._held: dict[str | None, _Held] = {}
        self._lock = Lock()

    def saw(self, text: str, tenant: str | None) -> None:
        """Take what a header `Bylaw-Revision` says.

        Raises:
            ValueError: it is no revision.
        """
        tokens = read_tokens(text)
        until = self._clock() + self._remember_s
        with self._lock:
            before = self._held.pop(tenant, ())
            kept = tuple(each for each in before if each[1] not in tokens)
            self._held[tenant] = (*((until, token) for token in tokens), *kept)[:MAX_TOKENS]  # the last written is last
            if len(self._held) > MAX_TENANTS:
                self._drop()
        scope = current_scope()
        if scope is not None:
            scope.note(tokens)

    def demanded(self, tenants: Iterable[str | None]) -> tuple[str, ...]:
        """List what a check in these tenants demands, at most `MAX_TOKENS`.

        The request's own writes come first, then what its sender demands, then the newest of what this process knows.
        """
        scope = current_scope()
        own = (*scope.seen, *scope.at_least) if scope is not None else ()
        known = self._known(tenants) if self._held else ()
        if not own and not known:
            return ()
        return tuple(dict.fromkeys((*own, *known)))[:MAX_TOKENS]

    def _known(self, tenants: Iterable[str | None]) -> tuple[str, ...]:
        now = self._clock()
        found = [each for tenant in {None, *tenants} for each in self._held.get(tenant, ()) if each[0] > now]
        found.sort(key=lambda each: -each[0])
        return tuple(token for _, token in found)

    def _drop(self) -> None:
        """Drop the tenants whose revisions say nothing any more, and the one written longest ago if all do."""
        now = self._clock()
        for tenant in [tenant for tenant, held in self._held.items() if held[0][0] <= now]:
            del self._held[tenant]
        if len(self._held) > MAX_TENANTS:
            del self._held[next(iter(self._held))]
