"""Built-in functions: one table of name, parameters, result, and the code that computes them.

Implementations take values that may be `None`, which stands for "failed", and give `None` where they fail; they never
raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from engine.values import (
    _EPOCH,
    CIDR,
    INT,
    MAX_DURATION,
    MAX_INT,
    MAX_TIME,
    MIN_INT,
    MIN_TIME,
    STRING,
    TIME,
    Network,
    Type,
    Value,
    parse_cidr,
    parse_zone,
    set_of,
)


@dataclass(frozen=True, slots=True)
class Function:
    """A built-in: `parameters` are types, an empty set type means any set."""

    name: str
    parameters: tuple[Type, ...]
    result: Type
    run: Callable[..., Value]


def _size(items: frozenset[Value] | None) -> int | None:
    return None if items is None else len(items)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _cidr(text: str | None) -> Network | None:
    return None if text is None else parse_cidr(text)


def _wall(instant: int | None, zone: str | None) -> datetime | None:
    if instant is None or zone is None:
        return None
    place = parse_zone(zone)
    if place is None:
        return None
    try:
        return (_EPOCH + timedelta(microseconds=instant // 1000)).astimezone(place)
    except OverflowError:
        return None


def _hour(instant: int | None, zone: str | None) -> int | None:
    moment = _wall(instant, zone)
    return None if moment is None else moment.hour


def _weekday(instant: int | None, zone: str | None) -> int | None:
    moment = _wall(instant, zone)
    return None if moment is None else moment.isoweekday()


def _now() -> Value:
    raise AssertionError("`now` is compiled in place")


FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("now", (), TIME, _now),
        Function("size", (set_of(None),), INT, _size),
        Function("lower", (STRING,), STRING, _lower),
        Function("cidr", (STRING,), CIDR, _cidr),
        Function("hour", (TIME, STRING), INT, _hour),
        Function("weekday", (TIME, STRING), INT, _weekday),
    )
}

_LIMITS = {"int": (MIN_INT, MAX_INT), "time": (MIN_TIME, MAX_TIME), "duration": (-MAX_DURATION, MAX_DURATION)}


def add(kind: str, left: int | None, right: int | None) -> int | None:
    """Add; None where a side is absent or the result is out of the range of its kind."""
    if left is None or right is None:
        return None
    result = left + right
    low, high = _LIMITS[kind]
    return result if low <= result <= high else None


def subtract(kind: str, left: int | None, right: int | None) -> int | None:
    """Subtract, as `add` adds."""
    return None if right is None else add(kind, left, -right)


def is_inside(address: IPv4Address | IPv6Address | None, network: Network | None) -> bool | None:
    """Say whether an address lies in a network; of different versions it does not."""
    if address is None or network is None:
        return None
    return address in network


def is_like(text: str, pattern: tuple[str, ...]) -> bool:
    """Match text with a pattern split at its stars, by two pointers: time is the product of the lengths at worst, and
    there is no recursion."""
    first, *middle, last = pattern if len(pattern) > 1 else (pattern[0], pattern[0])
    if len(pattern) == 1:
        return text == first
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
