"""Tokens and keys: what makes an identity, and all that does not. `Issuer` makes tokens byte by byte, so that it can
sign what no library would write."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from engine import BylawError
from engine.facts import ALWAYS
from engine.values import SECOND
from sidecar.identity import (
    MAX_KEYS,
    MAX_TOKEN,
    Identity,
    KeySet,
    Reason,
    Rejected,
    TokenRules,
    check_times,
    is_revoked,
    kid_of,
    verify,
)

#: A loaded machine is no finding.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
NOW: Final = 1_700_000_000.0
LEEWAY_S: Final = 30
RULES: Final = TokenRules("https://id.example", "api", roles_claim="roles", service_claim="client", leeway_s=LEEWAY_S)
CLAIMS: Final = {"iss": "https://id.example", "aud": "api", "sub": "ann", "exp": NOW + 300}
PRIVATE: Final[dict[str, Any]] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def jwk_of(private: Any, algorithm: str, **members: object) -> dict[str, Any]:
    """Write the public half of a key as an issuer publishes it."""
    known = get_default_algorithms()[algorithm]
    said = dict(known.to_jwk(private.public_key(), as_dict=True))
    said.pop("key_ops", None)
    return {**said, **members}


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Issuer:
    """Makes tokens by one key: of claims, or of any bytes."""

    algorithm: str
    private: Any
    kid: str

    def jwk(self, **members: object) -> dict[str, Any]:
        return jwk_of(self.private, self.algorithm, kid=self.kid, **members)

    def header(self, **members: object) -> dict[str, object]:
        return {"alg": self.algorithm, "kid": self.kid, **members}

    def token(self, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """Make a good token, with other claims, or another header."""
        return self.of(json.dumps(self.header() if header is None else header), json.dumps({**CLAIMS, **claims}))

    def without(self, claim: str) -> str:
        return self.of(json.dumps(self.header()), json.dumps({k: v for k, v in CLAIMS.items() if k != claim}))

    def of(self, header: str | bytes, payload: str | bytes) -> str:
        """Sign a header and a payload as they are written."""
        parts = [encoded(part.encode() if isinstance(part, str) else part) for part in (header, payload)]
        return self.signed(".".join(parts))

    def signed(self, text: str) -> str:
        signature = get_default_algorithms()[self.algorithm].sign(text.encode(), self.private)
        return f"{text}.{encoded(signature)}"


ISSUERS: Final = {algorithm: Issuer(algorithm, PRIVATE[algorithm], f"{algorithm} key") for algorithm in ALGORITHMS}
RSA, EC, ED = ISSUERS["RS256"], ISSUERS["ES256"], ISSUERS["EdDSA"]
#: Has a key of its own, and gives it the name of another.
STRANGER: Final = Issuer("ES256", ec.generate_private_key(ec.SECP256R1()), EC.kid)
KEYS: Final = KeySet.of({"keys": [issuer.jwk() for issuer in ISSUERS.values()]})
GOOD: Final = {algorithm: issuer.token() for algorithm, issuer in ISSUERS.items()}


def said_of(token: str, keys: KeySet = KEYS, rules: TokenRules = RULES, now: float = NOW) -> Identity | Rejected:
    return verify(token, keys, rules, now)


def identity_of(token: str, rules: TokenRules = RULES) -> Identity:
    found = said_of(token, rules=rules)
    assert isinstance(found, Identity), found
    return found


# --- what is an identity ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_is_an_identity(algorithm: str) -> None:
    """A token by each of the algorithms says who bears it, in the engine's words and times."""
    token = ISSUERS[algorithm].token(
        iat=NOW - 10, nbf=NOW - 5, exp=NOW + 0.5, jti="t-1", tenant_id="acme", roles=["viewer", "editor"], email="x"
    )

    assert said_of(token) == Identity(
        "user:ann",
        "acme",
        ("viewer", "editor"),
        "t-1",
        int(NOW - 10) * SECOND,
        int(NOW) * SECOND + SECOND // 2,
        int(NOW - 5) * SECOND,
    )


def test_what_may_be_left_out() -> None:
    """A token that claims nothing but what it must is somebody without tenant, roles and id."""
    assert said_of(EC.token()) == Identity("user:ann", None, (), None, None, int(NOW + 300) * SECOND, ALWAYS)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "at+jwt"},
        {"typ": "application/at+jwt"},
        {"typ": "jwt"},
        {"jku": "https://evil.example/keys", "x5u": "https://evil.example/chain", "x5c": ["AA"], "jwk": {"kty": "oct"}},
        {"cty": "x", "unheard-of": [1, {"of": None}]},
    ],
)
def test_headers_that_are_understood(header: dict[str, object]) -> None:
    """The kinds of access tokens are taken, and members that say where other keys are have no effect."""
    assert isinstance(said_of(EC.token(EC.header(**header))), Identity)


