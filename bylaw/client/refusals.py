"""What an end user is told who is not let through: an error in, an HTTP answer out, for any framework.

    DeniedError                        403, or 401 where nobody in particular asked
    DeniedError, code `stale`          503: the facts were too old to say yes, which says nothing of the user
    RefusedError, UnavailableError     503: an end user can do nothing about either

The body has the rule's own words, if there is a rule, and nothing else of the decision: which rules, roles and codes
there are is not for who is kept out.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple
from uuid import uuid4

from bylaw.client.errors import BylawError, DeniedError, UnavailableError
from bylaw.client.scope import REQUEST_ID, current_scope

_STALE: Final = "stale"
_LATER: Final = "it cannot be decided now; try again later"


class Refusal(NamedTuple):
    """An HTTP answer: JSON."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal_of(error: BylawError, *, challenge: str = "Bearer") -> Refusal:
    """Make the answer of an error.

    Args:
        challenge: says, as `WWW-Authenticate`, how to say who one is.
    """
    if not isinstance(error, DeniedError) or error.code == _STALE:
        return make_refusal(503, "unavailable", _LATER, _retry_after(error))
    message = error.decision.because or "this is not allowed"
    if error.is_anonymous:
        return make_refusal(401, "unauthenticated", message, ("WWW-Authenticate", challenge))
    return make_refusal(403, "forbidden", message)


def make_refusal(status: int, code: str, message: str, *headers: tuple[str, str] | None) -> Refusal:
    """Write an answer, under the id of the request that is being answered."""
    scope = current_scope()
    request_id = scope.request_id if scope is not None else uuid4().hex
    body = json.dumps({"error": code, "message": message, "requestId": request_id}).encode()
    fixed = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        (REQUEST_ID, request_id),
    )
    return Refusal(status, (*fixed, *(each for each in headers if each is not None)), body)


def _retry_after(error: BylawError) -> tuple[str, str] | None:
    seconds = error.retry_after_s if isinstance(error, UnavailableError) else None
    return ("Retry-After", str(seconds)) if seconds is not None else None
