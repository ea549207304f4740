"""The application: endpoints behind one door, errors as answers, and the life of the server.

request ──▶ id ──▶ endpoint (`serving`) ──▶ answer ──▶ dressed (`manners`) ──▶ told of (`watching`)
             └── whatever goes wrong ──▶ PublicError ──▶ answer ──┘
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Middleware

from admin.actors import Verifier
from admin.attempts import Attempts
from admin.bodies import MAX_BODY
from admin.endpoint import PREFIX, Endpoint
from admin.errors import PublicError, bad_request, body_of, to_public
from admin.health import Probe
from admin.manners import Manners, dress, options
from admin.metrics import CONTENT_TYPE, Metrics
from admin.openapi import describe
from admin.refusals import Refusals
from admin.services import Services
from admin.serving import Handle, Serving, handler_of, identify, told
from admin.uses import Uses
from admin.watching import REQUEST_ID, watch_statements, watching
from store.tokens import Token

ID_HEADER: Final = "X-Request-ID"
MAX_REQUEST_ID: Final = 256
#: How the server that runs the application is to read requests: a body that says that it is packed is refused, so
#: nothing is unpacked before that is seen; and any id and cursor fits a path.
SERVER: Final[Mapping[str, Any]] = {"auto_decompress": False, "max_line_size": 64 * 1024}
_log = logging.getLogger("bylaw.admin")


def create_app(
    services: Services,
    endpoints: Sequence[Endpoint],
    *,
    version: str,
    verifier: Verifier | None = None,
    manners: Manners | None = None,
) -> web.Application:
    """Make the application.

    Args:
        version: of the product.
        verifier: of end users' tokens; None: there are no keys for them, so no token is a good one.
        manners: None: the usual ones.
    """
    refusals = Refusals(services.database, services.clock)
    uses = Uses(services.database, services.clock)
    metrics = Metrics(endpoints)
    serving = Serving(services, verifier, manners or Manners(), Attempts(services.clock), refusals, uses, metrics)
    watch_statements(services.database, metrics)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[watching(metrics), _answering(serving.manners)])
    app.cleanup_ctx.append(_telling(refusals, uses))
    for each in endpoints:
        _serve(app, each.method, PREFIX + each.path, handler_of(serving, each))
        if each.is_alone:
            app.router.add_route("*", PREFIX + each.path, _other_method(each.method))
    described = json.dumps(describe(endpoints, version)).encode()
    _serve(app, "GET", "/openapi.json", _constant(described))
    _serve(app, "GET", "/health", _constant(b'{"status": "ok"}'))
    _serve(app, "GET", "/ready", _ready(services))
    _serve(app, "GET", "/metrics", _metrics(metrics))
    _serve(app, "GET", "/settled/{token}", _settled(serving))
    return app


def _telling(refusals: Refusals, uses: Uses) -> Callable[[web.Application], AsyncIterator[None]]:
    async def telling(_: web.Application) -> AsyncIterator[None]:
        async with refusals.telling():
            yield
        await uses.end()

    return telling


def _serve(app: web.Application, method: str, path: str, handler: Handle) -> None:
    """Add a route; whoever may get may ask for the head alone."""
    app.router.add_route(method, path, handler)
    if method == "GET":
        app.router.add_route("HEAD", path, handler)


def _other_method(method: str) -> Handle:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, [method])

    return handler


def _constant(body: bytes) -> Handle:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return handler


def _ready(services: Services) -> Handle:
    probe = Probe(services)

    async def handler(_: web.Request) -> web.Response:
        found = await probe.look()
        return web.json_response(found.said, status=200 if found.is_up else 503)

    return handler


def _metrics(metrics: Metrics) -> Handle:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=metrics.written(), headers={"Content-Type": CONTENT_TYPE})

    return handler


# --- around every request ---------------------------------------------------------------------------------------------


def _answering(manners: Manners) -> Middleware:
    """Make what answers, whatever happens."""

    @web.middleware
    async def answering(request: web.Request, handler: Handle) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = _request_id(request)
        try:
            response = await handler(request)
        except web.HTTPMethodNotAllowed as error:
            is_asked = request.method == "OPTIONS"
            response = options(request, error.allowed_methods, manners) if is_asked else _failed(error, request_id)
        except Exception as error:  # the one place: nothing else may leave
            response = _failed(error, request_id)
        response.headers[ID_HEADER] = request_id
        dress(request, response, manners)
        return response

    return answering


def _failed(error: Exception, request_id: str) -> web.Response:
    problem = _of_http(error) if isinstance(error, web.HTTPException) else to_public(error)
    if problem is not error and problem.status >= 500:
        _log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    headers, text = dict(problem.headers), body_of(problem, request_id)
    return web.Response(status=problem.status, text=text, content_type="application/json", headers=headers)


def _request_id(request: web.Request) -> str:
    sent = request.headers.get(ID_HEADER, "")
    is_fit = 0 < len(sent) <= MAX_REQUEST_ID and sent.isascii() and sent.isprintable()
    return sent if is_fit else uuid4().hex


def _of_http(error: web.HTTPException) -> PublicError:
    match error:
        case web.HTTPNotFound():
            return PublicError(404, "not_found", "there is nothing at this path")
        case web.HTTPMethodNotAllowed():
            taken = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
            return PublicError(405, "method_not_allowed", f"this path takes {taken}", headers={"Allow": taken})
        case web.HTTPRequestEntityTooLarge():
            return PublicError(413, "too_large", f"a body has at most {MAX_BODY // 1024} KiB")
        case _:
            return PublicError(error.status, "bad_request", "this request cannot be answered")


# --- beside the endpoints ---------------------------------------------------------------------------------------------


def _settled(serving: Serving) -> Handle:
    """Answer whether a write counts everywhere, by the token that it was answered with."""

    async def handler(request: web.Request) -> web.Response:
        await identify(serving, request)
        try:
            token = Token.parse(request.match_info["token"])
        except ValueError as error:
            raise bad_request("this is no revision", {"path.token": "as `Bylaw-Revision` had it"}) from error
        receipt = await serving.services.receipts.find(str(token))
        if receipt is None:
            raise PublicError(
                404, "not_found", "nobody waits for this revision, or not any more: ask with ?await=settled"
            )
        settled = await serving.services.receipts.settled(receipt, timeout_s=0)
        return web.json_response(told(str(token), settled), status=200 if settled.is_settled else 202)

    return handler
