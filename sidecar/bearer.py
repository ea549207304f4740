"""What is said of who bears a token: `Identity`, or `Rejected` and why; and where a request has its token.

Verifying one is `identity`'s, and remembering it `tokens`'. This stands apart from both since it needs nothing: a
process without keys knows what a token is, and loads no cryptography.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.facts import ALWAYS
from engine.values import SECOND

#: Why there is no identity, for logs and metrics; a client learns nothing of it. `bad_authorization` is said of the
#: header that should hold a token (`tokens`), `revoked` by those who ask `is_revoked`.
Reason = Literal[
    "bad_authorization", "too_long", "malformed", "bad_header", "bad_algorithm", "unknown_key", "bad_signature",
    "bad_issuer", "bad_audience", "bad_claims", "not_yet_valid", "expired", "revoked",
]  # fmt: skip
#: RFC 6750. What it takes need not be a JSON Web Token: that is for `identity` to say.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who bears a token. Times are the engine's: nanoseconds since 1970.

    Attributes:
        subject: `"user:ann"` or `"service:billing"`.
        tenant: that the token claims. roles: that it claims.
        token_id: by which it can be blocked. issued_at: None where it does not say.
        expires: from when on it does not count. not_before: until when. Both without leeway.
        claims: what else it says in one word, or a list of words.
    """

    subject: str
    tenant: str | None
    roles: tuple[str, ...]
    token_id: str | None
    issued_at: int | None
    expires: int
    not_before: int = ALWAYS
    claims: Mapping[str, object] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """There is no identity, and why. A client is never told the reason."""

    reason: Reason


def read_authorization(values: Sequence[str]) -> str | Rejected | None:
    """Find the bearer token in what stands under `Authorization`.

    Args:
        values: of all headers of this name, one each.

    Returns:
        The token. None: there is no such header, so it is nobody in particular. Rejected: more than one, which two
        readers would read two ways, or one that is no bearer token; a comma would make it two.

    >>> read_authorization(["Bearer eyJh.eyJz.c2ln"])
    'eyJh.eyJz.c2ln'
    """
    if not values:
        return None
    found = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return Rejected("bad_authorization") if found is None else found[1]


def is_revoked(identity: Identity, blocked: Collection[str], valid_after: int) -> bool:
    """Say whether a token was taken back: it is blocked by its id, or is not from after the horizon of its bearer.

    Most issuers write whole seconds, and who sets a horizon may do so too: a token and a horizon of one second do not
    tell which came first. So only a token of a later second outlives a horizon; one that was issued in the same second
    but after it is refused as well, and its bearer needs another. One that does not say when it was issued is from
    before any horizon.

    Args:
        blocked: ids of tokens.
        valid_after: the horizon; `ALWAYS` where none is set.
    """
    if identity.token_id in blocked:
        return True
    if valid_after <= ALWAYS:
        return False
    return identity.issued_at is None or identity.issued_at // SECOND <= valid_after // SECOND
