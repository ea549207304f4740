"""What every request goes through in aiohttp's lane: the gate, its id, and errors as answers.

`Guard` wraps each handler itself. As a middleware of aiohttp it would cost every check some microseconds more, and it
would still have to be one function: its parts have no use without each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import web

from sidecar.answers import must_close, response_of
from sidecar.api import Endpoint
from sidecar.body import read_body
from sidecar.callers import Caller
from sidecar.errors import PublicError
from sidecar.exchange import AT_LEAST, REQUEST_ID, Call, Reply, names_in, taken_over
from sidecar.gate import Gate

Handler = Callable[[web.Request, Caller], Awaitable[web.Response]]
Guarded = Callable[[web.Request], Awaitable[web.Response]]
#: The call of a request, for handlers.
CALL: Final = web.RequestKey("CALL", Call)


class Guard(Protocol):
    """Wraps a handler. `is_probe`: it is for who watches the service, and is answered when nothing else is."""

    def __call__(self, handler: Handler, *, is_probe: bool = False) -> Guarded: ...


def make_guard(gate: Gate) -> Guard:
    """Make the wrapper of all handlers."""

    def guard(handler: Handler, *, is_probe: bool = False) -> Guarded:
        async def answer(request: web.Request) -> web.Response:
            traffic = gate.traffic
            traffic.count += 1
            call = call_of(request)
            request[CALL] = call
            try:
                caller = gate.probing(call) if is_probe else gate.admit(call) or await gate.admitted(call)
                response = await handler(request, caller)
            except Exception as error:  # the one place: nothing else may leave
                response = response_of(gate.refuse(error, call.request_id))
            finally:
                traffic.end()
            if call.request_id is not None:
                response.headers[REQUEST_ID] = call.request_id
            if traffic.is_stopping or must_close(request):
                response.force_close()
            return response

        return answer

    return guard


def call_of(request: web.Request) -> Call:
    """Say what a request says before its body."""
    headers = request.headers
    return Call(
        request.path,
        request.remote,
        headers.get("Host"),
        tuple(headers.getall("Authorization", ())),
        taken_over(headers.get(REQUEST_ID)),
        ",".join(headers.getall(AT_LEAST)) if AT_LEAST in headers else None,
        _certificates(request),
        (headers["traceparent"], headers.get("tracestate", "")) if "traceparent" in headers else None,
    )


def _certificates(request: web.Request) -> tuple[str, ...]:
    transport = request.transport
    return names_in(transport.get_extra_info("peercert")) if transport is not None else ()


def serve(endpoint: Endpoint) -> Handler:
    """Make a handler of what both lanes serve."""

    async def handler(request: web.Request, caller: Caller) -> web.Response:
        reply = endpoint(request[CALL], caller, await read_body(request))
        return response_of(reply if isinstance(reply, Reply) else await reply)

    return handler


async def nothing_there(request: web.Request, _: Caller) -> web.Response:
    """Answer for paths and methods that have no handler."""
    routes = request.app.router.routes()
    allowed = sorted({route.method for route in routes if route.resource and route.resource.canonical == request.path})
    if not allowed:
        raise PublicError(404, "not_found", "there is nothing at this path")
    taken = ", ".join(allowed)
    raise PublicError(405, "method_not_allowed", f"this path takes {taken}", headers={"Allow": taken})
