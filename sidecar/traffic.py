"""What is in flight, and whether the service is stopping."""

from __future__ import annotations

import asyncio


class Traffic:
    """Counts requests from their headers to their answer: one more in `count`, in the end `end()`."""

    def __init__(self) -> None:
        self.count = 0
        self.is_stopping = False
        self._emptied = asyncio.Event()

    def end(self) -> None:
        self.count -= 1
        if self.is_stopping and not self.count:
            self._emptied.set()

    def stop(self) -> None:
        """From now on every answer closes its connection, and `/ready` says no."""
        self.is_stopping = True

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.count:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            return False
        return True
