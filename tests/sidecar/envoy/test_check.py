"""The check itself, without Envoy: who is asked about, what is revoked, what goes wrong, and what is never raised."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Facts, Policy
from engine.claims import context_of
from engine.policy import BoundFacts
from engine.values import SECOND
from sidecar import envoy
from sidecar.callers import PLAIN_SCOPES, Caller, LoopbackCallers
from sidecar.decider import Asked as Questioned
from sidecar.decider import Decider, FileDecider, StoreDecider
from sidecar.decision_id import DecisionIds
from sidecar.envoy import DECISION_ID, HOST, Asked, EnvoyCheck, Verdict, has_short_segments, is_reserved
from sidecar.exchange import Call
from sidecar.gate import Gate, Turn
from sidecar.identity import Identity, Rejected
from sidecar.readings import Loaded
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic
from store.facts import CachedFacts
from store.streams import principal_key
from store.views import PrincipalView
from tests.databases import run
from tests.sidecar.neighbours import PATIENCE_S, Base, Process
from tests.sidecar.test_identity import UNHURRIED

OPEN: Final = """
route GET "/open" public
route GET "/me" authenticated
"""
TENANTS: Final = """
tenant org { actions read }
context { ip: ip? }
role viewer on org claimable { can read }
allow near: anyone to org.read when context has ip and context.ip in cidr("192.0.2.0/24")
route GET "/org" to org.read
route GET "/orgs/{org}" to org.read
route GET "/open" public
"""
FACTS: Final = {
    "tenants": {"acme": {}, "globex": {}},
    "users": {"ann": {"members": {"acme": "active"}}},
    "assignments": [{"subject": "user:ann", "role": "viewer", "on": "org:acme"}],
}
ANN: Final = Identity("user:ann", "acme", (), "jti-1", 10 * SECOND, 100 * SECOND)
CALL: Final = Call("envoy", "127.0.0.1", HOST, request_id="r-1")
TOKEN: Final = ("Bearer a.b.c",)
T = TypeVar("T")


class KnownBearer:
    """Takes every token for that of one identity; `is_slow`: once its key was fetched."""

    def __init__(self, said: Identity | Rejected = ANN, *, is_slow: bool = False) -> None:
        self._said = said
        self._is_slow = is_slow

    def at_once(self, token: str) -> Identity | Rejected | None:
        return None if self._is_slow else self._said

    async def verify(self, token: str) -> Identity | Rejected:
        return self._said


class Fixed(NamedTuple):
    """Policies of which one is loaded."""

    loaded: Loaded


class Broken:
    """A decider that fails, or waits for ever where there is nothing to raise."""

    def __init__(self, error: Exception | None = None) -> None:
        self.is_asked = asyncio.Event()
        self._error = error

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        return None

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Questioned], at_least: str | None) -> T:
        self.is_asked.set()
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError("it came")


def loaded_of(text: str, facts: dict[str, Any] | None = None) -> Loaded:
    policy = Policy.parse(text)
    return Loaded(policy, Facts(facts or {}, policy), "")


def check_of(
    loaded: Loaded, decider: Decider | None = None, bearer: KnownBearer | None = None, caller: Caller | None = None
) -> EnvoyCheck:
    """Make a check, over facts in memory if there is no decider."""
    callers = LoopbackCallers({HOST}, PLAIN_SCOPES)
    callers.caller = caller or callers.caller
    gate = Gate(callers, Traffic(), Tellings())
    policies: Any = Fixed(loaded)
    verifier: Any = bearer
    return EnvoyCheck(gate, decider or FileDecider(lambda: loaded), policies, DecisionIds(), verifier)


async def settled(found: Verdict | Awaitable[Verdict]) -> Verdict:
    return found if isinstance(found, Verdict) else await found


def judged(check: EnvoyCheck, path: str, call: Call = CALL, **said: Any) -> Verdict:
    async def judge() -> Verdict:
        async with asyncio.timeout(PATIENCE_S):
            return await settled(check.judge(Asked("GET", path, **said), call))

    return run(judge())


def refusals(check: EnvoyCheck) -> dict[tuple[int, str], int]:
    return dict(check.gate.tellings.refusals)


# --- context and obligations ------------------------------------------------------------------------------------------

STEP_UP: Final = """
tenant org { actions read }
context { mfa: bool, ip: ip?, level: int?, teams: set<string> }
role viewer on org { can read when context.mfa }
allow with_mfa: anyone to org.read when context.mfa with { audit: "full" }
route GET "/org" to org.read
"""


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"mfa": True}, 200), ({"mfa": False}, 403), ({}, 403), ({"mfa": "true"}, 403), ({"mfa": 1}, 403)],
)
def test_claims_are_context(claims: dict[str, object], status: int) -> None:
    """A verified claim is the context of its name, if it is of the type that the policy declares."""
    bearer = KnownBearer(replace(ANN, claims=claims))

    assert judged(check_of(loaded_of(STEP_UP, FACTS), bearer=bearer), "/org", authorization=TOKEN).status == status


def test_no_claim_is_an_address() -> None:
    """The address is Envoy's to tell, whatever a token says; what does not fit is not there."""
    model = loaded_of(STEP_UP).policy.model

    found = context_of("192.0.2.7", model, {"ip": "10.0.0.1", "level": 3, "teams": ["a", "b"], "mfa": None})

    assert found == {"ip": "192.0.2.7", "level": 3, "teams": ["a", "b"]}
    assert context_of(None, model, {"ip": "10.0.0.1", "level": "3"}) is None


