"""`GET /openapi.json`."""

from __future__ import annotations

import json
from importlib.metadata import version

from aiohttp import web

from sidecar.answers import json_answer
from sidecar.callers import Caller
from sidecar.keys import BASE_URL


async def openapi(request: web.Request, _: Caller) -> web.Response:
    """Tell what the API is."""
    from sidecar.openapi import document  # few processes are ever asked

    return json_answer(json.dumps(document(version("bylaw"), request.app[BASE_URL])))
