"""The metrics of several processes, told by whichever is asked."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with the PostgreSQL package
import pytest

from sidecar import siblings
from sidecar.siblings import Siblings, Texts, forget
from tests.sidecar.exposition import Exposition, read
from tests.sidecar.test_process import BODY, ask, connected, listening, process, read_until
from tests.sidecar.test_workers import children, one_to_each, several, until

TEXTS = {"a": "# HELP a A\n# TYPE a gauge\na 1\n"}


@pytest.fixture
def meeting() -> Iterator[Path]:
    """A directory with a short name: that of a socket may not be long."""
    with tempfile.TemporaryDirectory(prefix="meet-") as directory:
        yield Path(directory)


def telling(texts: Texts) -> Callable[[], Awaitable[Texts]]:
    async def tell() -> Texts:
        return texts

    return tell


async def beside(meeting: Path, answer: bytes | None) -> tuple[list[Texts], int]:
    """Ask where one tells as it should, and another answers this; None: never. Return what is told, and how often one
    was silent."""
    here, good = Siblings(meeting, "1"), Siblings(meeting, "2")
    await good.open(telling(TEXTS))
    gone = asyncio.Event()

    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await gone.wait()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(other, meeting / "3.sock"):
        told = await here.ask()
        gone.set()
    await good.close()
    return told, here.silent


# --- one asks the others ------------------------------------------------------------------------------


def test_each_tells_the_others(meeting: Path) -> None:
    """Who asks gets what all others tell, and nothing of his own; when one has left, what is left."""

    async def meet() -> list[list[Texts]]:
        here, there, late = (Siblings(meeting, name) for name in ("1", "2", "3"))
        for each in (here, there, late):
            await each.open(telling({"of": f"# HELP\n# TYPE\n{each.name}\n"}))
        found = [await here.ask(), await late.ask()]
        await there.close()
        found.append(await here.ask())
        for each in (here, late):
            await each.close()
        return found

    found = asyncio.run(meet())

    names = [sorted(texts["of"].split("\n")[2] for texts in told) for told in found]
    assert names == [["2", "3"], ["1", "2"], ["3"]]
    assert list(meeting.iterdir()) == []


def test_who_is_silent_costs_only_his_own(meeting: Path) -> None:
    """One who does not answer in time is left out and counted; the others are told of."""
    told, silent = asyncio.run(beside(meeting, None))

    assert (told, silent) == ([TEXTS], 1)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"a": 1}', b'{"a": "no head"}', b"\xff", b'{"a": "# HELP'])
def test_what_is_no_answer_is_left_out(meeting: Path, answer: bytes) -> None:
    """One who answers something else, or is cut off, is left out and counted."""
    told, silent = asyncio.run(beside(meeting, answer))

    assert (told, silent) == ([TEXTS], 1)


def test_too_much_is_not_read(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who tells without end is left out and counted."""
    monkeypatch.setattr(siblings, "MAX_BYTES", 1000)

    told, silent = asyncio.run(beside(meeting, json.dumps({"a": TEXTS["a"] * 100}).encode()))

    assert (told, silent) == ([TEXTS], 1)


def test_much_is_told_whole(meeting: Path) -> None:
    """An answer of some megabytes comes whole."""
    large = {"a": TEXTS["a"] + "a 1\n" * 500_000}

    told, silent = asyncio.run(beside(meeting, json.dumps(large).encode()))

    assert (large in told, silent) == (True, 0)


def test_who_is_dead_is_not_silent(meeting: Path) -> None:
    """What a process left that was killed counts for nothing, until it is removed."""

    async def meet() -> int:
        here = Siblings(meeting, "1")
        server = await asyncio.start_unix_server(lambda _, writer: writer.close(), meeting / "2.sock")
        server.close()
        assert await here.ask() == []
        return here.silent

    assert asyncio.run(meet()) == 0
    (meeting / "2.sock").touch()
    forget(meeting, "2")
    forget(meeting, "2")
    assert list(meeting.iterdir()) == []


def test_all_who_ask_at_one_time_share_an_answer(meeting: Path) -> None:
    """However many scrape at one time, each process is asked once; who scrapes later is told anew."""
    told = 0

    async def tell() -> Texts:
        nonlocal told
        told += 1
        return TEXTS

    async def meet() -> tuple[list[list[Texts]], list[int]]:
        here, there = Siblings(meeting, "1"), Siblings(meeting, "2")
        await there.open(tell)
        found = await asyncio.gather(*(here.ask() for _ in range(20)))
        after = [told]
        found.append(await here.ask())
        await there.close()
        return found, [*after, told]

    found, counts = asyncio.run(meet())

    assert found == [[TEXTS]] * 21
    assert counts == [1, 2]


