"""An end user's token in, with the keys of its issuer and the time; out who he is, or in one word why nobody.

    token ──▶ shape ──▶ header ──▶ key ──▶ signature ──▶ claims ──▶ times ──▶ Identity
                                     └─ whatever does not fit ──▶ Rejected(reason)

Pure: where keys come from is `jwks`, what is remembered of tokens `tokens`.

The signature is checked by PyJWT. Header and claims are read here, because of members that stand twice it takes the
last, where another reader takes the first, and because it looks at the machine's own clock.

INVARIANT: the algorithm is the key's. A header that names another is refused; it never chooses.

INVARIANT: one token is written in one way. Padding, blanks and unused bits that are not zero are refused, though a
lenient decoder would read the same from them. Whoever holds a token by ES256 can still make a second signature for the
same words; so tokens are blocked by their id, never by their text.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import InvalidAlgorithmError, InvalidSignatureError, PyJWK, PyJWS, PyJWTError

from engine import BylawError
from engine.facts import ALWAYS
from engine.values import MAX_TIME, SECOND
from sidecar.bearer import Identity, Reason, Rejected, is_revoked
from sidecar.errors import PublicError
from sidecar.strict_json import parse
from store.errors import RefusedError
from store.ids import check_id

#: These are `bearer`'s, and are to be had here too.
__all__ = ["Identity", "Reason", "Rejected", "is_revoked"]

MAX_TOKEN: Final = 8 * 1024
MAX_KEYS: Final = 100
MAX_KID: Final = 256
MIN_RSA_BITS: Final = 2048
#: How far the issuer's clock and ours may be apart, and the most that can be set: every token lives longer by it.
LEEWAY_S: Final = 30.0
MAX_LEEWAY_S: Final = 300.0

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Json = dict[str, Any]

#: By what keys of a type, and curve if it has curves, verify.
_ALGORITHMS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: Members of a header by which the rest would have to be read in another way than it is here.
_READ_OTHERWISE: Final = ("crit", "b64", "zip")
#: Kinds of tokens, as media types: `application/` may be left out, and case does not matter (RFC 7515, RFC 9068).
_KINDS: Final = ("jwt", "at+jwt")
#: Knows no other algorithm, whatever it is asked for.
_SIGNATURES: Final = PyJWS(
    algorithms=list(_ALGORITHMS.values()), options={"verify_signature": True, "enforce_minimum_key_length": True}
)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say.

    Args:
        issuer: who made it. audience: for whom.
        tenant_claim: names the tenant. roles_claim: lists the claimed roles. service_claim: makes a service of its
            bearer.
        leeway_s: how far the issuer's clock and ours may be apart.

    Raises:
        BylawError: tokens made for somebody else could pass.
    """

    issuer: str
    audience: str
    tenant_claim: str = "tenant_id"
    roles_claim: str | None = None
    service_claim: str | None = None
    leeway_s: float = LEEWAY_S

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise _bad_settings("BYLAW_ISSUER and BYLAW_AUDIENCE must say whose tokens count, and for whom they are")
        if "" in (self.tenant_claim, self.roles_claim, self.service_claim):
            raise _bad_settings("a claim has a name: leave out the variable that is empty")
        if not 0 <= self.leeway_s <= MAX_LEEWAY_S:
            raise _bad_settings(f"leeway: 0 to {MAX_LEEWAY_S:g} seconds")


def _bad_settings(message: str) -> BylawError:
    return BylawError("bad_settings", message)


