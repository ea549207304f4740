"""Redis: hints between processes, and the bytes that they share. The one file that knows how to speak to it.

What comes in is text and bytes, what goes out is bytes or nothing: what entries mean, and whether they are to be
believed, is for others to say (`sidecar/second_level.py`). Nothing rests on Redis. It may be gone, slow, stopped in the
middle of an answer, emptied or rolled back, and all that is lost is time.

INVARIANT: a wedged Redis slows nobody. A command is waited for only so long; where it is not done or fails, a *breaker*
stays open for a while, in which commands come back with nothing at once, then lets one through to try.

    command ── breaker closed ──▶ within its time ──▶ answer
       │                             └─ not ──▶ counted; breaker open for 0.1 s, 0.2 s … 2 s
       └──── breaker open ──▶ nothing, at once

A command runs in a task of its own, which goes on for a second when it is not waited for any more: so a connection
that takes long to be made is there for the next one. It also keeps the library's slips from who waits: sending by
`wait_for`, it loses a cancellation that comes just when the sending is done (up to Python 3.11), and a read lasted 1 s
instead of 50 ms.

A refusal (no memory, no permission, a read-only replica) is an answer: it is counted and told, and opens nothing.

The channel carries which streams moved, `["g", "t:acme"]`, and no facts: a forged message costs a poll.

The library's retries and time-outs of commands are off, since they work behind our back, and RESP 3, which costs a
round trip for each connection and brings nothing here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio.client import Redis as Client
from redis.asyncio.connection import ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoAnswerError

from store.errors import UnfitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio.client import PubSub

CHANNEL: Final = "bylaw:v1:hints"

# How long each command is waited for, connecting included. Behind a read stands somebody who asked.
READ_TIMEOUT_S: Final = 0.05
WRITE_TIMEOUT_S: Final = 0.25
PUBLISH_TIMEOUT_S: Final = 0.1
#: A ping looks whether it is well again; nobody waits for it.
PING_TIMEOUT_S: Final = 0.5
#: How long connecting and subscribing may take, and a command that nobody waits for any more.
CONNECT_TIMEOUT_S: Final = 1.0

#: For how long the breaker stays open: after the first failure, and at most.
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 2.0
#: After so long without a failure the next one counts as the first.
QUIET_S: Final = 10.0

#: So long the subscription may be silent before it is pinged, and so long the answer may take.
BEAT_S: Final = 0.5
#: Commands on their way at once; a stampede waits here instead of opening a connection each.
MAX_COMMANDS: Final = 16
MAX_CONNECTIONS: Final = 64

#: Windows are those of the server's clock. A key lives as long as its window, and a little.
_LEASE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length = tonumber(ARGV[3])
local window = math.floor(now / length)
local key = KEYS[1] .. ':' .. window
local taken = tonumber(redis.call('GET', key) or '0')
local granted = math.min(tonumber(ARGV[1]), math.max(0, tonumber(ARGV[2]) - taken))
if granted > 0 then
  redis.call('INCRBY', key, granted)
  redis.call('PEXPIRE', key, length + 1000)
end
return {granted, (window + 1) * length - now}
"""

_SCHEMES: Final = {"redis", "rediss", "unix"}
_OPTIONS: Final = {
    "redis": frozenset[str](),
    "rediss": frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}),
    "unix": frozenset({"db", "password"}),
}

T = TypeVar("T")
Wake = Callable[[], None]
_log = logging.getLogger("bylaw.redis")


