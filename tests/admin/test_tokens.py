"""Tokens that are taken back through the API count no more: shown on a real decision service, with real tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.values import SECOND
from sidecar.addresses import Address
from sidecar.settings import Settings
from tests.admin.service import Asking, World, make_world, token
from tests.sidecar.conftest import Client, serve
from tests.sidecar.test_identity import jwk_of

BLOCKED: Final = "/tokens/blocked"
PRIVATE: Final = Ed25519PrivateKey.generate()
ISSUER, AUDIENCE = "https://id.example", "api"
POLICY: Final = """
tenant organization { actions read, manage }
principal user
principal service
role reader on organization { can read, manage }
route GET "/organizations/{organization}" to organization.read
"""
FACTS: Final = """
tenants: { acme: {} }
users: { ann: { members: { acme: active } }, bob: { members: { acme: active } } }
services: { mail: { members: { acme: active } } }
assignments:
  - { subject: user:ann, role: reader, on: organization:acme }
  - { subject: user:bob, role: reader, on: organization:acme }
  - { subject: service:mail, role: reader, on: organization:acme }
"""
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("doors")
    (folder / "policies").mkdir()
    (folder / "policies" / "doors.bylaw").write_text(POLICY, "utf-8")
    (folder / "facts.yaml").write_text(FACTS, "utf-8")
    (folder / "keys.json").write_text(json.dumps({"keys": [jwk_of(PRIVATE, "EdDSA", kid="k")]}), "ascii")
    return make_world(folder / "policies", folder / "facts.yaml", folder)


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def block_of(subject: str = "user:ann", jti: str = "j1", days: float = 1, **more: object) -> dict[str, object]:
    return {"subject": subject, "jti": jti, "expires": in_days(days), **more}


# --- on a real decision service -----------------------------------------------------------------------------


def bearer(subject: str, jti: str, **claims: str) -> str:
    """Make a token that the decision service takes, a minute old."""
    now = time.time()
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "jti": jti, "tenant_id": "acme"}
    return jwt.encode({**said, "iat": now - 60, "exp": now + 300, **claims}, PRIVATE, "EdDSA", {"kid": "k"})


async def statuses_of(sidecar: Client, sent: list[str]) -> list[int]:
    """Ask the decision service as Envoy does."""

    def ask(each: str) -> int:
        return sidecar.get("/envoy/organizations/acme", Authorization=f"Bearer {each}").status

    return [await asyncio.to_thread(ask, each) for each in sent]


@pytest.mark.parametrize(
    ("method", "path", "body", "subject", "expected"),
    [
        ("POST", BLOCKED, block_of(reason="security_event"), "ann", [401, 200, 200]),
        ("PUT", "/users/ann/valid-after", {}, "ann", [401, 401, 200]),
        ("PUT", "/services/mail/valid-after", {}, "mail", [401, 401, 200]),
    ],
    ids=["one token", "all of a user", "all of a service"],
)
def test_what_is_taken_back_is_refused_once_that_is_settled(
    world: World, tmp_path: Path, method: str, path: str, body: object, subject: str, expected: list[int]
) -> None:
    """A settled answer means that the next request with such a token is refused; another person's still count."""
    kind = {"azp": "mail"} if subject == "mail" else {}
    sent = [bearer(subject, "j1", **kind), bearer(subject, "j2", **kind), bearer("bob", "j1")]

    async def scene() -> tuple[list[int], Any, list[int]]:
        async with world.asked(tmp_path) as asking:
            settings = Settings(
                world.path.parent / "policies",
                http=Address("127.0.0.1", 0),
                database_url=asking.database.url.render_as_string(hide_password=False),
                jwks=str(world.path.parent / "keys.json"),
                issuer=ISSUER,
                audience=AUDIENCE,
                service_claim="azp",
            )
            with serve(settings) as sidecar:
                before = await statuses_of(sidecar, sent)
                said = await asking.ask(method, f"{path}?await=settled", body)
                return before, said, await statuses_of(sidecar, sent)

    before, said, after = asyncio.run(scene())

    assert before == [200, 200, 200]
    assert (said.status, said.body["settled"]) == (200, True)
    assert after == expected


# --- the list -----------------------------------------------------------------------------------------------


def test_blocks_are_listed_until_their_token_ends(play: Callable[[Play], Any]) -> None:
    """A block is listed, by whom it is of too, as long as its token would count; a later word never shortens it."""

    async def talk(asking: Asking) -> Any:
        for each in (block_of(days=3), block_of(days=1), block_of(jti="j2"), block_of("service:mail")):
            await asking.ask("POST", BLOCKED, each)
        every = (await asking.ask("GET", BLOCKED)).body["items"]
        first = (await asking.ask("GET", f"{BLOCKED}?limit=2")).body
        second = (await asking.ask("GET", f"{BLOCKED}?limit=2&cursor={first['next']}")).body
        ann = (await asking.ask("GET", f"{BLOCKED}?subject=user:ann")).body["items"]
        asking.ahead[0] = 2 * 86_400 * SECOND
        late = (await asking.ask("GET", BLOCKED)).body["items"]
        return every, first["items"] + second["items"], ann, late

    every, paged, ann, late = play(talk)

    assert [(each["subject"], each["jti"]) for each in every] == [
        ("service:mail", "j1"),
        ("user:ann", "j1"),
        ("user:ann", "j2"),
    ]
    assert (paged, ann) == (every, every[1:])
    assert late == [every[1]]


