"""Headers to tokens, tokens to identities: what is remembered, for how long, and what is never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import tokens
from sidecar.identity import MAX_TOKEN, Identity, Rejected
from sidecar.jwks import Keys, Pace
from sidecar.tokens import Verifier, read_authorization
from tests.databases import run
from tests.sidecar.test_identity import EC, ED, GOOD, LEEWAY_S, NOW, RULES, UNHURRIED, with_bit
from tests.sidecar.test_jwks import BOTH, NEW, OLD, STILL, FrozenClock, key_server, refuse, started

BAD: Final = Rejected("bad_authorization")


@asynccontextmanager
async def verifying(source: str, pace: Pace = STILL) -> AsyncIterator[tuple[Verifier, Keys, FrozenClock, FrozenClock]]:
    """Make a verifier over keys, with the clock of the tokens and that of the cool-down."""
    wall, steady = FrozenClock(), FrozenClock()
    wall.now = NOW
    async with started(source, pace, steady) as keys:
        yield Verifier(RULES, keys, clock=wall), keys, wall, steady


def subject(said: Identity | Rejected | None) -> str:
    assert isinstance(said, Identity), said
    return said.subject


# --- the header ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer a.b.c", "a.b.c"),
        ("bearer a.b.c", "a.b.c"),
        ("BEARER   a.b.c", "a.b.c"),
        ("Bearer abc-._~+/==", "abc-._~+/=="),
        ("Bearer Bearer", "Bearer"),
    ],
)
def test_a_bearer_token(value: str, token: str) -> None:
    """The scheme is Bearer in any letters, and behind blanks stands the token."""
    assert read_authorization([value]) == token


def test_no_header_is_nobody() -> None:
    """Without the header there is no token to be right or wrong."""
    assert read_authorization([]) is None


@pytest.mark.parametrize(
    "values",
    [
        ["Bearer a.b.c", "Bearer a.b.c"],
        ["Bearer a.b.c", ""],
        ["", ""],
        ["Bearer a.b.c", "Basic YTpi"],
        *(
            [value]
            for value in (
                "", " ", "Bearer", "Bearer ", "a.b.c", "Basic YTpi", "DPoP a.b.c", "Digest a=b", "Bearer: a.b.c",
                "Bearera.b.c", "Bearer\ta.b.c", "Bearer\u00a0a.b.c", " Bearer a.b.c", "Bearer a.b.c ", "Bearer a.b.c\n",
                "Bearer a b", "Bearer a.b.c, Bearer d.e.f", "Bearer a.b.c,Basic YTpi", "Bearer a,b", "Bearer a.b.c,",
                "Bearer token=a.b.c", "Bearer ==", "Bearer a=b", 'Bearer "a.b.c"', "Bearer a;b", "Bearer é",
                "Bearer a\0", "Bearer \ud800", "B\u0435arer a.b.c", "Bearer \uff41.b.c",
            )
        ),
    ],
)  # fmt: skip
def test_headers_that_are_refused(values: list[str]) -> None:
    """Two headers, an empty one, another scheme, or what is no single token is never nobody, and never a token."""
    assert read_authorization(values) == BAD


@pytest.mark.property
@UNHURRIED
@given(st.lists(st.text("Beare Basic.,=\t\n") | st.text(), min_size=1, max_size=3))
def test_whatever_stands_in_the_header(values: list[str]) -> None:
    """What is taken for a token has neither blank nor comma, and stood alone behind its scheme."""
    found = read_authorization(values)

    if found != BAD:
        assert isinstance(found, str)
        assert len(values) == 1
        assert values[0].lower().startswith("bearer ")
        assert values[0].endswith(f" {found}")
        assert not set(found) & set(" ,\t\n")


# --- what is remembered -------------------------------------------------------------------------------


def test_a_token_is_verified_once(tmp_path: Path) -> None:
    """A token that came before is not verified again, and its identity is the same."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, BOTH)) as (verifier, _, _, _):
            said = [verifier.at_once(token) for token in (GOOD["ES256"], GOOD["EdDSA"], GOOD["ES256"], GOOD["ES256"])]

            assert [subject(each) for each in said] == ["user:ann"] * 4
            assert said[2] is said[3] is said[0]
            assert (verifier.hits, verifier.misses) == (2, 2)
            assert await verifier.verify(GOOD["ES256"]) is said[0]

    run(talk())


