"""The store's facts, as one process keeps them: connect, register, follow, give receipts, leave.

What freshness means is in `freshness` and `loader`; here is what runs beside: the poll that comes round, hints,
receipts, and what `/ready` tells of it all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from engine.authorizer import Questioner
from engine.policy import BoundFacts, Policy
from sidecar.freshness import POLL_TIMEOUT_S, Freshness, NotAppliedError
from sidecar.loader import Loader
from sidecar.views import Cache
from store.database import Database
from store.errors import StoreError, UnavailableError
from store.facts import CachedFacts
from store.hints import listen
from store.reading import Reader
from store.rights import SIDECAR, check_rights
from store.streams import Position

if TYPE_CHECKING:
    from sidecar.second_level import SecondLevel
    from store.redis_port import Redis

#: How often a process says that it lives.
SEEN_S: Final = 30.0
#: How long leaving may take: who does not answer is not waited for.
LEAVE_S: Final = 1.0
#: After a poll that failed, until the next.
RETRY_S: Final = 0.25

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log = logging.getLogger("bylaw.keeper")


def clock() -> float:
    """Return seconds that only go forward, and go on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Keeper:
    """Keeps the store's facts for one process. `start`, then `stop`; each once.

    Args:
        questioner: what is derived from the facts; None as long as there is no policy.
        on_policies: as `Freshness` takes it.
        redis_url: where hints come from, beside the database; with `cache_key` also views that other processes loaded.

    Raises:
        BylawError: a URL is none, or the key is too short.
    """

    def __init__(
        self,
        url: str,
        *,
        max_staleness_s: float,
        questioner: Callable[[], Questioner | None],
        on_policies: Callable[[Position], Awaitable[Callable[[], None] | None]] | None = None,
        redis_url: str | None = None,
        cache_key: str | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or uuid4().hex
        self.database = Database(url)
        self.reader = Reader(self.database, self.name)
        self.cache = Cache(on_turn=lambda tenant: self._forget([tenant]))
        self.freshness = Freshness(
            self.reader,
            self.cache,
            max_staleness_s=max_staleness_s,
            clock=clock,
            on_change=self._forget,
            on_policies=on_policies,
        )
        self.redis: Redis | None = None
        self.second: SecondLevel | None = None
        if redis_url is not None:
            self._use_redis(redis_url, cache_key)
        self.loader = Loader(self.reader, self.cache, self.freshness, self.second)
        self.problem: str | None = None
        self._questioner = questioner
        self._has_registered = False
        self._tasks: list[asyncio.Task[None]] = []
        self._seen = clock()

    def _use_redis(self, url: str, key: str | None) -> None:
        from sidecar.second_level import SecondLevel, parse_cache_key  # not every process has it
        from store.redis_port import Redis

        self.redis = Redis(url)
        if key is not None:
            self.second = SecondLevel(self.redis, self.cache, self.freshness, parse_cache_key(key))

    async def start(self) -> None:
        """Connect, and be up to date.

        Raises:
            StoreError: the database cannot be used, or cannot be reached.
        """
        await check_rights(self.database, SIDECAR)
        try:
            await self._register()
            await self.freshness.poll()
        except TimeoutError as error:
            raise UnavailableError(f"{self.database.shown}: the database does not answer in time") from error
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(listen(self.database, self.freshness.wake.set)),
        ]
        if self.redis is not None:
            self._tasks.append(asyncio.create_task(self.redis.listen(self.freshness.wake.set)))

    async def stop(self) -> None:
        """Leave: nobody waits for receipts of this process any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._has_registered:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self.reader.unregister()
        if self.second is not None:
            await self.second.close()
        if self.redis is not None:
            await self.redis.close()
        await self.database.close()

    # --- the policy's side -------------------------------------------------------------------------

    def bind(self, policy: Policy) -> BoundFacts:
        """Let a policy decide on the store's facts."""
        return BoundFacts(CachedFacts(self.cache, policy.model, self.freshness.token), policy)

    def _forget(self, tenants: Iterable[str] | None) -> None:
        """Drop what was derived of facts that moved."""
        questioner = self._questioner()
        if questioner is None:
            return
        if tenants is None:
            questioner.forget_all()
            return
        for tenant in tenants:
            questioner.forget(tenant)

    # --- following ---------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Poll for ever: at every hint, and at the latest after a quarter of the time that facts may be old."""
        freshness = self.freshness
        period_s = freshness.max_staleness_s / 4
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await freshness.wake.wait()
            freshness.wake.clear()
            try:
                await self._step()
            except (StoreError, TimeoutError) as error:
                self._note(error)
            except Exception:
                _log.exception("following the change log failed; it goes on")
            else:
                self._note(None)
                continue
            await asyncio.sleep(min(RETRY_S, period_s))
            freshness.wake.set()

    async def _step(self) -> None:
        try:
            await self.freshness.poll()
        except NotAppliedError:
            if self.freshness.is_registered:
                raise
            await self._register()
            await self.freshness.poll()
        async with asyncio.timeout(POLL_TIMEOUT_S):
            await self._acknowledge()
            if clock() - self._seen > SEEN_S:
                self._seen = clock()
                await self.reader.seen()

    async def _register(self) -> None:
        self._has_registered = True
        async with asyncio.timeout(POLL_TIMEOUT_S):
            await self.reader.register(int(self.freshness.max_staleness_s * 1000))

    async def _acknowledge(self) -> None:
        """Give the receipts that are due. A poll tells of those that are not given: also of one that was, in a history
        that is lost."""
        if self.freshness.receipts:
            await self.reader.acknowledge(sorted(self.freshness.receipts))

    def _note(self, error: Exception | None) -> None:
        """Remember what is wrong, and tell once."""
        said = None if error is None else (str(error) or "the database does not answer in time")
        if said != self.problem:
            _log.warning("%s", said) if said else _log.warning("the database answers again")
        self.problem = said

    # --- telling -----------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there are facts to be answered from."""
        return self.freshness.is_fresh()

    def checks(self) -> dict[str, dict[str, Any]]:
        """Tell of each dependency, for `/ready`."""
        freshness = self.freshness
        told: dict[str, Any] = {"age_s": round(freshness.age_s(), 3), "max_staleness_s": freshness.max_staleness_s}
        if freshness.is_replica:
            told |= {
                "age_s": None,
                "status": "failed",
                "error": "replica",
                "message": "this is a replica, which may lag behind",
            }
        elif not self.is_ready:
            told |= {"status": "failed", "error": "stale", "message": self.problem or "no poll came through"}
        elif self.problem is not None:
            told |= {"status": "degraded", "error": "unavailable", "message": self.problem}
        else:
            told |= {"status": "ok"}
        found: dict[str, dict[str, Any]] = {"database": {"url": self.database.shown, **told}}
        if self.redis is not None:
            found["redis"] = dict(self.redis.status())
        return found
