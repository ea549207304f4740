"""Personal data at rest: fields that are stored encrypted, and how one is found by its e-mail address all the same.

In: the lines of a key file; then a text and the place where it will stand. Out: one line of ASCII for the database,
from which the text comes back in that place alone.

    text ──▶ AES-256-GCM, a random nonce, bound to its place ──▶ v1.2026-11.<nonce, ciphertext and tag in base64url>
    address ──▶ normalised ──▶ HMAC-SHA-256, bound to its purpose ──▶ 64 hexadecimal digits, equal for equal addresses

Keys are lines `ID:BASE64`, 32 random bytes each; empty lines and those that begin with `#` count for nothing. The first
key is the current one, which encrypts; the others only decrypt. The line `index` holds the key of the blind index. It
is one of its own, so that an address is found after the keys that encrypt were changed, and it is never changed itself.

    # made 2026-11-02
    2026-11:qk0V…=
    2025-11:9Zb1…=
    index:Yt3f…=

INVARIANT: who can write to the database, but does not have the keys, can make of an encrypted field what once stood in
the same place, and nothing else that decrypts: what is moved to another row, column or tenant, or changed, does not.
The line's own beginning is bound too, so that it cannot be made another key's. An index is bound to no row.

Nonces are random: two under one key that are equal would show what both texts have in common, and let anybody forge.
A key is good for 2^32 messages, by which the chance of that is 2^-32; take a new one long before. Nobody counts them
here. Nonces are not passed in, as randomness is elsewhere: no caller must be able to repeat one.

What stays to be seen: how long a text is, and that two rows have the same address.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine import BylawError

VERSION: Final = "v1"
#: The entry that is no key to encrypt with.
INDEX_ID: Final = "index"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
#: As long as a string may be in a request.
MAX_PLAINTEXT_BYTES: Final = 4096
#: What is kept whole, however long: an answer, or what a request said of who sent it.
MAX_LONG_BYTES: Final = 16 * 1024 * 1024
#: Nothing longer can be written to.
MAX_EMAIL_BYTES: Final = 320
#: Room for some hundred keys.
MAX_FILE_BYTES: Final = 16 * 1024
#: Random keys have some thirty different bytes; what has fewer than these was typed.
MIN_DIFFERENT_BYTES: Final = 8

#: So that what is bound here is nothing anywhere else.
_FIELD_LABEL: Final = b"bylaw field"
_INDEX_LABEL: Final = b"bylaw blind index 1\0"
#: No dot and no colon, which end an id; no capitals, so that no two ids differ in them alone.
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_STORED: Final = re.compile(rf"({VERSION}\.({_ID.pattern})\.)([A-Za-z0-9_-]+)")


class DecryptionError(Exception):
    """A stored value is not what was encrypted for its place, or its key is gone. Which of them is told to nobody."""

    def __init__(self) -> None:
        super().__init__("a stored value cannot be decrypted")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the database's own names and ids, which do not change as long as it stands there.

    Args:
        tenant: "" for what is of none.
        row: the row's own key, in the order of its columns, without the tenant.

    Raises:
        ValueError: a part is missing, so that values could be moved among several places.
    """

    tenant: str
    table: str
    column: str
    row: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.row or "" in (self.table, self.column, *self.row):
            raise ValueError("a place needs its table, its column and the whole key of its row")