# --- keys ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and the one algorithm by which it verifies."""

    kid: str | None
    algorithm: str
    public: PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of an issuer, as its JWKS document has them.

    Attributes:
        keys: those that verify, by their `kid`.
        only: the key of a set that has no other: a token need not name it.
        left_out: what does not verify and why, a sentence each.
    """

    keys: Mapping[str | None, Key] = field(default_factory=dict)
    only: Key | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: object) -> KeySet:
        """Read a JWKS document. Keys that do not fit are left out.

        Raises:
            BylawError: it is no such document.
        """
        said = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(said, list):
            raise BylawError("bad_keys", 'this is no JSON Web Key Set: expected an object with a list "keys"')
        if len(said) > MAX_KEYS:
            raise BylawError("bad_keys", f"a key set holds at most {MAX_KEYS} keys, and this one has {len(said)}")
        found, left_out = [], []
        for place, each in enumerate(said, 1):
            try:
                found.append(_read_key(each))
            except _UnfitKeyError as error:
                left_out.append(f"{_name(each, place)}: {error}")
        if len(found) == 1:
            return cls({found[0].kid: found[0]}, found[0], tuple(left_out))
        times = Counter(key.kid for key in found)
        keys: dict[str | None, Key] = {key.kid: key for key in found if key.kid is not None and times[key.kid] == 1}
        return cls(keys, None, (*left_out, *_ambiguous(times)))

    def find(self, kid: str | None) -> Key | None:
        """Return the key that a token names, or need not name."""
        return self.only if kid is None else self.keys.get(kid)


class _UnfitKeyError(Exception):
    """A key does not verify; the sentence says why."""


def _ambiguous(times: Mapping[str | None, int]) -> Iterator[str]:
    """Tell of keys that no token can name, or that one name does not tell apart."""
    for kid, count in times.items():
        if kid is None:
            yield f'{count} without a "kid": no token can name them, and the set has more than one key'
        elif count > 1:
            yield f"kid {_shown(kid)}: {count} keys have it, so it names none of them"


def _read_key(said: object) -> Key:
    """Read one key of a set.

    Raises:
        _UnfitKeyError: it does not verify tokens here.
    """
    if not isinstance(said, dict):
        raise _UnfitKeyError("it is no object")
    private = next((name for name in _PRIVATE if name in said), None)
    if private is not None:
        raise _UnfitKeyError(f'it has the secret member "{private}": publish public keys only, and replace this one')
    if said.get("use", "sig") != "sig":
        raise _UnfitKeyError(f'its "use" is {_shown(said["use"])}, not "sig"')
    operations = said.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _UnfitKeyError('its "key_ops" lack "verify"')
    kid = said.get("kid")
    if "kid" in said and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise _UnfitKeyError(f'its "kid" is no string of 1 to {MAX_KID} characters')
    algorithm = _algorithm(said)
    return Key(kid, algorithm, _public_key(said, algorithm))


def _algorithm(said: Json) -> str:
    """Return the algorithm that a key is bound to: its type and curve say it, and it must not say another itself."""
    kind, curve = said.get("kty"), said.get("crv")
    known = (kind, None if kind == "RSA" else curve)
    algorithm = next((each for fitting, each in _ALGORITHMS.items() if fitting == known), None)
    if algorithm is None:
        raise _UnfitKeyError(f"its type {_shown(kind)}, curve {_shown(curve)}, is none of RSA, EC P-256, OKP Ed25519")
    if said.get("alg", algorithm) != algorithm:
        raise _UnfitKeyError(f'its "alg" is {_shown(said["alg"])}; such a key verifies by {algorithm} here')
    return algorithm


def _public_key(said: Json, algorithm: str) -> PublicKey:
    try:
        public = PyJWK(said, algorithm).key
    except (PyJWTError, TypeError, ValueError, LookupError) as error:
        raise _UnfitKeyError("its numbers are malformed") from error
    if not isinstance(public, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise _UnfitKeyError("it is no public key")
    if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        raise _UnfitKeyError(f"it has {public.key_size} bits; RSA needs {MIN_RSA_BITS}")
    return public


def _name(said: object, place: int) -> str:
    kid = said.get("kid") if isinstance(said, dict) else None
    return f"key {place}" if kid is None else f"kid {_shown(kid)}"


def _shown(value: object) -> str:
    """Quote the beginning of what an issuer wrote, in printable ASCII."""
    written = json.dumps(value)
    return written if len(written) <= 60 else f"{written[:60]}…"


# --- tokens -------------------------------------------------------------------------------------------


class _RefusedTokenError(Exception):
    """A token is refused; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def verify(token: str, keys: KeySet, rules: TokenRules, now: float) -> Identity | Rejected:
    """Say who bears a token.

    Args:
        now: seconds since 1970.
    """
    try:
        claims = _parse(_signed(token, keys))
        _check_origin(claims, rules)
        identity = _identify(claims, rules)
    except _RefusedTokenError as error:
        return Rejected(error.reason)
    return check_times(identity, rules, now) or identity


def check_times(identity: Identity, rules: TokenRules, now: float) -> Rejected | None:
    """Reject an identity whose time is over, or has not come. It counts from `not_before` less the leeway on, and until
    just before `expires` and the leeway."""
    moment, leeway = _nanoseconds(now), _nanoseconds(rules.leeway_s)
    if moment >= identity.expires + leeway:
        return Rejected("expired")
    return Rejected("not_yet_valid") if moment < identity.not_before - leeway else None


def kid_of(token: str) -> str | None:
    """Return the key that a token names. Nothing is verified; None also where the header cannot be read."""
    try:
        return _header(token).get("kid")
    except _RefusedTokenError:
        return None


