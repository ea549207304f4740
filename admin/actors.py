"""Who asks: the holder of a key, with scopes, or an end user, with a token of his own.

    Authorization: Bearer bylaw_… ──▶ SHA-256 ──▶ listed, not revoked, not over ──▶ Key
    Authorization: Bearer eyJ…    ──▶ verifier ──▶ not blocked ──▶ EndUser

A key may do what its scopes say, everywhere that they reach, whatever the policy says: it is for machines, and for the
first administrator. An end user may do what the policy lets him, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from admin.errors import PublicError

SYSTEM: Final = "system"
TENANT: Final = "tenant:"
SCOPES: Final = (SYSTEM, "facts", "policies", "audit")
KEY_MARK: Final = "bylaw_"
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")


@dataclass(frozen=True, slots=True)
class Key:
    """The holder of a key."""

    id: str
    scopes: frozenset[str]

    @property
    def ref(self) -> str:
        """How the audit log calls him."""
        return f"key:{self.id}"

    def reaches(self, scopes: frozenset[str], tenant: str | None) -> bool:
        """Say whether one of his scopes is one of these, or of that tenant."""
        if SYSTEM in self.scopes or not self.scopes.isdisjoint(scopes):
            return True
        return tenant is not None and f"{TENANT}{tenant}" in self.scopes


@dataclass(frozen=True, slots=True)
class EndUser:
    """The bearer of a token that was verified.

    Attributes:
        claims: roles that it claims. said: what else it says, for conditions.
    """

    ref: str
    tenant: str | None
    claims: tuple[str, ...] = ()
    said: Mapping[str, object] = field(default_factory=dict)


Actor = Key | EndUser


class Verifier(Protocol):
    """Says who bears an end user's token."""

    async def verify(self, token: str) -> EndUser | None:
        """None: nobody; it is no good token, or was taken back."""
        ...


def bearer_of(values: Sequence[str]) -> str:
    """Find what stands under `Authorization`.

    Raises:
        PublicError: nothing does, or more than one, or it is no bearer token.
    """
    found = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise unauthorized()
    return found[1]


def unauthorized() -> PublicError:
    """Make the error of one who is not known. It does not say what was wrong."""
    return PublicError(
        401,
        "unauthorized",
        "it is not known who asks: send a key, or a token of your own, as `Authorization: Bearer …`",
        headers={"WWW-Authenticate": "Bearer"},
    )
