"""Ids: which of those that people choose are accepted, and how new ones are made.

Two ids that look alike must be one id, since a person reads them and a machine compares them by code point. So what
does not show is refused (control and bidi characters, spaces, everything of no width) and there is one spelling (NFC).
Nothing is mended here: an id that was changed on the way in is not found by whoever chose it.
"""

from __future__ import annotations

import os
import time
import unicodedata
import uuid
from collections.abc import Callable
from typing import Final

from store.errors import RefusedError

#: As long as an id may be in a request.
MAX_ID_BYTES: Final = 256
#: What Unicode lets a screen leave out though it is no format character: fillers, joiners, variation selectors.
_UNSEEN: Final = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x2800, 0x2800),
    (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF),
)  # fmt: skip
_KINDS: Final = {
    "Cc": "a control character",
    "Cf": "a character that does not show",
    "Cs": "half a character",
    "Zs": "a space",
    "Zl": "a line break",
    "Zp": "a line break",
}


def check_id(text: str, what: str, *, spaces: bool = False) -> str:
    """Accept an id that somebody chose; return it.

    Args:
        what: what has the id, with its article: `"a user's id"`.
        spaces: the id may have plain spaces inside. Resources are named by applications, after files and paths too.

    Raises:
        RefusedError: it must not be stored.
    """
    if not text:
        raise RefusedError("bad_id", f"{what} is empty: choose at least one character")
    for place, character in enumerate(text, 1):
        fault = _fault(character)
        if character == " " and spaces and 1 < place < len(text):
            continue
        if fault is not None:
            raise RefusedError("bad_id", f"{what} has {fault}, {_named(character)}, at character {place}: leave it out")
    if len(text.encode()) > MAX_ID_BYTES:
        raise RefusedError("bad_id", f"{what} is longer than {MAX_ID_BYTES} bytes in UTF-8: choose a shorter one")
    if not unicodedata.is_normalized("NFC", text):
        raise RefusedError(
            "bad_id", f"{what} has {_named(_decomposed(text))}, which is not as NFC writes it: put it into NFC"
        )
    return text


def check_type(text: str, what: str) -> str:
    """Accept the name of a type, which stands before a colon; return it."""
    if ":" in text:
        raise RefusedError("bad_id", f"{what} has a colon, which ends a type's name: leave it out")
    return check_id(text, what)


def split_ref(ref: str, what: str, *, spaces: bool = False) -> tuple[str, str]:
    """Split `"type:id"` and check both parts, `spaces` as in `check_id`.

    Raises:
        RefusedError: it is none.
    """
    kind, colon, identity = ref.partition(":")
    if not colon:
        raise RefusedError("bad_id", f'{what} is written "type:id"')
    return check_type(kind, f"the type of {what}"), check_id(identity, f"the id of {what}", spaces=spaces)


def new_id(clock: Callable[[], int] = time.time_ns) -> str:
    """Make an id that nobody chose: a UUIDv7, so that later ones sort later."""
    random = int.from_bytes(os.urandom(10))
    head = (clock() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80
    low = 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=head | 0x7 << 76 | (random >> 68) << 64 | low))


def earliest_id(moment: int) -> str:
    """Give what sorts before every id that `new_id` makes at a moment or later, and behind all that it made before."""
    return str(uuid.UUID(int=(max(moment, 0) // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80))


def _fault(character: str) -> str | None:
    """Say what is wrong with a character, if anything is."""
    if character.isascii() and character.isprintable() and character != " ":
        return None
    category = unicodedata.category(character)
    if category in _KINDS:
        return _KINDS[category]
    is_unseen = any(first <= ord(character) <= last for first, last in _UNSEEN)
    return _KINDS["Cf"] if is_unseen else None


def _decomposed(text: str) -> str:
    """Find the first character that NFC writes otherwise where it stands."""
    for index in range(1, len(text) + 1):
        if not unicodedata.is_normalized("NFC", text[:index]):
            return text[index - 1]
    return text[-1]


def _named(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" {name}" if name else "")
