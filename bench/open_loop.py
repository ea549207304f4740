"""Load that does not wait: requests are sent when their time comes, whether those before were answered or not.

A client that waits for its answers asks less when the server is slow, and so hides that it is (`wrk` does). Here each
request takes an idle connection, or opens one; its latency counts from the time at which it should have been sent. Past
`MAX_CONNECTIONS` requests that find none idle are *unsent*, and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from bench.quantiles import Times

MAX_CONNECTIONS: Final = 1000
#: Requests are sent in slices of so long.
SLICE_S: Final = 0.001


@dataclass(slots=True)
class Outcome:
    """What came of a load.

    Attributes:
        statuses: answers by status; 0: the connection broke before one.
        took_s: latencies of those with status 200, in seconds.
        unsent: requests that found no connection.
        without_retry_after: answers with 503 that do not say when to come back.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    unsent: int = 0
    without_retry_after: int = 0

    def ms(self, part: float) -> float:
        """Return a quantile of the latencies in ms."""
        return Times("", self.took_s).quantile_ms(part) if self.took_s else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, load: OpenLoad) -> None:
        self.load = load
        self.transport = cast(asyncio.Transport, None)
        self.due: float | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read = self._read + data if self._read else data
        head = self._read.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._read.find(b"ontent-Length: ")
        length = int(self._read[at + 15 : self._read.find(b"\r", at)])
        if len(self._read) < head + 4 + length:
            return
        self._note(int(self._read[9:12]), self._read[:head])
        self._read = b""

    def _note(self, status: int, head: bytes) -> None:
        outcome = self.load.outcome
        outcome.statuses[status] += 1
        if status == 200 and self.due is not None:
            outcome.took_s.append(time.perf_counter() - self.due)
        elif status == 503 and b"Retry-After: " not in head:
            outcome.without_retry_after += 1
        self.due = None
        self.load.idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self.due is not None:
            self.load.outcome.statuses[0] += 1
        if self in self.load.idle:
            self.load.idle.remove(self)
        self.load.count -= 1


class OpenLoad:
    """Sends requests to one address, so many a second.

    Args:
        requests: whole requests, sent in turn.
    """

    def __init__(self, address: str, requests: Sequence[bytes]) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._requests = requests
        self.outcome = Outcome()
        self.idle: list[_Connection] = []
        self.count = 0
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, per_s: float, seconds: float) -> Outcome:
        """Send for so long, and wait a second for what is on its way."""
        self.outcome = Outcome()
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) - began < seconds:
            wanted = int((now - began) * per_s)
            for number in range(sent, wanted):
                self._send(self._requests[number % len(self._requests)], began + number / per_s)
            sent = wanted
            await asyncio.sleep(SLICE_S)
        await asyncio.sleep(1)
        return self.outcome

    def _send(self, request: bytes, due: float) -> None:
        if self.idle:
            self.idle.pop().send(request, due)
        elif self.count < MAX_CONNECTIONS:
            self.count += 1
            task = asyncio.create_task(self._open(request, due))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.outcome.unsent += 1

    async def _open(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError:
            self.count -= 1
            self.outcome.statuses[0] += 1
            return
        connection.send(request, due)

    async def close(self) -> None:
        """Close all connections."""
        for connection in self.idle:
            connection.transport.close()
        await asyncio.sleep(0.1)
