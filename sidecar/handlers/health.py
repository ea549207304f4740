"""`GET /health`, `GET /ready`: does it live, may it be asked."""

from __future__ import annotations

import json

from aiohttp import web

from engine import BylawError
from sidecar.answers import json_answer
from sidecar.callers import Caller
from sidecar.keys import CHECKS, POLICIES, TRAFFIC

_STATUSES = ("ok", "degraded", "failed")
_OVERALL = {"ok": "ready", "degraded": "degraded", "failed": "failed"}


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
    if policies.origin is not None:
        held["published"] = policies.origin
    checks = {"policies": {"status": "ok", **held} if problem is None else {**_degraded(problem), **held}}
    checks |= request.app[CHECKS]()
    worst = max((check["status"] for check in checks.values()), key=_STATUSES.index)
    status = "stopping" if is_stopping else _OVERALL[worst]
    is_up = not is_stopping and worst != "failed"
    return json_answer(json.dumps({"status": status, "checks": checks}), status=200 if is_up else 503)


def _degraded(problem: BylawError) -> dict[str, str]:
    return {"status": "degraded", "error": problem.code, "message": problem.message}
