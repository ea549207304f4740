"""The log: one record a line, in either form, and nothing in it that does not belong there."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from sidecar import logs
from sidecar.callers import PLAIN_SCOPES, LoopbackCallers
from sidecar.gate import Gate
from sidecar.logs import JSON, TEXT, set_up, tell
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic
from tests.sidecar.test_process import ended, listening, over, process, read_until

#: A line of the log, as somebody might forge it.
FORGED = '2026-11-21T14:42:47.583Z ERROR bylaw: all is well {"level": "error"}'
#: What ends a line, or a screen, somewhere.
ODD = "\n\r\x0b\x0c\x1c\x1e\x85\u2028\u2029\x1b[2J\x00\u202e\udc80"

log = logging.getLogger("bylaw.test")


class Written:
    """What was written to standard error."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._captured.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """What is written to standard error; what `set_up` changes is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield Written(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def records(written: Written) -> list[dict[str, Any]]:
    """Read lines of JSON."""
    text = written.getvalue()
    assert text.endswith("\n")
    assert text.isascii()
    return [json.loads(line) for line in text.splitlines()]


def fail() -> None:
    try:
        raise ValueError(f"it is bad\n{FORGED}")
    except ValueError:
        log.exception("something failed", extra={"request_id": "r-1"})


# --- JSON ---------------------------------------------------------------------------------------------


def test_a_record_is_an_object(stderr: Written) -> None:
    """A record says when, how bad, who, what and in which process; the request only where there is one."""
    set_up(JSON)
    before = datetime.now(UTC)

    log.warning("%s of %d", "one", 2)

    [record] = records(stderr)
    time = record.pop("time")
    assert record == {"level": "warning", "logger": "bylaw.test", "message": "one of 2", "pid": os.getpid()}
    assert time.endswith("Z")
    assert abs((datetime.fromisoformat(time) - before).total_seconds()) < 60


def test_an_exception_is_one_string(stderr: Written) -> None:
    """An exception stands in its record, whole, with the id of the request that it ended."""
    set_up(JSON)

    fail()

    [record] = records(stderr)
    assert (record["message"], record["requestId"]) == ("something failed", "r-1")
    assert record["exception"].startswith("Traceback (most recent call last):\n")
    assert record["exception"].endswith(FORGED)


def test_a_request_that_fails_is_found_by_its_id(stderr: Written) -> None:
    """What nobody expected is logged under the id that the caller is answered with, his own or a new one."""
    set_up(JSON)
    gate = Gate(LoopbackCallers({"localhost"}, PLAIN_SCOPES), Traffic(), Tellings())

    own = gate.refuse(KeyError("x"), "mine")
    new = gate.refuse(KeyError("x"), None)

    assert [record["requestId"] for record in records(stderr)] == ["mine", json.loads(new.body)["requestId"]]
    assert json.loads(own.body)["requestId"] == "mine"


def test_what_is_told_is_an_object(stderr: Written) -> None:
    """What a process tells of itself, of many lines too, is a record, without the sign for people."""
    tell("bylaw[17]: it is so:\n  line", JSON, level=logging.INFO)
    tell("bylaw: it ends", JSON)

    told, ends = records(stderr)
    assert (told["level"], told["logger"], told["message"]) == ("info", "bylaw", "it is so:\n  line")
    assert (ends["level"], ends["message"]) == ("error", "it ends")


def test_warnings_and_ends_are_records(stderr: Written) -> None:
    """What Python itself would write to standard error, over many lines, is a record."""
    set_up(JSON)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # `catch_warnings` has put back what `set_up` had changed
        warnings.warn("beware\nof it", UserWarning, stacklevel=1)

    try:
        raise RuntimeError("the end")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
        thread = threading.excepthook
        thread(threading.ExceptHookArgs((RuntimeError, error, error.__traceback__, None)))

    warned, *ends = records(stderr)
    assert (warned["logger"], "beware\nof it" in warned["message"]) == ("py.warnings", True)
    assert [(end["level"], end["exception"].splitlines()[-1]) for end in ends] == [
        ("critical", "RuntimeError: the end")
    ] * 2


# --- text ---------------------------------------------------------------------------------------------


def test_a_record_for_people_is_a_line(stderr: Written) -> None:
    """For people a record is a line, and what an exception says stands below, marked."""
    set_up(TEXT)

    fail()

    first, *rest = stderr.getvalue().splitlines()
    assert first.endswith("Z ERROR bylaw.test: something failed")
    assert rest[0] == " | Traceback (most recent call last):"
    assert rest[-1] == f" | {FORGED}"
    assert all(line.startswith(" | ") for line in rest)


def test_what_is_told_to_people_is_as_it_is(stderr: Written) -> None:
    """What a process tells people may be many lines, with tabs; what would play with their screen is escaped."""
    tell("bylaw: it is so:\n\tx\x1b[2Jy", TEXT)

    assert stderr.getvalue() == "bylaw: it is so:\n\tx\\x1b[2Jy\n"


# --- what must not be there ---------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", [TEXT, JSON])
def test_nothing_from_outside_is_a_record_of_its_own(stderr: Written, log_format: str) -> None:
    """Whatever ends a line somewhere, in a message, an id or a name, does not end one here."""
    set_up(log_format)

    for odd in ODD:
        logging.getLogger(f"a{odd}{FORGED}").warning("%s", f"x{odd}{FORGED}", extra={"request_id": f"r{odd}{FORGED}"})

    lines = stderr.getvalue().split("\n")
    assert len(lines) == len(ODD) + 1
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith(FORGED)]


