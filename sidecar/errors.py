"""What a caller is told when there is no decision.

    Exception
    └── PublicError     .status  .code  .message  .details  .headers

Whatever else is raised has no business outside: `to_public` turns it into one of these, an unexpected one into a plain
500. The cause stays in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quote

from engine import RequestError


class PublicError(Exception):
    """An error as it is answered: a status, a stable code, a sentence."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}
        self.headers = headers or {}


def bad_request(message: str) -> PublicError:
    """Make the error of a request that is not shaped as it must be."""
    return PublicError(400, "bad_request", message)


def too_large(message: str, *, status: int = 400) -> PublicError:
    """Make the error of a request that goes past a bound."""
    return PublicError(status, "too_large", message)


def overloaded() -> PublicError:
    """Make the error of a request that comes when too much is asked at once."""
    return PublicError(503, "overloaded", "too much is asked at once; try again", headers={"Retry-After": "1"})


def to_public(error: Exception) -> PublicError:
    """Turn what was raised into what is answered."""
    match error:
        case PublicError():
            return error
        case RequestError():
            return PublicError(400, error.code, error.message)
        case _:
            return PublicError(500, "internal", "something went wrong here; the request id finds it in the log")


def error_body(error: PublicError, request_id: str, *, now: datetime | None = None) -> str:
    """Write the body of an error. By hand, as answers are: under overload it is what is written most."""
    moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    details = json.dumps(error.details) if error.details else "{}"
    return (
        f'{{"error": {_quote(error.code)}, "message": {_quote(error.message)}, "details": {details}, '
        f'"requestId": {_quote(request_id)}, "timestamp": "{moment.replace("+00:00", "Z")}"}}'
    )
