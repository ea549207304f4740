"""Types of the language, and how values come in.

Inside the engine a value is a plain Python object, chosen so that generated code needs no wrapper:

    bool → bool · int → int · string → str · time → int, nanoseconds since 1970 · duration → int, nanoseconds
    ip → ipaddress.IPv4Address | IPv6Address (IPv4-mapped as IPv4) · reference → str, "type:id" · set → frozenset

`None` is never a value: it stands for "absent, or failed".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal

Kind = Literal["bool", "int", "string", "time", "duration", "ip", "ref", "set", "cidr"]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Value = Any  # one of the Python objects above; the static type says which

MIN_INT, MAX_INT = -(2**63), 2**63 - 1
SECOND = 1_000_000_000
#: Times from year 1 to 9999, as RFC 3339 writes them; durations up to 2**63 microseconds.
MIN_TIME, MAX_TIME = -62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1
MAX_DURATION = (2**63 - 1) * 1000


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `names` are the types that a reference may name, `options` the words of an enumeration, `element` what
    a set holds."""

    kind: Kind
    names: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    element: Type | None = None

    def __str__(self) -> str:
        if self.kind == "ref":
            return " | ".join(sorted(self.names))
        if self.kind == "set":
            return f"set<{self.element}>" if self.element else "an empty set"
        return " | ".join(f'"{option}"' for option in self.options) if self.options else self.kind


BOOL, INT, STRING, TIME, DURATION, IP, CIDR = (
    Type(k) for k in ("bool", "int", "string", "time", "duration", "ip", "cidr")
)
PLAIN = {"bool": BOOL, "int": INT, "string": STRING, "time": TIME, "duration": DURATION, "ip": IP}
PRINCIPAL_TYPES = ("user", "service", "group")


def ref(*names: str) -> Type:
    return Type("ref", names=frozenset(names))


def set_of(element: Type | None) -> Type:
    return Type("set", element=element)


class WrongTypeError(ValueError):
    """A value does not fit its declared type; the sentence says what was expected."""


# --- text to values --------------------------------------------------------------------------------

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?(?:([Zz])|([+-])(\d\d):(\d\d))\Z", re.ASCII
)
_DURATION = re.compile(r"(?:(\d{1,12})d)?(?:(\d{1,12})h)?(?:(\d{1,15})m)?(?:(\d{1,18})s)?\Z", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)\Z", re.ASCII)
_INT = re.compile(r"-?\d{1,19}\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> int | None:
    """Read RFC 3339 (seconds optional) as nanoseconds since 1970, or None."""
    match = _TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)  # noqa: TC
    except ValueError:
        return None
    offset = 0
    if sign:
        if int(offset_h) > 23 or int(offset_m) > 59:
            return None
        offset = (int(offset_h) * 3600 + int(offset_m) * 60) * (1 if sign == "+" else -1)
    since = moment - _EPOCH
    nanoseconds = (since.days * 86400 + since.seconds - offset) * SECOND + int((fraction or "").ljust(9, "0"))
    return nanoseconds if MIN_TIME <= nanoseconds <= MAX_TIME else None


