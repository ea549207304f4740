"""The metadata of OpenID AuthZEN Authorization API 1.0, which leads to the endpoints (`api`).

URLs in it come from settings, never from the request: its `Host` would tell others where to ask.
"""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

from sidecar.answers import json_answer
from sidecar.api import EVALUATION, EVALUATIONS
from sidecar.callers import Caller
from sidecar.errors import PublicError
from sidecar.keys import BASE_URL

METADATA: Final = "/.well-known/authzen-configuration"


async def metadata(request: web.Request, _: Caller) -> web.Response:
    """Tell what there is, and where."""
    base = request.app[BASE_URL]
    if base is None:
        raise PublicError(404, "not_found", "there is no URL of this service to tell: set BYLAW_PUBLIC_URL")
    said = {
        "policy_decision_point": base,
        "access_evaluation_endpoint": base + EVALUATION,
        "access_evaluations_endpoint": base + EVALUATIONS,
    }
    response = json_answer(json.dumps(said))
    response.headers["Cache-Control"] = "max-age=300"
    return response
