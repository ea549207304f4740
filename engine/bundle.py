"""The lock of a policy bundle, `bylaw.lock`: which files make up a version of a policy, and who vouches for them.

In: the bytes of a lock, or the sources that one is made of. Out: a `Lock`; and whether sources are those that it names,
and whether it may follow the one before. What is wrong is a `PolicyError` that names the place. Keys are the business
of `store.signatures`: here a signature is bytes.

    {
      "format": 1, "language": 1, "version": 7, "rollback": false, "created": "2026-11-21T14:42:47Z",
      "policy": "sha256:…",
      "files": {"roles.bylaw": "sha256:…", "rules/tasks.bylaw": "sha256:…"},
      "signatures": [{"key": "ed25519:…", "signature": "…"}]
    }

What is signed is written anew from what was read (`signed_bytes`), and not cut out of the file. That is safe because
nothing can stand in a lock that is not in what was read of it: unknown and repeated members are refused. Signatures are
not signed themselves, so that one more can be added.

The digest of a file is that of its text in UTF-8: of its very bytes, but for a byte order mark, which no policy has
after it is read. So what is compared is what is compiled, and never a second reading of the disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from engine.checker import LANGUAGE_VERSION, digest_of
from engine.errors import PolicyError
from engine.source import Source
from engine.values import parse_time

LOCK_NAME: Final = "bylaw.lock"
FORMAT: Final = 1
#: Room for some ten thousand files.
MAX_LOCK_BYTES: Final = 1024 * 1024
#: The largest whole number that every reader of JSON reads as itself.
MAX_VERSION: Final = 2**53 - 1
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEY_PREFIX: Final = "ed25519:"
#: So that a signature over a bundle is none over anything else.
DOMAIN: Final = b"bylaw bundle\n"
#: More differences than these are only counted.
MAX_TOLD: Final = 5
MAX_SHOWN: Final = 200

_MEMBERS: Final[Mapping[str, type]] = {
    "format": int,
    "language": int,
    "version": int,
    "rollback": bool,
    "created": str,
    "policy": str,
    "files": dict,
    "signatures": list,
}
_SIGNATURE_MEMBERS: Final[Mapping[str, type]] = {"key": str, "signature": str}
_WORDS: Final[Mapping[type, str]] = {
    int: "a whole number",
    bool: "true or false",
    str: "a string",
    dict: "an object",
    list: "a list",
}
#: Characters that do not show: control, direction and zero width, halves of pairs, separators of lines.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, by the raw public key, and the signature."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Lock:
    """A version of a policy.

    Attributes:
        version: counted up by the author.
        rollback: whether it may take the place of a higher version.
        created: when it was made, as its author says; nothing depends on it.
        policy: digest of the whole, as decisions carry it.
        files: the digest of each file by name.
    """

    version: int
    rollback: bool
    created: str
    policy: str
    files: Mapping[str, str]
    signatures: tuple[Signature, ...] = ()


def build(sources: Iterable[Source], *, version: int, rollback: bool, created: str) -> Lock:
    """Make the lock of sources, without a signature.

    Raises:
        PolicyError: a file has a name that not every machine reads the same, or a number or a time is none.
    """
    listed = sorted(sources, key=lambda source: source.name)
    lock = Lock(version, rollback, created, digest_of(listed), {each.name: _digest(each) for each in listed})
    _check(lock)
    return lock


def write_lock(lock: Lock) -> bytes:
    """Write the file."""
    signatures = [{"key": show_key(each.key), "signature": _encode(each.value)} for each in lock.signatures]
    text = json.dumps(_said(lock) | {"signatures": signatures}, indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def signed_bytes(lock: Lock) -> bytes:
    """Write what is signed: a line that says what this is, and the lock without its signatures, members sorted."""
    text = json.dumps(_said(lock), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return DOMAIN + text.encode()


def _said(lock: Lock) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "language": LANGUAGE_VERSION,
        "version": lock.version,
        "rollback": lock.rollback,
        "created": lock.created,
        "policy": lock.policy,
        "files": dict(sorted(lock.files.items())),
    }


# --- reading --------------------------------------------------------------------------------------------


def parse_lock(raw: bytes) -> Lock:
    """Read the file.

    Raises:
        PolicyError: it is malformed, of another format, or of another version of the language.
    """
    value = _read_json(raw)
    if isinstance(value, dict):
        _check_number(value, "format", FORMAT)  # another format may have other members
    said = _members(value, _MEMBERS)
    _check_number(said, "language", LANGUAGE_VERSION)
    signatures = tuple(_read_signature(each, f"signatures[{number}]") for number, each in enumerate(said["signatures"]))
    lock = Lock(said["version"], said["rollback"], said["created"], said["policy"], said["files"], signatures)
    _check(lock)
    return lock


def _read_json(raw: bytes) -> Any:
    if len(raw) > MAX_LOCK_BYTES:
        _refuse(f"it is longer than {MAX_LOCK_BYTES} bytes")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_object, parse_float=_no_number, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        _refuse(f"byte {error.start} is no UTF-8", error)
    except json.JSONDecodeError as error:
        _refuse(f"it is no JSON: {error}" if raw else "it is empty", error)
    except RecursionError as error:
        _refuse("it is nested too deep", error)
    except PolicyError:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        _refuse("a number is too long", error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, each named once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _refuse(f"{_shown(name)} stands twice in one object")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    _refuse(f"{text[:40]} is no whole number")


def _check_number(said: Mapping[str, Any], name: str, known: int) -> None:
    """Refuse a format or language that is not the one known here."""
    number = said.get(name)
    if type(number) is int and number != known:
        _refuse(f"`{name}` is {number}, and this version of Bylaw knows {known}")


def _members(said: object, kinds: Mapping[str, type], place: str = "") -> dict[str, Any]:
    """Take the members of an object: each is there, of its kind, and no other is."""
    if not isinstance(said, dict):
        _refuse(f"`{place}`: expected an object" if place else "expected an object")
    within = f"{place}." if place else ""
    for name in said:
        if name not in kinds:
            _refuse(f"unknown member {_shown(within + name)}")
    for name, kind in kinds.items():
        if name not in said:
            _refuse(f"`{within}{name}` is missing")
        if type(said[name]) is not kind:
            _refuse(f"`{within}{name}`: expected {_WORDS[kind]}")
    return said


def _read_signature(said: object, place: str) -> Signature:
    written = _members(said, _SIGNATURE_MEMBERS, place)
    key, value = parse_key(written["key"]), _decode(written["signature"], SIGNATURE_BYTES)
    if key is None:
        _refuse(f"`{place}.key`: expected `{KEY_PREFIX}` and 43 characters of base64url")
    if value is None:
        _refuse(f"`{place}.signature`: expected 86 characters of base64url")
    return Signature(key, value)


def _check(lock: Lock) -> None:
    """Hold the values of a lock to what they may be."""
    if not 1 <= lock.version <= MAX_VERSION:
        _refuse(f"`version`: expected a whole number from 1 to {MAX_VERSION}")
    if parse_time(lock.created) is None:
        _refuse("`created`: a time is written 2026-03-01T10:00:00Z")
    if not _is_digest(lock.policy):
        _refuse("`policy`: expected `sha256:` and 64 hex digits")
    if not lock.files:
        _refuse("`files`: it names none")
    for name, digest in lock.files.items():
        fault = fault_of(name)
        if fault is not None:
            _refuse(f"`files`: {_shown(name)}: {fault}")
        if not _is_digest(digest):
            _refuse(f"`files`: {_shown(name)}: expected `sha256:` and 64 hex digits")
    _check_distinct(lock.files, "`files`: {} and {} are one file where case does not count")
    keys = [each.key for each in lock.signatures]
    if len(set(keys)) != len(keys):
        _refuse("`signatures`: one key signed twice")


def fault_of(name: str) -> str | None:
    """Say why a name cannot be that of a file in a bundle; None: it can.

    >>> fault_of("rules/tasks.bylaw"), fault_of("../tasks.bylaw")
    (None, 'a part of it begins with a point')
    """
    parts = name.split("/")
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        return "a character in it does not show"
    if "\\" in name:
        return "folders are divided by `/`"
    if "" in parts:
        return "a name is relative to the policy's folder, without empty parts"
    if any(part.startswith(".") for part in parts):
        return "a part of it begins with a point"
    if not name.endswith(".bylaw"):
        return "it does not end in `.bylaw`"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in the normal form NFC"
    return None


def _check_distinct(names: Iterable[str], message: str) -> None:
    """Refuse two names that some machines keep as one file."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name.casefold())
        other = seen.setdefault(folded, name)
        if other != name:
            _refuse(message.format(_shown(other), _shown(name)))