@pytest.mark.parametrize("claim", [True, "billing", {}, 0, False, ""])
def test_the_service_claim_makes_a_service(claim: object) -> None:
    """Whatever the claim says, its presence makes the subject a service."""
    assert identity_of(EC.token(client=claim)).subject == "service:ann"


def test_no_service_without_the_claim() -> None:
    """A claim of nothing, or one that no rule names, leaves a user."""
    assert identity_of(EC.token(client=None)).subject == "user:ann"
    assert identity_of(EC.token(client=1), replace(RULES, service_claim=None)).subject == "user:ann"


def test_claims_have_the_names_that_are_set() -> None:
    """Tenant and roles are read where the rules say, as one name each, and nowhere else."""
    rules = replace(RULES, tenant_claim="https://acme.example/org", roles_claim="a.b")
    token = EC.token(**{"https://acme.example/org": "acme", "tenant_id": "globex", "a.b": ["x"], "roles": ["y"]})

    found = identity_of(token, rules)

    assert (found.tenant, found.roles) == ("acme", ("x",))
    assert identity_of(token, replace(rules, roles_claim=None)).roles == ()


@pytest.mark.parametrize(
    "sub", ["a", "auth0|5f7c", "ann@example.org", "a:b", "ж", "名前", "\U0001f642", "é", "x" * 256, "é" * 128]
)
def test_subjects_that_are_ids(sub: str) -> None:
    """Whatever the store takes for an id may be a subject, up to 256 bytes."""
    assert identity_of(EC.token(sub=sub)).subject == f"user:{sub}"
    assert identity_of(EC.of(json.dumps(EC.header()), json.dumps({**CLAIMS, "sub": sub}, ensure_ascii=False)))


@pytest.mark.parametrize("aud", ["api", ["api"], ["other", "api"], ["api", "api"]])
def test_audiences_among_which_we_are(aud: object) -> None:
    """The audience is a string or a list of them."""
    assert identity_of(EC.token(aud=aud))


def test_a_token_of_the_greatest_length() -> None:
    """A token of 8 KiB is read."""
    free = (MAX_TOKEN - len(EC.token(x="", y=""))) * 3 // 4
    token = EC.token(x="x" * 3000, y="y" * (free - 3000))

    assert MAX_TOKEN - 4 < len(token) <= MAX_TOKEN
    assert identity_of(token)


# --- the invariant `tokens` ---------------------------------------------------------------------------


def by_secret(secret: bytes, **header: object) -> str:
    """Sign by a secret, as somebody does who has only the public key."""
    text = f"{encoded(json.dumps(RSA.header(**header)).encode())}.{encoded(json.dumps(CLAIMS).encode())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def with_signature(token: str, signature: bytes) -> str:
    return f"{token.rpartition('.')[0]}.{encoded(signature)}"


def in_der(token: str) -> str:
    """Sign as other protocols than this do."""
    return with_signature(token, EC.private.sign(token.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256())))


def with_bit(token: str, part: int) -> str:
    """Set an unused bit at the end of a part, from which a lenient decoder reads the same bytes."""
    parts = token.split(".")
    assert len(parts[part]) % 4 in (2, 3)
    parts[part] = parts[part][:-1] + ALPHABET[ALPHABET.index(parts[part][-1]) | 1]
    return ".".join(parts)


def padded(token: str, part: int) -> str:
    parts = token.split(".")
    assert len(parts[part]) % 4
    parts[part] += "=" * (-len(parts[part]) % 4)
    return ".".join(parts)


def uneven(said: object) -> str:
    """Write JSON so that it ends in unused bits when it is encoded."""
    written = json.dumps(said)
    return written + " " * ((1 - len(written)) % 3)


def spelled(spell: Callable[[str, int], str], part: int) -> str:
    """Have the issuer itself sign another spelling."""
    return EC.signed(spell(UNEVEN, part).rpartition(".")[0])


