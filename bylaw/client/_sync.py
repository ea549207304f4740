"""`Bylaw`: the client for code that waits, on urllib3's connections.

    with Bylaw(key=…) as client:
        if client.check("user:ann", "task.read", "task:t1", tenant="acme"):

One client serves any number of threads: connections are pooled and each is one thread's while it asks. A process that
is forked off makes its own, since two that read from one connection would read each other's answers.

`timeout_s` is for the whole of a check: for a free connection, to connect, to send, and for the last byte to come.
urllib3 bounds each wait by itself, which somebody who sends a byte now and then could stretch without end; so what is
read comes through `_Reader`, which looks at the clock each time. Only the name of the host is looked up by the system
in its own time: give an address where that matters.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final, Self, Unpack, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from bylaw.client._base import (
    Client,
    Post,
    cut_off,
)
from bylaw.client.endpoint import Endpoint
from bylaw.client.errors import bad_answer
from bylaw.client.model import Decision, Parts, Question, Semantic
from bylaw.client.wire import MAX_ANSWER, Answer, make_answer

#: As a time to connect in, 0 would mean not to wait, and fail otherwise than for want of time.
_SOON_S: Final = 0.001
_NEVER_AGAIN: Final = urllib3.Retry(False, redirect=False)


class Bylaw(Client):
    """Asks a decision service, and waits for the answer. Any thread may call it. `Client` says what it takes."""

    is_async = False

    def _begin(self) -> None:
        self._pool = self._new_pool()
        self._is_closed = False

    def check(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> Decision:
        """Ask one question; `parts` are those of `Question`.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        return self.ask(Question(subject, action, resource, **parts))

    def ask(self, question: Question) -> Decision:
        """Ask one question.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        post = self._check_of(question)
        return self._decision_of(post, self._send(post))

    def is_allowed(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> bool:
        """Say whether something is allowed, which nothing is while there is no answer. Failures are logged."""
        try:
            return self.check(subject, action, resource, **parts).allowed
        except Exception as error:
            self._complaints.note(error)
            return False

    def check_many(self, questions: Sequence[Question], *, semantic: Semantic = "execute_all") -> list[Decision]:
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
        return self._decisions_of(post, self._send(post), len(questions), semantic)

    def explain(self, subject: str, action: str, resource: str, **parts: Unpack[Parts]) -> dict[str, Any]:
        """Ask for the whole reasoning, for people to read: whether obligations are understood is not looked at.

        Raises:
            RefusedError: it cannot be asked like this.
            UnavailableError: there is no answer.
        """
        post = self._explain_of(Question(subject, action, resource, **parts))
        return self._explanation_of(post, self._send(post))

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._is_closed = True
        self._connections().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the connection ----------------------------------------------------------------------------

    def _send(self, post: Post) -> Answer:
        """Send, and read what comes.

        Once more, if the connection ended before an answer began: most often it was closed while nobody used it. A
        question may be asked twice.
        """
        if self._is_closed:
            raise self._closed()
        ends_at = time.monotonic() + self._timeout_s
        try:
            try:
                return self._exchange(post, ends_at)
            except ProtocolError as error:
                if not _ended(error):
                    raise
            return self._exchange(post, ends_at)
        except NewConnectionError as error:  # urllib3 counts it among those that took too long
            raise self._no_answer() from error
        except (ConnectTimeoutError, ReadTimeoutError, EmptyPoolError) as error:
            raise self._timed_out() from error
        except ProtocolError as error:
            raise (self._no_answer() if _ended(error) else cut_off()) from error
        except ClosedPoolError as error:
            raise self._closed() from error
        except HTTPError as error:
            raise self._no_answer() from error

    def _exchange(self, post: Post, ends_at: float) -> Answer:
        response = self._connections().urlopen(
            "POST",
            self._endpoint.prefix + post.path,
            post.body,
            post.headers,
            retries=_NEVER_AGAIN,
            redirect=False,
            assert_same_host=False,
            timeout=_Until(ends_at),
            pool_timeout=cast(int, max(ends_at - time.monotonic(), 0)),  # seconds, of which there may be parts
            preload_content=False,
            decode_content=False,
        )
        try:
            body = response.read(MAX_ANSWER + 1)
            if len(body) > MAX_ANSWER:
                raise bad_answer(f"it is larger than {MAX_ANSWER} bytes")
            if response.length_remaining:
                raise cut_off()
            return make_answer(response.status, response.headers, body)
        except BaseException as error:
            response.close()  # what may still come is nobody's answer
            if isinstance(error, ProtocolError):
                raise cut_off() from error
            raise
        finally:
            response.release_conn()

    def _connections(self) -> urllib3.HTTPConnectionPool:
        """Return the pool, which is of this process alone."""
        process, pool = self._pool
        if process != os.getpid():
            self._pool = _, pool = self._new_pool()
        return pool

    def _new_pool(self) -> tuple[int, urllib3.HTTPConnectionPool]:
        return os.getpid(), _pool(self._endpoint, self._pool_size, self._ssl_context)


def _ended(error: ProtocolError) -> bool:
    """Say whether a connection ended without a word of an answer."""
    cause = error.args[1] if len(error.args) > 1 else None
    return isinstance(cause, ConnectionError)


class _Until(urllib3.Timeout):
    """What is left until a moment, whenever it is looked at: also after a wait for a free connection."""

    def __init__(self, ends_at: float) -> None:
        super().__init__()
        self._ends_at = ends_at

    def clone(self) -> _Until:
        return _Until(self._ends_at)

    @property
    def connect_timeout(self) -> float:
        return max(self._ends_at - time.monotonic(), _SOON_S)

    @property
    def read_timeout(self) -> float:
        return max(self._ends_at - time.monotonic(), 0.0)


def _pool(endpoint: Endpoint, size: int, context: ssl.SSLContext | None) -> urllib3.HTTPConnectionPool:
    if endpoint.socket_path is not None:
        return _UnixPool("localhost", maxsize=size, block=True, path=endpoint.socket_path)
    if endpoint.is_secure:
        return _SecurePool(endpoint.host, endpoint.port, maxsize=size, block=True, ssl_context=context)
    return _Pool(endpoint.host, endpoint.port, maxsize=size, block=True)


class _Reader(io.RawIOBase):
    """Reads from a socket until a moment and no longer."""

    def __init__(self, sock: socket.socket, ends_at: float) -> None:
        self._socket = sock
        self._inner = sock.makefile("rb", buffering=0)
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._inner.readinto(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Timed:
    """Stands in for the socket that an answer is read from."""

    def __init__(self, sock: socket.socket, ends_at: float) -> None:
        self._reader = _Reader(sock, ends_at)

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _Connection(HTTPConnection):
    """A connection whose answers are read until its timeout is over, however they come."""

    def response_class(self, sock: socket.socket, *args: Any, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]  # http.client calls it, whatever it is
        timed = _Timed(sock, time.monotonic() + cast(float, self.timeout))
        return http.client.HTTPResponse(cast(socket.socket, timed), *args, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    """The same, encrypted."""


class _UnixConnection(_Connection):
    """The same, over a Unix socket."""

    def __init__(self, *args: Any, path: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._path = path

    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(cast(float, self.timeout))
            made.connect(self._path)
        except TimeoutError as error:
            made.close()
            raise ConnectTimeoutError(self, "not connected in time") from error
        except OSError as error:
            made.close()
            raise NewConnectionError(self, "not connected") from error
        return made


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _UnixPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _UnixConnection