# --- judging --------------------------------------------------------------------------------------------


def check_files(lock: Lock, sources: Iterable[Source]) -> None:
    """Hold sources to a lock: exactly its files, no one more, no one less.

    A file beside them that the lock does not name could be left out. It is refused: whoever put it there thinks that it
    counts, or the bundle is half copied.

    Raises:
        PolicyError: they are not; the message names the files.
    """
    listed = list(sources)
    found = {source.name: _digest(source) for source in listed}
    faults = {name: "differs" for name, digest in found.items() if lock.files.get(name, digest) != digest}
    faults |= dict.fromkeys(found.keys() - lock.files.keys(), "is not in the bundle")
    faults |= dict.fromkeys(lock.files.keys() - found.keys(), "is missing")
    if faults:
        told = [f"{_shown(name)} {fault}" for name, fault in sorted(faults.items())[:MAX_TOLD]]
        more = [f"and {len(faults) - MAX_TOLD} more"] if len(faults) > MAX_TOLD else []
        raise PolicyError(
            "bundle_mismatch",
            f"the files are not those of {LOCK_NAME}, version {lock.version}: {', '.join([*told, *more])}; "
            "copy the bundle whole, or build it anew",
        )
    if digest_of(listed) != lock.policy:
        _refuse("`policy` is not the digest of these files: build the bundle anew")


