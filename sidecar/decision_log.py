"""The decision log: one line for each decision, written after the answer, and never at its cost.

    note ──▶ waiting (bounded) ──▶ writer: lines, sealed into this process's chain ──▶ sink
      └─ full: the newest is dropped and counted, and a line of the chain says so

What comes in is a question, the text of its answer and who asked: references, nothing is formatted or copied while
somebody waits for an answer. A task of the same loop makes lines of them and gives them to a sink; how they look is in
`log_lines`, what they do not show in `masking`, where they go in `log_sinks`, the settings in `log_options`.

Lines are made on the loop, `SLICE_S` at a time, not in a thread. Making one is Python from end to end: a thread would
do it while it holds the interpreter, and the loop, whenever it comes back from the kernel, would wait for up to the
switch interval of 5 ms. With 10,000 lines a second one timer in a hundred was late by 4.5 ms with a thread, by 2.0 ms
with slices, and by 0.9 ms without a log (medians of eight runs on two busy cores; when quiet 2.7, 0.7 and 0.6 ms).

INVARIANT: a line is sealed only when the batch before it has been taken by the sink, and a sealed batch is offered
until it is taken. So nothing is lost between two lines of a chain, however long the sink was gone: what is lost
meanwhile was never sealed, and is counted in the chain. What is waiting or in the batch at hand when a process is
killed is lost, and nothing says so but the missing line `closed`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from json.encoder import encode_basestring_ascii as _quote
from typing import Final

from engine import BylawError
from engine.request import HttpRequest, Request
from sidecar.decision_id import DecisionIds
from sidecar.log_lines import Chain, Json, input_of, written, written_input, written_time
from sidecar.log_options import WHOLE, LogOptions
from sidecar.log_sinks import MIB, Batch, NotTakenError, Sink, make_sink
from sidecar.masking import Masks

#: Bytes of a batch; how many lines it has is the sink's to say.
BATCH_BYTES: Final = MIB
#: When so many decisions wait, lines are made of them.
FRESH: Final = 32
#: How long lines are made before others get the loop.
SLICE_S: Final = 0.00025
#: An input that is longer in its line has its objects masked: a body of a batch could else fill the disk a hundredfold.
MAX_INPUT: Final = 32 * 1024
#: Longest pause between attempts to write.
MAX_PAUSE_S: Final = 30.0
#: How long closing the sink may take, when all is written or given up.
CLOSE_S: Final = 0.25

#: What has no place in the name of a file.
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_log = logging.getLogger("bylaw.decision_log")
#: When, question, answer, caller, request id, path.
Noted = tuple[int, Request | HttpRequest, str, str, str | None, str]


# --- what a line says ---------------------------------------------------------------------------------


class Scribe:
    """Writes the members of lines.

    Args:
        randomness: gives the salt where there is none.
    """

    def __init__(self, options: LogOptions, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        salt = randomness(32) if options.salt is None else options.salt.encode("utf-8", "surrogateescape")
        self._rates = options.rates
        self._masks = Masks(options.masks, salt)

    def members(self, noted: Noted) -> str | None:
        """Write the members of a decision's line; None: it is not in the sample.

        Raises:
            ValueError, TypeError: something in it is no JSON.
        """
        now, question, answer, caller, request_id, path = noted
        moment, extra, asked = written_time(now), "", written_input(question)
        if self._masks or self._rates != WHOLE or len(asked) > MAX_INPUT:
            record: Json = {"caller": caller, "request_id": request_id, "path": path, "input": input_of(question)}
            covered = self._covered(answer, record, moment)
            if covered is None:
                return None
            answer, record, extra = covered
            caller, request_id, path = record["caller"], record["request_id"], record["path"]
            asked = written(record["input"])
        identity = "null" if request_id is None else _quote(request_id)
        return (
            f'"time": "{moment}", {answer[1:-1]}, "caller": {_quote(caller)}, "request_id": {identity}, '
            f'"path": {_quote(path)}{extra}, "input": {asked}'
        )

    def _covered(self, answer: str, record: Json, moment: str) -> tuple[str, Json, str] | None:
        """Sample and mask: return the answer and the record as they may be seen, and members that say what was done;
        None: it is not in the sample."""
        sampled = ""
        hits: list[str] = []
        if self._masks or self._rates != WHOLE:
            said = json.loads(answer)
            rate = self._rates.of(said)
            if rate < 1:
                if not is_in_sample(said["context"].get("id") or f"{moment} {record['request_id']}", rate):
                    return None
                sampled = f', "sampled": {rate}'
            record, hits = self._masks.apply(record | {"context": said["context"]})
            answer = json.dumps({"decision": said["decision"], "context": record["context"]})
        if len(written(record["input"])) > MAX_INPUT:
            record, more = self._masks.cover(record)
            hits = sorted({*hits, *more})
        return answer, record, sampled + (f', "masked": {json.dumps(hits)}' if hits else "")


def is_in_sample(identity: str, rate: float) -> bool:
    """Say whether a decision is in the sample of a rate. Every process says the same; and what is in a sample is in
    every larger one."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) < rate * 2**64


