"""The processes on one port, as they hear of each other's metrics, and of nothing else.

Whoever scrapes reaches one of several processes by chance, and counters that are now one's and now another's would
jump. So each listens on a Unix socket in a directory that their supervisor made for them alone, and writes its own
metrics, as JSON, to whoever connects; the one that is scraped reads all of them at once.

    GET /metrics ──▶ one process ──▶ 4711.sock 4712.sock … ──▶ {"bylaw_decisions": "# HELP …", …} of each
                          └─ who has not answered after `WAIT_S` is left out and counted

What a process leaves behind that was killed, the supervisor removes, who finds it dead (`forget`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

#: How long the others may take to answer, all together: they are asked at once.
WAIT_S: Final = 0.5
#: Longest answer that is read.
MAX_BYTES: Final = 8 << 20
PIECE: Final = 1 << 16

#: Texts of metrics, by the name of their family.
Texts = Mapping[str, str]

_log = logging.getLogger("bylaw.siblings")


class Siblings:
    """One of several processes, and the others as it sees them. `open`, then `close`; each once.

    Args:
        directory: which nobody else may enter.
        name: of this process; another each time one takes its place.

    Attributes:
        silent: how often one of the others did not answer in time, or not in the right form.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.silent = 0
        self._directory = directory
        self._path = _place(directory, name)
        self._server: asyncio.Server | None = None
        self._asking: asyncio.Task[list[Texts]] | None = None

    async def open(self, tell: Callable[[], Awaitable[Texts]]) -> None:
        """Tell from now on whoever asks. Where that cannot be, decisions go on, and the log says why."""
        try:
            self._server = await asyncio.start_unix_server(_teller(tell), self._path)
        except OSError as error:
            _log.warning("the other processes cannot ask this one for its metrics: %s", error.strerror or error)

    async def ask(self) -> list[Texts]:
        """Have the others tell: those that do in time. All who ask at one time share one answer, so that many who
        scrape do not keep all processes busy."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._asking)

    async def _ask_all(self) -> list[Texts]:
        others = [path for path in self._directory.glob("*.sock") if path != self._path]
        told = await asyncio.gather(*map(self._ask, others))
        return [texts for texts in told if texts is not None]

    async def _ask(self, path: Path) -> Texts | None:
        """Ask one; None: it did not tell."""
        try:
            async with asyncio.timeout(WAIT_S):
                return _texts(await _read(path))
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # it is gone, or only coming
        except (OSError, TimeoutError, ValueError):
            self.silent += 1
        return None

    async def close(self) -> None:
        """Tell no more."""
        forget(self._directory, self.name)
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
        if self._server is not None:
            self._server.close()

    def tidy(self) -> None:
        """Remove the directory, if this was the last who had something in it: for those whose supervisor is gone."""
        with suppress(OSError):
            self._directory.rmdir()


def forget(directory: Path, name: str) -> None:
    """Remove what a process that is gone may have left."""
    with suppress(OSError):
        _place(directory, name).unlink()


def _place(directory: Path, name: str) -> Path:
    return directory / f"{name}.sock"


def _teller(
    tell: Callable[[], Awaitable[Texts]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits for all of it
        try:
            async with asyncio.timeout(WAIT_S):
                writer.write(json.dumps(dict(await tell())).encode())
                await writer.drain()
        except (OSError, TimeoutError):
            writer.transport.abort()  # who asked waits no more
        finally:
            writer.close()

    return answer


async def _read(path: Path) -> bytes:
    """Read what one tells, to its end.

    Raises:
        OSError: nobody does.
        ValueError: it is too much.
    """
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        told = bytearray()
        while piece := await reader.read(PIECE):
            told += piece
            if len(told) > MAX_BYTES:
                raise ValueError("it tells too much")
        return bytes(told)
    finally:
        writer.close()


def _texts(told: bytes) -> Texts:
    """Read an answer.

    Raises:
        ValueError: it is none.
    """
    said = json.loads(told)
    if not isinstance(said, dict) or not all(isinstance(text, str) and text.count("\n") > 1 for text in said.values()):
        raise ValueError("it is no answer")
    return said
