"""A server that answers as the test says, which is most often as no server should, and clients that look alike.

Scripted(ok(ALLOW), CLOSE)      the first request gets an allow, every later one a closed connection
Waiting, OnLoop                 `Bylaw` and `AsyncBylaw`, called in one way
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, Protocol, Self, TypeVar

from bylaw.client import AsyncBylaw, Bylaw, Decision, Question, Semantic

T = TypeVar("T")

CONTEXT: Final[dict[str, Any]] = {
    "code": "role",
    "by": "organization.manager on organization:acme",
    "at": "studio.bylaw:33",
    "because": None,
    "obligations": [],
    "revision": "r1",
    "policy": "sha256:0",
    "id": "01J",
}
ALLOW: Final = {"decision": True, "context": CONTEXT}
DENY: Final = {"decision": False, "context": {**CONTEXT, "code": "default", "by": None, "at": None}}
ANN: Final = Question("user:ann", "task.read", "task:t1", tenant="acme")

#: How a connection is answered: with bytes, or by a function that does what it likes; CLOSE ends it.
Script = bytes | Callable[["Scripted", socket.socket], None]


def http(status: int, body: bytes, content_type: str | None = "application/json", *headers: str) -> bytes:
    """Write an answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join((*lines, "", "")).encode() + body


def ok(body: object) -> bytes:
    """Write a good answer."""
    return http(200, json.dumps(body).encode())


def close(_: Scripted, connection: socket.socket) -> None:
    """End the connection."""
    connection.shutdown(socket.SHUT_RDWR)


def hang(server: Scripted, _: socket.socket) -> None:
    """Say nothing until the test is over."""
    server.over.wait()


def drip(data: bytes) -> Script:
    """Send a byte now and then."""

    def dripped(server: Scripted, connection: socket.socket) -> None:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            if server.over.wait(0.05):
                return

    return dripped


class Scripted:
    """Listens on a port of its own and answers each request with the next of the answers, the last one for ever.

    Attributes:
        requests: what came, head and body. connections: how many there were.
        asked: set when the first request is there. over: set when the test is.
    """

    def __init__(self, *answers: Script, wrap: Callable[[socket.socket], socket.socket] = lambda sock: sock) -> None:
        self.answers: Sequence[Script] = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked, self.over = threading.Event(), threading.Event()
        self._wrap = wrap
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted = self._listening.accept()[0]
                self.connections += 1
                self._open.append(accepted)
                thread = threading.Thread(target=self._serve, args=(accepted,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(20)  # no test takes as long
        with suppress(OSError), self._wrap(accepted) as connection:
            self._open.append(connection)
            while (request := _read(connection)) is not None:
                index = len(self.requests)
                self.requests.append(request)
                self.asked.set()
                answer = self.answers[min(index, len(self.answers) - 1)]
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(self, connection)


def _read(connection: socket.socket) -> bytes | None:
    """Read one request; None: there is no more."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def header(request: bytes, name: str) -> str | None:
    """Return a header of a request."""
    for line in request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        found, _, value = line.partition(":")
        if found.lower() == name.lower():
            return value.strip()
    return None


class Asker(Protocol):
    """Either client."""

    def ask(self, question: Question) -> Decision: ...

    def is_allowed(self, question: Question) -> bool: ...

    def check_many(self, questions: Sequence[Question], semantic: Semantic = "execute_all") -> list[Decision]: ...

    def explain(self, question: Question) -> dict[str, Any]: ...

    def saw(self, revision: str | None, tenant: str | None = None) -> None: ...

    def close(self) -> None: ...

    def end(self) -> None: ...


def words(question: Question) -> dict[str, Any]:
    """Spell a question out, as arguments of `check`."""
    names = ("subject", "action", "resource", "tenant", "context")
    more = ("subject_properties", "action_properties", "resource_properties")
    return {name: getattr(question, name) for name in (*names, *more)}


class Waiting:
    """`Bylaw`."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Bylaw(url, **options)

    def ask(self, question: Question) -> Decision:
        return self.client.ask(question)

    def is_allowed(self, question: Question) -> bool:
        return self.client.is_allowed(**words(question))

    def check_many(self, questions: Sequence[Question], semantic: Semantic = "execute_all") -> list[Decision]:
        return self.client.check_many(questions, semantic=semantic)

    def explain(self, question: Question) -> dict[str, Any]:
        return self.client.explain(**words(question))

    def saw(self, revision: str | None, tenant: str | None = None) -> None:
        self.client.saw(revision, tenant=tenant)

    def close(self) -> None:
        self.client.close()

    def end(self) -> None:
        self.close()


class OnLoop:
    """`AsyncBylaw`, on a loop that runs while it asks."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.client = AsyncBylaw(url, **options)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine, context=copy_context())

    def ask(self, question: Question) -> Decision:
        return self._run(self.client.ask(question))

    def is_allowed(self, question: Question) -> bool:
        return self._run(self.client.is_allowed(**words(question)))

    def check_many(self, questions: Sequence[Question], semantic: Semantic = "execute_all") -> list[Decision]:
        return self._run(self.client.check_many(questions, semantic=semantic))

    def explain(self, question: Question) -> dict[str, Any]:
        return self._run(self.client.explain(**words(question)))

    def saw(self, revision: str | None, tenant: str | None = None) -> None:
        self.client.saw(revision, tenant=tenant)

    def close(self) -> None:
        self._run(self.client.close())

    def end(self) -> None:
        self.close()
        self._runner.close()
