"""How much a caller may ask: so many requests in each window of time, counted per caller.

Windows are aligned to their length, all limits are looked at, and any of them refuses. What is refused counts for
nothing. Counts are those of this process; with Redis they are of all processes together: a process *leases* a
twentieth of a window's limit at a time by one atomic script, and counts that down by itself. So most requests ask
nobody, no window lets through more than its limit, and at most a lease per process goes unused. Windows are Redis' own
then, whose clock all share. Where Redis does not answer each process counts for itself, against the whole limit.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from math import ceil
from typing import Final, NamedTuple, Protocol

from engine import BylawError
from engine.values import SECOND, parse_duration
from sidecar.cache_key import rate_key
from sidecar.callers import Caller
from sidecar.errors import PublicError, overloaded

#: A lease is this part of a limit.
LEASES: Final = 20
#: Callers times limits that are counted; past it counts of windows that are over are dropped.
MAX_COUNTS: Final = 20_000
#: How long one request may wait for leases.
WAIT_S: Final = 0.25
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]*(?:s|m|h|d))")


class Rate(NamedTuple):
    """So many requests in a window of so many seconds."""

    limit: int
    window_s: int


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Read limits, `100/1s,5000/1m`.

    Raises:
        BylawError: they are none.
    """
    found = []
    for part in text.split(","):
        match = _RATE.fullmatch(part.strip())
        length = parse_duration(match[2]) if match else None
        if match is None or length is None or length > 86_400 * SECOND:
            raise BylawError("bad_settings", f"rate `{part.strip()}`: write 100/1s or 5000/1m, of at most a day")
        found.append(Rate(int(match[1]), length // SECOND))
    return tuple(found)


class Leases(Protocol):
    """Where counts are shared."""

    async def lease(self, key: str, *, wanted: int, limit: int, window_ms: int) -> tuple[int, int] | None:
        """Take up to so many of what a window has left: how many, and for how many milliseconds they count. None:
        nothing can be learned."""
        ...


class _Count:
    """What one caller has left of one limit, until when."""

    __slots__ = ("is_final", "left", "until")

    def __init__(self) -> None:
        self.left = 0
        self.until = 0.0
        self.is_final = False


class Limiter:
    """Counts requests.

    Args:
        everybody: limits of those who have none of their own.
        shared: where processes count together; None: each by itself.
        clock: seconds since the epoch.
    """

    def __init__(
        self, everybody: str | None, shared: Leases | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._everybody = parse_rates(everybody) if everybody else ()
        self._own: dict[str, tuple[Rate, ...]] = {}
        self._shared = shared
        self._clock = clock
        self._counts: dict[tuple[str, Rate], _Count] = {}
        self._flights: dict[tuple[str, Rate], asyncio.Task[None]] = {}

    def rates_of(self, caller: Caller) -> tuple[Rate, ...]:
        """Return the limits of a caller. What cannot be read as his own are those of everybody."""
        if caller.limit is None:
            return self._everybody
        found = self._own.get(caller.limit)
        if found is None:
            try:
                found = parse_rates(caller.limit)
            except BylawError:
                found = self._everybody
            if len(self._own) > MAX_COUNTS:
                self._own.clear()
            self._own[caller.limit] = found
        return found

    def take(self, caller: Caller, times: int = 1) -> bool:
        """Count one request, or so many, all or none; False: more must be leased to know.

        Raises:
            PublicError: it is one too many.
        """
        rates = self.rates_of(caller)
        if not rates:
            return True
        counts, now = [], self._clock()
        for rate in rates:
            count = self._count(caller.name, rate, now)
            if count.left < times:
                if not count.is_final:
                    return False
                raise _too_many(rate, count.until - now, count.until)
            counts.append(count)
        for count in counts:
            count.left -= times
        return True

    async def wait(self, caller: Caller, times: int = 1) -> None:
        """Count one request, or so many, and lease what that takes.

        Raises:
            PublicError: it is one too many.
        """
        end = time.monotonic() + WAIT_S
        while not self.take(caller, times):
            if time.monotonic() > end:
                raise overloaded()
            for rate in self.rates_of(caller):
                await self._leased(caller.name, rate, times)

    def _count(self, name: str, rate: Rate, now: float) -> _Count:
        count = self._counts.get((name, rate))
        if count is None:
            self._make_room(now)
            count = self._counts[name, rate] = _Count()
        if now >= count.until:
            if self._shared is None:
                _begin(count, rate, now)
            else:
                count.left, count.is_final = 0, False
        return count

    async def _leased(self, name: str, rate: Rate, times: int) -> None:
        """Have more leased where too little is left, once for all that wait for it."""
        key = (name, rate)
        if self._count(name, rate, self._clock()).left >= times:
            return
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._lease(name, rate, times))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        await asyncio.wait({flight})

    async def _lease(self, name: str, rate: Rate, times: int) -> None:
        if self._shared is None:
            return
        wanted = max(times, rate.limit // LEASES)
        found = await self._shared.lease(
            rate_key(name, rate.limit, rate.window_s), wanted=wanted, limit=rate.limit, window_ms=rate.window_s * 1000
        )
        now = self._clock()
        count = self._count(name, rate, now)
        if found is None:
            if count.left <= 0 and not count.is_final:
                _begin(count, rate, now)
            return
        granted, left_ms = found
        count.left = max(0, count.left) + granted
        count.until = now + left_ms / 1000
        count.is_final = granted < wanted

    def _make_room(self, now: float) -> None:
        if len(self._counts) >= MAX_COUNTS:
            self._counts = {key: count for key, count in self._counts.items() if count.until > now}
        if len(self._counts) >= MAX_COUNTS:
            self._counts.clear()


def _begin(count: _Count, rate: Rate, now: float) -> None:
    """Begin the window that the moment lies in, with all of its limit."""
    count.left = rate.limit
    count.until = (now // rate.window_s + 1) * rate.window_s
    count.is_final = True


def _too_many(rate: Rate, wait_s: float, until: float) -> PublicError:
    after = max(1, ceil(wait_s))
    return PublicError(
        429,
        "rate_limited",
        f"at most {rate.limit} requests in {rate.window_s} s",
        details={"limit": rate.limit, "window_s": rate.window_s, "retryAfter": after},
        headers={
            "Retry-After": str(after),
            "X-RateLimit-Limit": str(rate.limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(ceil(until)),
        },
    )
