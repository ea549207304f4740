"""Failed attempts to be let in, counted by the address that they come from: whoever fails often is told to wait.

    failure 1 … 5 ──▶ 401      after each further one: 1 s, 2 s, 4 s … 15 min, in which a failure is answered by 429

Failures alone are limited. Many people may share an address, and one of them must not lock the others out: so who has a
good key or token is let in however many others fail, and every attempt is looked at. Nobody guesses a key of 256 bits;
what is limited is the noise, in answers and in the log. While an address waits its failures do not count, so what
`Retry-After` says stays true.

It is kept by this process, in memory, of so many addresses. Of IPv6 a network of 64 bits counts as one, since whoever
has one address of it has all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import Final

from engine.values import SECOND

#: So many failures cost nothing.
FREE: Final = 5
MAX_DELAY_S: Final = 900
#: After so long without a failure an address begins anew; longer than it ever waits.
FORGET_S: Final = 1800
MAX_ADDRESSES: Final = 10_000
_NETWORK_BITS: Final = 64


class Attempts:
    """Counts failures by address.

    Args:
        clock: nanoseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def fail(self, address: str | None) -> int | None:
        """Count a failure; return for how many seconds no more are taken, None if this one was."""
        now, whence = self._clock(), neighbourhood(address)
        times, last = self._failures.get(whence, (0, 0))
        if now - last >= FORGET_S * SECOND:
            times = 0
        left = last + _delay_s(times) * SECOND - now
        if left > 0:
            return ceil(left / SECOND)
        self._failures[whence] = times + 1, now
        self._failures.move_to_end(whence)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return None


def neighbourhood(address: str | None) -> str:
    """Name what counts as one address; "" is a socket, or none that is known.

    >>> neighbourhood("2001:db8::1") == neighbourhood("2001:db8::2")
    True
    """
    try:
        found = ip_address(address or "")
    except ValueError:
        return ""
    if not isinstance(found, IPv6Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or IPv6Network((int(found), _NETWORK_BITS), strict=False))


def _delay_s(times: int) -> int:
    return 0 if times < FREE else min(2 ** min(times - FREE, 30), MAX_DELAY_S)
