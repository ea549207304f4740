"""When keys were last used, written down now and then, so that one that nobody needs any more can be found.

It is done beside the request, one write at a time: no request waits for it, and what goes wrong there is logged and
tried again with the next one. So what is shown is right to the minute, and may be older where the store was busy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from store.database import Database
from store.writes import api_keys
from store.writes.api_keys import ApiKey

#: So long the end of the service waits for the last one.
WAIT_S: Final = 1.0
_log = logging.getLogger("bylaw.admin")


class Uses:
    """Writes down that keys are used.

    Args:
        clock: nanoseconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def note(self, key: ApiKey) -> None:
        """Note that a key is used, unless that was done a moment ago, or another is just being noted."""
        now = self._clock()
        if api_keys.is_noted(key, now=now) or (self._task is not None and not self._task.done()):
            return
        self._task = asyncio.create_task(self._write(key, now))

    async def end(self) -> None:
        """Wait a moment for what is under way, and leave it then."""
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=WAIT_S)
            for task in late:
                task.cancel()

    async def _write(self, key: ApiKey, now: int) -> None:
        try:
            await api_keys.note_use(self._database, key, now=now)
        except Exception as error:  # whatever it is: the request has nothing to do with it
            _log.warning("that a key is used could not be written down: %s", type(error).__name__)
