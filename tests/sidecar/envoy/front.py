"""A real Envoy between two neighbours of the tests': an application that shows what it got, and the sidecar.

    raw bytes ──▶ Front (Envoy, from a file in `deploy/envoy`) ──▶ Application
                    └──▶ Sidecar (`service`, a process)

Requests are written byte by byte, since what clients' libraries would mend or refuse is what is wanted here.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final

import yaml

from tests.sidecar.test_process import ROOT, read_until

DEPLOYED: Final = ROOT / "deploy" / "envoy"
ENVOY: Final = ROOT / ".venv" / "bin" / "envoy"
VARIANTS: Final = ("grpc", "http")
PATIENCE_S: Final = 30.0
Fields = Iterable[tuple[bytes, bytes]]
Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Got:
    """A request as it reached the application: all header lines, in order."""

    method: bytes
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each == name]

    def reserved(self) -> set[bytes]:
        """Names of headers that an application may take for one of ours."""
        return {name for name, _ in self.headers if name.lower().replace(b"_", b"-").startswith(b"x-bylaw-")}


# --- the application --------------------------------------------------------------------------------------------------


class Application(socketserver.ThreadingTCPServer):
    """Answers 200 to everything, with the head of the request as body, and keeps what it got."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.got: list[Got] = []
        self.port: int = self.server_address[1]


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        application = self.server
        assert isinstance(application, Application)
        while head := self._head():
            application.got.append(got_of(head))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    def _head(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return b"".join(lines)


def got_of(head: bytes) -> Got:
    """Read the head of a request."""
    first, *rest = head.rstrip(b"\r\n").split(b"\r\n")
    method, path, _ = first.split(b" ", 2)
    return Got(method, path, tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in rest)))


@contextmanager
def application() -> Iterator[Application]:
    """Run an application until the block ends."""
    with Application() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# --- the sidecar ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sidecar:
    """A sidecar as a process, by variant its ports, and what it decided."""

    process: subprocess.Popen[str]
    ports: Mapping[str, int]
    decisions: Path
    _read: int = 0
    _decided: dict[str, tuple[str, str]] = field(default_factory=dict)

    def be(self, mood: str) -> None:
        """Have it be as `service` lists it, from now on."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{mood}\n")
        self.process.stdin.flush()
        read_until(self.process.stdout, f"{mood}\n")

    def decided(self, decision_id: str) -> tuple[str, str]:
        """Return the method and path that a decision was of."""
        for line in self.decisions.read_text("ascii").splitlines()[self._read :]:
            said = json.loads(line)
            self._decided[said["id"]] = said["method"], said["path"]
            self._read += 1
        return self._decided[decision_id]


@contextmanager
def sidecar(keys: Path, decisions: Path) -> Iterator[Sidecar]:
    """Run a sidecar until the block ends."""
    command = [sys.executable, "-m", "tests.sidecar.envoy.service", str(keys), str(decisions)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Sidecar(process, json.loads(read_until(process.stdout, "\n")), decisions)
        finally:
            process.kill()


# --- Envoy ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Front:
    """An Envoy, and the application behind it."""

    variant: str
    port: int
    admin_port: int
    application: Application

    def send(self, data: bytes, method: bytes = b"GET") -> Answer:
        """Send a request over HTTP/1.1, as bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            response = HTTPResponse(connection, method=method.decode())
            with response:
                response.begin()
                headers = {name.lower(): value for name, value in response.getheaders()}
                return Answer(response.status, headers, response.read())

    def ask(self, path: bytes, headers: Fields = (), method: bytes = b"GET", token: str | None = None) -> Answer:
        """Ask over HTTP/1.1."""
        fields = [(b"Host", b"api.example"), *_bearer(token), *headers, (b"Connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in fields)
        return self.send(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, lines), method)

    def ask_over_http2(self, path: bytes, headers: Fields = (), token: str | None = None) -> Got | None:
        """Ask over HTTP/2, which carries bytes that HTTP/1.1 does not; return what reached the application."""
        before = len(self.application.got)
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"api.example"), (b":path", path)]
        block = b"".join(map(_literal, [*fields, *_bearer(token), *headers]))
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0) + _frame(_HEADERS, 1, block))
            _await_end(connection)
        return self.application.got[before] if len(self.application.got) > before else None

    def count(self, name: str) -> int:
        """Return one of Envoy's counters."""
        status, text = _get(self.admin_port, f"/stats?filter=^{name}$")
        assert status == 200
        return int(text.rpartition(":")[2])