class Redis:
    """One Redis server, for one process. `close` it in the loop that used it.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://…` the same by TLS, `unix:///path[?db=1]`.
        clock: seconds that only go forward.

    Attributes:
        shown: the URL without credentials.
        errors: how many commands failed or were refused, by name.
        skipped: how many were not sent, since the breaker was open.

    Raises:
        UnfitError: it is no such URL, or names certificates that cannot be read.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.shown = shown(url)
        self.errors: Counter[str] = Counter()
        self.skipped = 0
        self._pool = ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        _read_certificates(self._pool)
        self._client = Client(connection_pool=self._pool)
        self._lease = self._client.register_script(_LEASE)
        self._kept: set[asyncio.Task[Any]] = set()
        self._slots = asyncio.Semaphore(MAX_COMMANDS)
        self._breaker = Breaker(clock)
        self._refused: dict[str, str] = {}
        self._deaf: str | None = None

    async def close(self) -> None:
        """Close all connections."""
        for task in self._kept:
            task.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)
        with suppress(RedisError, OSError, TimeoutError):
            await self._pool.aclose()

    def status(self) -> dict[str, str]:
        """Tell how it is, for `/ready`: `ok`, or `degraded` with the reason. Never worse: nothing rests on it."""
        problem = self._breaker.problem or self._deaf or next(iter(self._refused.values()), None)
        if problem is None:
            return {"url": self.shown, "status": "ok"}
        return {"url": self.shown, "status": "degraded", "error": "unavailable", "message": problem}

    # --- commands ----------------------------------------------------------------------------------

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read what stands under keys; None where nothing does, or nothing can be learned in time."""
        found = await self._try("get", READ_TIMEOUT_S, lambda: self._client.mget(keys)) if keys else None
        if not isinstance(found, list) or len(found) != len(keys):
            return [None] * len(keys)
        return [value if isinstance(value, bytes) else None for value in found]

    async def put_many(self, entries: Mapping[str, bytes], ttl_s: int) -> bool:
        """Write entries that last for a time; say whether it was done."""

        async def write() -> bool:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(key, value, ex=ttl_s)  # type: ignore[unused-awaitable]  # it only queues
                await pipeline.execute()
            return True

        return not entries or bool(await self._try("put", WRITE_TIMEOUT_S, write))

    async def delete_many(self, keys: Sequence[str]) -> bool:
        """Remove what stands under keys; say whether it was done."""
        return not keys or await self._try("delete", WRITE_TIMEOUT_S, lambda: self._client.delete(*keys)) is not None

    async def lease(self, key: str, *, wanted: int, limit: int, window_ms: int) -> tuple[int, int] | None:
        """Take up to so many of what the window that it is now has left of a limit: how many, and for how many
        milliseconds they count. None: nothing can be learned in time. One script, so that no two take the same."""
        found = await self._try("lease", READ_TIMEOUT_S, lambda: self._lease([key], [wanted, limit, window_ms]))
        match found:
            case [int(granted), int(left_ms)]:
                return granted, left_ms
            case _:
                return None

    async def publish(self, streams: Iterable[str]) -> None:
        """Hint that streams moved; `changes.Writer` takes it as its `hint`."""
        message = json.dumps(list(streams))
        await self._try("publish", PUBLISH_TIMEOUT_S, lambda: self._client.publish(CHANNEL, message))

    async def ping(self) -> bool:
        """Say whether it answers."""
        return bool(await self._try("ping", PING_TIMEOUT_S, self._client.ping))

    async def _try(self, command: str, timeout_s: float, send: Callable[[], Awaitable[T]]) -> T | None:
        """Send a command, if the breaker lets it through. INVARIANT: no error leaves, and it ends in its time."""
        ticket = self._breaker.enter(timeout_s)
        if ticket is None:
            self.skipped += 1
            return None
        try:
            found = await self._send(timeout_s, send)
        except ResponseError as error:
            self._breaker.succeed()
            self._note_refusal(command, error)
            return None
        except Exception as error:  # whatever it was, it is no reason to fail a check
            self._note_failure(command, error, ticket)
            return None
        if self._breaker.succeed():
            _log.warning("%s: Redis answers again", self.shown)
        self._refused.pop(command, None)
        return found

    async def _send(self, timeout_s: float, send: Callable[[], Awaitable[T]]) -> T:
        """Send a command when its turn comes, and wait for it as long as its time is not over.

        Raises:
            TimeoutError: it is over.
        """
        end = asyncio.get_running_loop().time() + timeout_s
        async with asyncio.timeout_at(end):
            await self._slots.acquire()
        task = self._keep(_bounded(send))
        task.add_done_callback(lambda _: self._slots.release())
        await asyncio.wait({task}, timeout=max(0.0, end - asyncio.get_running_loop().time()))
        if not task.done() or task.cancelled():
            raise TimeoutError
        return task.result()

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Have something done, whether somebody waits for it or not."""
        task = asyncio.create_task(work)
        self._kept.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._kept.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, should nobody wait any more

    def _note_refusal(self, command: str, error: ResponseError) -> None:
        self.errors[command] += 1
        if command not in self._refused:
            _log.warning("%s: Redis refuses `%s`: %s", self.shown, command, error)
        self._refused[command] = f"Redis refuses to {command}: {_fault(error)}"

    def _note_failure(self, command: str, error: Exception, ticket: int) -> None:
        self.errors[command] += 1
        if self._breaker.problem is None:
            _log.warning("%s: `%s` failed: %s", self.shown, command, type(error).__name__)
        _log.debug("%s: `%s` failed", self.shown, command, exc_info=error)
        self._breaker.fail(ticket, f"Redis {_fault(error)}")

    # --- hints -------------------------------------------------------------------------------------

    async def listen(self, wake: Wake) -> None:
        """Call `wake` at every hint, and after each subscription: what was told before it is lost. Never ends.

        A server that is there and answers nothing is noticed after a second, by pings.
        """
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with self._subscribed() as channel:
                    self._deaf, pause = None, FIRST_PAUSE_S
                    wake()
                    self._look()  # and the first read finds a connection
                    await self._hear(channel, wake)
            except Exception as error:  # hints come back when Redis does, whatever it was
                self._note_deafness(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_S)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        """Subscribe, and wait until it is done: only then nothing is missed."""
        channel = self._client.pubsub()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await channel.subscribe(CHANNEL)
                while not _says(await channel.get_message(timeout=CONNECT_TIMEOUT_S), "subscribe"):
                    pass
            yield channel
        finally:
            await channel.aclose()  # type: ignore[no-untyped-call]  # the library's slip

    async def _hear(self, channel: PubSub, wake: Wake) -> None:
        """Wait for hints until the connection breaks.

        Raises:
            NoAnswerError: a ping was not answered.
        """
        is_pinged = False
        while True:
            async with asyncio.timeout(BEAT_S + CONNECT_TIMEOUT_S):
                said = await channel.get_message(timeout=BEAT_S)
                if said is None:
                    if is_pinged:
                        raise NoAnswerError("no answer to a ping")
                    await channel.ping()
            is_pinged = said is None
            # The library may have connected anew by itself, which is a subscription like any other.
            if _says(said, "message", "subscribe"):
                wake()
            if self._breaker.problem is not None:
                self._look()  # while nobody asks, nobody else would learn that it is well again

    def _look(self) -> None:
        """Ping, for nobody in particular."""
        _ = self._keep(self.ping())

    def _note_deafness(self, error: Exception) -> None:
        self.errors["listen"] += 1
        if self._deaf is None:
            _log.warning("%s: no hints from Redis: %s", self.shown, type(error).__name__)
        _log.debug("%s: no hints", self.shown, exc_info=error)
        self._deaf = f"Redis {_fault(error)}"


class Breaker:
    """Keeps commands from a server that does not answer.

    Attributes:
        problem: why the last command failed; None once one succeeded.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.problem: str | None = None
        self._clock = clock
        self._until = 0.0
        self._failures = 0
        self._pause_s = 0.0
        self._failed_at = float("-inf")

    def enter(self, timeout_s: float) -> int | None:
        """Let a command through, and give it a ticket; None: it must not be sent. Of those that come when a pause is
        over one goes, the others wait for what it finds."""
        now = self._clock()
        if now < self._until:
            return None
        if self.problem is not None:
            self._until = now + timeout_s
        return self._failures

    def succeed(self) -> bool:
        """Take in that a command was answered; say whether that is news."""
        is_news = self.problem is not None
        self.problem, self._until = None, 0.0
        return is_news

    def fail(self, ticket: int, problem: str) -> None:
        """Take in that a command failed. Of those that were on their way together, the first counts."""
        if ticket != self._failures:
            return
        now = self._clock()
        is_again = now - self._failed_at < self._pause_s + QUIET_S
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S) if is_again else FIRST_PAUSE_S
        self._failures += 1
        self._failed_at, self._until, self.problem = now, now + self._pause_s, problem


