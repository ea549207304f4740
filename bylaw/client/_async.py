"""`AsyncBylaw`: the client for code on an event loop, on aiohttp's connections.

    async with AsyncBylaw(key=…) as client:
        if await client.check("user:ann", "task.read", "task:t1", tenant="acme"):

It belongs to the loop on which it is first used. `timeout_s` is for the whole of a check: for a free connection, to
connect, to send, and for the last byte to come; a check that is given up closes its connection, since what may still
come there is nobody's answer.

aiohttp takes what arrives on a connection that nobody uses for the answer to the next request. So `_Asked` looks,
before it sends, whether something lies there, read by the loop or not.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self, Unpack

import aiohttp
from yarl import URL

from bylaw.client._base import (
    Client,
    Post,
    cut_off,
)
from bylaw.client.awaiting import to_await
from bylaw.client.errors import bad_answer
from bylaw.client.model import Decision, Parts, Question, Semantic
from bylaw.client.wire import MAX_ANSWER, Answer, make_answer

#: A connection ended without a word of an answer.
_ENDED: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)


class AsyncBylaw(Client):
    """Asks a decision service, on one event loop. `Client` says what it takes."""

    is_async = True

    def _begin(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._urls: dict[str, URL] = {}

    @to_await
    async def check(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> Decision:
        """Ask one question; `parts` are those of `Question`.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        return await self.ask(Question(subject, action, resource, **parts))

    @to_await
    async def ask(self, question: Question) -> Decision:
        """Ask one question.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        post = self._check_of(question)
        return self._decision_of(post, await self._send(post))

    @to_await
    async def is_allowed(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> bool:
        """Say whether something is allowed, which nothing is while there is no answer. Failures are logged."""
        try:
            return (await self.check(subject, action, resource, **parts)).allowed
        except Exception as error:
            self._complaints.note(error)
            return False

    @to_await
    async def check_many(self, questions: Sequence[Question], *, semantic: Semantic = "execute_all") -> list[Decision]:
        """Ask up to 100 questions, which are decided at one instant; the decisions come in their order.

        Args:
            semantic: `deny_on_first_deny` and `permit_on_first_permit` end it early: then there are fewer decisions.

        Raises:
            RefusedError: they cannot be asked like this. One alone that cannot is a deny with an `error`.
            UnavailableError: there is no answer.
        """
        if not questions:
            return []
        post = self._checks_of(questions, semantic)
        return self._decisions_of(post, await self._send(post), len(questions), semantic)

    @to_await
    async def explain(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> dict[str, Any]:
        """Ask for the whole reasoning, for people to read: whether obligations are understood is not looked at.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        post = self._explain_of(Question(subject, action, resource, **parts))
        return self._explanation_of(post, await self._send(post))

    async def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- the connection ----------------------------------------------------------------------------

    async def _send(self, post: Post) -> Answer:
        """Send, and read what comes.

        Once more, if the connection ended before an answer began: most often it was closed while nobody used it. A
        question may be asked twice.
        """
        session = self._opened()
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(session, post)
                except aiohttp.ClientConnectorError:
                    raise
                except _ENDED:
                    return await self._exchange(session, post)
        except TimeoutError as error:
            raise self._timed_out() from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            raise cut_off() from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_answer() from error

    async def _exchange(self, session: aiohttp.ClientSession, post: Post) -> Answer:
        """Send on a connection on which nothing lies; the others, of which there are no more than the pool holds, are
        closed."""
        for _ in range(self._pool_size):
            with suppress(_UnfitError):
                return await self._exchange_once(session, post)
        return await self._exchange_once(session, post)

    async def _exchange_once(self, session: aiohttp.ClientSession, post: Post) -> Answer:
        url = self._urls.get(post.path) or self._url(post.path)
        async with session.post(url, data=post.body, headers=post.headers, allow_redirects=False) as response:
            body = bytearray()
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise bad_answer(f"it is larger than {MAX_ANSWER} bytes")
            return make_answer(response.status, response.headers, bytes(body))

    def _url(self, path: str) -> URL:
        self._urls[path] = URL(self._endpoint.base + path, encoded=True)
        return self._urls[path]

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session, which is made when it is first needed: only then there is a loop."""
        if self._is_closed:
            raise self._closed()
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop, self._session = loop, self._new_session()
        if self._loop is not loop:
            raise RuntimeError("this client was first used on another event loop; make one for each")
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        size, path = self._pool_size, self._endpoint.socket_path
        connector: aiohttp.BaseConnector
        if path is not None:
            connector = aiohttp.UnixConnector(path, limit=size)
        else:
            connector = aiohttp.TCPConnector(limit=size, ssl=self._ssl_context or True)
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_Asked,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small body must not become a large one
            timeout=aiohttp.ClientTimeout(),  # `_send` has the one that counts
        )


class _UnfitError(aiohttp.ServerDisconnectedError):
    """Something lies on a connection that nobody asked for, or its end; nothing was sent."""


class _Asked(aiohttp.ClientRequest):
    """A request that is sent on a connection on which nothing lies."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if protocol is None or protocol.should_close or _is_readable(conn.transport):
            raise _UnfitError
        return await super().send(conn)


def _is_readable(transport: asyncio.Transport | None) -> bool:
    """Say whether something came that the loop has not read yet; TLS has messages of its own, so there nobody knows."""
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return transport is None
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))
