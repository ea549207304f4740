"""`POST /explain`: one decision, and the whole reasoning."""

from __future__ import annotations

import json

from aiohttp import web

from sidecar.answers import json_answer
from sidecar.api import reader_for
from sidecar.body import read_json
from sidecar.callers import Caller
from sidecar.errors import PublicError, bad_request
from sidecar.freshness import StaleError
from sidecar.keys import DECIDER
from sidecar.middleware import CALL
from sidecar.wire import Batch


async def explain(request: web.Request, caller: Caller) -> web.Response:
    """Answer with the reasoning."""
    caller.require("explain")
    question = caller.held(reader_for(caller).question(await read_json(request)))
    if isinstance(question, Batch):
        raise bad_request("evaluations: one question is explained at a time")
    from engine.explain import explain as reasoning  # few processes are ever asked

    try:
        said = await request.app[DECIDER].answer(
            lambda loaded: json.dumps(reasoning(loaded.policy, question, loaded.facts)),
            (question,),
            request[CALL].at_least,
        )
    except StaleError as error:
        raise PublicError(503, "stale", "there are no facts that are fresh enough to explain by") from error
    return json_answer(said)
