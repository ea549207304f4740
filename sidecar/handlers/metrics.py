"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from aiohttp import web

from sidecar.callers import Caller
from sidecar.keys import KEEPER, POLICIES


async def metrics(request: web.Request, _: Caller) -> web.Response:
    """Tell all metrics."""
    from sidecar.metrics import CONTENT_TYPE, written  # few processes are asked

    said = written(request.app[POLICIES].loaded.facts.questioner, request.app[KEEPER])
    return web.Response(body=said, headers={"Content-Type": CONTENT_TYPE})
