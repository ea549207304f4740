"""The log: lines on stderr."""

from __future__ import annotations

import logging
import sys

from aiohttp.http_exceptions import HttpProcessingError


def set_up() -> None:
    """Send the log of the process to stderr, from now on."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def server_log() -> logging.Logger:
    """Make the log that aiohttp's server writes to."""
    log = logging.getLogger("bylaw.http")
    if not any(isinstance(each, OneLineForNoise) for each in log.filters):
        log.addFilter(OneLineForNoise())
    return log


class OneLineForNoise(logging.Filter):
    """Keeps what a peer sends that is no HTTP from filling the log with tracebacks of the parser."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the traceback where the fault is the peer's."""
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.msg, record.args = "a request that is no HTTP: %s", (type(record.exc_info[1]).__name__,)
            record.exc_info = None
        return True