def test_obligations_go_to_the_application() -> None:
    """What the policy asks of whoever enforces it comes with the request, since Envoy knows no obligation."""
    bearer = KnownBearer(replace(ANN, claims={"mfa": True}))

    verdict = judged(check_of(loaded_of(STEP_UP, FACTS), bearer=bearer), "/org", authorization=TOKEN)

    said = json.loads(unquote(dict(verdict.headers)["x-bylaw-obligations"]))
    assert said == [{"id": "with_mfa.audit", "type": "audit", "properties": {"value": "full"}}]
    assert "x-bylaw-obligations" not in verdict.removed
    assert "x_bylaw-obligations" in verdict.removed


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_no_keys() -> None:
    """Where no keys are configured any token is a bad one, and anonymous is anonymous."""
    check = check_of(loaded_of(OPEN))

    assert judged(check, "/open").status == 200
    assert judged(check, "/open", authorization=TOKEN).status == 401


def test_a_key_that_must_be_fetched() -> None:
    """A token of a key that is not known yet is waited for."""
    check = check_of(loaded_of(OPEN), bearer=KnownBearer(is_slow=True))

    verdict = judged(check, "/me", authorization=TOKEN)

    assert dict(verdict.headers)["x-bylaw-subject"] == "user:ann"


@pytest.mark.parametrize("is_slow", [False, True])
def test_why_a_token_is_bad_is_counted(*, is_slow: bool) -> None:
    """What is wrong with a token is in the metrics, and not in what the client is told."""
    check = check_of(loaded_of(OPEN), bearer=KnownBearer(Rejected("expired"), is_slow=is_slow))

    verdict = judged(check, "/open", authorization=TOKEN)

    assert (verdict.status, verdict.code) == (401, "unauthenticated")
    assert "expired" not in verdict.body
    assert refusals(check) == {(401, "expired"): 1}


class Stored:
    """A check over a store in memory."""

    def __init__(self, text: str = OPEN) -> None:
        self.base = Base()
        self.process = Process(self.base, None)  # type: ignore[arg-type]  # nothing is shared
        self.process.loader._second = None
        policy = Policy.parse(text)
        cached = CachedFacts(self.process.cache, policy.model, self.process.freshness.token)
        loaded = Loaded(policy, BoundFacts(cached, policy), "")
        parts: Any = (self.process.cache, self.process.freshness, self.process.loader, self.base)
        self.check = check_of(loaded, StoreDecider(lambda: loaded, *parts), KnownBearer())

    def judge(self, path: str) -> Verdict | Awaitable[Verdict]:
        return self.check.judge(Asked("GET", path, TOKEN), CALL)


REVOKED: Final = {
    "by its id": PrincipalView("active", blocked=("jti-0", "jti-1")),
    "from before the horizon": PrincipalView("active", valid_after=11 * SECOND),
    "from the second of the horizon": PrincipalView("active", valid_after=10 * SECOND + 1),
    "of one who is not stored": PrincipalView(None, blocked=("jti-1",)),
}


