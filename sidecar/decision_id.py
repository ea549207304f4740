"""Ids of decisions: ULIDs, 26 characters that sort by time.

They cost a fraction of a microsecond: time and randomness are drawn once a millisecond, and the decisions within it are
counted up. 60 bits of chance a millisecond keep processes apart, those that run on other machines too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_COUNTED = 1 << 20


def _write(number: int, length: int) -> str:
    """Write a number in Crockford's base 32."""
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (length - 1), -1, -5))


class DecisionIds:
    """A source of ids, one for each process."""

    def __init__(
        self, *, clock: Callable[[], int] = time.time_ns, randomness: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock = clock
        self._randomness = randomness
        self._millisecond = -1
        self._prefix = ""
        self._count = 0

    def next(self) -> str:
        """Give the next id."""
        millisecond = self._clock() // 1_000_000
        self._count += 1
        if millisecond != self._millisecond or self._count == _COUNTED:
            self._begin(millisecond)
        return self._prefix + _PAIRS[self._count >> 10] + _PAIRS[self._count & 1023]

    def _begin(self, millisecond: int) -> None:
        chance = int.from_bytes(self._randomness(8), "big") >> 4
        self._millisecond = millisecond
        self._prefix = _write(millisecond, 10) + _write(chance, 12)
        self._count = 0
