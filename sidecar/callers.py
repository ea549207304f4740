"""Who may ask: whoever is on this machine.

The peer's address counts, never a header that claims another. `Host` is checked because a page in a browser on this
machine also comes from here: under a name of its own that it lets point to 127.0.0.1 (DNS rebinding) it would read the
answers. Pages from elsewhere cannot send `application/json` without leave, which nobody gives.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from sidecar.errors import PublicError

Scope = Literal["check", "search", "explain", "claims"]
ALL_SCOPES: frozenset[Scope] = frozenset(("check", "search", "explain", "claims"))
PLAIN_SCOPES: frozenset[Scope] = frozenset(("check", "search"))


@dataclass(frozen=True, slots=True)
class Caller:
    """One who asks, and what for he may."""

    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Refuse a caller who lacks a scope.

        Raises:
            PublicError: he lacks it.
        """
        if scope not in self.scopes:
            raise PublicError(403, "forbidden", f"this needs the scope `{scope}`, which the caller has not")


class LoopbackCallers:
    """Lets in callers on this machine, all with the same scopes."""

    def __init__(self, hosts: Set[str], scopes: frozenset[Scope]) -> None:
        self.hosts = hosts
        self.caller = Caller(scopes)

    def admit(self, peer: str | None, host: str | None) -> Caller:
        """Say who asks.

        Args:
            peer: the address of the other end; none or empty on a Unix socket, which has no other machines on it.
            host: what the header says.

        Raises:
            PublicError: he may not ask.
        """
        if peer and peer != "127.0.0.1" and not _is_loopback(peer):
            raise PublicError(403, "forbidden", "only callers on this machine may ask")
        if host not in self.hosts and (host is None or host.lower() not in self.hosts):
            raise PublicError(403, "bad_host", "the Host header must be localhost or the address listened on")
        return self.caller


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False