# --- connections, URLs, words -----------------------------------------------------------------------------------


def _read_certificates(pool: ConnectionPool) -> None:
    """Read certificates once for all connections by TLS: it takes 50 ms, in which the loop stands still.

    Raises:
        UnfitError: they cannot be read.
    """
    if pool.connection_class is not SSLConnection:
        return
    try:
        certificates = SSLConnection(**pool.connection_kwargs).ssl_context
        certificates.get()
    except (OSError, RedisError) as error:
        raise UnfitError("bad_url", "the certificates that the URL of Redis names cannot be read") from error

    class Connection(SSLConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context = certificates

    pool.connection_class = Connection


def shown(url: str) -> str:
    """Check a URL, and write it without credentials.

    INVARIANT: what is refused is not quoted, since a password may stand in it.

    Raises:
        UnfitError: it is none, or has options that are not known here.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad("its host or port is malformed; percent-encode what is special in a password") from None
    if parts.scheme not in _SCHEMES:
        raise _bad("it begins with redis://, rediss:// or unix://")
    _check_options(parts)
    if parts.scheme == "unix":
        if host is not None or not parts.path.strip("/"):
            raise _bad("write unix:///path/of/the.sock")
        return f"unix://{parts.path}"
    database = parts.path.strip("/")
    if host is None or (database and not (database.isascii() and database.isdecimal())):
        raise _bad(f"write {parts.scheme}://host:port/number")
    name = f"[{host}]" if ":" in host else unquote(host)
    return f"{parts.scheme}://{name}:{port or 6379}/{database or 0}"


def _check_options(parts: SplitResult) -> None:
    given = parse_qs(parts.query, keep_blank_values=True)
    known = _OPTIONS[parts.scheme]
    if parts.fragment or not given.keys() <= known:
        raise _bad(f"after `?`, {parts.scheme}:// knows {', '.join(sorted(known)) or 'nothing'}; `#` has no meaning")
    if not all(value.isascii() and value.isdecimal() for value in given.get("db", [])):
        raise _bad("`db` is a number")


def _bad(why: str) -> UnfitError:
    return UnfitError("bad_url", f"that is no URL of a Redis server: {why}")


async def _bounded(send: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await send()


def _says(said: dict[str, object] | None, *kinds: str) -> bool:
    return said is not None and said["type"] in kinds


def _fault(error: Exception) -> str:
    """Say what is wrong, in words of ours: what the server says stays in the log."""
    cause = error.__cause__
    if isinstance(cause, RedisError):
        error = cause  # a refusal while connecting comes wrapped
    match error:
        case TimeoutError() | NoAnswerError():
            return "does not answer in time"
        case NoPermissionError():
            return "the login has no right to it"
        case ResponseError():
            return "see the log"
        case AuthenticationError() | AuthorizationError():
            return "refuses the login"
        case BusyLoadingError():
            return "is still loading its data"
        case NoConnectionError() | OSError():
            return "cannot be reached"
        case _:
            return "cannot be understood"