@pytest.mark.parametrize("path", ["/open", "/me"])
@pytest.mark.parametrize("view", REVOKED.values(), ids=REVOKED)
def test_revoked_tokens(view: PrincipalView, path: str) -> None:
    """A token that was taken back is a bad one from the next poll on, on public routes too."""

    async def live() -> list[Verdict]:
        stored = Stored()
        stored.base.write("", principal_key("user:ann"), PrincipalView("active", valid_after=9 * SECOND))
        await stored.process.begin()
        cold = await settled(stored.judge(path))
        warm = stored.judge(path)
        assert isinstance(warm, Verdict)
        stored.base.write("", principal_key("user:ann"), view)
        await stored.process.freshness.poll()
        after = await settled(stored.judge(path))
        assert refusals(stored.check) == {(401, "revoked"): 1}
        return [cold, warm, after]

    assert [verdict.status for verdict in run(live())] == [200, 200, 401]


def test_stale_facts() -> None:
    """Without facts that are fresh nothing is open, and the log has a decision of it."""

    async def live() -> EnvoyCheck:
        stored = Stored()
        verdict = await settled(stored.judge("/open"))
        assert (verdict.status, verdict.code) == (503, "stale")
        return stored.check

    assert dict(run(live()).gate.tellings.decisions) == {("", False, "stale"): 1}


# --- who is asked about -----------------------------------------------------------------------------------------------


def test_the_tenant_is_the_decisions() -> None:
    """What is told is the tenant that was decided in, which the path may name."""
    check = check_of(loaded_of(TENANTS, FACTS), bearer=KnownBearer(replace(ANN, tenant=None)))

    verdict = judged(check, "/orgs/acme", authorization=TOKEN)

    assert dict(verdict.headers)["x-bylaw-tenant"] == "acme"


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("198.51.100.7", False), ("2001:db8::1", False),
        ("192.0.2.7:80", False), ("fe80::1%eth0", False), ("192.0.2.07", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_the_address_in_the_context(address: str | None, *, is_allowed: bool) -> None:
    """The end user's address is there for conditions, IPv4 as IPv4; what is none is absent, and no error."""
    guest = {"users": {"ann": {"members": {"acme": "active"}}}, "tenants": {"acme": {}}}
    check = check_of(loaded_of(TENANTS, guest), bearer=KnownBearer())

    verdict = judged(check, "/org", authorization=TOKEN, address=address)

    assert verdict.status == (200 if is_allowed else 403)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("ip: ip", {"ip": "192.0.2.7"}), ("ip: string?", {"ip": "192.0.2.7"}), ("mfa: bool", None), ("ip: bool", None),
        ("ip: set<ip>", None), ('ip: "a" | "b"', None), ("ip: time", None),
    ],
)  # fmt: skip
def test_what_the_policy_declares_of_the_address(declared: str, said: dict[str, str] | None) -> None:
    """Only what fits the policy's own words is filled in: another type under that name is no error either."""
    model = Policy.parse(f"context {{ {declared} }}").model

    assert context_of("192.0.2.7", model) == said


def test_a_tenant_claim_without_tenants() -> None:
    """Under a policy without tenants, what a token says of one counts for nothing, and no tenant is told."""
    text = """
    resource page { actions list new }
    allow all: user to page.list
    route GET "/pages" to page.list in tenant
    """
    check = check_of(loaded_of(text), bearer=KnownBearer())

    verdict = judged(check, "/pages", authorization=TOKEN)

    assert verdict.status == 200
    assert "x-bylaw-tenant" not in dict(verdict.headers)


def test_long_segments() -> None:
    """What may be an id is as short as ids are, counted in bytes once decoded; a query is no id."""
    assert has_short_segments("/" + "a" * 256 + "/b")
    assert has_short_segments("/" + "%C3%A9" * 128)
    assert has_short_segments("/a?" + "b" * 5000)
    assert not has_short_segments("/a/" + "b" * 257)
    assert not has_short_segments("/" + "%C3%A9" * 128 + "a")


# --- callers ----------------------------------------------------------------------------------------------------------

TOGETHER: Final = Caller(frozenset({"check"}), frozenset({"acme"}), "gateway")


