"""What a client of the administration API is told when something is not done.

    Exception
    └── PublicError     .status  .code  .message  .details  .headers

Whatever else is raised has no business outside: `to_public` turns it into one of these, what nobody expected into a
plain 500. The cause stays in the log. A field that is wrong is named in `details.fields`, all of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from engine import BylawError
from store.errors import RefusedError, StoreError, UnavailableError

#: What a refusal of the store is, by its code; any other is a conflict with what is stored.
_STATUSES = {
    "bad_id": 400,
    "bad_status": 400,
    "bad_times": 400,
    "bad_place": 400,
    "bad_attributes": 400,
    "bad_scope": 400,
    "bad_key": 400,
    "bad_digest": 400,
    "bad_email": 400,
    "too_long": 400,
    "key_reused": 422,
    "unknown": 404,
    "unknown_tenant": 404,
    "not_there": 404,
}
#: A member that the shape does not have, as pydantic calls it.
_UNKNOWN = "extra_forbidden"


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


def no_policy() -> PublicError:
    """Make the error of a process that cannot load the policy that is published."""
    said = "the policy that is published cannot be loaded here, or changes all the time: the log says why"
    return PublicError(503, "no_policy", said, headers={"Retry-After": "1"})


def bad_request(message: str, fields: Mapping[str, str] | None = None) -> PublicError:
    """Make the error of a request that is not shaped as it must be; `fields` says of each what is wrong."""
    return PublicError(400, "bad_request", message, details={"fields": dict(fields)} if fields else None)


def forbidden(message: str, code: str = "forbidden", **details: object) -> PublicError:
    """Make the error of one who may not do this."""
    return PublicError(403, code, message, details=details)


def not_found(what: str) -> PublicError:
    """Make the error of what is not there, or not for this caller to see."""
    return PublicError(404, "not_found", f"there is no {what}")


def invalid(error: ValidationError, where: str, known: Iterable[str] = ()) -> PublicError:
    """Say of every field what is wrong with it; of one that is not known, which are, if those are named."""
    others = f"there is none of this name: there are {', '.join(known)}" if known else None
    fields = {
        _path(where, each["loc"]): others if others and each["type"] == _UNKNOWN else each["msg"]
        for each in error.errors(include_url=False, include_input=False)
    }
    named = ", ".join(sorted(fields))
    return bad_request(f"not as it must be: {named}", fields)


def _path(where: str, steps: Iterable[int | str]) -> str:
    """Write where a field is, as `body.roles[2].on`. What stands in parentheses is a shape's name, and no member."""
    named = (step for step in steps if not str(step).startswith("("))
    return where + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in named)


def to_public(error: Exception) -> PublicError:
    """Turn what was raised into what is answered."""
    match error:
        case PublicError():
            return error
        case UnavailableError():
            return PublicError(503, "unavailable", "the store does not answer; try again", headers={"Retry-After": "1"})
        case RefusedError():
            return PublicError(_STATUSES.get(error.code, 409), error.code, error.message)
        case StoreError():
            return PublicError(500, "internal", "something went wrong here; the request id finds it in the log")
        case BylawError():
            return PublicError(400, error.code, error.message)
        case _:
            return PublicError(500, "internal", "something went wrong here; the request id finds it in the log")


def body_of(problem: PublicError, request_id: str, *, now: datetime | None = None) -> str:
    """Write the body of an error."""
    moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {"error": problem.code, "message": problem.message, "details": dict(problem.details)}
    return json.dumps({**said, "requestId": request_id, "timestamp": moment})