def test_blocks_that_are_over_are_forgotten(play: Callable[[Play], Any]) -> None:
    """The sweep removes what no token needs any more, and nothing else."""

    async def talk(asking: Asking) -> Any:
        for each in (block_of(days=3), block_of(jti="j2")):
            await asking.ask("POST", BLOCKED, each)
        asking.ahead[0] = 2 * 86_400 * SECOND + 3600 * SECOND
        gone = await asking.ask("POST", "/retention/run")
        return gone.body["blocked_tokens"], [each["jti"] for each in (await asking.ask("GET", BLOCKED)).body["items"]]

    assert play(talk) == (1, ["j1"])


def test_the_log_tells_why(play: Callable[[Play], Any]) -> None:
    """The audit log has who blocked whose token, and for which reason."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", BLOCKED, block_of(reason="lost"))
        (row,) = (await asking.ask("GET", "/audit?action=token.blocked")).body["items"]
        return row["actor"], row["entries"][0]["details"]

    actor, told = play(talk)

    assert actor.startswith("key:")
    assert (told["principal"], told["jti"], told["reason"]) == ("user:ann", "j1", "lost")


def test_a_block_outlasts_its_token(play: Callable[[Play], Any]) -> None:
    """A token is taken a little beyond its end; so its block lasts for a minute more, and can still be made then."""

    async def talk(asking: Asking) -> Any:
        said = [await asking.ask("POST", BLOCKED, block_of(jti=each, days=-30 / 86_400)) for each in ("j1", "j2")]
        now = (await asking.ask("GET", BLOCKED)).body["items"]
        asking.ahead[0] = 60 * SECOND
        late = await asking.ask("POST", BLOCKED, block_of(jti="j3", days=-30 / 86_400))
        return [each.status for each in said], len(now), late.status, (await asking.ask("GET", BLOCKED)).body["items"]

    assert play(talk) == ([200, 200], 2, 400, [])


# --- the horizon --------------------------------------------------------------------------------------------


def test_a_horizon_never_moves_back(play: Callable[[Play], Any]) -> None:
    """What was cut off stays cut off, and the answer says from when on tokens count."""

    async def talk(asking: Asking) -> Any:
        path = "/users/ann/valid-after"
        never = (await asking.ask("GET", path)).body
        now = (await asking.ask("PUT", path, {})).body
        back = (await asking.ask("PUT", path, {"moment": in_days(-1)})).body
        return never, now, back, (await asking.ask("GET", path)).body

    never, now, back, read = play(talk)

    assert never == {"subject": "user:ann", "valid_after": None}
    assert now == back == read
    assert now["valid_after"] is not None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/ann/valid-after", {"moment": "2200-01-01T00:00:00Z"}),
        ("PUT", "/users/ann/valid-after", {"moment": 1}),
        ("POST", BLOCKED, block_of(days=-1)),
        ("POST", BLOCKED, block_of(days=4000)),
        ("POST", BLOCKED, block_of("group:staff")),
        ("POST", BLOCKED, block_of("anyone")),
        ("POST", BLOCKED, block_of(jti="a b")),
        ("POST", BLOCKED, block_of(reason="because ann asked")),
        ("POST", BLOCKED, {"jti": "j1"}),
    ],
)
def test_bad_wishes(play: Callable[[Play], Any], method: str, path: str, body: object) -> None:
    """What would cut somebody off for ever, or block nothing, is refused, and nothing is written."""

    async def talk(asking: Asking) -> Any:
        said = await asking.ask(method, path, body)
        horizon = (await asking.ask("GET", "/users/ann/valid-after")).body["valid_after"]
        return said.status, (await asking.ask("GET", BLOCKED)).body["items"], horizon

    assert play(talk) == (400, [], None)


def test_who_may(play: Callable[[Play], Any]) -> None:
    """Keys for facts, and no other; no end user, whatever the policy lets him."""

    async def talk(asking: Asking) -> Any:
        found = {}
        for scope in ("facts", "tenant:acme", "audit"):
            key = (await asking.ask("POST", "/keys", {"name": scope, "scopes": [scope]})).body["key"]
            found[scope] = key
        asked = [("POST", BLOCKED, block_of()), ("GET", BLOCKED, None), ("PUT", "/users/ann/valid-after", {})]
        return [
            [(await asking.ask(method, path, body, who=who)).status for method, path, body in asked]
            for who in (*found.values(), token("user:ann"))
        ]

    assert play(talk) == [[200, 200, 200], [403] * 3, [403] * 3, [403] * 3]
