"""Redis as it is spoken to: what it answers, and how little it matters when it does not."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis import Redis as Raw

from store.errors import UnfitError
from store.redis_port import CHANNEL, FIRST_PAUSE_S, LAST_PAUSE_S, QUIET_S, READ_TIMEOUT_S, Breaker, Redis, shown
from tests.databases import Redis as Server
from tests.databases import run

#: More than the 50 ms of a read, since the machine may be busy, and less than the second after which all is given up.
SOON_S: Final = 0.4
#: What may pass until a test has failed.
PATIENCE_S: Final = 8.0


class FrozenClock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_pause(self) -> None:
        self.now += LAST_PAUSE_S


class Signals(Counter[str]):
    """Counts, and tells when it counts one of a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._told = asyncio.Event()

    def __setitem__(self, name: str, count: int) -> None:
        super().__setitem__(name, count)
        if name == self._name:
            self._told.set()

    async def again(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the next one."""
        async with asyncio.timeout(patience_s):
            await self._told.wait()
        self._told.clear()


class Woken:
    """Wakes, and can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def again(self) -> None:
        """Wait for the next call."""
        async with asyncio.timeout(PATIENCE_S):
            await self._event.wait()
        self._event.clear()


class Well(Woken):
    """Woken by the log, when Redis answers again."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        super().__init__()
        caplog.handler.addFilter(self.filter)

    def filter(self, record: logging.LogRecord) -> bool:
        if "answers again" in record.getMessage():
            self()
        return True


@asynccontextmanager
async def opened(url: str, clock: FrozenClock | None = None) -> AsyncIterator[Redis]:
    """Open a port; without a clock, by the real one."""
    port = Redis(url, clock=clock) if clock else Redis(url)
    try:
        yield port
    finally:
        await port.close()


@asynccontextmanager
async def listening(port: Redis, woken: Woken) -> AsyncIterator[None]:
    """Listen for hints."""
    task = asyncio.create_task(port.listen(woken))
    try:
        await woken.again()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def imposter(
    path: Path, behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[str]:
    """Serve something that is no Redis; give its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield f"unix://{path}"


async def elapsed(work: Awaitable[object]) -> float:
    """Return how long something takes."""
    before = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - before


# --- URLs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://ann:secret@cache.internal:6380/2", "redis://cache.internal:6380/2"),
        ("redis://:secret@[::1]:6380", "redis://[::1]:6380/0"),
        ("rediss://:s%2Fecret@cache?ssl_ca_certs=/etc/ca.pem", "rediss://cache:6379/0"),
        ("unix:///run/redis.sock?db=3&password=secret", "unix:///run/redis.sock"),
        ("unix://ann:secret@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, expected: str) -> None:
    """What is logged and told names the server, and nothing secret."""
    assert shown(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache:6379",
        "http://:secret@cache",
        "redis://",
        "redis://:sec/ret@cache",
        "redis://:sec#ret@cache",
        "redis://cache:port",
        "redis://cache/secret",
        "redis://cache?socket_timeout=60",
        "redis://cache?decode_responses=true",
        "rediss://cache?secret=1",
        "redis://[secret",
        "unix://secret/redis.sock",
        "unix://",
        "unix:///run/redis.sock?db=secret",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """A mistake in the URL is told at the start, without quoting what may be a password."""
    with pytest.raises(UnfitError) as caught:
        shown(url)

    assert caught.value.code == "bad_url"
    assert "secret" not in caught.value.message
    assert "sec" not in caught.value.message


def test_certificates_are_read_at_the_start() -> None:
    """Certificates that cannot be read are told at once, not when something is to be protected by them."""
    with pytest.raises(UnfitError, match="certificates") as caught:
        Redis("rediss://:secret@cache?ssl_ca_certs=/nowhere/ca.pem")

    assert caught.value.code == "bad_url"
    assert "secret" not in caught.value.message


# --- commands -----------------------------------------------------------------------------------------


def test_what_is_put_is_found_until_it_is_deleted(redis: Server) -> None:
    """Entries are bytes under keys, and end by themselves."""

    async def talk() -> None:
        async with opened(redis.url) as port:
            assert await port.put_many({"a": b"\0\xff", "b": b"2"}, 3600)
            found = await port.get_many(["b", "c", "a"])
            assert await port.delete_many(["a"])
            left = await port.get_many(["a", "b"])

            assert found == [b"2", None, b"\0\xff"]
            assert left == [None, b"2"]
            assert port.status() == {"url": redis.url, "status": "ok"}
            assert not port.errors

    run(talk())
    with Raw(unix_socket_path=str(redis.path)) as raw:
        assert 0 < raw.ttl("b") <= 3600


def test_nothing_is_asked_about_nothing() -> None:
    """Without keys there is no command, so no failure of one."""

    async def talk() -> None:
        async with opened("unix:///nowhere/redis.sock") as port:
            assert await port.get_many([]) == []
            assert await port.put_many({}, 1)
            assert await port.delete_many([])
            assert not port.errors

    run(talk())


def test_what_is_no_text_is_nothing(redis: Server) -> None:
    """A key of another kind in Redis is as good as none."""
    with Raw(unix_socket_path=str(redis.path)) as raw:
        raw.lpush("a", "1")

    async def talk() -> None:
        async with opened(redis.url) as port:
            assert await port.get_many(["a"]) == [None]
            assert port.status()["status"] == "ok"

    run(talk())


def test_a_refusal_is_told_and_stops_nothing(redis: Server) -> None:
    """A Redis without memory takes nothing in, but is still read; once it has some, all is well."""

    def allow(memory: int) -> None:
        with Raw(unix_socket_path=str(redis.path)) as raw:
            raw.config_set("maxmemory", memory)

    async def talk() -> None:
        async with opened(redis.url) as port:
            await port.put_many({"a": b"1"}, 60)
            allow(1)

            assert not await port.put_many({"b": b"2"}, 60)
            assert await port.get_many(["a"]) == [b"1"]
            told = port.status()
            allow(0)
            assert await port.put_many({"b": b"2"}, 60)

            assert (told["status"], told["message"]) == ("degraded", "Redis refuses to put: see the log")
            assert port.errors == {"put": 1}
            assert port.status()["status"] == "ok"

    run(talk())


def test_a_password_is_asked_for(redis: Server) -> None:
    """The password stands in the URL; a wrong one is told."""
    with Raw(unix_socket_path=str(redis.path)) as raw:
        raw.config_set("requirepass", "s/ecret")

    async def talk() -> None:
        async with opened(f"{redis.url}?password=s%2Fecret") as right, opened(f"{redis.url}?password=s") as wrong:
            assert await right.ping()
            assert not await wrong.ping()
            assert wrong.status()["message"] == "Redis refuses the login"

    run(talk())


# --- failures -----------------------------------------------------------------------------------------


def test_a_gone_redis_costs_nothing_and_is_found_again(redis: Server) -> None:
    """After a failure nothing is sent for a moment; then one command looks, and all is as before."""

    async def talk() -> None:
        clock = FrozenClock()
        async with opened(redis.url, clock) as port:
            await port.put_many({"a": b"1"}, 60)
            redis.kill()

            assert await port.get_many(["a"]) == [None]
            assert not await port.put_many({"a": b"1"}, 60)
            await port.publish(["g"])
            told, skipped = port.status(), port.skipped
            redis.start()
            clock.pass_pause()
            assert await port.put_many({"a": b"2"}, 60)

            assert (told["status"], told["message"]) == ("degraded", "Redis cannot be reached")
            assert skipped == 2
            assert await port.get_many(["a"]) == [b"2"]
            assert port.status()["status"] == "ok"

    run(talk())


def test_publishing_to_a_dead_server_does_not_raise() -> None:
    """A hint that cannot be sent is lost, and counted."""

    async def talk() -> None:
        async with opened("redis://127.0.0.1:1/0") as port:
            await port.publish(["g", "t:acme"])

            assert port.errors == {"publish": 1}

    run(talk())


def test_a_wedged_redis_slows_nobody(redis: Server) -> None:
    """While Redis is stopped in the middle of what it does, commands end in their time, and later ones at once."""

    async def talk() -> None:
        clock = FrozenClock()
        async with opened(redis.url, clock) as port:
            await port.put_many({"a": b"1"}, 60)
            redis.freeze()

            crowd = await elapsed(asyncio.gather(*(port.get_many(["a"]) for _ in range(200))))
            later = await elapsed(port.get_many(["a"]))
            clock.pass_pause()
            told = await elapsed(port.publish(["g"]))
            redis.thaw()
            clock.pass_pause()

            assert crowd < SOON_S
            assert later < SOON_S / 4
            assert told < SOON_S
            assert port.status()["message"] == "Redis does not answer in time"
            assert await port.get_many(["a"]) == [b"1"]

    run(talk())


def test_a_read_ends_in_its_time_whenever_that_is_over(redis: Server) -> None:
    """Once a read whose time was over just when its command had been sent lasted a second: the library lost the
    cancellation."""

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        redis.freeze()
        for turns in range(10):
            async with opened(redis.url) as port:
                reading = asyncio.create_task(port.get_many(["a"]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                blocked_until = loop.time() + READ_TIMEOUT_S + 0.01
                while loop.time() < blocked_until:
                    pass  # the loop is held up, so that both are due in its next turn

                assert await elapsed(reading) < SOON_S

    run(talk())


@pytest.mark.parametrize(
    "answer",
    [b"!!!\r\n", b":1\r\n", b"*1\r\n:7\r\n", b"*2\r\n$-1\r\n$-1\r\n", b"$x\r\n", b"*1\r\n$9\r\nab", b"\0" * 99, b""],
)
def test_what_is_no_redis_gives_nothing(tmp_path: Path, answer: bytes) -> None:
    """Whatever comes back instead of an answer is nothing, in time."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(answer)

    async def talk() -> None:
        async with imposter(tmp_path / "sock", behave) as url, opened(url) as port:
            async with asyncio.timeout(SOON_S):
                found = await port.get_many(["a"])

            assert found == [None]

    run(talk())


def test_an_answer_without_end_is_given_up(tmp_path: Path) -> None:
    """A value that never ends is no answer."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"*1\r\n$9999999999\r\n")
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    async def talk() -> None:
        async with imposter(tmp_path / "sock", behave) as url, opened(url) as port:
            async with asyncio.timeout(SOON_S):
                found = await port.get_many(["a"])

            assert found == [None]
            assert port.status()["status"] == "degraded"

    run(talk())


def test_a_late_answer_is_no_lost_connection(tmp_path: Path) -> None:
    """A command that nobody waits for any more still ends well, and leaves its connection to the next."""
    connections = 0

    async def talk() -> None:
        clock, gate = FrozenClock(), asyncio.Event()

        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.read(1024):
                await gate.wait()
                writer.write(b"*1\r\n$1\r\n1\r\n")

        async with imposter(tmp_path / "sock", behave) as url, opened(url, clock) as port:
            late = await port.get_many(["a"])
            gate.set()
            await asyncio.gather(*port._kept)
            clock.pass_pause()

            assert late == [None]
            assert await port.get_many(["a"]) == [b"1"]
            assert connections == 1

    run(talk())


def test_closing_ends_what_is_on_its_way(redis: Server) -> None:
    """Nothing is left behind, and who still waits gets nothing."""

    async def talk() -> None:
        async with opened(redis.url) as port:
            redis.freeze()
            reading = asyncio.create_task(port.get_many(["a"]))
            await asyncio.wait({reading}, timeout=0.01)

        assert await reading == [None]
        assert not port._kept

    run(talk())


def test_giving_up_a_command_is_no_failure_of_redis(redis: Server) -> None:
    """Who does not wait for his answer any more leaves the others theirs."""

    async def talk() -> None:
        async with opened(redis.url) as port:
            await port.put_many({"a": b"1"}, 60)
            redis.freeze()
            reading = asyncio.create_task(port.get_many(["a"]))
            await asyncio.wait({reading}, timeout=0.01)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            redis.thaw()

            assert reading.cancelled()
            assert await port.get_many(["a"]) == [b"1"]
            assert not port.errors

    run(talk())


# --- the breaker --------------------------------------------------------------------------------------


def test_the_breaker_stays_open_longer_each_time() -> None:
    """Pauses double up to a bound, and begin anew after a quiet time, not after one success."""
    clock = FrozenClock()
    breaker = Breaker(clock)
    pauses = []

    for quiet_s in (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, QUIET_S + LAST_PAUSE_S):
        clock.now += quiet_s
        ticket = breaker.enter(0.05)
        assert ticket is not None
        breaker.fail(ticket, "gone")
        before = clock.now
        while breaker.enter(0.0) is None:
            clock.now += FIRST_PAUSE_S / 10
        breaker.succeed()
        pauses.append(round(clock.now - before, 1))

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.1]


def test_failures_of_one_moment_count_once() -> None:
    """Commands that were on their way together do not lengthen the pause each."""
    clock = FrozenClock()
    breaker = Breaker(clock)
    tickets = [breaker.enter(0.05) for _ in range(9)]

    for ticket in tickets:
        assert ticket is not None
        breaker.fail(ticket, "gone")
    clock.now += FIRST_PAUSE_S

    assert breaker.enter(0.05) is not None


def test_one_command_looks_whether_redis_is_well() -> None:
    """When the pause is over, one command goes; should it never tell, another goes when its time is over."""
    clock = FrozenClock()
    breaker = Breaker(clock)
    first = breaker.enter(0.05)
    assert first is not None
    breaker.fail(first, "gone")
    clock.now += FIRST_PAUSE_S

    entered = [breaker.enter(0.05) is not None for _ in range(3)]
    clock.now += 0.06

    assert entered == [True, False, False]
    assert breaker.enter(0.05) is not None


# --- hints --------------------------------------------------------------------------------------------


def test_a_hint_wakes_who_listens(redis: Server) -> None:
    """A subscription wakes once, since what was told before it is lost, and then at each hint."""

    async def talk() -> None:
        woken = Woken()
        async with opened(redis.url) as admin, opened(redis.url) as sidecar, listening(sidecar, woken):
            await admin.publish(["g", "t:acme"])
            await woken.again()

            assert sidecar.status()["status"] == "ok"
            assert not sidecar.errors

    run(talk())


def test_a_hint_names_streams(redis: Server) -> None:
    """A message is the list of streams that moved, and nothing else."""
    with Raw(unix_socket_path=str(redis.path)) as raw, raw.pubsub() as channel:
        channel.subscribe(CHANNEL)
        channel.get_message(timeout=PATIENCE_S)

        async def tell() -> None:
            async with opened(redis.url) as port:
                await port.publish(["g", "t:acmé"])

        run(tell())
        message = channel.get_message(timeout=PATIENCE_S)

    assert message is not None
    assert message["data"] == b'["g", "t:acm\\u00e9"]'


def test_whatever_is_said_on_the_channel_wakes(redis: Server) -> None:
    """What a hint says is not looked at: a forged one costs a poll."""

    async def talk() -> None:
        woken = Woken()
        async with opened(redis.url) as port, listening(port, woken):
            with Raw(unix_socket_path=str(redis.path)) as raw:
                raw.publish(CHANNEL, b"\xff not json")
            await woken.again()

            assert not port.errors

    run(talk())


def test_listening_survives_a_restart(redis: Server) -> None:
    """When Redis is back, so is the subscription: it wakes, and hints come through."""

    async def talk() -> None:
        woken = Woken()
        async with opened(redis.url) as port, listening(port, woken):
            signals = port.errors = Signals("listen")
            redis.kill()
            await signals.again()
            told = port.status()
            redis.start()
            await woken.again()
            async with opened(redis.url) as admin:
                await admin.publish(["g"])
            await woken.again()

            assert (told["status"], told["message"]) == ("degraded", "Redis cannot be reached")

    run(talk())


@pytest.mark.slow
def test_listening_notices_a_wedged_redis(redis: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is open and silent is pinged: within two seconds it is known to be dead, and it comes back."""

    async def talk() -> None:
        woken = Woken()
        async with opened(redis.url) as port, listening(port, woken):
            signals = port.errors = Signals("listen")
            redis.freeze()
            await signals.again(patience_s=2)
            told = port.status()
            well = Well(caplog)
            redis.thaw()
            await woken.again()
            await well.again()

            assert (told["status"], told["message"]) == ("degraded", "Redis does not answer in time")
            assert port.status()["status"] == "ok"

    run(talk())


@pytest.mark.slow
def test_listening_closes_the_breaker_when_nobody_asks(redis: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A process that needs nothing from Redis still learns that it is well again."""

    async def talk() -> None:
        clock = FrozenClock()
        woken = Woken()
        async with opened(redis.url, clock) as port, listening(port, woken):
            redis.freeze()
            await port.get_many(["a"])
            told = port.status()["status"]
            well = Well(caplog)
            clock.pass_pause()
            redis.thaw()
            await well.again()

            assert told == "degraded"
            assert port.status()["status"] == "ok"

    run(talk())


def test_listening_goes_on_until_it_is_cancelled() -> None:
    """No failure ends it."""

    async def talk() -> None:
        async with opened("unix:///nowhere/redis.sock") as port:
            signals = port.errors = Signals("listen")
            task = asyncio.create_task(port.listen(lambda: None))
            for _ in range(3):
                await signals.again()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

            assert task.cancelled()
            assert signals["listen"] >= 3

    run(talk())