@pytest.mark.parametrize(
    ("caller", "path", "status"),
    [
        (TOGETHER, "/org", 200),
        (TOGETHER, "/orgs/globex", 503),
        (TOGETHER, "/open", 503),
        (TOGETHER, "/nowhere", 503),
        (Caller(frozenset({"search"})), "/open", 503),
        (Caller(frozenset({"check"})), "/open", 200),
    ],
)
def test_callers_are_held_to_their_scopes_and_tenants(caller: Caller, path: str, status: int) -> None:
    """A gateway with a key of some tenants gets no decision in another, nor of none, whoever its user is."""
    check = check_of(loaded_of(TENANTS, FACTS), bearer=KnownBearer(), caller=caller)

    verdict = judged(check, path, authorization=TOKEN)

    assert verdict.status == status
    assert verdict.code in ("forbidden", "role", "rule")


def test_a_caller_from_elsewhere() -> None:
    """Who is not let in gets an answer: it denies."""
    verdict = judged(check_of(loaded_of(OPEN)), "/open", Call("envoy", "192.0.2.1", HOST))

    assert (verdict.status, verdict.code) == (503, "forbidden")


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("secret"), KeyError("secret"), RecursionError("secret")])
def test_the_unexpected(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody expected denies, is logged once, under the id that the client is told, and told to nobody else."""
    check = check_of(loaded_of(OPEN), Broken(error))

    with caplog.at_level(logging.ERROR):
        verdict = judged(check, "/open")

    assert (verdict.status, verdict.code, verdict.decision_id) == (503, "internal", "")
    assert '"requestId": "r-1"' in verdict.body
    assert "secret" not in verdict.body
    assert [record.getMessage() for record in caplog.records] == ["request r-1 failed"]


def test_overload() -> None:
    """What is too much at once is denied by an answer."""
    check = check_of(loaded_of(OPEN))
    check.gate.turn = Turn(-1, 0)

    async def judge() -> list[str]:
        return [(await settled(check.judge(Asked("GET", "/open"), CALL))).code for _ in range(2)]

    assert run(judge()) == ["rule", "overloaded"]


def test_waiting_ends() -> None:
    """A check that waits for too long is denied before Envoy gives up, and is in flight no more."""
    check = replace(check_of(loaded_of(OPEN), Broken()), wait_s=0.001)

    verdict = judged(check, "/open")

    assert (verdict.status, verdict.code) == (503, "stale")
    assert check.gate.traffic.count == 0


def test_a_made_up_request_id() -> None:
    """Without an id of Envoy's, the client is told one that is made here."""
    first, second = (judged(check_of(loaded_of(OPEN)), "/me", Call("envoy", None, HOST)).body for _ in range(2))

    assert first != second


# --- headers ----------------------------------------------------------------------------------------------------------


LOADED: Final = loaded_of(TENANTS, FACTS)


@UNHURRIED
@given(st.lists(st.from_regex(r"[xX][-_]?[bB]ylaw[-_]?[a-z_-]{0,12}", fullmatch=True)), st.booleans())
def test_no_other_reserved_header_passes(names: list[str], has_tenant: bool) -> None:
    """Of all headers that may be taken for one of ours, each is set or removed, and none is both."""
    check = check_of(LOADED, bearer=KnownBearer())
    reserved = tuple(name.lower() for name in names if is_reserved(name))

    verdict = judged(check, "/org" if has_tenant else "/open", authorization=TOKEN, reserved=reserved)

    assert verdict.status == 200
    written = {name for name, _ in verdict.headers} | {DECISION_ID}
    assert written.isdisjoint(verdict.removed)
    assert {*reserved, "x_bylaw_subject", "x-bylaw-tenant", "x-bylaw_decision-id"} <= written | {*verdict.removed}


@UNHURRIED
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_values_read_back(identity: str) -> None:
    """Whatever an id is, a header says it in printable ASCII, and in a way that reads back as that id alone."""
    check = check_of(LOADED, bearer=KnownBearer(replace(ANN, subject=f"user:{identity}")))

    said = dict(judged(check, "/open", authorization=TOKEN).headers)["x-bylaw-subject"]

    assert said.isascii()
    assert said.isprintable()
    assert " " not in said
    assert unquote(said) == f"user:{identity}"


def test_paths_that_envoy_wrote_anew() -> None:
    """A path in which a byte may have been replaced is denied, its query aside."""
    check = check_of(loaded_of('route GET "/{rest...}" public'))

    assert judged(check, envoy.as_it_came("/a!")).code == "bad_path"
    assert judged(check, envoy.as_it_came("/a?b!")).status == 200
