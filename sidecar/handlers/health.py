"""`GET /health`, `GET /ready`: does it live, may it be asked."""

from __future__ import annotations

import json

from aiohttp import web

from engine import BylawError
from sidecar.answers import json_answer
from sidecar.callers import Caller
from sidecar.keys import POLICIES, TRAFFIC


async def health(_: web.Request, __: Caller) -> web.Response:
    """Say that the process lives."""
    return json_answer('{"status": "ok"}')


async def ready(request: web.Request, _: Caller) -> web.Response:
    """Say whether to send requests here, and what it stands on.

    A policy that does not load is no reason to send nothing: the one before still decides.
    """
    policies = request.app[POLICIES]
    loaded, problem = policies.loaded, policies.problem
    is_stopping = request.app[TRAFFIC].is_stopping
    held = {"policy": loaded.policy.digest, "revision": loaded.facts.revision}
    checks = {"policies": {"status": "ok", **held} if problem is None else {**_degraded(problem), **held}}
    status = "stopping" if is_stopping else "ready" if problem is None else "degraded"
    return json_answer(json.dumps({"status": status, "checks": checks}), status=503 if is_stopping else 200)


def _degraded(problem: BylawError) -> dict[str, str]:
    return {"status": "degraded", "error": problem.code, "message": problem.message}
