"""The service as a process: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import IO

import pytest

from engine import Facts, Policy
from sidecar.addresses import Address
from sidecar.decider import FileDecider
from sidecar.greeting import example_answer, greet
from sidecar.readings import Loaded
from tests.sidecar.conftest import ANN, JSON, STUDIO, Answer, answer_of, serve, studio_settings

ROOT = Path(__file__).parents[2]
BODY = json.dumps(ANN).encode()
HEAD = (
    "POST /check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"X-Request-ID: r-1\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode()


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the service as a process of its own; killed in the end, if it still runs."""
    with running("-m", "sidecar", *arguments) as started:
        yield started


@contextmanager
def running(*arguments: str, folder: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Run Python as a process of its own, in a folder; killed in the end, if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}
    environ = inherited | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=pipe, stderr=pipe, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def over(folder: Path, http: str = "127.0.0.1:0") -> tuple[str, ...]:
    facts = str(folder / "facts.yaml")
    return ("--policies", str(folder), "--facts", facts, "--http", http, "--grpc", "none", "--json")


def listening(started: subprocess.Popen[str]) -> str:
    """Wait until it listens; return where."""
    where: str = json.loads(read_until(started.stdout, "\n"))["listening"]
    return where


def read_until(stream: IO[str] | None, mark: str) -> str:
    """Wait until a mark is written; return all up to it and perhaps more."""
    assert stream is not None
    read = b""
    while mark.encode() not in read:
        readable, _, _ = select.select([stream], [], [], 30)
        assert readable, f"no {mark!r} after {read!r}"
        piece = os.read(stream.fileno(), 65536)
        assert piece, f"no {mark!r} in {read!r}"
        read += piece
    return read.decode()


@contextmanager
def connected(where: str) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(where, timeout=20)
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> Answer:
    connection.request(method, path, body, JSON)
    return answer_of(connection.getresponse())


def is_refused(where: str) -> bool:
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=20).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # let in by the kernel in the very moment
        return False
    return False


@pytest.mark.slow
def test_sigterm_finishes_what_is_in_flight() -> None:
    """On SIGTERM it accepts no more, is not ready, answers what is in flight, and exits with 0."""
    with process(*over(STUDIO)) as started:
        where = listening(started)
        host, _, port = where.rpartition(":")
        with connected(where) as watching, socket.create_connection((host, int(port)), timeout=20) as in_flight:
            assert ask(watching, "GET", "/ready").status == 200
            in_flight.sendall(HEAD + BODY[:10])
            assert ask(watching, "GET", "/health").status == 200  # what was sent before on another connection is there

            started.send_signal(signal.SIGTERM)
            while not is_refused(where):
                pass
            ready = ask(watching, "GET", "/ready")
            in_flight.sendall(BODY[10:])
            response = HTTPResponse(in_flight)
            response.begin()
            answer = answer_of(response)

        assert (ready.status, ready.json["status"], ready.headers["connection"]) == (503, "stopping", "close")
        assert (answer.status, answer.json["decision"]) == (200, True)
        assert (answer.headers["x-request-id"], answer.headers["connection"]) == ("r-1", "close")
        assert started.wait(10) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_idle(number: signal.Signals) -> None:
    """An open connection on which nothing happens does not keep it alive, and nothing is written to stderr."""
    with process(*over(STUDIO)) as started:
        with connected(listening(started)) as idle:
            assert ask(idle, "POST", "/check", BODY).status == 200

            started.send_signal(number)

            assert started.wait(10) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""


def test_what_takes_too_long_is_cut_off() -> None:
    """A request that does not end in time does not keep the service from ending."""
    with serve(studio_settings(drain_s=0.05)) as client:
        connection = client.raw()
        connection.sendall(HEAD + BODY[:10])
        assert client.get("/health").status == 200
    assert connection.recv(100) == b""
    connection.close()


