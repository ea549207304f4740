"""What the service tells of itself while it works: a line for each request, a warning of slow statements, counts.

    request ──▶ answered ──▶ a line of the log `bylaw.admin.requests`, and counts (`metrics`)
    statement ──▶ over ──▶ counted; above 100 ms a warning

A line says by which method and route, how it was answered and how fast, by which key, and the id of the request. A
person is `user`. It has no path as it was sent, no query and no body, and a statement none of its values: they may be
secrets, or persons. Probes that were answered well have no line: there are many, and they say nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from admin.actors import Actor, Key
from admin.metrics import METHODS, NO_ROUTE, OTHER, Metrics
from store.database import Database

#: Where a request keeps its id, and who asks it, once that is known.
REQUEST_ID: Final = web.RequestKey("request_id", str)
ACTOR: Final[web.RequestKey[Actor]] = web.RequestKey("actor")
PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
SLOW_S: Final = 0.1
#: So much of a statement is shown.
MAX_STATEMENT: Final = 1000
_requests = logging.getLogger("bylaw.admin.requests")
_log = logging.getLogger("bylaw.admin")


def watching(metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> Middleware:
    """Make what tells of each request.

    Args:
        clock: seconds that only go forward.
    """

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = clock()
        response = await handler(request)
        took_s = clock() - began
        method = request.method if request.method in METHODS else OTHER
        route = _route(request)
        metrics.note_request(method, route, response.status, took_s)
        if route not in PROBES or response.status >= 400:
            _tell(request, method, route, response.status, took_s)
        return response

    return watched


def watch_statements(database: Database, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
    """Have statements counted from now on, and warned of where they are slow."""

    def told(statement: str, took_s: float) -> None:
        metrics.note_statement(took_s)
        if took_s > SLOW_S:
            shown = " ".join(statement.split())[:MAX_STATEMENT]
            _log.warning("a statement took %.0f ms: %s", took_s * 1000, shown)

    database.watch(told, clock)


def _tell(request: web.Request, method: str, route: str, status: int, took_s: float) -> None:
    request_id = request[REQUEST_ID]
    said = (method, route, status, took_s * 1000, _who(request.get(ACTOR)), request_id)
    # The id comes last: whoever sends it chooses it, and nothing that follows can be made up.
    _requests.info("%s %s: %d in %.1f ms, %s, request %s", *said, extra={"request_id": request_id})


def _who(actor: Actor | None) -> str:
    """Say who asks, without naming a person."""
    if actor is None:
        return "nobody"
    return actor.ref if isinstance(actor, Key) else "user"


def _route(request: web.Request) -> str:
    """Say at which path something lies, as the description has it."""
    resource = request.match_info.route.resource
    return NO_ROUTE if resource is None else resource.canonical
