"""Where the decision log goes: standard output, files, or a collector by HTTP.

A batch comes in, of whole lines; a sink takes bytes from its beginning and says how many, or raises. Whoever gave it
gives the rest again, so a sink never skips, and a disk that was full holds no half line in the middle. A sink neither
waits for better times nor retries, tells nobody and counts nothing: that is `decision_log`'s.

A write may block for as long as it likes, on a pipe that nobody reads or a disk that does not answer. So writes go
through a thread of their own, which does not keep the process from ending.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import stat
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from engine import BylawError
from sidecar.aside import Aside

if TYPE_CHECKING:
    import aiohttp

MIB: Final = 1024 * 1024
STDOUT: Final = "stdout"
FILE: Final = "file:"


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one chain, one after the other; `first` and `last` are their `n`."""

    data: bytes
    first: int
    last: int


#: Of a batch that is written on this machine. Of one of 500 nothing is left in the processor's caches when it is
#: written, and an answer meanwhile costs a twentieth more (`bench.check_http`).
FEW_LINES: Final = 64


class NotTakenError(Exception):
    """A collector did not take a batch; the sentence says why, without what it answered."""


class Sink(Protocol):
    """Where lines go.

    Attributes:
        place: how it is called, without credentials.
        linger_s: how long a batch may wait for company.
        batch_lines: most lines of a batch.
    """

    place: str
    linger_s: float
    batch_lines: int

    async def open(self) -> None:
        """Get ready.

        Raises:
            OSError: it cannot be.
        """
        ...

    async def write(self, batch: Batch, start: int) -> int:
        """Take bytes of a batch from `start` on; return how many were taken, at least one.

        Raises:
            OSError, NotTakenError: none were.
        """
        ...

    def outgrown(self) -> int:
        """Return the `n` up to which there are more lines than may be kept; 0: there are not."""
        ...

    async def forget(self, n: int) -> None:
        """Remove what ends before or at a line that `outgrown` named."""
        ...

    async def close(self) -> None:
        """End; what was taken is kept."""
        ...


# --- standard output ----------------------------------------------------------------------------------


class StdoutSink:
    """Lines on standard output. At once no more than a pipe takes whole, so that the lines of several processes that
    share it do not run into each other.

    Args:
        descriptor: of what is standard output to whoever started the service.
    """

    place = "standard output"
    linger_s = 0.05
    batch_lines = FEW_LINES

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._aside = Aside()

    async def open(self) -> None:
        if sys.__stdout__ is None and self._descriptor == 1:  # closed at the start: by now it may be anything else's
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.fstat(self._descriptor)

    async def write(self, batch: Batch, start: int) -> int:
        return await self._aside.do(lambda: self._write(batch.data, start))

    def _write(self, data: bytes, start: int) -> int:
        end = start
        while end < len(data):
            try:
                end += os.write(self._descriptor, _piece(data, end))
            except OSError:
                if end == start:
                    raise
                break
        return end - start

    def outgrown(self) -> int:
        return 0

    async def forget(self, n: int) -> None:
        """Keep all: nothing is kept here."""

    async def close(self) -> None:
        self._aside.end()


def _piece(data: bytes, start: int) -> bytes:
    """Cut off whole lines that a pipe takes in one piece; a longer line alone is taken as it is."""
    end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
    return data[start : end or data.index(b"\n", start) + 1]


# --- files --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Full:
    """A file that is not written to any more; `last` is the `n` of its last line."""

    path: Path
    size: int
    last: int


