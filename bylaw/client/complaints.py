"""Failures that are logged now and then, rather than with every check: a service that is gone is asked often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from bylaw.client.errors import BylawError

#: Each kind of failure is logged once in so many seconds.
PAUSE_S: Final = 60.0
#: Kinds that are told apart; past it all others are one.
_MAX_KINDS: Final = 100

_log = logging.getLogger("bylaw.client")


class Complaints:
    """Logs a failure unless one of its kind was logged a moment ago.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quiet_until: dict[str, float] = {}

    def note(self, error: Exception) -> None:
        """Log what failed."""
        kind = error.code if isinstance(error, BylawError) else type(error).__name__
        if kind not in self._quiet_until and len(self._quiet_until) >= _MAX_KINDS:
            kind = ""
        now = self._clock()
        if now < self._quiet_until.get(kind, now):
            return
        self._quiet_until[kind] = now + PAUSE_S
        known = isinstance(error, BylawError)
        _log.error("no decision, so nothing is allowed: %s", error, exc_info=None if known else error)
