"""Ed25519 keys, and signatures of policy bundles: making keys, reading them, signing a lock, verifying one.

In: a `Lock`, key files, what an operator wrote as a public key. Out: the lock with a signature more, or the key that
vouches for it. A private key is a PEM file (PKCS 8, as `openssl genpkey -algorithm ed25519` makes one), which only its
owner reads; what it says stands in no message. A public key is one line, `ed25519:<base64url>`.

It stands here, and not in the engine, because the engine knows the standard library only; and not in the decision
service, because the management API judges bundles, too.

Ed25519 has a few public keys, all zeros among them, for which anybody can make signatures. They are refused: a
placeholder that was never filled in must not let every policy in.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.bundle import KEY_PREFIX, LOCK_NAME, Lock, Signature, parse_key, show_key, signed_bytes
from engine.errors import BylawError, PolicyError

#: Raw public keys, each of which may vouch for a policy: never empty.
PublicKeys = tuple[bytes, ...]

MAX_KEY_FILE: Final = 16 * 1024
_PEM: Final = "-----BEGIN "
_PRIVATE: Final = "PRIVATE KEY-----"
_P: Final = 2**255 - 19
#: One of the points of order 8.
_Y8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
#: Heights of all points of small order.
_WEAK: Final = frozenset((0, 1, _P - 1, _Y8, _P - _Y8))


# --- keys -----------------------------------------------------------------------------------------------


def make_key(path: Path) -> bytes:
    """Make a key pair: write the private key to a new file, mode 0600, and return the public one.

    Raises:
        BylawError: the file is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError as error:
        raise BylawError("bad_key", f"{path} is there already: a key is never written over another file") from error
    except OSError as error:
        raise BylawError("bad_key", f"{path}: {error.strerror}") from error
    return _raw(key.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key from its file.

    Raises:
        BylawError: it cannot be read, or is no such key.
    """
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except OSError as error:
        raise BylawError("bad_key", f"{path}: {error.strerror}") from error
    except TypeError as error:
        raise BylawError("bad_key", f"{path}: the key is encrypted: name a file that holds it in the open") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BylawError(
            "bad_key", f"{path} holds no private key in PEM; `bylaw bundle keygen FILE` makes one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BylawError("bad_key", f"{path}: the key is none of Ed25519; `bylaw bundle keygen FILE` makes one")
    return key


def parse_public_keys(written: str | bytes, *, place: str = "BYLAW_POLICY_KEY") -> PublicKeys:
    """Read public keys as an operator writes them: one, or several between commas. Each is a line `ed25519:…`, PEM, or
    the path of a file that holds one of the two.

    Args:
        place: where it was written, for messages.

    Raises:
        BylawError: one of them is none. The message does not repeat it: it might be a private one.
    """
    try:
        text = written if isinstance(written, str) else written.decode()
    except UnicodeDecodeError as error:
        raise _bad(place, "it is no text") from error
    return tuple(dict.fromkeys(_public_key(part.strip(), place) for part in text.split(",")))


def _public_key(text: str, place: str) -> bytes:
    if not text:
        raise _bad(place, "a key is missing")
    if text.startswith((KEY_PREFIX, _PEM)):
        return _parse(text, place)
    try:
        content = _read(Path(text)).decode().strip()
    except (OSError, ValueError) as error:  # a name may be none: too long, or with a NUL in it
        raise _bad(
            place, f"expected `{KEY_PREFIX}…`, PEM, or the path of a file that holds one of the two and can be read"
        ) from error
    if not content.startswith((KEY_PREFIX, _PEM)):
        raise _bad(place, f"the file holds neither `{KEY_PREFIX}…` nor PEM")
    return _parse(content, place)


def _parse(text: str, place: str) -> bytes:
    key = parse_key(text) if text.startswith(KEY_PREFIX) else _parse_pem(text, place)
    if key is None:
        raise _bad(place, f"`{KEY_PREFIX}` is followed by the 43 characters that `bylaw bundle keygen` printed")
    if (int.from_bytes(key, "little") & (1 << 255) - 1) % _P in _WEAK:
        raise _bad(
            place, "the key is one for which anybody can sign, like all zeros: make a pair by `bylaw bundle keygen`"
        )
    return key


def _parse_pem(text: str, place: str) -> bytes:
    if _PRIVATE in text:
        raise _bad(place, "the key is a private one, which stays with who signs: name the public one")
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad(place, "the PEM holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad(place, "the key is none of Ed25519")
    return _raw(key)


def _read(path: Path) -> bytes:
    """Read a key file, and not more of it than a key has."""
    with path.open("rb") as file:
        return file.read(MAX_KEY_FILE)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _bad(place: str, message: str) -> BylawError:
    return BylawError("bad_settings", f"{place}: {message}")


# --- signatures -----------------------------------------------------------------------------------------


def sign(lock: Lock, key: Ed25519PrivateKey) -> Lock:
    """Add a key's signature; one of the same key that was there is replaced."""
    own = _raw(key.public_key())
    others = tuple(each for each in lock.signatures if each.key != own)
    return replace(lock, signatures=(*others, Signature(own, key.sign(signed_bytes(lock)))))


def verify(lock: Lock, keys: PublicKeys) -> bytes:
    """Find the key that vouches for a lock. Signatures of other keys say nothing, for it or against it.

    Raises:
        PolicyError: there is none.
    """
    own = [each for each in lock.signatures if each.key in keys]
    if not lock.signatures:
        raise PolicyError("unsigned", f"{LOCK_NAME} is not signed: `bylaw bundle sign` does that")
    if not own:
        raise PolicyError("unknown_key", f"{LOCK_NAME} is signed, but by no key that is trusted here: {_names(lock)}")
    message = signed_bytes(lock)
    for each in own:
        if _is_good(each, message):
            return each.key
    raise PolicyError(
        "bad_signature", f"{LOCK_NAME}: the signature is not that of what it says: something was changed after it"
    )


def _is_good(signature: Signature, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(signature.key).verify(signature.value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _names(lock: Lock) -> str:
    shown = [show_key(each.key) for each in lock.signatures[:2]]
    return ", ".join(shown) + (" and others" if len(lock.signatures) > len(shown) else "")