def test_one_who_gives_up_asking_does_not_take_the_answer_from_others(meeting: Path) -> None:
    """Where one of several who ask at one time goes away, the others are told."""

    async def meet() -> list[Texts]:
        here, there = Siblings(meeting, "1"), Siblings(meeting, "2")
        await there.open(telling(TEXTS))
        first, second = asyncio.create_task(here.ask()), asyncio.create_task(here.ask())
        await asyncio.sleep(0)
        first.cancel()
        found = await second
        await there.close()
        return found

    assert asyncio.run(meet()) == [TEXTS]


def test_where_nobody_can_listen_it_says_so(meeting: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A place that cannot be listened at is told in the log, and the process goes on by itself."""

    async def meet() -> list[Texts]:
        here = Siblings(meeting / ("long" * 30), "1")
        await here.open(telling(TEXTS))
        found = await here.ask()
        await here.close()
        return found

    assert asyncio.run(meet()) == []
    assert "cannot ask this one for its metrics: AF_UNIX path too long" in caplog.text


# --- real processes -----------------------------------------------------------------------------------


@contextmanager
def working(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run three processes that meet below a folder; say where they listen."""
    monkeypatch.setenv("TMPDIR", str(folder))
    with process(*several()) as started:
        yield started, listening(started)


def scraped(where: str) -> Exposition:
    with connected(where) as connection:
        answer = ask(connection, "GET", "/metrics")
    assert answer.status == 200
    return read(answer.text)


def workers(found: Exposition) -> set[str]:
    """List the processes that a scrape tells of."""
    return {worker for labels in found.of("process_start_time_seconds") for _, worker in labels}


@pytest.mark.slow
def test_a_scrape_tells_of_all(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process a scrape reaches, it tells what each of all processes counted, in one exposition."""
    with working(meeting, monkeypatch) as (started, where):
        pids = children(started)
        with one_to_each(where, pids) as connections:
            for number, connection in enumerate(connections.values(), start=1):
                for _ in range(number):
                    assert ask(connection, "POST", "/check", BODY).status == 200
            scrapes = [read(ask(each, "GET", "/metrics").text) for each in connections.values()]
            asked = {str(pid): number for number, pid in enumerate(connections, start=1)}
        [directory] = meeting.iterdir()
        mode = directory.stat().st_mode & 0o777
        started.terminate()
        code = started.wait(10)

    for found in scrapes:
        counts = found.of("bylaw_decide_seconds_count")
        assert {dict(labels)["worker"]: count for labels, count in counts.items()} == asked
        assert {label for name in found.series for label in [found.labels(name) >= {"worker"}]} == {True}
    assert (mode, code) == (0o700, 0)
    assert list(meeting.iterdir()) == []  # the directory is gone with them


@pytest.mark.slow
def test_one_that_hangs_costs_only_its_own(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process hangs, a scrape of another tells of the rest in time, and counts the silence."""
    with working(meeting, monkeypatch) as (started, where):
        frozen, *others = sorted(children(started), key=lambda each: int(each.pid))
        with one_to_each(where, {frozen, *others}) as connections:
            frozen.send_signal(signal.SIGSTOP)
            try:
                found = read(ask(connections[others[0].pid], "GET", "/metrics").text)
                again = read(ask(connections[others[0].pid], "GET", "/metrics").text)
            finally:
                frozen.send_signal(signal.SIGCONT)

    assert workers(found) == workers(again) == {str(each.pid) for each in others}
    assert again.value("bylaw_siblings_silent_total", worker=str(others[0].pid)) == 1  # the second is not told of yet


@pytest.mark.slow
def test_one_that_was_killed_is_forgotten(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process leaves is removed, and the one in its place is told of, with counts of its own."""
    with working(meeting, monkeypatch) as (started, where):
        before = children(started)
        victim = min(before, key=lambda each: int(each.pid))
        victim.kill()
        read_until(started.stderr, "takes its place")
        until(lambda: len(workers(scraped(where))) == 3, "nobody takes its place")

        found = scraped(where)
        [directory] = meeting.iterdir()
        places = {path.stem for path in directory.iterdir()}

    assert str(victim.pid) not in workers(found)
    assert places == workers(found)
    assert sum(found.of("bylaw_siblings_silent_total").values()) == 0


@pytest.mark.slow
def test_nothing_stays_when_the_supervisor_is_killed(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the supervisor is killed, the last process that ends removes the directory."""
    with working(meeting, monkeypatch) as (started, _):
        processes = children(started)

        started.kill()
        _, alive = psutil.wait_procs(processes, timeout=15)

    assert alive == []
    assert list(meeting.iterdir()) == []
