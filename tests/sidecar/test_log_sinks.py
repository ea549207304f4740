"""Where the decision log goes, and what becomes of it when that is full, closed, slow or gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bylaw.log_chains import files_of
from sidecar.decision_log import DecisionLog
from sidecar.log_options import LogOptions
from tests.sidecar.logged import PATIENCE_S, broken, lines_in, log_to, note, until

ROOT = Path(__file__).parents[2]
QUICK = {"pause_s": 0.001, "stop_s": PATIENCE_S}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "bylaw.decision_log"]


# --- standard output ----------------------------------------------------------------------------------


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe to read from and to write to."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def to_stdout(descriptor: int, **changes: Any) -> DecisionLog:
    return DecisionLog(LogOptions("stdout", **QUICK | changes), process="one", stdout=descriptor)


def test_lines_on_standard_output(tmp_path: Path) -> None:
    """Lines go to standard output, whole, also where two processes share it."""
    with pipe() as (reading, writing):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.extend(iter(lambda: os.read(reading, 65536), b"")))
        reader.start()

        async def talk() -> None:
            logs = [to_stdout(writing), to_stdout(writing)]
            for log in logs:
                await log.start()
                note(log, 1, 500)
            await asyncio.gather(*(log.stop() for log in logs))
            assert [log.written for log in logs] == [501, 501]

        asyncio.run(talk())
        os.close(writing)
        reader.join()

    (tmp_path / "out.jsonl").write_bytes(b"".join(read))
    assert len(lines_in(tmp_path)) == 1002
    assert not broken(tmp_path)


def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is counted and told once; deciding goes on, and stopping takes no longer than it may."""
    full = os.open("/dev/full", os.O_WRONLY)

    async def talk() -> DecisionLog:
        log = to_stdout(full, max_waiting=20, stop_s=0.1)
        await log.start()
        note(log, 1, 5)
        await until(lambda: log.failed >= 3)
        note(log, 6, 50)
        async with asyncio.timeout(PATIENCE_S):
            await log.stop()
        return log

    log = asyncio.run(talk())
    os.close(full)

    assert log.written == 0
    assert log.failed >= 3
    assert log.dropped >= 50
    assert log.queued == 0
    assert told(caplog)[0] == (
        "the decision log cannot be written to standard output: No space left on device; it is tried again"
    )
    assert sum("cannot be written" in each for each in told(caplog)) == 1
    assert "could not be written before the end" in told(caplog)[-1]


def test_a_closed_pipe(caplog: pytest.LogCaptureFixture) -> None:
    """When nobody is there to read standard output, that is counted and told, and nothing ends by it."""
    with pipe() as (reading, writing):
        os.close(reading)

        async def talk() -> DecisionLog:
            log = to_stdout(writing, stop_s=0.05)
            await log.start()
            note(log, 1, 5)
            await until(lambda: log.failed >= 2)
            await log.stop()
            return log

        log = asyncio.run(talk())

    assert (log.written, log.dropped) == (0, 5)
    assert "standard output: Broken pipe" in told(caplog)[0]


def test_a_pipe_that_is_full_for_a_while(tmp_path: Path) -> None:
    """Where standard output takes a part of a batch and then no more, the rest follows, and nothing twice."""
    with pipe() as (reading, writing):
        os.set_blocking(writing, False)
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.extend(iter(lambda: os.read(reading, 65536), b"")))

        async def talk() -> None:
            log = to_stdout(writing)
            await log.start()
            note(log, 1, 200)
            await until(lambda: log.failed > 0)
            reader.start()
            await until(lambda: log.queued == 0)
            await log.stop()

        asyncio.run(talk())
        os.close(writing)
        reader.join()

    (tmp_path / "out.jsonl").write_bytes(b"".join(read))
    assert [line["n"] for line in lines_in(tmp_path)] == list(range(1, 202))
    assert not broken(tmp_path)


