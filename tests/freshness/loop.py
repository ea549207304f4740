"""An event loop without input, output and time of its own: what runs next, and what time it is, the checker says.

Everything that the product waits for is one of two things: a *gate*, which stands for a message on the wire and is
passed when the checker lets it pass, or a timer, which fires when the checker has moved the clock past it. Between two
moves of the checker the loop runs until nothing is left to run, so a run is a list of moves, and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVarTuple

_Ts = TypeVarTuple("_Ts")


class SteppedLoop(asyncio.BaseEventLoop):
    """A loop that runs when it is told to.

    Attributes:
        now: what its clock shows, in seconds.
        faults: what nobody caught.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.faults: list[str] = []
        self._due: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = 0

    def time(self) -> float:
        return self.now

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._due.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, timer))
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run_until_idle(self) -> None:
        """Run until everything waits for a gate or a timer."""
        due = self._due
        while due:
            handle = due.popleft()
            if not handle.cancelled():
                handle._run()

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let fire what is due by then."""
        self.now += seconds
        timers = self._timers
        while timers and timers[0][0] <= self.now:
            self._due.append(heapq.heappop(timers)[2])
        self.run_until_idle()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop, and close at the end."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            for task in asyncio.all_tasks(self):
                task.cancel()
            self.run_until_idle()
            asyncio._set_running_loop(None)
            self.close()


class Gates:
    """Messages that are on their way, by kind, in the order in which they were sent.

    A message is called by its kind and by how many of that kind were sent before it and are still on their way: so a
    list of moves still means something when some of them are left out.
    """

    def __init__(self, loop: SteppedLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def wait(self, kind: str) -> None:
        """Wait until the checker lets the message arrive, or lose it."""
        future: asyncio.Future[None] = self._loop.create_future()
        futures = self._waiting.setdefault(kind, [])
        futures.append(future)
        try:
            await future
        finally:
            futures.remove(future)

    def names(self) -> list[tuple[str, int]]:
        """List what waits."""
        return [(kind, rank) for kind, futures in self._waiting.items() for rank in range(len(futures))]

    def let_pass(self, kind: str, rank: int, error: Exception | None = None) -> None:
        """Let a message arrive, or be lost with an error. Where there are fewer, it is the last of them."""
        futures = self._waiting.get(kind)
        if not futures:
            return
        future = futures[min(rank, len(futures) - 1)]
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