class FileSink:
    """Lines in files of this chain's own, `decisions-<chain>-00001.jsonl` and on, rotated by size.

    There is no lock and no name that two processes share: nobody else writes to a file of this chain. What lies on the
    disk is made sure of when a file ends; what a power failure takes from the one that grows is its end.

    Args:
        folder: where they lie; it is made if it is missing.
        chain: name of the chain.
        file_bytes: at which a file ends. total_bytes: of all files of the chain, before the oldest goes.
    """

    linger_s = 0.05
    batch_lines = FEW_LINES

    def __init__(self, folder: Path, chain: str, *, file_bytes: int, total_bytes: int) -> None:
        self.place = str(folder)
        self._folder = folder
        self._chain = chain
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes
        self._aside = Aside()
        self._full: deque[_Full] = deque()
        self._number = 0
        self._file: int | None = None
        self._size = 0
        self._last = 0

    async def open(self) -> None:
        await self._aside.do(self._open)

    def _open(self) -> None:
        self._make_folder()
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.place)

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)

    async def write(self, batch: Batch, start: int) -> int:
        return await self._aside.do(lambda: self._write(batch, start))

    def _write(self, batch: Batch, start: int) -> int:
        file = self._file
        if file is None or (start == 0 and self._is_over(file, len(batch.data))):
            file = self._begin()
        taken = os.write(file, memoryview(batch.data)[start:])
        self._size += taken
        if start + taken == len(batch.data):
            self._last = batch.last
        return taken

    def _is_over(self, file: int, size: int) -> bool:
        """Say whether a file is not to be written to any more: it is full, or somebody has removed it."""
        return (self._size > 0 and self._size + size > self._file_bytes) or os.fstat(file).st_nlink == 0

    def _begin(self) -> int:
        """Begin the next file, and end the one before."""
        self._make_folder()
        file = os.open(self._path(self._number + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        ended, self._file = self._file, file
        if ended is not None:
            self._full.append(_Full(self._path(self._number), self._size, self._last))
        self._number += 1
        self._size = 0
        if ended is not None:
            _end_file(ended)
        return file

    def _path(self, number: int) -> Path:
        return self._folder / f"decisions-{self._chain}-{number:05d}.jsonl"

    def outgrown(self) -> int:
        rest = self._size + sum(file.size for file in self._full)
        last = 0
        for file in self._full:
            if rest <= self._total_bytes:
                break
            rest -= file.size
            last = file.last
        return last

    async def forget(self, n: int) -> None:
        await self._aside.do(lambda: self._forget(n))

    def _forget(self, n: int) -> None:
        while self._full and self._full[0].last <= n:
            self._full[0].path.unlink(missing_ok=True)
            self._full.popleft()

    async def close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                await self._aside.do(lambda: _end_file(file))
        finally:
            self._aside.end()


def _end_file(file: int) -> None:
    """Make sure that all of a file is on the disk, as far as it is a file."""
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.fsync(file)
    finally:
        os.close(file)


# --- a collector --------------------------------------------------------------------------------------


class HttpSink:
    """Batches to a collector, by POST, as newline-delimited JSON. It has taken one when it answers 2xx.

    A batch whose answer was lost is sent again, with the same `Idempotency-Key`: the chain, and the first and last `n`.

    Args:
        url: of the collector; user and password in it become Basic authentication.
        timeout_s: how long it may take to answer.
    """

    linger_s = 0.5
    batch_lines = 500

    def __init__(self, url: str, chain: str, *, timeout_s: float) -> None:
        self.place = shown(url)
        self._url = url
        self._chain = chain
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        import aiohttp  # its client is needed here alone

        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))

    async def write(self, batch: Batch, start: int) -> int:
        import aiohttp

        if self._session is None:
            raise NotTakenError("it was not opened")
        headers = {
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": f"{self._chain}-{batch.first}-{batch.last}",
        }
        try:
            # No redirect: lines go where the operator said, and nowhere else.
            async with self._session.post(
                self._url, data=batch.data, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except TimeoutError as error:
            raise NotTakenError(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise NotTakenError(f"no answer ({type(error).__name__})") from error
        if not 200 <= status < 300:
            raise NotTakenError(f"it answered {status}")
        return len(batch.data)

    def outgrown(self) -> int:
        return 0

    async def forget(self, n: int) -> None:
        """Keep all: nothing is kept here."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


# --- which one ----------------------------------------------------------------------------------------


def check_place(place: str) -> str:
    """Hold `BYLAW_DECISION_LOG` to what there is.

    Raises:
        BylawError: there is no such sink, or it is not safe.
    """
    if place == STDOUT:
        return place
    if place.startswith(FILE):
        folder = place.removeprefix(FILE)
        if not folder or folder.startswith("//"):
            raise _unfit("a directory is written file:/var/log/bylaw")
        return place
    try:
        url = urlsplit(place)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise _unfit("the URL is malformed") from error
    if url.scheme == "https" and host:
        return place
    if url.scheme == "http" and host:
        if _is_loopback(host):
            return place
        raise _unfit("decisions go to another machine by https:// only")
    raise _unfit("expected stdout, file:/a/directory or https://a.collector/path")


def make_sink(place: str, chain: str, *, stdout: int, file_bytes: int, total_bytes: int, timeout_s: float) -> Sink:
    """Make the sink of a place that `check_place` has let through."""
    if place == STDOUT:
        return StdoutSink(stdout)
    if place.startswith(FILE):
        folder = Path(place.removeprefix(FILE))
        return FileSink(folder, chain, file_bytes=file_bytes, total_bytes=total_bytes)
    return HttpSink(place, chain, timeout_s=timeout_s)


def shown(url: str) -> str:
    """Write a URL as it may be told: its host alone, since a token may stand anywhere else."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unfit(message: str) -> BylawError:
    return BylawError("bad_settings", f"BYLAW_DECISION_LOG: {message}")