def test_a_pipe_that_nobody_reads_keeps_no_process() -> None:
    """A process whose standard output nobody reads goes on deciding, drops, counts, and ends when it is told to."""
    script = """
import asyncio, sys
from sidecar.decision_log import DecisionLog
from sidecar.log_options import LogOptions
from tests.sidecar.logged import note, until

async def talk():
    log = DecisionLog(LogOptions("stdout", max_waiting=500, stop_s=0.05), process="one")
    await log.start()
    for number in range(1, 5001, 50):
        note(log, number, number + 49)
        await asyncio.sleep(0)
    await log.stop()
    sys.stderr.write(f"{log.dropped > 0} {log.queued}")

asyncio.run(talk())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        code = process.wait(timeout=PATIENCE_S)
        assert process.stderr is not None
        said = process.stderr.read()

    assert (code, said.splitlines()[-1]) == (0, "True 0")


# --- files --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[Callable[[], None]]:
    """Let no file of this process grow past a size, until told to."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield lift
    finally:
        lift()


def test_a_disk_that_was_full_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where half a batch went to the disk, the other half follows when there is room: no line is lost, none is torn."""

    async def talk() -> None:
        log = log_to(tmp_path, file_bytes=4000, **QUICK)
        await log.start()
        with no_file_longer_than(2000) as lift:
            note(log, 1, 10)
            await until(lambda: log.failed >= 2)
            lift()
            await until(lambda: log.queued == 0)
        note(log, 11, 12)
        await log.stop()
        assert (log.written, log.dropped) == (13, 0)

    asyncio.run(talk())

    assert [line.get("request_id") for line in lines_in(tmp_path)] == [*(f"r{n}" for n in range(1, 13)), None]
    assert not broken(tmp_path)
    assert told(caplog) == [
        f"the decision log cannot be written to {tmp_path}: File too large; it is tried again",
        f"the decision log is written to {tmp_path} again",
    ]


def test_files_are_rotated(tmp_path: Path) -> None:
    """A file ends when the next batch would make it too large; the chain goes on in the next one."""

    async def talk() -> str:
        log = log_to(tmp_path, file_bytes=4000)
        await log.start()
        for first in range(1, 40, 3):
            note(log, first, first + 2)
            await until(lambda: log.queued == 0)
        await log.stop()
        return log.chain

    chain = asyncio.run(talk())

    files = files_of(tmp_path)
    assert [file.name for file in files] == [f"decisions-{chain}-{n:05d}.jsonl" for n in range(1, len(files) + 1)]
    assert len(files) > 5
    assert all(file.stat().st_size <= 4000 for file in files)
    assert all(file.read_bytes().endswith(b"\n") for file in files)
    assert [line["n"] for line in lines_in(tmp_path)] == list(range(1, 41))
    assert not broken(tmp_path)


def test_the_oldest_files_go(tmp_path: Path) -> None:
    """Past a total the oldest files of this chain are removed, and others' never; the chain says how far, and holds."""
    other = tmp_path / "decisions-other-00001.jsonl"
    other.write_bytes(b"")

    async def talk() -> None:
        log = log_to(tmp_path, file_bytes=4000, total_bytes=12_000)
        await log.start()
        for first in range(1, 100, 3):
            note(log, first, first + 2)
            await until(lambda: log.queued == 0)
        await log.stop()
        assert log.dropped == 0

    asyncio.run(talk())

    lines = lines_in(tmp_path)
    assert other.exists()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 18_000
    assert lines[0]["n"] > 50
    assert max(line.get("removed", 0) for line in lines) >= lines[0]["n"] - 1
    assert not broken(tmp_path)


