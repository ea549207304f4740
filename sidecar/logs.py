"""The log: on standard error, as lines for people (`text`) or as one JSON object a line (`json`).

    {"time": "2026-11-21T14:42:47.583Z", "level": "error", "logger": "bylaw.sidecar", "message": "request 4f… failed",
     "pid": 4711, "requestId": "4f…", "exception": "Traceback (most recent call last):\\n…"}

Two kinds of things are written: records of Python's `logging`, and what a process tells whoever started it (`tell`).

INVARIANT: one record is one line of JSON, or one line of text followed by lines that begin with ` | `. So nothing that
came in from outside can look like a record of its own: control characters and line ends are escaped in both forms.

INVARIANT: no secrets. Whoever logs leaves them out; behind that, what stands in a URL before `@`, and what stands
behind `Bearer`, is blotted out here, whoever wrote it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

TEXT: Final = "text"
JSON: Final = "json"
#: Longest message and longest exception; what collects logs cuts lines somewhere, and then it is JSON no more.
MAX_TEXT: Final = 8_000

_SECRETS: Final = re.compile(r"(?<=://)[^\s/]+(?=@)|(?<=\bbearer )[\w.~+/=-]+", re.IGNORECASE)
#: How a sentence for people begins.
_SIGN: Final = re.compile(r"\Abylaw(?:\[\d+\])?: ")

_log = logging.getLogger("bylaw")


def set_up(log_format: str = TEXT) -> None:
    """Send the log of the process to standard error, from now on; so also warnings, and what ends it or a thread."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == JSON else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_end
    threading.excepthook = lambda end: _log_end(end.exc_type, end.exc_value, end.exc_traceback)


def _log_end(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        _log.critical("nobody expected this", exc_info=(kind, error, traceback))


def tell(text: str, log_format: str = TEXT, *, level: int = logging.ERROR) -> None:
    """Tell on standard error, at once: for people as it is, which may be many lines; else as a line of the log."""
    if log_format == JSON:
        record = logging.LogRecord("bylaw", level, "", 0, _SIGN.sub("", text), None, None)
        line = JsonFormatter().format(record)
    else:
        line = "\n".join(map(_plain, _blotted(text).split("\n")))
    print(line, file=sys.stderr, flush=True)


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(_blotted(_message(record))),
            "pid": os.getpid(),
        }
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            said["requestId"] = str(request_id)
        exception = _exception(record)
        if exception:
            said["exception"] = _cut(_blotted(exception))
        return json.dumps(said)


class TextFormatter(logging.Formatter):
    """Writes a record for people: a line, and below it what an exception says, each line of it marked."""

    def format(self, record: logging.LogRecord) -> str:
        first = f"{_time(record)} {record.levelname} {record.name}: {_cut(_blotted(_message(record)))}"
        lines = [first, *(f" | {line}" for line in _cut(_blotted(_exception(record))).splitlines())]
        return "\n".join(map(_plain, lines))


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    """Return what a record says; one that was written wrongly still says something."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"


def _exception(record: logging.LogRecord) -> str:
    """Return what a record has beside its message, the traceback first; empty for nothing."""
    formatter = logging.Formatter()
    parts = [
        formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[1] is not None else "",
        record.exc_text or "" if not record.exc_info else "",
        record.stack_info or "",
    ]
    return "\n".join(filter(None, parts))


def _blotted(text: str) -> str:
    return _SECRETS.sub("…", text)


def _cut(text: str) -> str:
    """Leave out the middle of what is too long: the end of a traceback says what happened."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]}\n…\n{text[-half:]}"


def _plain(line: str) -> str:
    """Escape what is no visible character, but for tabs."""
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode() for each in line
    )


def server_log() -> logging.Logger:
    """Make the log that aiohttp's server writes to."""
    log = logging.getLogger("bylaw.http")
    if not any(isinstance(each, OneLineForNoise) for each in log.filters):
        log.addFilter(OneLineForNoise())
    return log


#: So often a peer's faults are told of.
NOISE_S: Final = 10.0


class OneLineForNoise(logging.Filter):
    """Keeps what a peer sends that is no HTTP from filling the log: no tracebacks of the parser, and a line at most
    every `NOISE_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._told = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the traceback where the fault is the peer's, or drop the line."""
        from aiohttp.http_exceptions import HttpProcessingError  # not every process serves

        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            if time.monotonic() - self._told < NOISE_S:
                return False
            self._told = time.monotonic()
            record.msg, record.args = "a request that is no HTTP: %s", (type(record.exc_info[1]).__name__,)
            record.exc_info = None
        return True