def _bearer(token: str | None) -> Fields:
    return [] if token is None else [(b"authorization", b"Bearer " + token.encode())]


@contextmanager
def front(
    variant: str, ports: Mapping[str, int], behind: Application, folder: Path, change: Change = lambda _: None
) -> Iterator[Front]:
    """Run an Envoy as `deploy/envoy` has it, but for its ports.

    Args:
        ports: of the sidecar, by variant.
        change: is made to what the file says of requests.
    """
    path, admin = folder / f"{variant}.yaml", folder / "admin"
    read = _moved(variant, ports[variant], behind.port)
    change(filters_of(read))
    path.write_text(yaml.safe_dump(read), "utf-8")
    options = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    command = [str(ENVOY), "-c", str(path), "--admin-address-path", str(admin), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            admin_port = _await_admin(process, admin)
            yield Front(variant, _listening(admin_port), admin_port, behind)
        finally:
            process.kill()


def configuration(variant: str) -> dict[str, Any]:
    """Read a file of `deploy/envoy`."""
    read: dict[str, Any] = yaml.safe_load((DEPLOYED / f"{variant}.yaml").read_text("utf-8"))
    return read


def filters_of(read: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that says what happens to a request."""
    chain = read["static_resources"]["listeners"][0]["filter_chains"][0]
    found: dict[str, Any] = chain["filters"][0]["typed_config"]
    return found


def open_up(filters: dict[str, Any]) -> None:
    """Have Envoy let through what it takes for an error."""
    filters["http_filters"][0]["typed_config"]["failure_mode_allow"] = True


def strip_bare(filters: dict[str, Any]) -> None:
    """Leave out all by which Envoy itself keeps forged headers away: the answers alone are left."""
    del filters["early_header_mutation_extensions"]
    del filters["common_http_protocol_options"]
    if "grpc_service" in (check := filters["http_filters"][0]["typed_config"]):
        del check["allowed_headers"]


def _moved(variant: str, sidecar_port: int, application_port: int) -> dict[str, Any]:
    read = configuration(variant)
    ports = {"application": application_port, "bylaw": sidecar_port}
    for cluster in read["static_resources"]["clusters"]:
        _socket(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"])["port_value"] = ports[
            cluster["name"]
        ]
    for place in (read["admin"], read["static_resources"]["listeners"][0]):
        _socket(place)["port_value"] = 0
    filters_of(read)["delayed_close_timeout"] = "0.05s"  # after a bad request
    return read


def _socket(place: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = place["address"]["socket_address"]
    return found


def _await_admin(process: subprocess.Popen[str], admin: Path) -> int:
    """Wait until Envoy serves; return the port of its administration."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        written = admin.read_text("ascii") if admin.exists() else ""
        if written and _is_ready(port := int(written.rpartition(":")[2])):
            return port
    process.kill()
    raise AssertionError(process.stderr.read() if process.stderr else "")


def _is_ready(port: int) -> bool:
    try:
        return _get(port, "/ready")[0] == 200
    except (OSError, HTTPException):
        return False


def _listening(admin_port: int) -> int:
    said = json.loads(_get(admin_port, "/listeners?format=json")[1])
    port: int = said["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
    return port


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# --- as much of HTTP/2 as it takes to ask -----------------------------------------------------------------------------

_DATA: Final = 0
_HEADERS: Final = 1
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_GOAWAY: Final = 7
_END: Final = 1


def _frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame; of headers: all of them, and no body."""
    flags = 5 if kind == _HEADERS else 0
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(header: tuple[bytes, bytes]) -> bytes:
    """Write a header without compression."""
    return b"\0" + b"".join(_length(len(part)) + part for part in header)


def _length(number: int) -> bytes:
    """Write an integer with a prefix of seven bits."""
    if number < 127:
        return bytes([number])
    number -= 127
    written = [127]
    while number >= 128:
        written.append(number % 128 + 128)
        number //= 128
    return bytes([*written, number])


def _await_end(connection: socket.socket) -> None:
    """Read until the one stream is answered or refused."""
    with connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            stream.read(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            if kind in (_RST_STREAM, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END):
                return
