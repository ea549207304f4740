"""The keys of what processes share in Redis: canonical, versioned, one for each view, and for each limit.

A key is a tuple of parts, percent-encoded and put between colons: the version, the stream, the key of the view within
it (`store.streams`). So no id, whatever stands in it, makes the key of another view, and the same view has one key
everywhere. Keys are computed and never found by pattern.

    shared   principal:user:ann    bylaw:v1:g:principal:user:ann
    acme's   principal:user:ann    bylaw:v1:t:{acme}:principal:user:ann
    acme's   tenant                bylaw:v1:t:{acme}:tenant

The braces are what Redis Cluster hashes by: all keys of a tenant lie on one node. Ids have none: they are encoded.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from store.redis_port import CHANNEL

_VERSION: Final = "bylaw:v1"
_SHARED: Final = f"{_VERSION}:g:"
_OWN: Final = f"{_VERSION}:t:"
_RATE: Final = f"{_VERSION}:r:"

#: How all keys and channels begin that the product has in Redis: none of them is the beginning of another, and what
#: begins otherwise is not ours.
PREFIXES: Final = (CHANNEL, _SHARED, _OWN, _RATE)

#: After so many colons the rest of a view's key is one id, which may have colons itself.
_COLONS: Final = {"principal": 2, "resource": 2}


def cache_key(tenant: str, key: str) -> str:
    """Name the place of a view.

    Args:
        tenant: whose view it is; "" of what all tenants share.
        key: of the view, as in `store.streams`.

    >>> cache_key("acme", "resource:task:a:b {c}")
    'bylaw:v1:t:{acme}:resource:task:a%3Ab%20%7Bc%7D'
    """
    kind = key.partition(":")[0]
    parts = ":".join(_encoded(part) for part in key.split(":", _COLONS.get(kind, 1)))
    return f"{_OWN}{{{_encoded(tenant)}}}:{parts}" if tenant else f"{_SHARED}{parts}"


def rate_key(caller: str, limit: int, window_s: int) -> str:
    """Name the place of what is left of a limit; the number of the window follows it.

    >>> rate_key("web shop", 100, 60)
    'bylaw:v1:r:{web%20shop}:100:60'
    """
    return f"{_RATE}{{{_encoded(caller)}}}:{limit}:{window_s}"


def _encoded(part: str) -> str:
    # Half a character is no id, but may be asked for, and must not raise.
    return quote(part, safe="", errors="surrogatepass")