@pytest.mark.parametrize("log_format", [TEXT, JSON])
def test_no_line_of_an_exception_looks_like_a_record(stderr: Written, log_format: str) -> None:
    """An exception whose message holds line ends of any kind forges no record."""
    set_up(log_format)

    try:
        raise ValueError(ODD.join(["x", FORGED]))
    except ValueError:
        log.exception("failed")

    lines = stderr.getvalue().rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines[1:] if not line.startswith(" | ")]


@pytest.mark.parametrize("log_format", [TEXT, JSON])
@pytest.mark.parametrize(
    "said",
    [
        "postgresql+asyncpg://me:hunter2@db.example/bylaw",
        "redis://:hunter2@cache:6379/0",
        "https://hunter2@keys.example/jwks.json",
        "postgres://me:a@hunter2@db/x",
        "Authorization: Bearer hunter2.abc-_~+/=",
        "{'authorization': 'bearer hunter2'}",
    ],
)
def test_no_secrets(stderr: Written, log_format: str, said: str) -> None:
    """Credentials in a URL and tokens are blotted out in messages, exceptions and what is told."""
    set_up(log_format)

    log.warning("cannot reach %s", said)
    try:
        raise OSError(f"no way to {said}")
    except OSError:
        log.exception("it failed")
    tell(f"bylaw: {said}", log_format)

    assert stderr.getvalue().count("…" if log_format == TEXT else "\\u2026") >= 3
    assert "hunter2" not in stderr.getvalue()


def test_what_is_no_secret_stays(stderr: Written) -> None:
    """Other URLs and addresses are left as they are."""
    set_up(TEXT)

    log.warning("https://keys.example/jwks.json, mail to ann@example.org, a bearer of news")

    assert "https://keys.example/jwks.json, mail to ann@example.org" in stderr.getvalue()


def test_what_is_very_long_is_cut(stderr: Written) -> None:
    """Of what is very long the beginning and the end stay, so that a line stays one where lines are collected."""
    set_up(JSON)

    log.warning("%s", f"begin{'x' * 100_000}end")

    [record] = records(stderr)
    assert record["message"].startswith("begin")
    assert record["message"].endswith("end")
    assert len(stderr.getvalue()) < 2 * logs.MAX_TEXT


@pytest.mark.parametrize("log_format", [TEXT, JSON])
def test_a_record_that_is_written_wrongly_is_there(stderr: Written, log_format: str) -> None:
    """A message that does not fit its arguments is logged as far as it goes, and raises nothing."""
    set_up(log_format)

    log.warning("%d of them", "many")

    assert "%d of them ('many',)" in stderr.getvalue()
    assert stderr.getvalue().count("\n") == 1


def test_noise_from_outside_is_one_line(stderr: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends what is no HTTP gets one line without a traceback, and for a while no other."""
    set_up(TEXT)
    server = logs.server_log()
    monkeypatch.setattr(server, "filters", [logs.OneLineForNoise()])

    for _ in range(3):
        try:
            raise BadHttpMessage("rubbish\r\n")
        except BadHttpMessage:
            server.exception("Error handling request")

    assert stderr.getvalue().count("\n") == 1
    assert "a request that is no HTTP: BadHttpMessage" in stderr.getvalue()


# --- a real process -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_that_a_service_says_is_json(folder: Path, workers: str) -> None:
    """With the format `json` each line on standard error is an object, also why it cannot start."""
    with process(*over(folder), "--workers", workers, "--log-format", "json") as started:
        listening(started)
        (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")
        started.send_signal(signal.SIGHUP)
        said = read_until(started.stderr, "goes on deciding")
        started.terminate()
        said += started.communicate(timeout=15)[1]
    code, out, failed = ended(*over(folder)[:-1], "--workers", workers, "--log-format", "json")

    told = [json.loads(line) for line in said.splitlines()]
    assert {(record["level"], record["logger"]) for record in told} == {("info", "bylaw")}
    assert all("extra.bylaw:1" in record["message"] for record in told)
    [failure] = [json.loads(line) for line in failed.splitlines()]
    assert (code, out, failure["level"]) == (2, "", "error")
    assert "extra.bylaw:1" in failure["message"]
    assert not failure["message"].startswith("bylaw")
