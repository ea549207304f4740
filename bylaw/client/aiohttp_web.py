"""Middleware for aiohttp applications: a check before the handler, and answers for what the handler may not.

    app = web.Application(middlewares=[bylaw_middleware(client, what_is_asked)])

Its function sees the request after routing, so it can ask by the route that will be called
(`request.match_info.route.name`, `request.match_info`), and not by a path that others may read another way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bylaw.client._async import AsyncBylaw
from bylaw.client.errors import BylawError
from bylaw.client.gate import Asked, Gate, let_through, question_of
from bylaw.client.model import Decision
from bylaw.client.refusals import Refusal, make_refusal
from bylaw.client.scope import AT_LEAST, REQUEST_ID, granting, within

WhatIsAsked = Callable[[web.Request], Asked | Awaitable[Asked]]


def bylaw_middleware(
    client: AsyncBylaw, question: WhatIsAsked, *, challenge: str = "Bearer", carries_at_least: bool = False
) -> Middleware:
    """Make a middleware.

    Args:
        question: says what is to be asked of a request: a `Question`, or `NO_CHECK`; None is a deny.
        challenge, carries_at_least: see `Gate`.
    """
    gate = Gate(challenge, carries_at_least)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        try:
            scope = gate.scope_of(headers.get(REQUEST_ID), ",".join(headers.getall(AT_LEAST, ())))
        except ValueError as error:
            return _answer(make_refusal(400, "bad_request", f"{AT_LEAST}: {error}"))
        with within(scope):
            try:
                with granting(await _decide(client, question, request)):
                    response = await handler(request)
            except web.HTTPException as answer:  # a redirect after a write, most often
                _tell(answer, gate.told(scope))
                raise
            except BylawError as error:
                return _answer(client.refusal_of(error, challenge=challenge))
        _tell(response, gate.told(scope))
        return response

    return checked


async def _decide(client: AsyncBylaw, question: WhatIsAsked, request: web.Request) -> Decision | None:
    said = question(request)
    asked = question_of(await said if isawaitable(said) else said)
    return None if asked is None else let_through(await client.ask(asked), asked)


def _tell(response: web.StreamResponse, told: tuple[str, str] | None) -> None:
    if told is not None and not response.prepared:
        response.headers.add(*told)


def _answer(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, headers=refusal.headers, body=refusal.body)
