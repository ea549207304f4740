"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.callers import Caller
from sidecar.keys import ISSUER_KEYS, KEEPER, POLICIES, SIBLINGS, TELLINGS, TRAFFIC
from sidecar.siblings import Texts

if TYPE_CHECKING:
    from sidecar.metrics import Sources


async def metrics(request: web.Request, _: Caller) -> web.Response:
    """Tell all metrics of all processes on the port."""
    sources = await _sources(request.app)
    from sidecar.metrics import CONTENT_TYPE, written

    return web.Response(body=await written(sources), headers={"Content-Type": CONTENT_TYPE})


async def own_metrics(app: web.Application) -> Texts:
    """Tell those of this process alone, for its siblings."""
    sources = await _sources(app)
    from sidecar.metrics import texts

    return await texts(sources)


async def _sources(app: web.Application) -> Sources:
    # Not every process is asked, and what writes metrics takes 0.1 s to come: so it comes when it is needed, and not on
    # the loop.
    await asyncio.to_thread(import_module, "sidecar.metrics")
    from sidecar.metrics import Sources

    return Sources(
        app[POLICIES],
        app[TELLINGS],
        app[TRAFFIC],
        app[KEEPER],
        keys=app.get(ISSUER_KEYS),
        siblings=app.get(SIBLINGS),
    )
