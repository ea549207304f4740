"""Who may ask, and what for.

`LoopbackCallers` lets in whoever is on this machine. The peer's address counts, never a header that claims another.
`Host` is checked because a page in a browser on this machine also comes from here: under a name of its own that it lets
point to 127.0.0.1 (DNS rebinding) it would read the answers. Pages from elsewhere cannot send `application/json`
without leave, which nobody gives.

`StoredCallers` knows them by a key or by a client certificate, as the store lists them: each with a name, tenants and
scopes. The whole list is one view, always held, so that a wrong key costs no query; a caller who is removed there is
refused from the next poll on.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal, Protocol

from engine import HttpRequest, Request
from engine.model import SYSTEM
from sidecar.decider import voices
from sidecar.errors import PublicError
from sidecar.exchange import Call
from sidecar.wire import Batch

Scope = Literal["check", "search", "explain", "claims"]
ALL_SCOPES: frozenset[Scope] = frozenset(("check", "search", "explain", "claims"))
PLAIN_SCOPES: frozenset[Scope] = frozenset(("check", "search"))
LOCAL: Final = "loopback"


@dataclass(frozen=True, slots=True)
class Caller:
    """One who asks, and what for he may.

    Args:
        tenants: in which he may ask; None: in all, and of none.
        name: as log and limits know him.
        limit: his own limits of requests, as settings write them; None: those of everybody.
    """

    scopes: frozenset[Scope]
    tenants: frozenset[str] | None = None
    name: str = LOCAL
    limit: str | None = None

    def require(self, scope: Scope) -> None:
        """Refuse a caller who lacks a scope.

        Raises:
            PublicError: he lacks it.
        """
        if scope not in self.scopes:
            raise PublicError(403, "forbidden", f"this needs the scope `{scope}`, which the caller has not")

    def held(self, question: Request | Batch) -> Request | Batch:
        """Hold what is asked to his tenants, each item of a batch by itself.

        Raises:
            PublicError: a single question is of another tenant, or of none.
        """
        if self.tenants is None:
            return question
        if isinstance(question, Request):
            self.require_tenants(question)
            return question
        return Batch(tuple(self._item(each) for each in question.items), question.semantic)

    def _item(self, item: Request | PublicError) -> Request | PublicError:
        if isinstance(item, Request):
            try:
                self.require_tenants(item)
            except PublicError as error:
                return error
        return item

    def require_tenants(self, question: Request | HttpRequest) -> None:
        """Refuse a question that is of a tenant in which he may not ask, whichever of its voices names it, or of none.

        Raises:
            PublicError: it is.
        """
        if self.tenants is None:
            return
        named = voices(question)
        if not named or not named <= self.tenants or _is_of_system(question):
            raise PublicError(403, "forbidden", "the caller's key is not for this tenant")


def _is_of_system(question: Request | HttpRequest) -> bool:
    """Say whether something of no tenant is asked about, whatever tenant is named: who holds roles in the system."""
    return isinstance(question, Request) and question.resource.partition(":")[0] == SYSTEM


class Callers(Protocol):
    """Says who asks."""

    def admit(self, call: Call) -> Caller | None:
        """Say who asks; None: who may is not known at once (`known` waits for it).

        Raises:
            PublicError: he may not.
        """
        ...

    def probing(self, call: Call) -> Caller:
        """Let in one who only watches the service.

        Raises:
            PublicError: he may not.
        """
        ...

    async def known(self) -> None:
        """Wait until it is known who may ask.

        Raises:
            PublicError: it cannot be known.
        """
        ...


class LoopbackCallers:
    """Lets in callers on this machine, all with the same scopes."""

    def __init__(self, hosts: Set[str], scopes: frozenset[Scope]) -> None:
        self.hosts = hosts
        self.caller = Caller(scopes)

    def admit(self, call: Call) -> Caller:
        """Say who asks.

        Raises:
            PublicError: he may not ask.
        """
        peer, host = call.peer, call.host
        if peer and peer != "127.0.0.1" and not _is_loopback(peer):
            raise PublicError(403, "forbidden", "only callers on this machine may ask")
        if host not in self.hosts and (host is None or host.lower() not in self.hosts):
            raise PublicError(403, "bad_host", "the Host header must be localhost or the address listened on")
        return self.caller

    probing = admit

    async def known(self) -> None:
        """They are known."""


@lru_cache(1024)
def _is_loopback(peer: str) -> bool:
    try:
        found = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback or (mapped is not None and mapped.is_loopback)
