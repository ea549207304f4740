"""Who asks, as the store lists callers: by a key (`token`), or by a name in a client certificate (`mtls`).

    Authorization: Bearer KEY ──▶ SHA-256 ──▶ key:DIGEST ──┐
                                                           ├──▶ listed, and not over? ──▶ Caller
    certificate that was verified ──▶ certificate:NAME ────┘         └─ no ──▶ 401

All callers are one view of stream g (`store.streams.CALLERS`), held and dropped like any other. So a wrong key costs a
look-up and no query; one who is removed is refused from the moment that change is applied, which a receipt tells like
that of any write; and while the store cannot be reached callers are known for as long as the view is held. How old it
may be is not looked at here: facts beside it would be as old, and what is decided on them is then `stale`.

A key is looked up by its digest, so how long that takes tells nothing of any key. No answer says what was wrong: a key
that never was, one whose time is over and one that was removed are refused in the same words.

`_Known` is the list by id. What it holds: each caller as the gate has him, and until when. Why: a view is a list, and
is looked up at every request. Key: the view object itself, which is frozen and replaced whole; so this needs no bound
and no end of its own. Example: `known["key:9f86d0…"]` is the caller `shop`.

`Host` is looked at where the service listens on this machine alone, as it is for callers on it. Elsewhere it cannot be:
in a cluster the service goes by names that it does not know. Nor need it be: a page in a browser has no key to send,
and over TLS a browser talks to nobody whose certificate is not for the name that it asked for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Set
from functools import lru_cache
from typing import Final, Literal

from engine.facts import ALWAYS
from sidecar.callers import ALL_SCOPES, Caller
from sidecar.errors import PublicError
from sidecar.exchange import Call
from sidecar.freshness import StaleError
from sidecar.loader import More
from sidecar.views import Cache
from store.keys import digest_of
from store.streams import CALLERS
from store.views import CallerFact, CallersView, Wanted

Kind = Literal["token", "mtls"]
#: Loads views, as `Loader.load` does.
Load = Callable[[str, Wanted, More], Awaitable[None]]
_Known = dict[str, tuple[Caller, int]]

#: Who only looks whether the service lives: he may ask nothing.
WATCHER: Final = Caller(frozenset(), frozenset(), "watcher")
_NOBODY: Final = (WATCHER, ALWAYS)
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")


class StoredCallers:
    """Lets in who is listed.

    Args:
        cache: where the list is held.
        clock: nanoseconds since 1970.
        kind: by what callers are known.
        hosts: what `Host` may be; None: anything.
    """

    def __init__(
        self, cache: Cache, load: Load, clock: Callable[[], int], kind: Kind, *, hosts: Set[str] | None = None
    ) -> None:
        self._cache = cache
        self._load = load
        self._clock = clock
        self._kind = kind
        self._hosts = hosts
        self._view: CallersView | None = None
        self._known: _Known = {}

    def admit(self, call: Call) -> Caller | None:
        """Say who asks; None: the list is not held.

        Raises:
            PublicError: he is not listed, or his time is over.
        """
        hosts = self._hosts
        if hosts is not None and call.host not in hosts and (call.host or "").lower() not in hosts:
            said = "the Host header must be localhost, the address listened on, or the host of BYLAW_PUBLIC_URL"
            raise PublicError(403, "bad_host", said)
        ids = self._ids(call)
        known = self._held() if ids else {}
        if known is None:
            return None
        now = self._clock()
        for each in ids:
            caller, expires = known.get(each, _NOBODY)
            if now < expires:
                return caller
        raise self._refused()

    def probing(self, call: Call) -> Caller:
        """Let anybody in: who watches a service, as an orchestrator does, has no key."""
        return WATCHER

    async def known(self) -> None:
        """Have the list loaded.

        Raises:
            PublicError: it cannot be had.
        """
        try:
            await self._load("", Wanted(shared={CALLERS}), lambda _: Wanted())
        except StaleError as error:
            raise PublicError(503, "stale", "it is not known who may ask", headers={"Retry-After": "1"}) from error

    def _ids(self, call: Call) -> tuple[str, ...]:
        """List the ids under which he who asks may be listed."""
        if self._kind == "mtls":
            return tuple(f"certificate:{name}" for name in call.certificates)
        return _ids_of(call.authorization)

    def _held(self) -> _Known | None:
        """Return the list by id; None: it is not held."""
        view = self._cache.shared.views.get(CALLERS)
        if not isinstance(view, CallersView):
            return None
        if view is not self._view:
            self._known, self._view = {each.id: (_caller(each), each.expires) for each in view.callers}, view
        return self._known

    def _refused(self) -> PublicError:
        if self._kind == "mtls":
            return PublicError(401, "unauthorized", "the caller is not known: connect with its client certificate")
        return PublicError(
            401,
            "unauthorized",
            "the caller is not known: send its key, as `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )


@lru_cache(1024)
def _ids_of(authorization: tuple[str, ...]) -> tuple[str, ...]:
    """List the ids of who sends this: one, or none. Whoever asks again and again sends the same, so it is worked out
    once."""
    match = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
    return (f"key:{digest_of(match[1])}",) if match else ()


def _caller(fact: CallerFact) -> Caller:
    """Make a caller. A scope that is not known here gives nothing."""
    scopes = frozenset(scope for scope in ALL_SCOPES if scope in fact.scopes)
    tenants = None if fact.tenants is None else frozenset(fact.tenants)
    return Caller(scopes, tenants, fact.name, fact.rate)
