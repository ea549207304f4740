"""Calls that may block for as long as they like, beside the loop.

`asyncio.to_thread` would do but for the end: its threads are waited for, so that one write to a pipe that nobody reads
would keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """A thread that makes one call after the other; a daemon, so that one that never comes back keeps nobody."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, call: Callable[[], Result]) -> Result:
        """Make a call there."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="bylaw-decision-log", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def done(settle: Callable[[Any], None], outcome: Any) -> None:
            with suppress(asyncio.InvalidStateError):  # nobody waits any more
                settle(outcome)

        def run() -> None:
            try:
                found = call()
            except Exception as error:
                report: tuple[Callable[[Any], None], Any] = future.set_exception, error
            else:
                report = future.set_result, found
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done, *report)

        self._calls.put(run)
        return await future

    def end(self) -> None:
        """Let the thread end after what it was given."""
        if self._thread is not None:
            self._calls.put(_end)
            self._thread = None

    def _live(self) -> None:
        while (call := self._calls.get()) is not _end:
            call()


def _end() -> None:
    """Stand in the queue for its end."""