def _signed(token: str, keys: KeySet) -> bytes:
    """Verify the signature; return what it is over, but the header."""
    header = _header(token)
    if header.get("alg") not in _ALGORITHMS.values():
        raise _RefusedTokenError("bad_algorithm")
    key = keys.find(header.get("kid"))
    if key is None:
        raise _RefusedTokenError("unknown_key")
    try:
        read = _SIGNATURES.decode_complete(
            token,
            key=key.public,
            algorithms=[key.algorithm],
            options={"verify_signature": True, "enforce_minimum_key_length": True},
            detached_payload=None,
        )
    except InvalidSignatureError as error:
        raise _RefusedTokenError("bad_signature") from error
    except InvalidAlgorithmError as error:
        raise _RefusedTokenError("bad_algorithm") from error
    except PyJWTError as error:  # unused bits that are not zero
        raise _RefusedTokenError("malformed") from error
    payload: bytes = read["payload"]
    return payload


def _header(token: str) -> Json:
    """Read a token's header, and refuse what cannot be understood here. Keys that it brings along, or says where to
    fetch, are passed over: `jwk`, `jku`, `x5c`, `x5u`."""
    if len(token) > MAX_TOKEN:
        raise _RefusedTokenError("too_long")
    if _SHAPE.fullmatch(token) is None:
        raise _RefusedTokenError("malformed")
    written = token[: token.index(".")]
    try:
        header = _parse(urlsafe_b64decode(written + "=" * (-len(written) % 4)))
    except binascii.Error as error:
        raise _RefusedTokenError("malformed") from error
    kind = header.get("typ", "JWT")
    is_known = isinstance(kind, str) and kind.lower().removeprefix("application/") in _KINDS
    if not is_known or any(name in header for name in _READ_OTHERWISE) or not isinstance(header.get("kid", ""), str):
        raise _RefusedTokenError("bad_header")
    return header


def _parse(raw: bytes) -> Json:
    try:
        said = parse(raw)
    except PublicError as error:
        raise _RefusedTokenError("malformed") from error
    if not isinstance(said, dict):
        raise _RefusedTokenError("malformed")
    return said


# --- claims -------------------------------------------------------------------------------------------


def _check_origin(claims: Json, rules: TokenRules) -> None:
    """Refuse what another issuer made, or what is for others."""
    if claims.get("iss") != rules.issuer:
        raise _RefusedTokenError("bad_issuer")
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not _is_texts(named) or rules.audience not in named:
        raise _RefusedTokenError("bad_audience")


#: Claims that are read here, and say nothing more.
_REGISTERED: Final = frozenset(("iss", "sub", "aud", "exp", "nbf", "iat", "jti"))


def _identify(claims: Json, rules: TokenRules) -> Identity:
    expires = _time(claims, "exp")
    if expires is None:
        raise _RefusedTokenError("bad_claims")
    issued_at, not_before = _time(claims, "iat"), _time(claims, "nbf")
    is_service = rules.service_claim is not None and claims.get(rules.service_claim) is not None
    return Identity(
        subject=f"{'service' if is_service else 'user'}:{_id(claims.get('sub'))}",
        tenant=_id(claims[rules.tenant_claim]) if rules.tenant_claim in claims else None,
        roles=_roles(claims, rules.roles_claim),
        token_id=_id(claims["jti"]) if "jti" in claims else None,
        issued_at=issued_at,
        expires=expires,
        # What will be issued later does not count before either.
        not_before=max((each for each in (issued_at, not_before) if each is not None), default=ALWAYS),
        claims={name: said for name, said in claims.items() if name not in _REGISTERED and _is_plain(said)},
    )


def _is_plain(said: object) -> bool:
    """Say whether a claim is one word or number, or a list of texts: a policy's context has no other values."""
    return isinstance(said, str | bool | int | float) or _is_texts(said)


def _id(said: object) -> str:
    """Read an id, as the store takes them: another is nobody's there, and no token could be blocked by it."""
    if not isinstance(said, str):
        raise _RefusedTokenError("bad_claims")
    try:
        return check_id(said, "an id")
    except RefusedError as error:
        raise _RefusedTokenError("bad_claims") from error


def _roles(claims: Json, name: str | None) -> tuple[str, ...]:
    if name is None or name not in claims:
        return ()
    said = claims[name]
    if not _is_texts(said):
        raise _RefusedTokenError("bad_claims")
    return tuple(said)


def _is_texts(said: object) -> TypeGuard[list[str]]:
    return isinstance(said, list) and all(isinstance(each, str) for each in said)


def _time(claims: Json, name: str) -> int | None:
    """Read seconds since 1970, with a fraction or without; None where they are not said."""
    if name not in claims:
        return None
    said = claims[name]
    if type(said) not in (int, float) or not 0 <= said <= MAX_TIME // SECOND:
        raise _RefusedTokenError("bad_claims")
    return _nanoseconds(said)


def _nanoseconds(seconds: float) -> int:
    """Turn seconds into the engine's time, exactly but for the fraction of a nanosecond."""
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * SECOND // denominator
