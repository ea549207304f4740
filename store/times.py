"""Times as columns hold them: RFC 3339 in UTC with nine digits of a second.

Text of one width sorts as the times do, is exact to the nanosecond in both databases, and reads as a time in any
client; neither PostgreSQL's timestamp (microseconds) nor a 64-bit integer (years 1678 to 2262) holds every time that
the language has. No beginning is the empty string, which sorts first and lets it stand in a key; no end is NULL.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine.facts import ALWAYS, NEVER
from engine.values import SECOND, parse_time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_time(nanoseconds: int) -> str:
    """Write an instant at full width."""
    seconds, rest = divmod(nanoseconds, SECOND)
    moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{moment}.{rest:09d}Z"


def read_time(text: str) -> int:
    """Read an instant back.

    Raises:
        ValueError: it is none.
    """
    found = parse_time(text)
    if found is None:
        raise ValueError(f"`{text}` is no time")
    return found


def write_start(nanoseconds: int) -> str:
    return "" if nanoseconds <= ALWAYS else write_time(nanoseconds)


def read_start(text: str | None) -> int:
    return read_time(text) if text else ALWAYS


def write_end(nanoseconds: int) -> str | None:
    return None if nanoseconds >= NEVER else write_time(nanoseconds)


def read_end(text: str | None) -> int:
    return NEVER if text is None else read_time(text)
