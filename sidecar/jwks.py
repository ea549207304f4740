"""The issuer's keys, as one process has them: from a file or a URL, renewed beside the requests, and on demand.

    every 5 minutes, a file every 2 seconds ─┐
    a token that names an unknown key ───────┴▶ one fetch at a time ──▶ read ──▶ `current`, replaced whole
                                                                          └─ whatever is wrong ──▶ `problem`

A new set takes the place of the one before at once and whole: a key that is not in it verifies nothing from then on.
Rotation is the issuer's: new and old key stand in the set side by side for as long as tokens by the old one live.

What cannot be had or understood, or has no key that verifies, changes nothing: the keys that are there stay, for as
long as it takes, since the issuer's outage must not become ours; `status` tells. They do not grow old: who wants a key
gone takes it out of the set.

INVARIANT: tokens that name unknown keys cost one fetch per cool-down, however many they are and however it ends.

A file must be right at the start, as settings must. A URL need not answer then: there are no keys yet, every token is
rejected, and it is tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote

from aiohttp import (
    ClientConnectionError,
    ClientConnectorDNSError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from engine import BylawError
from sidecar.addresses import Address
from sidecar.identity import KeySet
from sidecar.settings import SettingsError

MAX_BYTES: Final = 256 * 1024
#: Of what was left out, as much is told.
MAX_TOLD: Final = 10

_ACCEPT: Final = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
_log = logging.getLogger("bylaw.jwks")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds.

    Args:
        renew_s: between two fetches from a URL. look_s: between two looks at a file.
        cool_down_s: between two fetches because of unknown keys.
        timeout_s: for one fetch.
        first_pause_s, last_pause_s: after a fetch that failed; each pause is twice the one before.
    """

    renew_s: float = 300.0
    look_s: float = 2.0
    cool_down_s: float = 30.0
    timeout_s: float = 5.0
    first_pause_s: float = 1.0
    last_pause_s: float = 60.0

    def pause_s(self, period_s: float, failures: int) -> float:
        """Say how long to wait for the next fetch, after so many in a row that failed."""
        if not failures:
            return period_s
        return min(self.first_pause_s * 2.0 ** min(failures - 1, 20), self.last_pause_s, period_s)


class Source(Protocol):
    """Where a JWKS document is.

    Attributes:
        shown: where, without credentials.
        is_near: whether it can be looked at often, and must be there at the start.
    """

    shown: str
    is_near: bool

    async def read(self, timeout_s: float) -> bytes:
        """Read it, at most one byte more than `MAX_BYTES`.

        Raises:
            BylawError: it cannot be had.
        """
        ...


