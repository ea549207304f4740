"""The decision service over a store, without HTTP in front, and the means to look into it.

`Decisions` is the service's own wiring (`sidecar.app.Service`): views, polls, loads, and `StoreDecider`; only sockets
are left out. `Statements` says which SQL statements each check cost, by a context that its loads inherit; `Gaps` how
long the event loop did nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import event

from engine import Request
from sidecar.answering import answer
from sidecar.decision_id import DecisionIds
from sidecar.freshness import StaleError
from sidecar.garbage import keep_short
from sidecar.keeper import Keeper
from sidecar.server import Service
from sidecar.settings import Settings
from store.database import Database
from store.errors import StoreError

#: The longest that settings allow, where the benchmark polls by itself.
MAX_STALENESS_S: Final = 60.0
PATIENCE: Final = 20


class Decisions:
    """One process's decisions. Use it in one `async with`.

    Args:
        is_following: poll at every hint and from time to time, as the service does; otherwise who uses it polls.
    """

    def __init__(self, url: str, policies: Path, *, is_following: bool = True) -> None:
        stale_s = 5.0 if is_following else MAX_STALENESS_S
        settings = Settings(policies=policies, database_url=url, max_staleness_s=stale_s, watch_s=0.01)
        self._service = Service(settings, report=lambda _: None)
        self._ids = DecisionIds()
        self._is_following = is_following

    @property
    def keeper(self) -> Keeper:
        """What keeps the store's facts."""
        assert self._service.keeper is not None
        return self._service.keeper

    async def __aenter__(self) -> Self:
        if self._is_following:
            await self.keeper.start()
        else:
            await self.keeper.reader.register(int(MAX_STALENESS_S * 1000))
            await self.keeper.freshness.poll()
        await self._service.policies.start()
        keep_short()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keeper.stop()

    async def check(self, question: Request) -> str:
        """Answer one question, as `POST /check` would."""
        return await self._service.decider.answer(
            lambda loaded: answer(question, loaded, self._ids).text, (question,), None
        )

    async def insist(self, question: Request) -> None:
        """Answer a question, and ask again where the answer is `stale`: the machine may be busy with something else.

        Raises:
            StaleError: it always is.
        """
        for _ in range(PATIENCE):
            with suppress(StaleError):
                await self.check(question)
                return
            with suppress(StoreError, TimeoutError):
                await self.keeper.freshness.poll()
        raise StaleError


def is_allowed(answered: str) -> bool:
    """Read an answer."""
    return answered.startswith('{"decision": true')


def resident_mib() -> float:
    """Tell what this process holds in memory, in MiB (VmRSS)."""
    said = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in said.splitlines() if line.startswith("VmRSS:")) / 1024


# --- statements ---------------------------------------------------------------------------------------

_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


class Statements:
    """Notes the SQL statements of a database, for whom they are done. BEGIN and COMMIT are none."""

    def __init__(self, database: Database) -> None:
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._note)

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        """Note all statements that are done for what is inside, in tasks that it starts, too."""
        found: list[str] = []
        token = _noted.set(found)
        try:
            yield found
        finally:
            _noted.reset(token)

    @staticmethod
    def _note(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        found = _noted.get()
        if found is not None:
            found.append(_kind(statement))


def _kind(statement: str) -> str:
    if "set_config" in statement:
        return "tenant"
    return "load" if "RECURSIVE" in statement else "poll"


# --- the event loop -----------------------------------------------------------------------------------

TICK_S: Final = 0.001


class Gaps:
    """Ticks every millisecond, and knows how late it ever came: so long nothing else could be answered."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(5 * TICK_S)
        self.longest_s = 0.0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(5 * TICK_S)
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _tick(self) -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(TICK_S)
            now = perf_counter()
            self.longest_s = max(self.longest_s, now - last - TICK_S)
            last = now