@pytest.mark.slow
def test_sighup_looks_at_the_disk(folder: Path) -> None:
    """What changed is taken on SIGHUP, and what is broken is reported on stderr while the old policy decides."""
    with process(*over(folder)) as started:
        where = listening(started)
        (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")
        started.send_signal(signal.SIGHUP)

        said = read_until(started.stderr, "extra.bylaw:1")

        assert "goes on deciding" in said
        assert "Traceback" not in said
        with connected(where) as connection:
            assert ask(connection, "POST", "/check", BODY).json["decision"] is True
            assert ask(connection, "GET", "/ready").json["status"] == "degraded"


def ended(*arguments: str) -> tuple[int, str, str]:
    with process(*arguments) as started:
        out, err = started.communicate(timeout=30)
        return started.returncode, out, err


@pytest.mark.slow
def test_a_broken_policy_does_not_start(folder: Path) -> None:
    """At the start a broken policy is shown with every error, and the exit code is 2."""
    (folder / "extra.bylaw").write_text(
        "allow oops: anyone to task.fly\nallow ouch: anyone to tusk.read\n", encoding="utf-8"
    )

    code, out, err = ended(*over(folder))

    assert (code, out) == (2, "")
    assert "extra.bylaw:1" in err
    assert "extra.bylaw:2" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("http", ["0.0.0.0:0", "nonsense", "[::]:0"])
def test_an_address_that_is_not_safe_does_not_start(http: str) -> None:
    """An open or malformed address is one sentence on stderr, and the exit code is 2."""
    code, out, err = ended(*over(STUDIO, http))

    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_a_taken_port_does_not_start() -> None:
    """A port that somebody has is one sentence on stderr, and the exit code is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, err = ended(*over(STUDIO, f"127.0.0.1:{taken.getsockname()[1]}"))

    assert (code, out) == (2, "")
    assert "cannot listen on" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_unix_socket(tmp_path: Path) -> None:
    """It serves on a Unix socket, and removes its file in the end."""
    path = tmp_path / "s"
    with process(*over(STUDIO, f"unix:{path}")) as started:
        assert listening(started) == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(HEAD + BODY)
            response = HTTPResponse(connection)
            response.begin()
            assert answer_of(response).json["decision"] is True
        started.terminate()
        assert started.wait(10) == 0
    assert not path.exists()


@pytest.mark.slow
def test_it_is_small() -> None:
    """An idle service holds at most 60 MB."""
    with process(*over(STUDIO)) as started:
        listening(started)

        status = Path(f"/proc/{started.pid}/status").read_text(encoding="ascii")

    resident_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert resident_kib * 1024 <= 60_000_000


def test_what_is_not_asked_for_is_not_loaded() -> None:
    """Keys, gRPC's messages and Redis are imported by who needs them, not by every process."""
    heavy = ("jwt", "cryptography", "grpc", "redis", "google.protobuf")
    asked = f"import sys, sidecar.server; print([name for name in {heavy} if name in sys.modules])"

    with running("-c", asked) as started:
        out, err = started.communicate(timeout=30)

    assert (out, err) == ("[]\n", "")


def test_envoys_grpc_loads_no_library_for_it() -> None:
    """The lane of gRPC needs the messages alone."""
    asked = "import sys, sidecar.handlers.envoy_grpc; print('google.protobuf' in sys.modules, 'grpc' in sys.modules)"

    with running("-c", asked) as started:
        out, err = started.communicate(timeout=30)

    assert (out, err) == ("True False\n", "")


def loaded_from(policy: Policy, facts: Facts) -> Loaded:
    return Loaded(policy, facts, "")


def greeting_of(address: Address, loaded: Loaded, *, as_json: bool = False) -> str:
    answer = asyncio.run(example_answer(FileDecider(lambda: loaded)))
    return greet(address, loaded, answer, is_person=True, as_json=as_json)


def test_what_is_printed_can_be_tried() -> None:
    """A person is shown a request that the loaded policy answers, and its answer."""
    policy = Policy.load(STUDIO)
    loaded = loaded_from(policy, Facts.load(STUDIO / "facts.yaml", policy))

    text = greeting_of(Address("127.0.0.1", 8180), loaded)

    assert "http://127.0.0.1:8180/check" in text
    assert json.dumps(ANN)[:-1] in text
    assert '"by": "organization.manager on organization:acme"' in text
    assert "--unix-socket /run/s" in greeting_of(Address(path="/run/s"), loaded)


def test_under_another_policy_the_request_is_a_form() -> None:
    """Where the example makes no sense, a form of a request is shown; a log gets one line."""
    policy = Policy.parse("resource doc { actions read }\n")
    loaded = loaded_from(policy, Facts({}, policy))

    assert "TYPE:ID" in greeting_of(Address("::1", 80), loaded)
    assert greet(Address("::1", 80), loaded, None, is_person=False, as_json=False).count("\n") == 0
    assert json.loads(greeting_of(Address("::1", 80), loaded, as_json=True))["listening"] == "[::1]:80"
