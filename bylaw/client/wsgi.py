"""Middleware for WSGI applications (Flask, Django under WSGI): a check before the application.

    app.wsgi_app = BylawMiddleware(app.wsgi_app, client, what_is_asked)

The application runs in a context of its own, a copy of the server's: a server's thread answers one request after
another, and what belongs to one must not be there for the next. Parts of an answer that the application makes while
they are sent are made in that context, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bylaw.client._sync import Bylaw
from bylaw.client.errors import BylawError
from bylaw.client.gate import Asked, Gate, let_through, question_of
from bylaw.client.model import Decision
from bylaw.client.refusals import Refusal, make_refusal
from bylaw.client.scope import AT_LEAST, REQUEST_ID, keep_granting, keep_open

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    WhatIsAsked = Callable[[WSGIEnvironment], Asked]


class BylawMiddleware:
    """Lets requests through to an application.

    Args:
        question: says what is to be asked of a request, by its environment: a `Question`, or `NO_CHECK`; None is a
            deny.
        challenge, carries_at_least: see `Gate`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        client: Bylaw,
        question: WhatIsAsked,
        *,
        challenge: str = "Bearer",
        carries_at_least: bool = False,
    ) -> None:
        self._app = app
        self._client = client
        self._question = question
        self._gate = Gate(challenge, carries_at_least)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        context = copy_context()
        answered = context.run(self._checked, environ, start_response)
        return answered if _is_made(answered, environ) else _Within(context, answered)

    def _checked(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Check and answer, in a context that nobody uses afterwards: what is opened there stays open."""
        try:
            scope = self._gate.scope_of(environ.get(_variable(REQUEST_ID)), environ.get(_variable(AT_LEAST)))
        except ValueError as error:
            return _refuse(start_response, make_refusal(400, "bad_request", f"{AT_LEAST}: {error}"))
        keep_open(scope)
        has_begun = False

        def started(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            nonlocal has_begun
            has_begun = True
            told = self._gate.told(scope)
            return start_response(status, headers if told is None else [*headers, told], *exc_info)

        try:
            keep_granting(self._decide(environ))
            return self._app(environ, started)
        except BylawError as error:
            refusal = self._client.refusal_of(error, challenge=self._gate.challenge)
            return _refuse(start_response, refusal, *((sys.exc_info(),) if has_begun else ()))

    def _decide(self, environ: WSGIEnvironment) -> Decision | None:
        asked = question_of(self._question(environ))
        return None if asked is None else let_through(self._client.ask(asked), asked)


def _refuse(start_response: StartResponse, refusal: Refusal, *exc_info: Any) -> Iterable[bytes]:
    phrase = HTTPStatus(refusal.status).phrase
    start_response(f"{refusal.status} {phrase}", list(refusal.headers), *exc_info)
    return [refusal.body]


def _variable(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _is_made(answered: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Say whether an answer is there already, or is a file that the server sends in a way of its own."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(answered, list | tuple) or (isinstance(wrapper, type) and isinstance(answered, wrapper))


class _Within:
    """An answer that is made while it is sent, in the context of its request."""

    def __init__(self, context: Context, answered: Iterable[bytes]) -> None:
        self._context = context
        self._answered = answered
        self._iterator: Iterator[bytes] = context.run(iter, answered)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        close = getattr(self._answered, "close", None)
        if close is not None:
            self._context.run(close)
