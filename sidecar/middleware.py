"""What every request goes through: who asks, its id, and the one place where errors become answers.

`Guard` wraps each handler itself. As a middleware of aiohttp it would cost every check some microseconds more, and it
would still have to be one function: its parts have no use without each other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from uuid import uuid4

from aiohttp import web

from sidecar.answers import json_answer
from sidecar.callers import Caller, LoopbackCallers
from sidecar.errors import PublicError, error_body, to_public
from sidecar.traffic import Traffic

REQUEST_ID = "X-Request-ID"
MAX_REQUEST_ID = 256
#: After these the rest of the body may still be on its way, and is not waited for.
_CLOSING = frozenset((408, 413))

Handler = Callable[[web.Request, Caller], Awaitable[web.Response]]
Guarded = Callable[[web.Request], Awaitable[web.Response]]

_log = logging.getLogger("bylaw.sidecar")


def make_guard(callers: LoopbackCallers, traffic: Traffic) -> Callable[[Handler], Guarded]:
    """Make the wrapper of all handlers."""

    def guard(handler: Handler) -> Guarded:
        async def answer(request: web.Request) -> web.Response:
            traffic.count += 1
            headers = request.headers
            request_id = taken_over(headers.get(REQUEST_ID))
            try:
                response = await handler(request, callers.admit(request.remote, headers.get("Host")))
            except Exception as error:  # the one place: nothing else may leave
                request_id = request_id or uuid4().hex
                response = answer_error(error, request_id)
            finally:
                traffic.end()
            if request_id is not None:
                response.headers[REQUEST_ID] = request_id
            if traffic.is_stopping:
                response.force_close()
            return response

        return answer

    return guard


def taken_over(sent: str | None) -> str | None:
    """Return the caller's own request id, if it is one that can be echoed and logged as it is."""
    if sent and len(sent) <= MAX_REQUEST_ID and sent.isascii() and sent.isprintable():
        return sent
    return None


def answer_error(error: Exception, request_id: str) -> web.Response:
    """Answer an error; what nobody expected is logged."""
    public = to_public(error)
    if public is not error and public.status >= 500:
        _log.error("request %s failed", request_id, exc_info=error)
    response = json_answer(error_body(public, request_id), status=public.status)
    response.headers.update(public.headers)
    if public.status in _CLOSING:
        response.force_close()
    return response


async def nothing_there(request: web.Request, _: Caller) -> web.Response:
    """Answer for paths and methods that have no handler."""
    routes = request.app.router.routes()
    allowed = sorted({route.method for route in routes if route.resource and route.resource.canonical == request.path})
    if not allowed:
        raise PublicError(404, "not_found", "there is nothing at this path")
    taken = ", ".join(allowed)
    raise PublicError(405, "method_not_allowed", f"this path takes {taken}", headers={"Allow": taken})