def swapped() -> str:
    """Put the claims of one token under the signature of another."""
    header, _, signature = GOOD["ES256"].split(".")
    return ".".join((header, EC.token(sub="root").split(".")[1], signature))


ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
UNEVEN: Final = EC.of(uneven(EC.header()), uneven(CLAIMS))
PEM: Final = PRIVATE["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
MODULUS: Final = PRIVATE["RS256"].public_key().public_numbers().n.to_bytes(256)
NAMES: Final = json.dumps(EC.header())[1:-1]
OTHER_ALGORITHMS: Final = (
    "none", "None", "NONE", "nOnE", "es256", "Es256", "ES256 ", "HS256", "ES384", "ES256K", "PS256", "RS512", "Ed25519",
    "RS256", "EdDSA", "", None, 256, True, ["ES256"], {"ES256": 1},
)  # fmt: skip
OTHER_KIDS: Final = ("", "es256 key", "ES256 key ", "../../dev/null", "' OR 1=1 --", "\0", "x" * 4000)
OTHER_KINDS: Final = (
    "", "JWE", "dpop+jwt", "logout+jwt", "secevent+jwt", "text/jwt", "application/application/jwt", None, 5, ["JWT"]
)  # fmt: skip
BLANKS: Final = (" ", "\n", "\r\n", "\t", "\0", "\u00a0", "\u200b", "\u0661", "\ud800")
UNREADABLE: Final = (
    "", "[]", "null", '"text"', "{", "{}{}", "{'a': 1}", '{"exp": NaN}', '{"exp": -Infinity}', '{"exp": 1e999}',
    "{} \0", '{"exp": 1' + "0" * 4900 + "}", "[" * 5000, '{"a":' * 16 + "{}" + "}" * 16, "\ufeff{}",
)  # fmt: skip
Cases = dict[str, tuple[str, Reason]]


def each(what: str, reason: Reason, said: Iterable[Any], make: Callable[[Any], str]) -> Cases:
    """Make a token of each of several things that are said, all rejected for one reason."""
    return {f"{what} {value!r}"[:80]: (make(value), reason) for value in said}


def claiming(written: str | bytes) -> str:
    return EC.of(json.dumps(EC.header()), written)


#: What somebody without the private key sends, or an issuer in error, and what is said of it.
FORGED: Final[Cases] = {
    # the algorithm
    "HS256 by the public key as PEM": (by_secret(PEM, alg="HS256"), "bad_algorithm"),
    "HS256 by the public modulus": (by_secret(MODULUS, alg="HS256"), "bad_algorithm"),
    "a secret's signature under the right name": (by_secret(PEM), "bad_signature"),
    **each("alg", "bad_algorithm", OTHER_ALGORITHMS, lambda alg: EC.token(EC.header(alg=alg))),
    "no alg": (EC.token({"kid": EC.kid}), "bad_algorithm"),
    "none without a signature": (encoded(b'{"alg": "none"}') + "." + encoded(b"{}") + ".", "malformed"),
    "an RSA key for ES256": (EC.token({"alg": "ES256", "kid": RSA.kid}), "bad_algorithm"),
    "an elliptic key for RS256": (RSA.token({"alg": "RS256", "kid": EC.kid}), "bad_algorithm"),
    "an Edwards key for ES256": (EC.token({"alg": "ES256", "kid": ED.kid}), "bad_algorithm"),
    "an elliptic key for EdDSA": (ED.token({"alg": "EdDSA", "kid": EC.kid}), "bad_algorithm"),
    # the key
    "a stranger's key of the same name": (STRANGER.token(), "bad_signature"),
    "a stranger's key brought along": (STRANGER.token(EC.header(jwk=STRANGER.jwk())), "bad_signature"),
    "no kid among several keys": (EC.token({"alg": "ES256"}), "unknown_key"),
    **each("kid", "unknown_key", OTHER_KIDS, lambda kid: EC.token(EC.header(kid=kid))),
    **each("kid", "bad_header", [None, 1, True, ["a"], {}], lambda kid: EC.token(EC.header(kid=kid))),
    # the header
    **each("typ", "bad_header", OTHER_KINDS, lambda typ: EC.token(EC.header(typ=typ))),
    **each("crit", "bad_header", [[], ["b64"], ["exp"], None], lambda crit: EC.token(EC.header(crit=crit))),
    **each("b64", "bad_header", [True, False, None], lambda b64: EC.token(EC.header(b64=b64))),
    **each("zip", "bad_header", ["DEF", None], lambda form: EC.token(EC.header(zip=form))),
    "a header that says the algorithm twice": (EC.of(f'{{"alg": "none", {NAMES}}}', "{}"), "malformed"),
    "a header that names its key twice": (EC.of(f'{{{NAMES}, "kid": "ES256 key"}}', "{}"), "malformed"),
    "a header in UTF-16": (EC.of(json.dumps(EC.header()).encode("utf-16"), "{}"), "malformed"),
    "a header behind a mark": (EC.of("\ufeff" + json.dumps(EC.header()), "{}"), "malformed"),
    "a header that is a list": (EC.of(json.dumps([EC.header()]), "{}"), "malformed"),
    "a header that is nested deep": (EC.of("[" * 6000, "{}"), "malformed"),
    # the signature
    "no signature": (GOOD["ES256"].rpartition(".")[0] + ".", "malformed"),
    "zeros for a signature by ES256": (with_signature(GOOD["ES256"], bytes(64)), "bad_signature"),
    "zeros for a signature by EdDSA": (with_signature(GOOD["EdDSA"], bytes(64)), "bad_signature"),
    "zeros for a signature by RS256": (with_signature(GOOD["RS256"], bytes(256)), "bad_signature"),
    "one as a signature by RS256": (with_signature(GOOD["RS256"], bytes(255) + b"\1"), "bad_signature"),
    "a signature of one byte": (with_signature(GOOD["ES256"], b"\0"), "bad_signature"),
    "a signature in DER": (in_der(GOOD["ES256"]), "bad_signature"),
    "the signature of other claims": (swapped(), "bad_signature"),
    "the signature without its end": (GOOD["EdDSA"][:-6] + "A", "malformed"),
    # how it is written
    "nothing": ("", "malformed"),
    "two parts": (GOOD["ES256"].rpartition(".")[0], "malformed"),
    "four parts": (GOOD["ES256"] + ".e30", "malformed"),
    "five parts, as of an encrypted token": ("e30.e30.e30.e30.e30", "malformed"),
    "parts that are empty": (".." + encoded(bytes(64)), "malformed"),
    **each("in front", "malformed", BLANKS, lambda blank: blank + GOOD["ES256"]),
    **each("behind", "malformed", BLANKS, lambda blank: GOOD["ES256"] + blank),
    **each("within", "malformed", BLANKS, lambda blank: GOOD["ES256"].replace(".", f"{blank}.", 1)),
    "the other alphabet of base64": (GOOD["ES256"] + "/+", "malformed"),
    "an unused bit of the signature": (with_bit(GOOD["ES256"], 2), "malformed"),
    "an unused bit of the claims, signed": (spelled(with_bit, 1), "malformed"),
    "an unused bit of the header, signed": (spelled(with_bit, 0), "malformed"),
    "padding behind the signature": (padded(GOOD["ES256"], 2), "malformed"),
    "padding behind the claims, signed": (spelled(padded, 1), "malformed"),
    "padding behind the header, signed": (spelled(padded, 0), "malformed"),
    "more than 8 KiB": (EC.token(x="x" * 3000, y="y" * 3000), "too_long"),
    # the claims, as they are written
    **each("claims", "malformed", UNREADABLE, claiming),
    "claims in UTF-16": (claiming(json.dumps(CLAIMS).encode("utf-16")), "malformed"),
    "claims that are no text": (claiming(b'{"a": "\xff"}'), "malformed"),
    "claims in which one stands twice": (claiming(json.dumps(CLAIMS)[:-1] + ', "sub": "root"}'), "malformed"),
    "claims in which one stands twice further in": (claiming('{"a": {"b": 1, "b": 1}}'), "malformed"),
    "claims with half a character": (EC.token(name="\ud800"), "malformed"),
}


@pytest.mark.parametrize(("token", "reason"), FORGED.values(), ids=FORGED)
def test_tokens(token: str, reason: Reason) -> None:
    """Only what the issuer signed for us, by the algorithm of its key and in the one spelling, is an identity."""
    assert said_of(token) == Rejected(reason)


def each_claim(claim: str, reason: Reason, *said: object) -> Cases:
    return each(claim, reason, said, lambda value: EC.token(**{claim: value}))


#: What is wrong with a claim, and what is said of it.
WRONG: Final[Cases] = {
    **each_claim("iss", "bad_issuer", "https://id.example/", "HTTPS://id.example", "", None, 1, ["https://id.example"]),
    **each_claim("aud", "bad_audience", "API", "api2", "", None, 1, [], [["api"]], ["other"], ["api", 1], {"api": 1}),
    **each_claim("exp", "bad_claims", None, "1700000300", True, [], {}, -1, 1e12, 10**4000, -0.5),
    **each_claim("nbf", "bad_claims", None, "0", False, [0], -0.5, 10**12),
    **each_claim("iat", "bad_claims", None, "0", True, {}, -1, 253402300800),
    **each_claim("sub", "bad_claims", None, "", 1, True, ["ann"], {}, " ", "a b", "a\nb", "a\0", "x" * 257, "é" * 129),
    **each_claim("sub", "bad_claims", "e\u0301", "\u200b", "\u202eann", "\ufeffann", "\u2028", "\u00a0"),
    **each_claim("tenant_id", "bad_claims", None, "", 1, True, ["acme"], {}, "a b", "x" * 257, "e\u0301"),
    **each_claim("roles", "bad_claims", None, "viewer", {"viewer": True}, [1], ["viewer", None], [["viewer"]], 1),
    **each_claim("jti", "bad_claims", None, "", 1, ["t-1"], "a b", "x" * 257),
    "no iss": (EC.without("iss"), "bad_issuer"),
    "no aud": (EC.without("aud"), "bad_audience"),
    "no exp": (EC.without("exp"), "bad_claims"),
    "no sub": (EC.without("sub"), "bad_claims"),
    "no claims": (claiming("{}"), "bad_issuer"),
}


@pytest.mark.parametrize(("token", "reason"), WRONG.values(), ids=WRONG)
def test_claims_that_are_wrong(token: str, reason: Reason) -> None:
    """A claim that is missing though it must be there, or is of another kind or value, makes no identity."""
    assert said_of(token) == Rejected(reason)


@pytest.mark.parametrize(
    ("claims", "now", "reason"),
    [
        ({"exp": 1000}, 1000 + LEEWAY_S, "expired"),
        ({"exp": 1000}, 1000 + LEEWAY_S - 0.001, None),
        ({"exp": 1000}, 1e9, "expired"),
        ({"exp": 1000.25}, 1000.25 + LEEWAY_S, "expired"),
        ({"exp": 1000.25}, 1000 + LEEWAY_S, None),
        ({"exp": 0}, 0, None),
        ({"exp": 0}, LEEWAY_S, "expired"),
        ({"exp": 1000, "nbf": 500}, 500 - LEEWAY_S, None),
        ({"exp": 1000, "nbf": 500}, 500 - LEEWAY_S - 0.001, "not_yet_valid"),
        ({"exp": 1000, "iat": 500}, 500 - LEEWAY_S, None),
        ({"exp": 1000, "iat": 500}, 500 - LEEWAY_S - 0.001, "not_yet_valid"),
        ({"exp": 1000, "iat": 900, "nbf": 500}, 600, "not_yet_valid"),
        ({"exp": 1000, "iat": 500, "nbf": 900}, 600, "not_yet_valid"),
        ({"exp": 500, "nbf": 900}, 700, "expired"),
        ({"exp": 253402300799, "iat": 0}, NOW, None),
    ],
)
def test_times_to_the_instant(claims: dict[str, object], now: float, reason: Reason | None) -> None:
    """A token counts from `nbf` and `iat`, less the leeway, until just before `exp` and the leeway."""
    found = said_of(EC.token(**claims), now=now)

    assert isinstance(found, Identity) if reason is None else found == Rejected(reason)


def test_times_without_leeway() -> None:
    """Without leeway a token counts from the instant that it says until before the other."""
    rules = replace(RULES, leeway_s=0)
    identity = Identity("user:ann", None, (), None, None, 20 * SECOND, 10 * SECOND)

    found = [check_times(identity, rules, now) for now in (9.999, 10, 19.999, 20)]

    assert found == [Rejected("not_yet_valid"), None, None, Rejected("expired")]


@pytest.mark.property
@settings(UNHURRIED, max_examples=300)
@given(st.sampled_from(ALGORITHMS), st.integers(0), st.characters(codec="utf-8") | st.sampled_from(ALPHABET + ".="))
def test_any_single_changed_byte_is_seen(algorithm: str, place: int, character: str) -> None:
    """A good token in which one character is another is rejected."""
    good = GOOD[algorithm]
    place %= len(good)

    found = said_of(good[:place] + character + good[place + 1 :])

    assert isinstance(found, Identity) if good[place] == character else isinstance(found, Rejected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("api"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.property
@UNHURRIED
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "cty", "x"]), json_values),
    st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "iat", "jti", "tenant_id", "roles", "client"]), json_values),
)
def test_whatever_an_issuer_signs_has_an_answer(header: dict[str, object], claims: dict[str, object]) -> None:
    """Nothing that is signed raises; and who is identified has an id, and a time at which that ends."""
    found = said_of(EC.token(EC.header(**header), **claims))

    if isinstance(found, Identity):
        assert found.subject.partition(":")[2] == claims.get("sub", "ann")
        assert found.expires > (NOW - LEEWAY_S) * SECOND