def test_what_is_removed_was_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a file goes the chain on the disk already says so: a kill in between leaves a log that holds."""
    seen: list[bool] = []
    unlink = Path.unlink

    def watched(file: Path, missing_ok: bool = False) -> None:
        last = json.loads(file.read_text().splitlines()[-1])["n"]
        seen.append(max(line.get("removed", 0) for line in lines_in(tmp_path)) >= last)
        unlink(file, missing_ok=missing_ok)

    async def talk() -> None:
        log = log_to(tmp_path, file_bytes=2000, total_bytes=4000)
        await log.start()
        for first in range(1, 40, 2):
            note(log, first, first + 1)
            await until(lambda: log.queued == 0)
        await log.stop()

    monkeypatch.setattr(Path, "unlink", watched)
    asyncio.run(talk())

    assert len(seen) > 3
    assert all(seen)


def test_files_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the oldest file cannot be removed the log goes on, counts it, and tries again with the next batch."""
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no")))

    async def talk() -> None:
        log = log_to(tmp_path, file_bytes=2000, total_bytes=4000)
        await log.start()
        for first in range(1, 20, 2):
            note(log, first, first + 1)
            await until(lambda: log.queued == 0)
        for _ in range(50):
            await asyncio.to_thread(int)  # a turn for who waits for a thread
        said = [line["removed"] for line in lines_in(tmp_path) if "removed" in line]
        assert log.failed > 2
        assert lines_in(tmp_path)[0]["n"] == 1
        assert said == sorted(set(said))
        monkeypatch.setattr(Path, "unlink", unlink)
        note(log, 21, 22)
        await log.stop()

    asyncio.run(talk())

    assert lines_in(tmp_path)[0]["n"] > 10
    assert not broken(tmp_path)


def test_a_file_that_somebody_removed(tmp_path: Path) -> None:
    """Nothing is written to a file that is gone: a new one is begun, in a directory that is made again."""
    folder = tmp_path / "log"

    async def talk() -> None:
        log = log_to(folder)
        await log.start()
        note(log, 1, 2)
        await until(lambda: log.queued == 0)
        files_of(folder)[0].unlink()
        folder.rmdir()
        note(log, 3, 4)
        await log.stop()

    asyncio.run(talk())

    assert [line["n"] for line in lines_in(folder)] == [3, 4, 5]
    assert "lines 1 to 2 are missing" in broken(folder)[0]


def test_others_cannot_read_the_files(tmp_path: Path) -> None:
    """A log says who did what: it is for its owner and group alone."""
    folder = tmp_path / "log"

    async def talk() -> None:
        log = log_to(folder)
        await log.start()
        await log.stop()

    asyncio.run(talk())

    assert folder.stat().st_mode & 0o007 == 0
    assert files_of(folder)[0].stat().st_mode & 0o007 == 0


# --- a collector --------------------------------------------------------------------------------------

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Collector:
    """A real HTTP server that takes batches, and answers as it is told."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken = b""
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        if self.answer is not None:
            response = await self.answer(request)
            if response.status >= 300:
                return response
        self.taken += body
        return web.Response(status=204)

    @contextlib.asynccontextmanager
    async def live(self, port: int = 0) -> AsyncIterator[Collector]:
        app = web.Application()
        app.router.add_post("/in", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://me:secret@127.0.0.1:{runner.addresses[0][1]}/in?token=secret"
        try:
            yield self
        finally:
            await runner.cleanup()


def to_collector(collector: Collector, **changes: Any) -> DecisionLog:
    return DecisionLog(LogOptions(collector.url, **QUICK | changes), process="one")


def whole(taken: bytes, folder: Path) -> list[int]:
    """The numbers of the lines that a collector took, which hold as a chain."""
    (folder / "taken.jsonl").write_bytes(taken)
    assert not broken(folder)
    return [json.loads(line)["n"] for line in taken.splitlines()]


def test_batches_to_a_collector(tmp_path: Path) -> None:
    """Lines go to a collector in batches, as newline-delimited JSON, with the URL's credentials."""

    async def talk() -> Collector:
        async with Collector().live() as collector:
            log = to_collector(collector)
            await log.start()
            note(log, 1, 1200)
            await log.stop()
            assert (log.written, log.dropped, log.failed) == (1201, 0, 0)
            return collector

    collector = asyncio.run(talk())

    headers, body = collector.requests[0]
    assert whole(collector.taken, tmp_path) == list(range(1, 1202))
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["Authorization"] == "Basic bWU6c2VjcmV0"
    assert headers["Idempotency-Key"].endswith("-1-500")
    assert len(body.splitlines()) == 500
    assert len(collector.requests) == 4  # the end comes alone


