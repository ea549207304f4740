"""aiohttp's server as it stands behind the fast lane: how it is set up, and its own errors in our words.

What is no HTTP at all never comes to a handler of ours: aiohttp would answer it in its own name, and quote it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from sidecar.answers import response_of
from sidecar.errors import PublicError
from sidecar.exchange import refusal
from sidecar.logs import server_log

#: A connection that says nothing is kept for so long; also one that never ends its headers.
KEEPALIVE_S: Final = 75.0
#: Rest of a body that is read after an answer, so that the answer is not lost in a reset.
LINGER_S: Final = 1.0
#: For answers that are being written while connections are closed.
CLOSE_S: Final = 0.5
#: Longest line of a head: as much as Envoy lets through to it, since what it asks about is in them.
MAX_LINE: Final = 64 * 1024

OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,  # a small body must not become a large one
    "keepalive_timeout": KEEPALIVE_S,
    "lingering_time": LINGER_S,
    "max_field_size": MAX_LINE,
    "max_line_size": MAX_LINE,
}


class Handler(web.RequestHandler):
    """One connection that aiohttp has."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what no handler could, and close."""
        super().handle_error(request, status, exc, message)
        error = PublicError(status, "internal", "something went wrong here")
        if status < 500:
            error = PublicError(status, "bad_request", "this is no request of HTTP/1.1")
        response = response_of(refusal(error, uuid4().hex))
        response.force_close()
        return response


class SlowLane:
    """aiohttp's server over one application. `start`, then `handler` for each connection, then `stop`."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, logger=server_log(), shutdown_timeout=CLOSE_S, **OPTIONS)

    async def start(self) -> None:
        await self._runner.setup()

    def handler(self) -> Handler:
        """Make the protocol of a connection."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("it was never started")
        return Handler(server, loop=asyncio.get_running_loop(), logger=server_log(), **OPTIONS)

    async def stop(self) -> None:
        """Close all connections, those that are answering after a moment."""
        await self._runner.cleanup()
