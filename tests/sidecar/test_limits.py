"""How much a caller may ask: by himself, and by all processes together."""

from __future__ import annotations

import asyncio

import pytest

from engine import BylawError
from sidecar.callers import PLAIN_SCOPES, Caller
from sidecar.errors import PublicError
from sidecar.limits import LEASES, MAX_COUNTS, Limiter, Rate, parse_rates
from store.redis_port import Redis
from tests.databases import Redis as Server
from tests.databases import run

SHOP = Caller(PLAIN_SCOPES, None, "shop")
BANK = Caller(PLAIN_SCOPES, None, "bank")


class Clock:
    """A clock that is set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def taken(limiter: Limiter, caller: Caller, count: int) -> int:
    """Ask so many times; return how often it was let through."""
    passed = 0
    for _ in range(count):
        try:
            assert limiter.take(caller)
        except PublicError:
            continue
        passed += 1
    return passed


@pytest.mark.parametrize(
    ("text", "rates"),
    [("100/1s", (Rate(100, 1),)), ("5/15m, 7/24h", (Rate(5, 900), Rate(7, 86_400))), ("1/1d", (Rate(1, 86_400),))],
)
def test_rates_are_read(text: str, rates: tuple[Rate, ...]) -> None:
    """A limit is a number and a time, and there may be several."""
    assert parse_rates(text) == rates


@pytest.mark.parametrize("text", ["", "100", "100/s", "0/1s", "-1/1s", "1/0s", "1/2d", "1/1w", "1/1s,", "1 /1s"])
def test_what_is_no_rate(text: str) -> None:
    """Anything else is an error that shows how to write it."""
    with pytest.raises(BylawError, match="write 100/1s"):
        parse_rates(text)


def test_a_window_lets_its_limit_through() -> None:
    """So many are let through in a window, and as many in the next."""
    clock = Clock()
    limiter = Limiter("3/10s", clock=clock)

    first = taken(limiter, SHOP, 5)
    clock.now += 10
    second = taken(limiter, SHOP, 5)

    assert (first, second) == (3, 3)


def test_windows_are_aligned() -> None:
    """A window ends at a multiple of its length, whenever its first request came."""
    clock = Clock(1_000_009.5)
    limiter = Limiter("1/10s", clock=clock)

    first = taken(limiter, SHOP, 2)
    clock.now += 0.6
    second = taken(limiter, SHOP, 2)

    assert (first, second) == (1, 1)


def test_a_refusal_says_when_to_come_back() -> None:
    """A request too many is 429 with whole seconds, and what the limit is."""
    clock = Clock(1_000_004.2)
    limiter = Limiter("1/10s", clock=clock)
    taken(limiter, SHOP, 1)

    with pytest.raises(PublicError) as caught:
        limiter.take(SHOP)

    assert (caught.value.status, caught.value.code) == (429, "rate_limited")
    assert caught.value.headers == {
        "Retry-After": "6",
        "X-RateLimit-Limit": "1",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1000010",
    }
    assert caught.value.details["retryAfter"] == 6


def test_any_limit_refuses_and_what_is_refused_counts_for_nothing() -> None:
    """All limits hold, and a request that one refuses takes nothing from another."""
    clock = Clock()
    limiter = Limiter("2/1s,5/1h", clock=clock)

    passed = []
    for _ in range(4):
        passed.append(taken(limiter, SHOP, 10))
        clock.now += 1

    assert passed == [2, 2, 1, 0]


def test_callers_have_limits_of_their_own() -> None:
    """One caller's requests count for him alone, and his own limit stands in place of everybody's."""
    limiter = Limiter("2/1s", clock=Clock())
    rich = Caller(PLAIN_SCOPES, None, "rich", "5/1s")

    assert [taken(limiter, caller, 9) for caller in (SHOP, BANK, rich)] == [2, 2, 5]


def test_a_limit_that_cannot_be_read_is_that_of_everybody() -> None:
    """A slip in the store takes no limit away."""
    limiter = Limiter("2/1s", clock=Clock())

    assert taken(limiter, Caller(PLAIN_SCOPES, None, "odd", "many"), 9) == 2


def test_counts_are_bounded() -> None:
    """Callers who come and go leave nothing behind."""
    limiter = Limiter("2/1s", clock=Clock())

    for number in range(MAX_COUNTS + 10):
        limiter.take(Caller(PLAIN_SCOPES, None, f"c{number}"))

    assert len(limiter._counts) <= MAX_COUNTS


# --- by all processes together ------------------------------------------------------------------------


async def _passed(limiter: Limiter, caller: Caller, count: int) -> int:
    async def one() -> bool:
        try:
            await limiter.wait(caller)
        except PublicError as error:
            if error.status != 429:
                raise
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(count))))


def test_processes_count_together(redis: Server) -> None:
    """Two processes let through no more than the limit together, and together all of it."""

    async def both() -> int:
        ways = [Redis(redis.url), Redis(redis.url)]
        passed = await asyncio.gather(*(_passed(Limiter("100/1d", way), SHOP, 150) for way in ways))
        for way in ways:
            await way.close()
        return sum(passed)

    assert run(both()) == 100


def test_most_requests_ask_nobody(redis: Server) -> None:
    """A lease lasts for a twentieth of the limit, without a word to Redis."""

    async def count() -> list[bool]:
        way = Redis(redis.url)
        limiter = Limiter(f"{LEASES * 5}/1d", way)
        await limiter.wait(SHOP)
        known = [limiter.take(SHOP) for _ in range(5)]
        await way.close()
        return known

    assert run(count()) == [True, True, True, True, False]


def test_without_redis_each_counts_for_itself() -> None:
    """Where Redis does not answer, the limit holds in each process, and nobody waits long."""

    async def count() -> int:
        redis = Redis("redis://127.0.0.1:1/0")
        passed = await _passed(Limiter("7/1d", redis), SHOP, 20)
        await redis.close()
        return passed

    assert run(count()) == 7