# --- the log ------------------------------------------------------------------------------------------


class DecisionLog:
    """The log of one process. `start`, `note` for each decision, `stop`.

    Args:
        process: names the process; its chain is named by it and by when it began.
        stdout: the descriptor that is standard output to whoever started the service.
        clock: the time, in nanoseconds since 1970.

    Attributes:
        written: lines that the sink has taken.
        dropped: decisions that are not in the log: there was no room, or no line could be made of them.
        failed: attempts to write that came to nothing.
    """

    def __init__(
        self,
        options: LogOptions,
        *,
        process: str,
        stdout: int = 1,
        clock: Callable[[], int] = time.time_ns,
        randomness: Callable[[int], bytes] = os.urandom,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._clock = clock
        self._chance = chance
        self._scribe = Scribe(options, randomness=randomness)
        identity = DecisionIds(clock=clock, randomness=randomness).next()
        self._chain = Chain(f"{_NOT_IN_NAMES.sub('_', process)}-{identity}")
        self._sink: Sink = make_sink(
            options.place,
            self._chain.name,
            stdout=stdout,
            file_bytes=options.file_bytes,
            total_bytes=options.total_bytes,
            timeout_s=options.timeout_s,
        )
        self._waiting: deque[Noted | str] = deque()  # the text is members of a line about the chain itself
        self._max_waiting = options.max_waiting
        self._wake = asyncio.Event()
        self._wake_at = 0  # how many must wait for the writer to be woken; 0: nobody sleeps
        self._stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._in_hand = 0
        self._outgrown = 0
        self._said_dropped = 0
        self._has_told_drops = False
        self.written = self.dropped = self.failed = 0

    @property
    def chain(self) -> str:
        """The name of the chain."""
        return self._chain.name

    @property
    def queued(self) -> int:
        """How many lines are still to be written."""
        return len(self._waiting) + self._in_hand

    async def start(self) -> None:
        """Begin to write.

        Raises:
            BylawError: there is nowhere to write to.
        """
        try:
            await self._sink.open()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BylawError(
                "bad_settings", f"BYLAW_DECISION_LOG: {self._sink.place} cannot be written to: {reason}"
            ) from error
        self._writing = asyncio.create_task(self._write())

    def note(
        self, question: Request | HttpRequest, answer: str, caller: str, request_id: str | None, path: str
    ) -> None:
        """Take a decision; never waits, never fails.

        Args:
            question: as it was asked; its `now` is the instant of the decision.
            answer: the JSON object that the caller was given.
            path: where it was asked.
        """
        waiting = self._waiting
        size = len(waiting)
        if size >= self._max_waiting:
            self.dropped += 1
            return
        now = question.now
        waiting.append((self._clock() if now is None else now, question, answer, caller, request_id, path))
        if size + 1 == self._wake_at:
            self._wake.set()

    async def stop(self) -> None:
        """Write what is waiting, and that this is the end; what cannot be written in time is dropped."""
        if self._writing is None:
            return
        self._max_waiting = 0  # what is decided from here on comes too late
        self._stopping.set()
        self._wake.set()
        _, late = await asyncio.wait({self._writing}, timeout=self._options.stop_s)
        for task in late:
            task.cancel()
        await asyncio.wait({self._writing})
        if self.queued:
            self.dropped += self.queued
            _log.warning("%d lines of the decision log could not be written before the end", self.queued)
            self._waiting.clear()
            self._in_hand = 0
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._sink.close()
        self._writing = None

    # --- the writer ---------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write until told to stop, and then what is left."""
        while not self._stopping.is_set():
            await self._sleep_until(1, None)
            await self._write_waiting()
        await self._write_waiting()  # it may have been told to stop before it began
        self._say_dropped()
        self._waiting.append(f'"time": "{written_time(self._clock())}", "closed": true')
        await self._write_waiting()

    async def _sleep_until(self, count: int, limit_s: float | None) -> None:
        """Wait until so many wait, or until the time is over, or the end has come."""
        if len(self._waiting) >= count or self._stopping.is_set():
            return
        self._wake.clear()
        self._wake_at = count
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        self._wake_at = 0

    async def _write_waiting(self) -> None:
        """Write all that is waiting, batch by batch."""
        while self._waiting or self._has_news():
            batch = await self._make_batch()
            if batch is not None:
                await self._deliver(batch)
            if self._sink.outgrown():
                await self._make_room()

    def _has_news(self) -> bool:
        """Say whether something was dropped that the chain has not said; at the end it is said once."""
        return self.dropped > self._said_dropped and not self._stopping.is_set()

    def _say_dropped(self) -> None:
        """Have the chain say what was dropped, behind all that came before it."""
        lost = self.dropped - self._said_dropped
        if lost:
            self._said_dropped = self.dropped
            self._waiting.append(f'"time": "{written_time(self._clock())}", "dropped": {lost}')
            self._tell_dropped("more than can be written")

    async def _make_batch(self) -> Batch | None:
        """Make lines of what is waiting, and of what comes within a moment, as many as go into a batch; None: nothing
        of it is in the sample."""
        if self._has_news():
            self._say_dropped()
        lines: list[bytes] = []
        first, clock = self._chain.n + 1, asyncio.get_running_loop().time
        size, ends = 0, clock() + self._sink.linger_s
        while True:
            size = await self._make_lines(lines, size)
            left = ends - clock()
            if len(lines) >= self._sink.batch_lines or size >= BATCH_BYTES or left <= 0 or self._stopping.is_set():
                break
            await self._sleep_until(FRESH, left)
        return Batch(b"".join(lines), first, self._chain.n) if lines else None

    async def _make_lines(self, lines: list[bytes], size: int) -> int:
        """Make lines of what is waiting, a slice at a time; return how many bytes they have, with those before."""
        until = time.perf_counter() + SLICE_S
        while self._waiting and len(lines) < self._sink.batch_lines and size < BATCH_BYTES:
            line = self._line(self._waiting.popleft())
            if line is not None:
                lines.append(line)
                size += len(line)
                self._in_hand += 1
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_S
        return size

    def _line(self, noted: Noted | str) -> bytes | None:
        try:
            members = noted if isinstance(noted, str) else self._scribe.members(noted)
            return None if members is None else self._chain.seal(members)
        except Exception as error:  # whatever it is, the next line is not its fault
            self.dropped += 1
            self._tell_dropped(f"no line can be made of it ({type(error).__name__})")
            return None

    async def _deliver(self, batch: Batch) -> None:
        """Offer a batch to the sink until all of it is taken."""
        start, attempts = 0, 0
        while start < len(batch.data):
            try:
                start += await self._sink.write(batch, start)
                if attempts:
                    _log.warning("the decision log is written to %s again", self._sink.place)
                attempts = 0
            except Exception as error:  # whatever it is, the chain must not lose a line
                if not attempts:
                    self._tell_failed(error)
                self.failed += 1
                await self._pause(attempts)
                attempts += 1
        self.written += batch.last - batch.first + 1
        self._in_hand = 0

    async def _pause(self, attempts: int) -> None:
        """Wait before the next attempt: longer each time, and never all processes at once."""
        pause_s = self._options.pause_s * 2 ** min(attempts, 16) * (0.5 + self._chance() / 2)
        if self._stopping.is_set():
            await asyncio.sleep(min(pause_s, self._options.stop_s / 10))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pause_s, MAX_PAUSE_S)):
                await self._stopping.wait()

    async def _make_room(self) -> None:
        """Remove files of which the chain says that they may be gone; have it say so of those that are too many."""
        try:
            await self._sink.forget(self._outgrown)
        except OSError:  # the next batch tries again
            self.failed += 1
        found = self._sink.outgrown()
        if found > self._outgrown:
            self._outgrown = found
            self._waiting.appendleft(f'"time": "{written_time(self._clock())}", "removed": {found}')

    # --- what is told of it -------------------------------------------------------------------------

    def _tell_failed(self, error: Exception) -> None:
        """Tell the first failure of a row."""
        match error:
            case OSError(strerror=str(reason)):
                pass
            case NotTakenError():
                reason = str(error)
            case _:
                reason = type(error).__name__
        _log.warning("the decision log cannot be written to %s: %s; it is tried again", self._sink.place, reason)

    def _tell_dropped(self, reason: str) -> None:
        """Tell the first drop; the others are counted."""
        if not self._has_told_drops:
            self._has_told_drops = True
            _log.warning("decisions are missing from the decision log: %s; the metrics count them", reason)