def file_of(folder: Path, document: bytes) -> str:
    path = folder / "keys.json"
    path.write_bytes(document)
    return str(path)


def test_a_remembered_token_expires_to_the_instant(tmp_path: Path) -> None:
    """What is remembered counts as long as the token does: until then, and not before it began."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, OLD)) as (verifier, _, wall, _):
            token = EC.token(exp=NOW + 300, nbf=NOW)
            said = []
            for moment in (NOW, NOW + 300 + LEEWAY_S - 0.001, NOW + 300 + LEEWAY_S, NOW - LEEWAY_S - 0.001, NOW):
                wall.now = moment
                said.append(verifier.at_once(token))

            assert [isinstance(each, Identity) for each in said] == [True, True, False, False, True]
            assert said[2:4] == [Rejected("expired"), Rejected("not_yet_valid")]
            assert verifier.misses == 1

    run(talk())


REJECTED: Final = {
    "expired": EC.token(exp=NOW - LEEWAY_S),
    "not yet": EC.token(nbf=NOW + 60),
    "for others": EC.token(aud="other"),
    "spelled otherwise": with_bit(GOOD["ES256"], 2),
    "not signed": GOOD["ES256"].rpartition(".")[0] + "." + "A" * 86,
    "rubbish": "rubbish",
    "half a character": "\ud800",
    "too long": "x" * (MAX_TOKEN + 1),
}


@pytest.mark.parametrize("token", REJECTED.values(), ids=REJECTED)
def test_rejections_are_not_remembered(token: str, tmp_path: Path) -> None:
    """What is rejected is looked at anew each time, and displaces nothing."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, OLD)) as (verifier, _, _, _):
            said = [await verifier.verify(token) for _ in range(3)]

            assert all(isinstance(each, Rejected) for each in said)
            assert len(set(said)) == 1
            assert verifier.hits == 0

    run(talk())


def test_a_token_that_was_too_young_counts_when_it_is_time(tmp_path: Path) -> None:
    """A rejection does not outlive its reason."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, OLD)) as (verifier, _, wall, _):
            token = EC.token(nbf=NOW + 60)
            early = verifier.at_once(token)
            wall.now += 60 - LEEWAY_S

            assert early == Rejected("not_yet_valid")
            assert subject(verifier.at_once(token)) == "user:ann"

    run(talk())


def test_another_spelling_of_a_remembered_token_is_another_token(tmp_path: Path) -> None:
    """Nothing but the very token finds what is remembered of it."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, OLD)) as (verifier, _, _, _):
            good = GOOD["ES256"]
            verifier.at_once(good)

            said = [verifier.at_once(each) for each in (with_bit(good, 2), good + "=", good + " ", good.swapcase())]

            assert all(isinstance(each, Rejected) for each in said)
            assert verifier.hits == 0

    run(talk())