@pytest.mark.property
@UNHURRIED
@given(st.text("AZaz09-_.=e30", max_size=60) | st.text(max_size=60))
def test_whatever_somebody_sends_is_rejected(token: str) -> None:
    """Text that nobody signed is rejected, and raises nothing."""
    assert isinstance(said_of(token), Rejected)
    assert kid_of(token) is None or isinstance(kid_of(token), str)


def test_two_signatures_of_one_token() -> None:
    """By ES256 whoever holds a token can make a second one of it: both bear the id by which it is blocked."""
    good = EC.token(jti="t-1")
    raw = good.rpartition(".")[2]
    r, s = decode_dss_signature(_der(raw))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    other = with_signature(good, r.to_bytes(32) + (order - s).to_bytes(32))

    assert other != good
    assert identity_of(other) == identity_of(good)
    assert is_revoked(identity_of(other), {"t-1"}, ALWAYS)


def _der(raw: str) -> bytes:
    signature = urlsafe_b64decode(raw + "==")
    return encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))


# --- what was taken back ------------------------------------------------------------------------------


def issued(at: float | None, token_id: str | None = None) -> Identity:
    return Identity("user:ann", None, (), token_id, None if at is None else int(at * SECOND), 10**9 * SECOND)


def test_blocked_by_its_id() -> None:
    """A token is blocked by its id and by nothing else; one that has no id cannot be."""
    assert is_revoked(issued(5, "t-1"), ("t-0", "t-1"), ALWAYS)
    assert not is_revoked(issued(5, "t-1"), ("t-0", "t-11", "T-1"), ALWAYS)
    assert not is_revoked(issued(5, None), ("t-1", ""), ALWAYS)
    assert not is_revoked(issued(5, "t-1"), (), ALWAYS)