def time_of(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970."""
    if moment.tzinfo is None:
        raise WrongTypeError("a time needs a zone: an aware datetime")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def show_time(nanoseconds: int) -> str:
    """Write a time as RFC 3339 in UTC."""
    seconds, rest = divmod(nanoseconds, SECOND)
    moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{moment}.{rest:09d}".rstrip("0") + "Z" if rest else f"{moment}Z"


def parse_duration(text: str) -> int | None:
    """Read `90s 15m 8h 30d 1h30m` as nanoseconds, or None."""
    match = _DURATION.match(text)
    if match is None or not text:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    value = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * SECOND
    return value if value <= MAX_DURATION else None


def show_duration(nanoseconds: int) -> str:
    """Write a duration the way it is read, with a sign where it is negative."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    parts = []
    for unit, size in (("d", 86400 * SECOND), ("h", 3600 * SECOND), ("m", 60 * SECOND)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    if rest or not parts:
        whole, fraction = divmod(rest, SECOND)
        parts.append(f"{whole}.{fraction:09d}".rstrip("0") + "s" if fraction else f"{whole}s")
    return sign + "".join(parts)


#: The longest that an address can be written, and a network.
_MAX_ADDRESS, _MAX_NETWORK = 45, 64


def parse_ip(text: str) -> Address | None:
    """Read an address; an IPv4-mapped IPv6 one is that IPv4 address."""
    return _parse_ip(text) if len(text) <= _MAX_ADDRESS else None


@lru_cache(maxsize=4096)
def _parse_ip(text: str) -> Address | None:
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_cidr(text: str) -> Network | None:
    """Read a network; host bits are ignored, IPv4-mapped IPv6 is IPv4. An address alone is a network of one."""
    return _parse_cidr(text) if len(text) <= _MAX_NETWORK else None


@lru_cache(maxsize=4096)
def _parse_cidr(text: str) -> Network | None:
    if "%" in text:
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


@lru_cache(maxsize=1024)
def parse_zone(text: str) -> tzinfo | None:
    """Read an IANA name or an offset (`+02:00`) as a zone, or None."""
    match = _OFFSET.match(text)
    if match:
        sign, hours, minutes = match.groups()
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(offset if sign == "+" else -offset)
    from zoneinfo import ZoneInfo  # costs start-up, and few policies read a clock on the wall

    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # not a key, a directory of the database, or unknown
        return None


# --- JSON and facts files to values ----------------------------------------------------------------

Aliases = Mapping[str, str]


def split_reference(text: str) -> tuple[str, str]:
    """Split `"type:id"` at the first colon.

    Raises:
        WrongTypeError: there is no colon, or one side of it is empty.
    """
    kind, colon, identity = text.partition(":")
    if not colon or not kind or not identity:
        raise WrongTypeError('a reference is written "type:id"')
    return kind, identity


def convert(kind: Type, raw: object, aliases: Aliases, *, written: bool = False, enumerated: bool = True) -> Value:
    """Turn a JSON value into a value of a type.

    Args:
        kind: the declared type.
        raw: what `json.loads` gives; in a facts file, where all scalars are strings, `written` is set.
        aliases: further names of principal types, to their own.
        enumerated: whether a word outside an enumeration is refused (sent) or kept (stored).

    Raises:
        WrongTypeError: the value does not fit.
    """
    if kind.kind == "set":
        if not isinstance(raw, list) or kind.element is None:
            raise WrongTypeError(f"expected a list for {kind}")
        element = kind.element
        return frozenset(convert(element, item, aliases, written=written, enumerated=enumerated) for item in raw)
    if written and isinstance(raw, str) and kind.kind in ("bool", "int"):
        raw = _WRITTEN[kind.kind](raw)
    if kind.kind == "bool":
        if not isinstance(raw, bool):
            raise WrongTypeError("expected true or false")
        return raw
    if kind.kind == "int":
        if not isinstance(raw, int) or isinstance(raw, bool) or not MIN_INT <= raw <= MAX_INT:
            raise WrongTypeError("expected a whole number of 64 bits")
        return raw
    if not isinstance(raw, str):
        raise WrongTypeError(f"expected a string for {kind}")
    if kind.kind == "string":
        if enumerated and kind.options and raw not in kind.options:
            raise WrongTypeError(f"expected one of {kind}")
        return raw
    if kind.kind == "ref":
        return _reference(kind, raw, aliases)
    value = _PARSERS[kind.kind](raw)
    if value is None:
        raise WrongTypeError(_EXPECTED[kind.kind])
    return value


def _reference(kind: Type, raw: str, aliases: Aliases) -> str:
    name, identity = split_reference(raw)
    name = aliases.get(name, name)
    if name not in kind.names:
        raise WrongTypeError(f'expected a reference to {kind}, written "{min(kind.names)}:id"')
    return f"{name}:{identity}"


_WRITTEN: dict[str, Callable[[str], object]] = {
    "bool": lambda text: {"true": True, "false": False}.get(text, text),
    "int": lambda text: int(text) if _INT.match(text) else text,
}
_PARSERS: dict[str, Callable[[str], object]] = {
    "time": parse_time,
    "duration": parse_duration,
    "ip": parse_ip,
    "cidr": parse_cidr,
}
_EXPECTED = {
    "time": "expected a time as RFC 3339 writes it, with its zone",
    "duration": "expected a duration like 90s, 15m, 1h30m",
    "ip": "expected an IP address",
    "cidr": "expected a network like 10.0.0.0/8",
}


def show(value: Value, kind: Type) -> object:
    """Return a value as JSON shows it."""
    if value is None:
        return None
    if kind.kind == "time":
        return show_time(value)
    if kind.kind == "duration":
        return show_duration(value)
    if kind.kind in ("ip", "cidr"):
        return str(value)
    if kind.kind == "set":
        return sorted((show(item, kind.element or STRING) for item in value), key=str)
    return value
