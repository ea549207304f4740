"""A real server on a port of its own, in a thread, and a plain client that sees everything that comes back."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.addresses import Address
from sidecar.server import Service
from sidecar.settings import Settings

POLICIES = Path(__file__).parents[2] / "policies"
STUDIO = POLICIES / "studio"
JSON = {"Content-Type": "application/json"}
ANN = {"tenant": "acme", "subject": "user:ann", "action": "task.read", "resource": "task:t1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one server, on a new connection each time."""

    port: int
    service: Service

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, body: object, path: str = "/check", **headers: str) -> Answer:
        """Post JSON, or bytes as they are."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(
            "POST", path, sent, {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )

    def raw(self) -> socket.socket:
        """Open a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def answer_of(response: HTTPResponse) -> Answer:
    return Answer(
        response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
    )


@contextmanager
def serve(settings: Settings, report: Callable[[str], None] = lambda _: None) -> Iterator[Client]:
    """Run a service in a thread of its own until the block ends."""
    started, stop = threading.Event(), threading.Event()
    found: list[Service] = []
    failed: list[BaseException] = []

    async def live() -> None:
        service = Service(settings, report=report)
        await service.start()
        found.append(service)
        started.set()
        await asyncio.to_thread(stop.wait)
        await service.stop()

    def body() -> None:
        try:
            uvloop.run(live())
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=body)
    thread.start()
    started.wait()
    try:
        if found:
            yield Client(found[0].address.port, found[0])
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def studio_settings(**changes: Any) -> Settings:
    """Make the settings of a service over the example studio, on any free port."""
    usual = Settings(STUDIO, STUDIO / "facts.yaml", http=Address("127.0.0.1", 0), dev=True, watch_s=0.05)
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def studio() -> Iterator[Client]:
    """The example studio, as `bylaw dev` serves it."""
    with serve(studio_settings()) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example studio, to change."""
    shutil.copytree(STUDIO, tmp_path / "studio")
    return tmp_path / "studio"
