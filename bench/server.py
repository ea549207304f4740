"""A server under test: a child process on one core, what it answers, and how much memory it holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_connection, socket
from threading import Event
from time import monotonic
from typing import Any

READY_S = 60.0
STOP_S = 10.0


class ServerError(RuntimeError):
    """The server did not start, or answered with an error."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its name in the tables, its `host:port`, its process id, and the log that it writes."""

    name: str
    address: str
    pid: int
    log: Path

    def post(self, path: str, bodies: Sequence[str], headers: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Post the bodies one after the other on one connection; yield the answers' JSON.

        Raises:
            ServerError: an answer is not 200.
        """
        connection = HTTPConnection(self.address, timeout=10)
        try:
            for body in bodies:
                connection.request("POST", path, body.encode(), {"Content-Type": "application/json", **(headers or {})})
                response = connection.getresponse()
                text = response.read()
                if response.status != 200:
                    raise ServerError(f"{self.name} answers {response.status} to {body}: {text.decode()}")
                yield json.loads(text)
        finally:
            connection.close()

    def children(self) -> list[int]:
        """List the processes that it started."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(child) for child in listed.split()]

    def resident_mib(self) -> float:
        """Sum up what the process and its children hold in memory (VmRSS), in MiB."""
        return sum(map(_resident_kib, _family(self.pid))) / 1024


@contextmanager
def running(name: str, command: Sequence[str], address: str, ready: str, *, core: int, log: Path) -> Iterator[Server]:
    """Start the command on one core, wait until GET `ready` answers 200, and stop it in the end.

    Raises:
        ServerError: something else listens there, or it is not ready in time; the message ends with what it wrote.
    """
    if _answers(address):
        raise ServerError(f"something listens at {address} already: name another place for {name}")
    with log.open("wb") as output:
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(process, name, address, ready, log)
        yield Server(name, address, process.pid, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], name: str, address: str, ready: str, log: Path) -> None:
    until, pause = monotonic() + READY_S, Event()
    while not _is_ready(address, ready):
        if process.poll() is not None or monotonic() > until:
            raise ServerError(f"{name} did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        pause.wait(0.1)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _is_ready(address: str, path: str) -> bool:
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def free_address() -> str:
    """Name an address on the loopback interface at which nothing listens now."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            yield from _family(int(child))


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
