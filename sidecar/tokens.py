"""A token in, who bears it out; a token is verified once, and remembered.

The cache. What it holds: the `Identity` of tokens that were verified. Why: a signature costs 50 to 100 µs, a look-up
one or two. Key: the SHA-256 digest of the token, so that no token lies in memory longer than its request. Rejections
are not remembered: who sends rubbish displaces nothing. What goes in and out is frozen, and a hit still looks at the
clock.

    sha256(b"eyJhbGciOi…")  →  Identity("user:ann", "acme", (), "jti-1", issued_at, expires, not_before)

INVARIANT: whatever is remembered was verified by the keys that verify now; another set of keys empties it. Else only
`MAX_KNOWN` bounds it, past which the oldest goes. It has no settings.

Not remembered either: that a token is blocked, or its bearer's tokens count from later on. Those are facts, at which
the caller looks every time (`identity.is_revoked`), as fresh as all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from sidecar.bearer import Identity, Rejected, read_authorization
from sidecar.identity import TokenRules, check_times, kid_of, verify
from sidecar.jwks import Keys

#: This is `bearer`'s, and is to be had here too.
__all__ = ["read_authorization"]

MAX_KNOWN: Final = 10_000


class Verifier:
    """Verifies the tokens of one issuer, for one process.

    Args:
        clock: seconds since 1970.

    Attributes:
        hits: of tokens that were remembered. misses: of those that had to be verified, good or not.
    """

    def __init__(self, rules: TokenRules, keys: Keys, *, clock: Callable[[], float]) -> None:
        self.hits = self.misses = 0
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[bytes, Identity] = OrderedDict()
        self._known_by = keys.current

    def at_once(self, token: str) -> Identity | Rejected | None:
        """Say who bears a token; None: its key is not known, and `verify` may find it."""
        if self._known_by is not self._keys.current:
            self._known_by = self._keys.current
            self._known.clear()
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None:
            self.hits += 1
            return check_times(known, self._rules, self._clock()) or known
        self.misses += 1
        said = verify(token, self._known_by, self._rules, self._clock())
        if isinstance(said, Identity):
            self._remember(digest, said)
        elif said.reason == "unknown_key" and self._keys.may_learn:
            return None
        return said

    async def verify(self, token: str) -> Identity | Rejected:
        """Say who bears a token; where its key is not known, after the keys were fetched anew, if that is due."""
        said = self.at_once(token)
        if said is None:
            await self._keys.refreshed(kid_of(token))
            said = self.at_once(token)
        return said or Rejected("unknown_key")

    def _remember(self, digest: bytes, identity: Identity) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.popitem(last=False)
        self._known[digest] = identity
