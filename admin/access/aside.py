"""Long thoughts beside the loop: a few threads, and no more requests at a time than they take.

A request waits for its turn before it opens a snapshot: while it waits it holds no connection that another could use.
The threads share one interpreter with the loop, so they make nothing faster; they let it answer others in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

WORKERS: Final = 2
T = TypeVar("T")

_pool: Final = ThreadPoolExecutor(WORKERS, "bylaw-access")
#: Of each loop, since one that waits in a loop belongs to it.
_slots: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


@asynccontextmanager
async def slot() -> AsyncIterator[None]:
    """Wait for a turn."""
    async with _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(WORKERS)):
        yield


async def aside(call: Callable[[], T]) -> T:
    """Make a call in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_pool, call)