def test_only_so_many_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the token that came first is forgotten, and verified again when it comes again."""

    async def talk() -> None:
        async with verifying(file_of(tmp_path, OLD)) as (verifier, _, _, _):
            made = [EC.token(sub=f"u{n}") for n in range(4)]
            for token in (*made, made[3], made[2], made[1]):
                verifier.at_once(token)
            before = (verifier.hits, verifier.misses)

            verifier.at_once(made[0])

            assert before == (3, 4)
            assert (verifier.hits, verifier.misses) == (3, 5)

    monkeypatch.setattr(tokens, "MAX_KNOWN", 3)
    run(talk())


# --- keys that change ---------------------------------------------------------------------------------


def test_a_key_that_vanishes_takes_what_it_verified_along() -> None:
    """From the moment on at which a set without the key is in, tokens by it are rejected, remembered or not."""

    async def talk() -> None:
        async with key_server(BOTH) as server, verifying(server.url) as (verifier, keys, _, steady):
            before = [verifier.at_once(GOOD[each]) for each in ("ES256", "EdDSA")]
            server.says = NEW
            await keys.refreshed("unknown")
            steady.now += 1

            assert [subject(each) for each in before] == ["user:ann"] * 2
            assert verifier.at_once(GOOD["ES256"]) == Rejected("unknown_key")
            assert subject(verifier.at_once(GOOD["EdDSA"])) == "user:ann"

    run(talk())


def test_a_key_that_is_another_under_the_same_name(tmp_path: Path) -> None:
    """A token that was verified by a key counts no more when its kid names another."""

    async def talk() -> None:
        source = file_of(tmp_path, OLD)
        async with verifying(source) as (verifier, keys, _, _):
            token = EC.token()
            verifier.at_once(token)
            file_of(tmp_path, NEW.replace(ED.kid.encode(), EC.kid.encode()))
            await keys.refreshed("unknown")

            assert verifier.at_once(token) == Rejected("bad_algorithm")

    run(talk())


def test_a_token_by_a_new_key_has_it_fetched() -> None:
    """The first token by a new key waits for one fetch, and is an identity."""

    async def talk() -> None:
        async with key_server(OLD) as server, verifying(server.url) as (verifier, _, _, _):
            server.says = BOTH

            at_once = verifier.at_once(GOOD["EdDSA"])
            said = await verifier.verify(GOOD["EdDSA"])

            assert at_once is None
            assert subject(said) == "user:ann"
            assert server.asked == 2

    run(talk())


def test_a_flood_of_tokens_by_unknown_keys() -> None:
    """However many tokens name unknown keys, they cost one fetch per cool-down, and none waits for more than that."""

    async def talk() -> None:
        async with key_server(OLD) as server, verifying(server.url) as (verifier, _, _, steady):
            flood = [EC.token(EC.header(kid=f"unknown {n}")) for n in range(50)] + [
                EC.token({"alg": "ES256", "kid": ""})
            ]
            counts = []
            for passed_s in (0, 1, 29):
                steady.now += passed_s
                said = await asyncio.gather(*map(verifier.verify, flood))
                assert set(said) == {Rejected("unknown_key")}
                counts.append(server.asked)

            assert counts == [2, 2, 3]
            assert verifier.at_once(flood[0]) == Rejected("unknown_key")
            assert subject(verifier.at_once(GOOD["ES256"])) == "user:ann"

    run(talk())


def test_a_key_that_is_nowhere() -> None:
    """A token by a key that no fetch brings is rejected, also where another fetch would be due at once."""

    async def talk() -> None:
        async with key_server(OLD) as server, verifying(server.url, replace(STILL, cool_down_s=0)) as (verifier, *_):
            assert await verifier.verify(GOOD["EdDSA"]) == Rejected("unknown_key")
            assert server.asked == 2

    run(talk())


HOPELESS: Final = {
    "rubbish": "rubbish",
    "too long": "x" * (MAX_TOKEN + 1),
    "another algorithm": EC.token(EC.header(alg="HS256", kid="unknown")),
    "another header": EC.token(EC.header(crit=["b64"], kid="unknown")),
    "by a known key": EC.token(aud="other"),
}


@pytest.mark.parametrize("token", HOPELESS.values(), ids=HOPELESS)
def test_what_no_key_could_verify_has_none_fetched(token: str) -> None:
    """Only a token that is well formed and names an unknown key is a reason to ask for keys."""

    async def talk() -> None:
        async with key_server(OLD) as server, verifying(server.url) as (verifier, _, _, _):
            assert isinstance(await verifier.verify(token), Rejected)
            assert server.asked == 1

    run(talk())


def test_without_keys_every_token_is_rejected() -> None:
    """As long as the key server was never there, tokens are rejected; from its first answer on they are not."""

    async def talk() -> None:
        async with key_server(OLD) as server:
            server.answer = refuse
            async with verifying(server.url, replace(STILL, cool_down_s=10)) as (verifier, _, _, steady):
                down = await verifier.verify(GOOD["ES256"])
                server.answer = None
                cooling = await verifier.verify(GOOD["ES256"])
                steady.now += 10
                up = await verifier.verify(GOOD["ES256"])

                assert down == cooling == Rejected("unknown_key")
                assert subject(up) == "user:ann"

    run(talk())
