"""Keys that are shown once: how one is made, and what is kept of it.

A key is 256 random bits. Only its digest is stored, so nobody who reads the store, or a backup of it, has a key; and it
is looked up by the digest, which takes no longer for a key that is nearly right. A plain hash will do: there is nothing
to be guessed, as there is in a password. What else is shown once and given back later, like the token of an invitation,
is kept in the same way.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from typing import Final

from store.errors import RefusedError

#: So much of a key is shown in lists.
PREFIX_LENGTH: Final = 8
#: A key wherever it stands. Each begins alike, so that who finds one lying about, or a scanner, knows what it is.
KEY: Final = re.compile(r"bylaw_[A-Za-z0-9_-]{43}")
_BEGINS: Final = "bylaw_"
_BYTES: Final = 32
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def new_key(random: Callable[[int], bytes] = os.urandom) -> str:
    """Make a key: `bylaw_` and 43 characters. Whoever is told it must be told now, for it is stored nowhere."""
    return _BEGINS + base64.urlsafe_b64encode(random(_BYTES)).decode().rstrip("=")


def digest_of(key: str) -> str:
    """Return what the store keeps of a key. Keys are 256 random bits, so a plain hash tells nobody what they are."""
    return hashlib.sha256(key.encode()).hexdigest()


def check_digest(text: str, what: str) -> str:
    """Accept a digest; return it.

    Args:
        what: of what it is one, with its article: `"an invitation's token"`.

    Raises:
        RefusedError: it is none. The message does not repeat it: it may be what was to be kept secret.
    """
    if not DIGEST.fullmatch(text):
        raise RefusedError("bad_digest", f"of {what} its SHA-256 in hex is stored, and nothing else")
    return text