# --- the ring -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """Keys by id, as `parse_key_ring` makes them. It shows its current key's id and nothing else.

    Attributes:
        current: the id of the key that encrypts.
    """

    current: str
    _ciphers: Mapping[str, AESGCM] = field(repr=False)
    _index_key: bytes = field(repr=False)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, the current one first."""
        return tuple(self._ciphers)

    def encrypt(self, text: str, place: Place, *, max_bytes: int = MAX_PLAINTEXT_BYTES) -> str:
        """Encrypt a text for its place; the same text never gives the same twice.

        Raises:
            BylawError: it is too long.
        """
        plaintext = _utf8(text)
        if len(plaintext) > max_bytes:
            raise BylawError("too_long", f"`{place.column}` has at most {max_bytes} bytes in UTF-8")
        head, nonce = head_of(self.current), os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(nonce, plaintext, _bound(head, place))
        return head + _encode(nonce + sealed)

    def decrypt(self, stored: str, place: Place) -> str:
        """Decrypt what is stored in a place, under whichever of the keys.

        Raises:
            DecryptionError: it was changed or cut off, is of another place, or its key is not in the ring.
        """
        text = self._opened(stored, place)
        if text is None:  # raised here, where no cause with its detail hangs on
            raise DecryptionError
        return text

    def needs_renewal(self, stored: str) -> bool:
        """Say whether a stored value is to be decrypted and encrypted anew: it does not name the current key.

        Only its beginning is looked at. What decrypts under no key at all is to be renewed too, so that a job which
        renews comes upon it.
        """
        return not stored.startswith(head_of(self.current))

    def email_index(self, address: str, *, purpose: str) -> str:
        """Return by what an e-mail address is found: the same for every way in which `normalised` lets it be written.

        It can be copied to another row by who writes to the database. So what is found by it is decrypted, normalised
        and compared with what was looked for, wherever something hangs on it.

        Args:
            purpose: the table and column where it stands, `"users.email"`. Another purpose gives another index, so
                that two tables cannot be joined by it.

        Raises:
            BylawError: it is no address.
        """
        key = HKDF(SHA256(), KEY_BYTES, salt=None, info=_INDEX_LABEL + _utf8(purpose)).derive(self._index_key)
        return hmac.digest(key, _utf8(normalised(address)), "sha256").hex()

    def _opened(self, stored: str, place: Place) -> str | None:
        match = _STORED.fullmatch(stored)
        cipher = self._ciphers.get(match[2]) if match else None
        raw = _decode(match[3]) if match else None
        if match is None or cipher is None or raw is None or len(raw) < NONCE_BYTES:
            return None
        try:
            plaintext = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(match[1], place))
            return plaintext.decode("utf-8", "surrogatepass")
        except (InvalidTag, UnicodeDecodeError):
            return None


def is_sealed(stored: str) -> bool:
    """Say whether a stored value was encrypted. Beside it may stand what was written without keys: JSON, which never
    begins so."""
    return stored.startswith(f"{VERSION}.")


def head_of(key_id: str) -> str:
    """Return how everything begins that is encrypted by a key."""
    return f"{VERSION}.{key_id}."


def normalised(address: str) -> str:
    """Write an e-mail address in the one way in which two of them are compared.

    Without white space around it, in small letters, in NFC. The part before the `@` is folded too: by the letter of the
    standard its capitals may count, but nobody gives `Ann@` and `ann@` to two people, and one who signs up with the
    other must not become a second account. Nothing else is folded: no dots, no `+tag`, no `xn--` names.

    So two addresses that are equal here need not be one mailbox: write to the address that is stored, never to the one
    by which it was found.

    Raises:
        BylawError: it is none: nothing before or after the last `@`, or too long. The message does not repeat it.
    """
    text = unicodedata.normalize("NFC", address.strip()) if len(address) <= MAX_EMAIL_BYTES else ""
    # Small letters of what is in NFC need not be in NFC.
    text = unicodedata.normalize("NFC", text.lower())
    local, _, domain = text.rpartition("@")
    if not local or not domain or len(_utf8(text)) > MAX_EMAIL_BYTES:
        raise BylawError("bad_email", f"an e-mail address is written name@domain, in at most {MAX_EMAIL_BYTES} bytes")
    return text


# --- key files ------------------------------------------------------------------------------------------


