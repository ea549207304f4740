"""OpenID AuthZEN Authorization API 1.0: access evaluation and evaluations, and the metadata that leads there.

The questions are those of `POST /check` without people's short forms. What the policy does not know (a type, an
action), and a question of no tenant, is no mistake of the caller's here but a deny that says so. URLs in the metadata
are made of settings, never of what a client sends: its `Host` would tell others where to ask.
"""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

from engine import Decision
from sidecar.answers import json_answer
from sidecar.body import read_json
from sidecar.callers import Caller
from sidecar.errors import PublicError
from sidecar.handlers.check import decided
from sidecar.keys import BASE_URL, IDS, POLICIES
from sidecar.wire import Reader, render_decision

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
METADATA: Final = "/.well-known/authzen-configuration"
#: Answered by a deny.
UNKNOWN: Final = frozenset(("unknown_type", "unknown_action", "tenant_required"))

_PLAIN, _CLAIMING = Reader(short_forms=False), Reader(short_forms=False, may_claim=True)


async def evaluation(request: web.Request, caller: Caller) -> web.Response:
    """Answer one question; `evaluations` in the body count for nothing here."""
    return await _decide(request, caller, is_single=True)


async def evaluations(request: web.Request, caller: Caller) -> web.Response:
    """Answer many questions, or one where the body has no list of them."""
    return await _decide(request, caller, is_single=False)


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


async def _decide(request: web.Request, caller: Caller, *, is_single: bool) -> web.Response:
    caller.require("check")
    body = await read_json(request)
    if is_single and isinstance(body, dict):
        body.pop("evaluations", None)
    try:
        question = (_CLAIMING if "claims" in caller.scopes else _PLAIN).question(body)
    except PublicError as error:
        if error.code not in UNKNOWN:
            raise
        denied = Decision(False, error.code, None)
        return json_answer(render_decision(denied, request.app[POLICIES].loaded.policy.digest, request.app[IDS].next()))
    return await decided(request, question, unknown=UNKNOWN)