@pytest.mark.parametrize(
    ("at", "horizon", "is_out"),
    [
        (99.0, 100.0, True),
        (99.999, 100.0, True),
        (100.0, 100.0, True),
        (100.0, 100.5, True),
        (100.9, 100.5, True),
        (101.0, 100.999, False),
        (101.0, 100.0, False),
        (101.0, 101.0, True),
        (0.0, -1.0, False),
        (0.0, -0.5, False),
        (None, 100.0, True),
        (None, -1e9, True),
    ],
)
def test_a_horizon(at: float | None, horizon: float, is_out: bool) -> None:
    """Of one bearer's tokens only those count that were issued in a later second than the horizon's."""
    assert is_revoked(issued(at, "t-1"), (), int(horizon * SECOND)) is is_out


@pytest.mark.parametrize("at", [None, 0.0, NOW])
def test_no_horizon(at: float | None) -> None:
    """Where no horizon is set, all tokens count, also those that do not say when they were issued."""
    assert not is_revoked(issued(at), (), ALWAYS)


# --- keys ---------------------------------------------------------------------------------------------


def without(jwk: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


@pytest.mark.parametrize(
    "members",
    [{}, {"use": "sig"}, {"alg": "ES256"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"x5c": ["AA"]}],
)
def test_keys_that_verify(members: dict[str, object]) -> None:
    """A public key for signatures verifies, whatever else is said of it."""
    keys = KeySet.of({"keys": [EC.jwk(**members)], "more": 1})

    assert isinstance(said_of(GOOD["ES256"], keys), Identity)
    assert keys.left_out == ()


SMALL: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505  # that is what is tried
LEFT_OUT: Final[dict[str, tuple[Any, str]]] = {
    "for encryption": (EC.jwk(use="enc"), '"use" is "enc"'),
    "for nothing": (EC.jwk(use=None), '"use" is null'),
    "for signing only": (EC.jwk(key_ops=["sign"]), '"key_ops"'),
    "for something else": (EC.jwk(key_ops="verify"), '"key_ops"'),
    "a private key": (dict(get_default_algorithms()["ES256"].to_jwk(EC.private, as_dict=True)), 'secret member "d"'),
    "a private key of RSA": (RSA.jwk(p="AA"), 'secret member "p"'),
    "a secret": ({"kty": "oct", "k": "AAAA", "kid": "a"}, 'secret member "k"'),
    "a secret that is none": ({"kty": "oct", "kid": "a"}, 'type "oct"'),
    "RSA of 1024 bits": (jwk_of(SMALL, "RS256", kid="a"), "1024 bits"),
    "another curve": (jwk_of(ec.generate_private_key(ec.SECP384R1()), "ES384", kid="a"), "P-384"),
    "another curve by a wrong name": (
        jwk_of(ec.generate_private_key(ec.SECP384R1()), "ES384", kid="a") | {"crv": "P-256"},
        "numbers are malformed",
    ),
    "the curve of other coins": ({**EC.jwk(), "crv": "secp256k1"}, "secp256k1"),
    "no curve": (without(EC.jwk(), "crv"), "curve null"),
    "a key for agreement": ({**ED.jwk(), "crv": "X25519"}, "X25519"),
    "the other Edwards curve": ({**ED.jwk(), "crv": "Ed448"}, "Ed448"),
    "no type": (without(EC.jwk(), "kty"), "type null"),
    "a type that is no word": (EC.jwk(kty=["EC"]), "none of RSA"),
    "RSA for another algorithm": (RSA.jwk(alg="PS256"), '"alg" is "PS256"'),
    "RSA for a secret's algorithm": (RSA.jwk(alg="HS256"), '"alg" is "HS256"'),
    "an elliptic key for RS256": (EC.jwk(alg="RS256"), '"alg" is "RS256"'),
    "an algorithm in other letters": (EC.jwk(alg="es256"), '"alg" is "es256"'),
    "an algorithm that is no word": (EC.jwk(alg=["ES256"]), '"alg" is'),
    "a kid that is no text": (EC.jwk() | {"kid": 1}, '"kid" is no string'),
    "a kid that is empty": (EC.jwk() | {"kid": ""}, '"kid" is no string'),
    "a kid that is null": (EC.jwk() | {"kid": None}, '"kid" is no string'),
    "a point off the curve": (EC.jwk(x=EC.jwk()["y"]), "numbers are malformed"),
    "a number that is no text": (RSA.jwk(n=5), "numbers are malformed"),
    "a number that is missing": (without(RSA.jwk(), "e"), "numbers are malformed"),
    "an exponent of one": (RSA.jwk(e="AQ"), "numbers are malformed"),
    "half an Edwards key": (ED.jwk(x="AAAA"), "numbers are malformed"),
    "no object": ("key", "no object"),
    "nothing": (None, "no object"),
}


@pytest.mark.parametrize(("jwk", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_keys_that_are_left_out(jwk: object, reason: str) -> None:
    """A key that must not verify here is left out with a reason, and the others verify."""
    keys = KeySet.of({"keys": [jwk, ED.jwk()]})

    assert isinstance(said_of(GOOD["EdDSA"], keys), Identity)
    assert isinstance(said_of(GOOD["ES256"], keys), Rejected)
    assert isinstance(said_of(GOOD["RS256"], keys), Rejected)
    assert len(keys.left_out) == 1
    assert reason in keys.left_out[0]


def test_what_is_told_of_keys_is_short_and_plain() -> None:
    """What an issuer wrote is quoted in part, and cannot break a line of the log."""
    keys = KeySet.of({"keys": [{"kid": "a\n\u2028" + "b" * 5000, "use": ["\x1b[31m"] * 5000}]})

    assert len(keys.left_out[0]) < 200
    assert keys.left_out[0].isascii() or set(keys.left_out[0]) - set(map(chr, range(32, 127))) == {"…"}


def test_one_kid_of_two_keys_names_neither() -> None:
    """Where two keys have one kid, neither verifies, and it is told; keys of other kids do."""
    keys = KeySet.of({"keys": [EC.jwk(), STRANGER.jwk(), ED.jwk()]})

    assert said_of(EC.token(), keys) == said_of(STRANGER.token(), keys) == Rejected("unknown_key")
    assert isinstance(said_of(GOOD["EdDSA"], keys), Identity)
    assert said_of(ED.token({"alg": "EdDSA"}), keys) == Rejected("unknown_key")
    assert keys.left_out == ('kid "ES256 key": 2 keys have it, so it names none of them',)


def test_one_kid_of_two_keys_of_other_types_names_neither() -> None:
    """Keys of one kid are ambiguous though their algorithms differ."""
    keys = KeySet.of({"keys": [EC.jwk(), ED.jwk() | {"kid": EC.kid}]})

    assert not keys.keys
    assert said_of(EC.token({"alg": "ES256"}), keys) == Rejected("unknown_key")


def test_the_only_key_need_not_be_named() -> None:
    """Where a set has one key that verifies, a token may leave out its kid; but not name another."""
    keys = KeySet.of({"keys": [EC.jwk(), ED.jwk(use="enc")]})

    assert isinstance(said_of(EC.token({"alg": "ES256"}), keys), Identity)
    assert isinstance(said_of(EC.token(), keys), Identity)
    assert said_of(EC.token({"alg": "ES256", "kid": "other"}), keys) == Rejected("unknown_key")
    assert said_of(ED.token({"alg": "EdDSA"}), keys) == Rejected("bad_algorithm")


def test_the_only_key_need_not_have_a_name() -> None:
    """A key without a kid verifies where it is the only one; a token that names one means another."""
    keys = KeySet.of({"keys": [without(EC.jwk(), "kid")]})

    assert isinstance(said_of(EC.token({"alg": "ES256"}), keys), Identity)
    assert said_of(EC.token(), keys) == Rejected("unknown_key")


def test_keys_without_a_name_among_others() -> None:
    """Where a set has several keys, those without a kid verify nothing, and it is told."""
    keys = KeySet.of({"keys": [without(EC.jwk(), "kid"), ED.jwk()]})

    assert said_of(EC.token({"alg": "ES256"}), keys) == Rejected("unknown_key")
    assert isinstance(said_of(GOOD["EdDSA"], keys), Identity)
    assert ['"kid"' in sentence for sentence in keys.left_out] == [True]


def test_a_key_that_vanishes_verifies_no_more() -> None:
    """Old and new key verify side by side, and each only as long as it is in the set."""
    old, new = EC, replace(STRANGER, kid="new")
    both, last = KeySet.of({"keys": [old.jwk(), new.jwk()]}), KeySet.of({"keys": [new.jwk()]})

    assert isinstance(said_of(old.token(), both), Identity)
    assert isinstance(said_of(new.token(), both), Identity)
    assert said_of(old.token(), last) == Rejected("unknown_key")
    assert isinstance(said_of(new.token(), last), Identity)


def test_no_keys_verify_nothing() -> None:
    """Before there are keys every token is rejected."""
    assert said_of(GOOD["ES256"], KeySet()) == Rejected("unknown_key")
    assert said_of(EC.token({"alg": "ES256"}), KeySet()) == Rejected("unknown_key")


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"Keys": []}, EC.jwk()])
def test_what_is_no_key_set(document: object) -> None:
    """A document of another shape is an error that says what is expected."""
    with pytest.raises(BylawError, match='an object with a list "keys"') as caught:
        KeySet.of(document)

    assert caught.value.code == "bad_keys"