def read_key_ring(path: Path, *, place: str) -> KeyRing:
    """Read a key file.

    Args:
        place: the setting that names the file, for messages. They do not repeat the path: somebody may have written
            the keys themselves in its place.

    Raises:
        BylawError: it cannot be read, or holds no such keys.
    """
    raw = _content(path)
    if raw is None:
        raise _bad(place, "the file of keys cannot be read: write its path, and let this process read it")
    if len(raw) > MAX_FILE_BYTES:
        raise _bad(place, f"the file of keys is longer than {MAX_FILE_BYTES} bytes: take out what is no key")
    return parse_key_ring(raw.decode("utf-8-sig", "replace"), place=place)  # what is no text is no key, on its line


def parse_key_ring(text: str, *, place: str) -> KeyRing:
    """Read the lines of a key file, or of a setting that holds them.

    Args:
        place: where they were written, for messages.

    Raises:
        BylawError: a line is no key, or one is missing. No message repeats what was written: it may be a key.
    """
    keys = _distinct(_lines(text, place), place)
    index_key = keys.pop(INDEX_ID, None)
    if not keys:
        raise _bad(place, f"there is no key to encrypt with: add a line `ID:BASE64`, {_CURE}")
    if index_key is None:
        raise _bad(place, f"there is no key of the index: add a line `{INDEX_ID}:BASE64`, {_CURE}")
    ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
    return KeyRing(next(iter(keys)), MappingProxyType(ciphers), index_key)


def generate_key_line(key_id: str) -> str:
    """Make a new key, as a line of a key file.

    Raises:
        BylawError: the id is none.
    """
    if not _ID.fullmatch(key_id):
        raise BylawError("bad_key", f"a key has no such id: {_ID_RULE}")
    return f"{key_id}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


_CURE: Final = "in which `openssl rand -base64 32` makes the part after the colon"
_ID_RULE: Final = "write 1 to 32 of a-z, 0-9, `-` and `_`, a letter or digit first"


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError):  # a path may be none: with a NUL in it
        return None


def _lines(text: str, place: str) -> Iterator[tuple[str, str, bytes]]:
    """List the place, id and key of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        where = f"{place}, line {number}"
        key_id, colon, encoded = written.partition(":")
        if not colon:
            raise _bad(where, f"this is no key: write `ID:BASE64`, {_CURE}")
        if not _ID.fullmatch(key_id):
            raise _bad(where, f"this is no id before the colon: {_ID_RULE}")
        yield where, key_id, _key(encoded, where)


def _key(encoded: str, where: str) -> bytes:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != encoded:
        raise _bad(where, f"this is no key of {KEY_BYTES} bytes in base64: write `ID:BASE64`, {_CURE}")
    if len(set(raw)) < MIN_DIFFERENT_BYTES:
        raise _bad(where, f"this key can be guessed, like a placeholder: write `ID:BASE64`, {_CURE}")
    return raw


def _distinct(lines: Iterable[tuple[str, str, bytes]], place: str) -> dict[str, bytes]:
    """Gather keys by id, in their order: no id is given twice, and no key goes by two."""
    keys: dict[str, bytes] = {}
    for where, key_id, key in lines:
        if key_id in keys:
            raise _bad(where, "the id stands on a line before: give each key an id of its own")
        if key in keys.values():
            raise _bad(where, f"the key stands on a line before, under another id: write a new one, {_CURE}")
        keys[key_id] = key
    return keys


def _bad(place: str, message: str) -> BylawError:
    return BylawError("bad_settings", f"{place}: {message}")


# --- parts ----------------------------------------------------------------------------------------------


def _bound(head: str, place: Place) -> bytes:
    """Write what a ciphertext is bound to: each part after its length, so that no two places are written alike."""
    parts = (_utf8(part) for part in (head, place.tenant, place.table, place.column, *place.row))
    return b"".join(len(part).to_bytes(4) + part for part in (_FIELD_LABEL, *parts))


def _utf8(text: str) -> bytes:
    """Encode any text, halves of surrogate pairs included: two texts never give the same bytes."""
    return text.encode("utf-8", "surrogatepass")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes | None:
    """Read base64url that is written in the one way: no padding, no loose bits."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return raw if _encode(raw) == text else None
