"""The Python client: asks a decision service, and fails closed.

    Bylaw, AsyncBylaw          ask, and wait for the answer; docs/client.md shows how
    Question, Decision         what is asked and answered
    Guard, granted             a check in front of a function, and the decision by which it runs
    aiohttp_web, asgi, wsgi    modules with a middleware each; NO_CHECK belongs to them
    request_scope              what belongs to one request: its id, and the revisions that it demands
    BylawError …               whatever is not an allow

It stands alone: it knows nothing of the rest of the product, and an application that imports it loads no engine and no
server. Each of the two clients, and the library that it stands on, is loaded when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bylaw.client.errors import (
    BadAnswerError,
    BylawError,
    DeniedError,
    RefusedError,
    StaleError,
    TimedOutError,
    UnavailableError,
)
from bylaw.client.gate import NO_CHECK, Asked
from bylaw.client.guard import Guard
from bylaw.client.model import ANONYMOUS, Decision, Obligation, Obligations, Question, Semantic
from bylaw.client.refusals import Refusal
from bylaw.client.scope import RequestScope, current_scope, granted, request_scope

if TYPE_CHECKING:
    from bylaw.client._async import AsyncBylaw
    from bylaw.client._sync import Bylaw

__all__ = [
    "ANONYMOUS",
    "NO_CHECK",
    "Asked",
    "AsyncBylaw",
    "BadAnswerError",
    "Bylaw",
    "BylawError",
    "Decision",
    "DeniedError",
    "Guard",
    "Obligation",
    "Obligations",
    "Question",
    "Refusal",
    "RefusedError",
    "RequestScope",
    "Semantic",
    "StaleError",
    "TimedOutError",
    "UnavailableError",
    "current_scope",
    "granted",
    "request_scope",
]

_LATER = {"Bylaw": "bylaw.client._sync", "AsyncBylaw": "bylaw.client._async"}


def __getattr__(name: str) -> Any:
    """Load a client when it is named."""
    if name not in _LATER:
        raise AttributeError(f"module `{__name__}` has no `{name}`")
    from importlib import import_module  # only needed here

    return getattr(import_module(_LATER[name]), name)