@pytest.mark.parametrize("status", [302, 400, 413, 429, 500, 503])
def test_a_collector_that_refuses(status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but 2xx takes a batch; it is offered again, the same, until it is taken."""

    async def talk() -> Collector:
        async def answer(_: web.Request) -> web.Response:
            is_over = len(collector.requests) > 3
            return web.Response(status=204 if is_over else status, headers={"Location": collector.url})

        async with Collector(answer).live() as collector:
            log = to_collector(collector)
            await log.start()
            note(log, 1, 5)
            await until(lambda: log.failed == 3)
            note(log, 6, 9)
            await log.stop()
            assert (log.written, log.dropped, log.failed) == (10, 0, 3)
            return collector

    collector = asyncio.run(talk())

    assert whole(collector.taken, tmp_path) == list(range(1, 11))
    assert len({headers["Idempotency-Key"] for headers, _ in collector.requests[:4]}) == 1
    assert len({body for _, body in collector.requests[:4]}) == 1
    assert f"it answered {status}; it is tried again" in told(caplog)[0]
    assert not any("secret" in each for each in told(caplog))


def test_a_collector_that_is_gone_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While a collector is gone what has no room is dropped and counted; when it is back the chain goes on."""

    async def talk() -> tuple[bytes, bytes, int]:
        async with Collector().live() as first:
            log = to_collector(first, max_waiting=10)
            await log.start()
            note(log, 1, 3)
            await until(lambda: log.written == 3)
            port = int(first.url.rpartition("/in")[0].rpartition(":")[2])
        note(log, 4, 6)
        await until(lambda: log.failed >= 2)
        note(log, 7, 30)
        async with Collector().live(port) as second:
            await until(lambda: log.queued == 0 and bool(second.requests))
            await log.stop()
        return first.taken, second.taken, log.dropped

    first, second, dropped = asyncio.run(talk())

    lines = [json.loads(line) for line in (first + second).splitlines()]
    assert dropped == 14
    assert whole(first + second, tmp_path) == list(range(1, len(lines) + 1))
    assert [line["dropped"] for line in lines if "dropped" in line] == [14]
    assert "no answer (ClientConnectorError)" in told(caplog)[0]
    assert not any("secret" in each for each in told(caplog))


def test_a_slow_collector_blocks_nothing(tmp_path: Path) -> None:
    """While a collector takes its time, decisions are noted at once; stopping is not kept by it."""

    async def talk() -> tuple[DecisionLog, bytes]:
        async def answer(_: web.Request) -> web.Response:
            await asyncio.Event().wait()
            return web.Response()

        async with Collector(answer).live() as collector:
            log = to_collector(collector, max_waiting=100, stop_s=0.05)
            await log.start()
            note(log, 1, 50)
            await until(lambda: bool(collector.requests))
            note(log, 51, 300)
            async with asyncio.timeout(PATIENCE_S):
                await log.stop()
            return log, collector.taken

    log, taken = asyncio.run(talk())

    assert (log.written, log.dropped, taken) == (0, 300, b"")


def test_a_collector_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """An answer that does not come in time is a failure, and the batch is offered again."""

    async def talk() -> bytes:
        async def answer(_: web.Request) -> web.Response:
            if len(collector.requests) == 1:
                await asyncio.Event().wait()
            return web.Response()

        async with Collector(answer).live() as collector:
            log = to_collector(collector, timeout_s=0.05)
            await log.start()
            note(log, 1, 5)
            await until(lambda: log.written == 5)
            await log.stop()
            assert log.failed == 1
            return collector.taken

    taken = asyncio.run(talk())

    assert whole(taken, tmp_path) == list(range(1, 7))
    assert "no answer within 0.05 s" in told(caplog)[0]