def check_version(lock: Lock, last: Lock) -> None:
    """Hold a bundle to the one that was loaded before it: forward, or back where it is marked so.

    A version is one content for ever: the same number with another one is refused too, marked or not, since nobody
    could say from a number what decides.

    Raises:
        PolicyError: it must not follow.
    """
    if lock.version == last.version and lock.policy != last.policy:
        raise PolicyError(
            "version_taken",
            f"{LOCK_NAME}: version {lock.version} has another content than the version {last.version} that runs: "
            "count the version up",
        )
    if lock.version < last.version and not lock.rollback:
        raise PolicyError(
            "version_lower",
            f"{LOCK_NAME}: version {lock.version} is lower than {last.version}, which runs: build it as version "
            f"{last.version + 1}, or with `--rollback`",
        )


# --- parts ----------------------------------------------------------------------------------------------


def show_key(key: bytes) -> str:
    """Write a public key as one line of text."""
    return KEY_PREFIX + _encode(key)


def parse_key(text: str) -> bytes | None:
    """Read a public key from one line of text; None: it is none."""
    return _decode(text.removeprefix(KEY_PREFIX), KEY_BYTES) if text.startswith(KEY_PREFIX) else None


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str, size: int) -> bytes | None:
    """Read base64url that is written in the one way: no padding, no other alphabet, no loose bits."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == size and _encode(raw) == text else None


def _digest(source: Source) -> str:
    return f"sha256:{hashlib.sha256(source.text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _is_digest(text: object) -> bool:
    if not isinstance(text, str):
        return False
    digits = text.removeprefix("sha256:")
    return text.startswith("sha256:") and len(digits) == 64 and set(digits) <= set("0123456789abcdef")


def _shown(name: str) -> str:
    """Quote a name for a message, not more of it than a person reads; what could play with a terminal is escaped."""
    short = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…"
    return f"`{short}`" if short.isprintable() else ascii(short)


def _refuse(message: str, cause: Exception | None = None) -> NoReturn:
    raise PolicyError("bad_lock", f"{LOCK_NAME}: {message}") from cause
