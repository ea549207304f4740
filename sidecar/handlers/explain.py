"""`POST /explain`: one decision, and the whole reasoning."""

from __future__ import annotations

import json

from aiohttp import web

from sidecar.answers import json_answer
from sidecar.body import read_json
from sidecar.callers import Caller
from sidecar.errors import bad_request
from sidecar.handlers.check import reader_for
from sidecar.keys import POLICIES
from sidecar.wire import Batch


async def explain(request: web.Request, caller: Caller) -> web.Response:
    """Answer with the reasoning."""
    caller.require("explain")
    question = reader_for(caller).question(await read_json(request))
    if isinstance(question, Batch):
        raise bad_request("evaluations: one question is explained at a time")
    from engine.explain import explain as reasoning  # few processes are ever asked

    loaded = request.app[POLICIES].loaded
    return json_answer(json.dumps(reasoning(loaded.policy, question, loaded.facts)))
