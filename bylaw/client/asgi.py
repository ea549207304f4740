"""Middleware for ASGI applications (FastAPI, Starlette, Django under ASGI): a check before the application.

    app = BylawMiddleware(app, client, what_is_asked)

HTTP requests that are not let through are answered here; websockets are closed before they are accepted, which the
server answers with 403. `lifespan` goes through, and any other kind of connection, which nobody has thought of, is
refused. A `DeniedError` that the application itself raises is answered likewise, as long as it has not begun to answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, Final

from bylaw.client._async import AsyncBylaw
from bylaw.client.errors import BylawError
from bylaw.client.gate import Asked, Gate, let_through, question_of
from bylaw.client.model import Decision
from bylaw.client.refusals import Refusal, make_refusal
from bylaw.client.scope import AT_LEAST, REQUEST_ID, granting, within

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
WhatIsAsked = Callable[[Scope], Asked | Awaitable[Asked]]

#: Codes of a websocket's end: it is not allowed; come again later.
_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013


class BylawMiddleware:
    """Lets requests through to an application.

    Args:
        question: says what is to be asked of a request, by its ASGI scope: a `Question`, or `NO_CHECK`; None is a deny.
        challenge, carries_at_least: see `Gate`.
    """

    def __init__(
        self,
        app: Application,
        client: AsyncBylaw,
        question: WhatIsAsked,
        *,
        challenge: str = "Bearer",
        carries_at_least: bool = False,
    ) -> None:
        self._app = app
        self._client = client
        self._question = question
        self._gate = Gate(challenge, carries_at_least)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind in ("http", "websocket"):
            await self._checked(scope, receive, send)
        else:
            raise RuntimeError(f"what is to be asked of `{kind}` is not known, so it is not let through")

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            opened = self._gate.scope_of(_header(scope, REQUEST_ID), _header(scope, AT_LEAST))
        except ValueError as error:
            await _refuse(scope, send, make_refusal(400, "bad_request", f"{AT_LEAST}: {error}"))
            return
        has_begun = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            told = self._gate.told(opened) if message["type"] == "http.response.start" else None
            if told is not None:
                message = {**message, "headers": [*message.get("headers", ()), *_encoded([told])]}
            await send(message)

        with within(opened):
            try:
                with granting(await self._decide(scope)):
                    await self._app(scope, receive, sent)
            except BylawError as error:
                if has_begun:
                    raise
                await _refuse(scope, send, self._client.refusal_of(error, challenge=self._gate.challenge))

    async def _decide(self, scope: Scope) -> Decision | None:
        said = self._question(scope)
        asked = question_of(await said if isawaitable(said) else said)
        return None if asked is None else let_through(await self._client.ask(asked), asked)


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        code = _TRY_AGAIN_LATER if refusal.status == 503 else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code, "reason": ""})
        return
    await send({"type": "http.response.start", "status": refusal.status, "headers": _encoded(refusal.headers)})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": False})


def _header(scope: Scope, name: str) -> str | None:
    """Return a header; one that stands there several times is one list."""
    wanted = name.lower().encode()
    found = [value for header, value in scope["headers"] if bytes(header).lower() == wanted]
    return b",".join(found).decode("latin-1") if found else None


def _encoded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