class Keys:
    """Holds the keys of one issuer for one process. `start`, then `stop`; each once.

    Args:
        source: a path, a `file:` URL, or an https URL; http only to this machine.
        clock: seconds that only go forward.

    Attributes:
        current: the keys that verify now. Another set is another object.
        problem: why they may not be what the source has; None if they are.
        fetches: how often the source was read, or tried to.

    Raises:
        SettingsError: the source is no such thing.
    """

    def __init__(self, source: str, *, clock: Callable[[], float], pace: Pace | None = None) -> None:
        self.current = KeySet()
        self.problem: BylawError | None = None
        self.fetches = 0
        self._source = parse_source(source)
        self._clock = clock
        self._pace = pace or Pace()
        self._digest = b""
        self._failures = 0
        self._seen: float | None = None
        self._asked = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch for the first time, and go on doing it.

        Raises:
            SettingsError: it is a file, and cannot be read or understood.
        """
        self._fly()
        await self._landing()
        if self.problem is not None and self._source.is_near:
            raise SettingsError(f"BYLAW_JWKS, {self._source.shown}: {self.problem.message}") from self.problem
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Fetch no more."""
        self._asked = float("inf")
        tasks = [task for task in (self._following, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- on demand ---------------------------------------------------------------------------------

    @property
    def may_learn(self) -> bool:
        """Say whether `refreshed` may bring a key that is not here now."""
        return self._is_flying() or self._is_due()

    async def refreshed(self, kid: str | None) -> KeySet:
        """Return the keys; if they lack one and the cool-down is over, after a fetch.

        All who wait at one time share one fetch. One that is on its way already may have been answered before the key
        was there: so it is waited for first, and does not count.
        """
        if self.current.find(kid) is None:
            await self._landing()
        if self.current.find(kid) is None and self._is_due():
            self._asked = self._clock()
            self._fly()
        if self.current.find(kid) is None:
            await self._landing()
        return self.current

    def _is_due(self) -> bool:
        return self._clock() - self._asked >= self._pace.cool_down_s

    # --- fetching ----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Renew for ever."""
        period_s = self._pace.look_s if self._source.is_near else self._pace.renew_s
        while True:
            await asyncio.sleep(self._pace.pause_s(period_s, self._failures))
            self._fly()
            await self._landing()

    def _is_flying(self) -> bool:
        return self._flight is not None and not self._flight.done()

    def _fly(self) -> None:
        """Begin to fetch, unless somebody has."""
        if not self._is_flying():
            self._flight = asyncio.create_task(self._fetch())

    async def _landing(self) -> None:
        """Wait for the fetch that is on its way, if one is. It goes on though nobody waits any more."""
        if self._flight is not None:
            await asyncio.wait([self._flight])

    async def _fetch(self) -> None:
        """Fetch once. INVARIANT: nothing is raised, and the keys are replaced whole or not at all."""
        self.fetches += 1
        sent = self._clock()
        try:
            self._take(await self._source.read(self._pace.timeout_s))
        except BylawError as error:
            self._note(error)
        except Exception:
            _log.exception("%s: the keys could not be renewed", self._source.shown)
            self._note(BylawError("internal", "the keys could not be renewed; the log says more"))
        else:
            self._seen = sent
            self._note(None)

    def _take(self, raw: bytes) -> None:
        """Let a document's keys verify from now on.

        Raises:
            BylawError: it has none.
        """
        digest = hashlib.sha256(raw).digest()
        if digest == self._digest:
            return
        found = read_keys(raw)
        if not found.keys:
            why = f": {found.left_out[0]}" if found.left_out else ""
            raise BylawError("bad_keys", f"no key of the set can verify tokens{why}")
        self.current, self._digest = found, digest
        for sentence in found.left_out:
            _log.warning("%s: a key is left out: %s", self._source.shown, sentence)

    def _note(self, problem: BylawError | None) -> None:
        """Remember what is wrong, and tell once."""
        said, before = problem and problem.message, self.problem and self.problem.message
        if said != before:
            _log.warning("%s: %s", self._source.shown, said or "the keys can be had again")
        self.problem = problem
        self._failures = self._failures + 1 if problem else 0

    # --- telling -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Tell how it is, for `/ready`: `ok`, or `degraded` with the reason. Never worse: those without a token, and
        with one that the keys verify, are served."""
        age_s = None if self._seen is None else round(self._clock() - self._seen, 3)
        told: dict[str, Any] = {"url": self._source.shown, "keys": len(self.current.keys), "age_s": age_s}
        if self.current.left_out:
            told["left_out"] = list(self.current.left_out[:MAX_TOLD])
        if self.problem is None:
            return {**told, "status": "ok"}
        return {**told, "status": "degraded", "error": self.problem.code, "message": self.problem.message}


# --- documents ----------------------------------------------------------------------------------------


def read_keys(raw: bytes) -> KeySet:
    """Read a JWKS document. Its bounds are others than those of a request (`strict_json`): certificates are long.

    Raises:
        BylawError: it is none.
    """
    if len(raw) > MAX_BYTES:
        raise BylawError("bad_keys", f"it is longer than {MAX_BYTES // 1024} KiB")
    try:
        said = json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BylawError("bad_keys", "it is no JSON, or ambiguous: a member stands twice in one object") from error
    return KeySet.of(said)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


# --- sources ------------------------------------------------------------------------------------------


def parse_source(text: str) -> Source:
    """Read what `BYLAW_JWKS` says.

    INVARIANT: what is refused is not quoted, since a password may stand in it.

    Raises:
        SettingsError: it is neither a path nor such a URL.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("http", "https"):
        return UrlSource(_parse_url(text))
    if colon and scheme.lower() == "file":
        return FileSource(_parse_file_url(rest))
    if not text or "://" in text:
        raise _bad("write a path, file:///path or https://host/path")
    return FileSource(text)


def _parse_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        raise _bad("the URL is malformed; percent-encode what is special in a password") from None
    if not url.host:
        raise _bad("the URL names no host")
    if url.scheme == "http" and not Address(url.host).is_loopback:
        raise _bad("keys that come by http may be anybody's: use https, and http only to this machine")
    return url


def _parse_file_url(rest: str) -> str:
    host, slash, path = rest.removeprefix("//").partition("/") if rest.startswith("//") else ("", rest[:1], rest[1:])
    if slash != "/" or host not in ("", "localhost") or "?" in path or "#" in path or "%00" in path:
        raise _bad("write file:///path, with the path of a file on this machine")
    return "/" + unquote(path, errors="surrogateescape")


def _bad(why: str) -> SettingsError:
    return SettingsError(f"BYLAW_JWKS: {why}")


class FileSource:
    """A file. It is read whole at every look, and not only when its stamps changed: it is small, and stamps may lie."""

    is_near = True

    def __init__(self, path: str) -> None:
        self.shown = f"file:{path}"
        self._path = path
        self._reading: asyncio.Task[bytes] | None = None

    async def read(self, timeout_s: float) -> bytes:
        # A disk that hangs holds one thread, which the next look waits for, too, and not one more at each look.
        reading = self._reading = self._reading or asyncio.create_task(asyncio.to_thread(_read_file, self._path))
        done, _ = await asyncio.wait([reading], timeout=timeout_s)
        if not done:
            raise BylawError("unavailable", "the file cannot be read in time")
        self._reading = None
        return reading.result()


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name is malformed"
        raise BylawError("unavailable", f"the file cannot be read: {why}") from error
    raise BylawError("unavailable", "the file cannot be read: it is no regular file")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for somebody who writes


class UrlSource:
    """A key server. Each fetch has a connection of its own: they are minutes apart."""

    is_near = False

    def __init__(self, url: URL) -> None:
        self.shown = str(url.with_user(None).with_query(None).with_fragment(None))
        self._url = url

    async def read(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s), self._session() as session:
                return await self._read(session)
        except (ClientError, OSError, TimeoutError) as error:
            _log.debug("%s: the fetch failed", self.shown, exc_info=error)
            raise BylawError("unavailable", f"the key server {_fault(error)}") from error

    def _session(self) -> ClientSession:
        return ClientSession(
            connector=TCPConnector(ssl=True, limit=1, force_close=True),
            timeout=ClientTimeout(total=None),  # that is `asyncio.timeout`, which closing is under, too
            cookie_jar=DummyCookieJar(),
            headers=_ACCEPT,
            auto_decompress=False,  # a small body must not become a large one
            trust_env=False,
            raise_for_status=False,
        )

    async def _read(self, session: ClientSession) -> bytes:
        async with session.get(self._url, allow_redirects=False) as answer:
            if 300 <= answer.status < 400:
                raise BylawError("unavailable", "the key server redirects, which is not followed: name where to")
            if answer.status != 200:
                raise BylawError("unavailable", f"the key server answers {answer.status}")
            raw = bytearray()
            while len(raw) <= MAX_BYTES and (some := await answer.content.readany()):
                raw += some
            return bytes(raw[: MAX_BYTES + 1])


def _fault(error: Exception) -> str:
    """Say what is wrong, in words of ours."""
    match error:
        case TimeoutError():
            return "does not answer in time"
        case ClientSSLError():
            return "has a certificate that is not trusted, or does not speak TLS"
        case ClientConnectorDNSError():
            return "has a name that is not known"
        case ClientConnectionError() | OSError():
            return "cannot be reached, or breaks the connection off"
        case _:
            return "answers what is no HTTP"
