"""Bytes of a request in, JSON value out; whatever two readers could read two ways, or is past a bound, is refused.

The C scanner of the standard library does the reading. Names that stand twice it would take silently, so it hands each
object's members over as pairs: that costs a third of a microsecond for a common body, less than any other way measured
to be sure of it. Everything else is looked for only where it can be: a short body without an escape can hold no
overlong string and no lone surrogate, and is not walked.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from sidecar.errors import PublicError, bad_request, too_large

MAX_BODY = 256 * 1024
MAX_DEPTH = 16
MAX_STRING = 4096
MAX_MEMBERS = 64
MAX_ITEMS = 1000

#: In so few characters neither a string nor a list reaches its bound.
_SHORT = 1024
_BLANK = " \t\n\r"


def parse(body: bytes) -> Any:
    """Read a body.

    Raises:
        PublicError: it is no JSON, ambiguous, or past a bound.
    """
    try:
        text = body.decode().strip(_BLANK)
        value, end = _DECODER.raw_decode(text)
    except UnicodeDecodeError as error:
        raise bad_request(f"the body is no UTF-8: byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise bad_request(f"the body is no JSON: {error}" if body else "the body is empty") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # a whole number of thousands of digits
        raise bad_request("the body holds a number that is too long") from error
    if end != len(text):
        raise bad_request(f"the body is no JSON: something follows it at character {end}")
    if len(text) > _SHORT or "\\u" in text or text.count("{") + text.count("[") > MAX_DEPTH:
        _check(value, 1)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, each named once."""
    if len(pairs) > MAX_MEMBERS:
        raise too_large(f"an object holds at most {MAX_MEMBERS} members")
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise bad_request(f"the member {_shown(twice)} stands twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise bad_request(f"the number {_shown(text)} is out of range")
    return value


def _constant(text: str) -> NoReturn:
    raise bad_request(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_constant)


def _check(value: Any, depth: int) -> None:
    """Hold a value, and all in it, to the bounds."""
    if isinstance(value, str):
        _check_string(value)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, dict):
            for name in value:
                _check_string(name)
        elif len(value) > MAX_ITEMS:
            raise too_large(f"a list holds at most {MAX_ITEMS} items")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)


def _check_string(text: str) -> None:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise bad_request("a string holds half of a surrogate pair") from error
    if size > MAX_STRING:
        raise too_large(f"a string holds at most {MAX_STRING} bytes: {_shown(text)}")


def _too_deep() -> PublicError:
    return too_large(f"the body is nested deeper than {MAX_DEPTH}")


def _shown(text: str) -> str:
    """Quote the beginning of what came, for a message."""
    return json.dumps(text[:40] + ("…" if len(text) > 40 else ""), ensure_ascii=False).encode(errors="replace").decode()