def test_as_many_keys_as_a_set_may_have() -> None:
    """A set has at most a hundred keys, those included that are left out."""
    assert len(KeySet.of({"keys": [EC.jwk() | {"kid": str(n)} for n in range(MAX_KEYS)]}).keys) == MAX_KEYS
    with pytest.raises(BylawError, match="at most 100 keys, and this one has 101"):
        KeySet.of({"keys": [None] * (MAX_KEYS + 1)})


@pytest.mark.property
@UNHURRIED
@given(
    st.sampled_from(list(ISSUERS.values())),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "d"]),
        json_values | st.text("AZaz09-_", max_size=50),
        min_size=1,
    ),
)
def test_whatever_an_issuer_publishes_is_read_or_left_out(issuer: Issuer, members: dict[str, object]) -> None:
    """No key, however it is spoilt, breaks the reading of the set that it is in."""
    keys = KeySet.of({"keys": [issuer.jwk() | members]})

    assert len(keys.keys) + len(keys.left_out) == 1


# --- rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"issuer": ""}, "BYLAW_ISSUER"),
        ({"audience": ""}, "BYLAW_AUDIENCE"),
        ({"tenant_claim": ""}, "leave out the variable"),
        ({"roles_claim": ""}, "leave out the variable"),
        ({"service_claim": ""}, "leave out the variable"),
        ({"leeway_s": -1}, "0 to 300 seconds"),
        ({"leeway_s": 301}, "0 to 300 seconds"),
        ({"leeway_s": float("nan")}, "0 to 300 seconds"),
    ],
)
def test_rules_that_protect_nothing(changes: dict[str, Any], cure: str) -> None:
    """Rules by which others' tokens could pass, or old ones, are refused with the cure."""
    with pytest.raises(BylawError, match=cure) as caught:
        replace(RULES, **changes)

    assert caught.value.code == "bad_settings"


def test_the_key_that_a_token_names() -> None:
    """The kid is read without verifying anything; of what is no token it is none."""
    assert kid_of(EC.token()) == EC.kid
    assert kid_of(EC.token({"alg": "ES256"})) is None
    assert kid_of("rubbish") is None
