"""Short texts that hold names and are for nobody to read: cursors of lists, and ids of what has none of its own.

    ["user:ann", "project.editor", "project:p1", ""] ◀──▶ WyJ1c2VyOmFubiIsInByb2plY3QuZWRpdG9yIiwicHJvamVjdDpwMSIsIiJd

They are not signed: whoever makes one up names no more than he could name anyway. So what is read is believed to be
nothing but a list of values that a column can be compared with, whatever was sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

#: As far as a column counts.
MAX_NUMBER: Final = 2**63 - 1


def write_opaque(values: Sequence[Any]) -> str:
    """Write values down."""
    said = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def read_opaque(text: str, kinds: Sequence[type]) -> list[Any] | None:
    """Read values back; None: these are not values of such kinds, texts or whole numbers."""
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != len(kinds):
        return None
    return found if all(map(_is_value, found, kinds)) else None


def _is_value(value: object, kind: type) -> bool:
    """Say whether a value is one that a column of the kind can be compared with."""
    if kind is int:
        return type(value) is int and -MAX_NUMBER <= value <= MAX_NUMBER
    return isinstance(value, str) and "\0" not in value and _is_text(value)


def _is_text(value: str) -> bool:
    """Say whether it has no half of a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
