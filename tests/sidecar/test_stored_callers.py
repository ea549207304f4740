"""Callers that the store lists: who is let in by a key or a certificate, for what, where, and until when."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.facts import NEVER
from sidecar.api import CHECK, EVALUATION, EVALUATIONS, Api
from sidecar.callers import ALL_SCOPES, Caller, Scope
from sidecar.decider import FileDecider
from sidecar.decision_id import DecisionIds
from sidecar.errors import PublicError
from sidecar.exchange import Call, Reply
from sidecar.freshness import StaleError
from sidecar.gate import Gate, Turn
from sidecar.handlers.explain import explain
from sidecar.handlers.health import health
from sidecar.keeper import Keeper
from sidecar.keys import DECIDER, SETTINGS
from sidecar.middleware import make_guard, nothing_there
from sidecar.policies import Policies
from sidecar.settings import Settings
from sidecar.stored_callers import Kind, StoredCallers
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic
from sidecar.views import Cache
from store.changes import Write, Writer
from store.database import Database
from store.errors import StoreError
from store.keys import digest_of
from store.settling import Receipts
from store.streams import CALLERS
from store.views import CallerFact, CallersView
from store.writes import callers as writes
from tests.databases import StoreUrls, run, sqlite_urls
from tests.sidecar.conftest import STUDIO
from tests.sidecar.neighbours import Base, Process

NOW: Final = 1_800_000_000_000_000_000
KEY: Final = "bylaw_" + "k" * 43
MESH: Final = "uri:spiffe://example.org/mesh"
SHOP: Final = CallerFact(f"key:{digest_of(KEY)}", "shop", ("acme",), ("check",), "9/1s")
BEARER: Final = f"Bearer {KEY}"


def holding(*facts: CallerFact) -> Cache:
    """Make a cache that holds this list of callers."""
    cache = Cache()
    cache.store(cache.shared, {CALLERS: CallersView(facts)}, 0)
    return cache


async def unasked(*_: object) -> None:
    raise AssertionError("nothing is to be loaded")


def listed(*facts: CallerFact, kind: Kind = "token", now: int = NOW, hosts: Set[str] | None = None) -> StoredCallers:
    """Make callers of a list that is held."""
    return StoredCallers(holding(*facts), unasked, lambda: now, kind, hosts=hosts)


def call(*authorization: str, certificates: tuple[str, ...] = (), host: str | None = "bylaw.svc:8180") -> Call:
    return Call(CHECK, "192.0.2.7", host, authorization, certificates=certificates)


def gate_of(callers: StoredCallers) -> Gate:
    return Gate(callers, Traffic(), Tellings(), turn=Turn(float("inf")))


def told(callers: StoredCallers, asked: Call) -> str | tuple[int, str, str, Mapping[str, str]]:
    """Return the name of who is let in, or all that he is told who is not."""
    try:
        found = callers.admit(asked)
    except PublicError as error:
        return error.status, error.code, error.message, error.headers
    assert found is not None
    return found.name


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [BEARER, f"bearer {KEY}", f"BEARER   {KEY}"])
def test_a_key_is_let_in(written: str) -> None:
    """One `Authorization: Bearer KEY` lets its caller in, with his name, scopes, tenants and limits."""
    assert listed(SHOP).admit(call(written)) == Caller(frozenset({"check"}), frozenset({"acme"}), "shop", "9/1s")


NO_KEYS: Final[list[tuple[str, ...]]] = [
    (), ("",), ("Bearer",), ("Bearer ",), (KEY,), (f"Basic {KEY}",), (f"Bearer{KEY}",), (f"Bearer\t{KEY}",),
    (f" {BEARER}",), (f"{BEARER} ",), (f"{BEARER}\n",), (f"{BEARER},",), (f"{BEARER} {KEY}",), (f"{BEARER}, {BEARER}",),
    (BEARER[:-1],), (f"{BEARER}k",), (f"{BEARER[:-1]}l",), (f"Bearer {KEY.upper()}",), (f"{BEARER}=",),
    (f"Bearer {SHOP.id}",), (f"Bearer {digest_of(KEY)}",), ("Bearer key:",), (f"Bearer {KEY[:8]}",),
    ("Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln",), (f"{BEARER}\N{ZERO WIDTH SPACE}",), (f"{BEARER}\udc80",),
    (f"{BEARER}\0",), (BEARER, BEARER), ("", BEARER), (BEARER, "Basic YTpi"),
]  # fmt: skip


def test_what_is_no_key_is_refused_in_the_same_words() -> None:
    """None, two, a wrong, a malformed, an end user's: nobody is told which it was, nor of one that was removed, or is
    over."""
    callers = listed(SHOP)

    answers = [told(callers, call(*each)) for each in NO_KEYS]
    answers += [told(listed(), call(BEARER)), told(listed(SHOP, now=NEVER), call(BEARER))]

    message = "the caller is not known: send its key, as `Authorization: Bearer KEY`"
    assert answers == [(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})] * len(answers)


def test_a_certificate_is_no_key() -> None:
    """Where keys are asked for a certificate lets nobody in, though it is listed; nor does a key where it is that."""
    mesh = CallerFact(f"certificate:{MESH}", "mesh", None, ("check",))
    both = call(BEARER, certificates=(MESH,))

    assert told(listed(SHOP, mesh), both) == "shop"
    assert told(listed(mesh), both) != "mesh"
    assert told(listed(SHOP, mesh, kind="mtls"), both) == "mesh"
    assert told(listed(SHOP, kind="mtls"), both) != "shop"


@pytest.mark.parametrize("kind", ["token", "mtls"])
def test_expiry_is_exact(kind: Kind) -> None:
    """A caller is let in up to the last nanosecond before his time is over, and in that instant no more."""
    fact = CallerFact(SHOP.id if kind == "token" else f"certificate:{MESH}", "shop", None, ("check",), None, NOW)
    asked = call(BEARER, certificates=(MESH,))

    assert told(listed(fact, kind=kind, now=NOW - 1), asked) == "shop"
    assert told(listed(fact, kind=kind, now=NOW), asked) != "shop"


def test_a_scope_of_a_later_version_gives_nothing() -> None:
    """Of what is listed only scopes that are known here count; and a list of no tenants is none, not all."""
    fact = CallerFact(SHOP.id, "shop", (), ("check", "rule_them_all"))

    found = listed(fact).admit(call(BEARER))

    assert found == Caller(frozenset({"check"}), frozenset(), "shop")


# --- certificates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((MESH,), "mesh"),
        (("dns:shop.example.org", MESH), "mesh"),
        ((MESH, "dns:second"), "mesh"),
        (("dns:second", MESH), "second"),
        (("dns:over", "dns:second"), "second"),
        ((), None),
        (("dns:over",), None),
        (("uri:spiffe://example.org/Mesh",), None),
        (("uri:spiffe://example.org/mesh/",), None),
        (("spiffe://example.org/mesh",), None),
        (("dns:spiffe://example.org/mesh",), None),
        (("dns:*",), None),
    ],
)
def test_names_in_certificates(names: tuple[str, ...], expected: str | None) -> None:
    """The first name of a certificate that is listed, as it is written and of its kind, says who it is."""
    callers = listed(
        CallerFact(f"certificate:{MESH}", "mesh", None, ("check",)),
        CallerFact("certificate:dns:second", "second", None, ("check",)),
        CallerFact("certificate:dns:over", "over", None, ("check",), None, NOW),
        kind="mtls",
    )

    found = told(callers, call(certificates=names))

    message = "the caller is not known: connect with its client certificate"
    assert found == (expected or (401, "unauthorized", message, {}))


# --- hosts, and who watches ---------------------------------------------------------------------------


def test_hosts() -> None:
    """Where the service listens on this machine alone, another `Host` is refused; elsewhere none is looked at."""
    here = listed(SHOP, hosts={"localhost:8180"})

    found = [told(here, call(BEARER, host=host)) for host in ("localhost:8180", "LOCALHOST:8180")]
    refused = [told(here, call(BEARER, host=host)) for host in ("evil.example", "localhost", "", None)]

    assert found == ["shop"] * 2
    assert [each[:2] for each in refused] == [(403, "bad_host")] * 4
    assert told(listed(SHOP), call(BEARER, host=None)) == "shop"


def test_who_watches_needs_no_key() -> None:
    """A probe is let in from anywhere, under any name, and may ask nothing."""
    watcher = listed(SHOP, hosts={"localhost"}).probing(call(host=None))

    assert (watcher.scopes, watcher.tenants) == (frozenset(), frozenset())


# --- the list: held, dropped, loaded ------------------------------------------------------------------


class NoMemory:
    """What processes share in memory, where there is nothing."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None for _ in keys]

    async def put_many(self, entries: Mapping[str, bytes], ttl_s: int) -> bool:
        return False


class House:
    """A process that follows a database in memory, and its gate."""

    def __init__(self, *facts: CallerFact) -> None:
        self.base = Base()
        self.write(*facts)
        self.process = Process(self.base, NoMemory())
        self.callers = StoredCallers(self.process.cache, self.process.loader.load, lambda: NOW, "token")
        self.gate = gate_of(self.callers)

    def write(self, *facts: CallerFact) -> None:
        self.base.write("", CALLERS, CallersView(facts))

    async def ask(self, *authorization: str) -> str:
        return await name_of(self.gate, call(*authorization))


async def name_of(gate: Gate, asked: Call) -> str:
    """Let a call in, as both lanes do; return the name of who asks, or the code of the refusal."""
    try:
        return (gate.admit(asked) or await gate.admitted(asked)).name
    except PublicError as error:
        return error.code


def test_the_list_is_loaded_once() -> None:
    """However many ask at once before the list is held, it is loaded once; then nobody's asking loads anything, least
    of all a wrong key's."""

    async def scene() -> tuple[list[str], int, list[str], int]:
        house = House(SHOP)
        await house.process.begin()
        first = await asyncio.gather(*(house.ask(BEARER) for _ in range(20)), house.ask("Bearer nonsense"))
        loads = house.base.loads
        later = [await house.ask(f"Bearer wrong{number}") for number in range(20)]
        return first, loads, later, house.base.loads - loads

    first, loads, later, more = run(scene())

    assert first == ["shop"] * 20 + ["unauthorized"]
    assert loads == 1
    assert (set(later), more) == ({"unauthorized"}, 0)


def test_who_sends_nothing_costs_nothing() -> None:
    """Where no key was sent at all nobody waits for the list."""

    async def scene() -> tuple[str, int]:
        house = House(SHOP)
        await house.process.begin()
        return await house.ask(), house.base.loads

    assert run(scene()) == ("unauthorized", 0)


def test_a_change_counts_once_it_is_applied() -> None:
    """Who is removed is let in until the change is applied, and from then on refused; and so for who is added, the
    other way round."""

    async def scene() -> list[str]:
        house = House(SHOP)
        await house.process.begin()
        found = [await house.ask(BEARER)]
        changes: list[tuple[CallerFact, ...]] = [(), (SHOP,)]
        for facts in changes:
            house.write(*facts)
            found.append(await house.ask(BEARER))
            await house.process.freshness.poll()
            found.append(await house.ask(BEARER))
        return found

    assert run(scene()) == ["shop", "shop", "unauthorized", "unauthorized", "shop"]


def test_another_change_costs_no_load() -> None:
    """Callers stay known while other things change, and are made once of one list."""

    async def scene() -> tuple[int, bool]:
        house = House(SHOP)
        await house.process.begin()
        first = await house.gate.admitted(call(BEARER))
        loads = house.base.loads
        house.base.write("", "principal:user:ann", None)
        await house.process.freshness.poll()
        return house.base.loads - loads, house.gate.admit(call(BEARER)) is first

    assert run(scene()) == (0, True)


def test_another_history_drops_the_list() -> None:
    """Where the database was put back, callers are those that it lists now."""

    async def scene() -> list[str]:
        house = House()
        await house.process.begin()
        kept = {stream: len(changes) for stream, changes in house.base.changes.items()}
        house.write(SHOP)
        await house.process.freshness.poll()
        found = [await house.ask(BEARER)]
        house.base.restore(kept)
        await house.process.freshness.poll()
        return [*found, await house.ask(BEARER)]

    assert run(scene()) == ["shop", "unauthorized"]


async def away(*_: object) -> None:
    raise StaleError


async def in_vain(*_: object) -> None:
    """Bring nothing in, as a load that changes overtake again and again."""


def test_where_the_list_cannot_be_loaded() -> None:
    """Who waits for the list is told that it cannot be had, in the words of the service."""
    callers = StoredCallers(Cache(), away, lambda: NOW, "token")

    with pytest.raises(PublicError) as caught:
        run(callers.known())

    assert (caught.value.status, caught.value.code, caught.value.headers) == (503, "stale", {"Retry-After": "1"})


@pytest.mark.parametrize("load", [away, in_vain])
def test_where_the_list_cannot_be_had(load: Callable[..., Awaitable[None]]) -> None:
    """Who may ask is not known then: come again, for the right key and the wrong one alike; nobody is let in."""

    async def scene() -> list[tuple[int, str, str | None]]:
        gate = gate_of(StoredCallers(Cache(), load, lambda: NOW, "token"))
        found = []
        for key in (KEY, "wrong"):
            with pytest.raises(PublicError) as caught:
                await gate.admitted(call(f"Bearer {key}"))
            found.append((caught.value.status, caught.value.code, caught.value.headers.get("Retry-After")))
        return found

    assert run(scene()) == [(503, "stale", "1")] * 2


# --- with a real store --------------------------------------------------------------------------------


@asynccontextmanager
async def following(urls: StoreUrls) -> AsyncIterator[tuple[Keeper, Gate]]:
    """Start a process that decides, and its gate."""
    keeper = Keeper(urls.sidecar, max_staleness_s=2.0, questioner=lambda: None)
    await keeper.start()
    try:
        yield keeper, gate_of(StoredCallers(keeper.cache, keeper.loader.load, lambda: NOW, "token"))
    finally:
        await keeper.stop()


async def add_shop(write: Write) -> None:
    await writes.add(write, "shop", key_digest=digest_of(KEY), prefix=KEY[:8], tenants=None, scopes=["check"])


async def remove_shop(write: Write) -> None:
    await writes.remove(write, "shop")


def test_who_is_removed_is_refused_once_that_is_settled(store_urls: StoreUrls) -> None:
    """When a receipt says that every process has applied the removal of a caller, none lets him in; and one that was
    added is let in by all of them as soon as the receipt for that is there."""

    async def scene() -> list[tuple[bool, list[str]]]:
        found = []
        database = Database(store_urls.admin)
        writer, receipts = Writer(database), Receipts(database)
        async with following(store_urls) as (_, one), following(store_urls) as (_, other):
            for work in [add_shop, remove_shop] * 3:
                async with writer.write() as write:
                    await work(write)
                    receipt = write.want_receipt()
                settled = await receipts.settled(receipt, timeout_s=10)
                found.append((settled.is_settled, [await name_of(gate, call(BEARER)) for gate in (one, other)]))
        await database.close()
        return found

    assert run(scene()) == [(True, ["shop"] * 2), (True, ["unauthorized"] * 2)] * 3


def test_while_the_store_is_away(sqlite_template: Path, tmp_path: Path) -> None:
    """Callers whose list is held stay known while the store cannot be reached."""
    path = Path(shutil.copy(sqlite_template, tmp_path / "bylaw.db"))
    urls = sqlite_urls(path)

    async def scene() -> list[str]:
        database = Database(urls.admin)
        async with Writer(database).write() as write:
            await add_shop(write)
        await database.close()
        async with following(urls) as (keeper, gate):
            found = [await name_of(gate, call(BEARER))]
            os.rename(path, tmp_path / "elsewhere.db")
            with pytest.raises(StoreError):
                await keeper.freshness.poll()
            found += [await name_of(gate, call(written)) for written in (BEARER, "Bearer wrong")]
            os.rename(tmp_path / "elsewhere.db", path)
        return found

    assert run(scene()) == ["shop", "shop", "unauthorized"]


# --- scopes and tenants: the invariant ----------------------------------------------------------------

EXPLAIN: Final = "/explain"
Voices = tuple[str | None, str | None, str | None]
#: What a question may name, and the tenants to which callers are held.
NAMED: Final = (None, "acme", "globex")
VOICES: Final[list[Voices]] = list(itertools.product(NAMED, NAMED, NAMED))
HELD: Final[list[tuple[str, ...] | None]] = [None, ("acme",), ("globex",), ("acme", "globex"), ("initech",)]
SCOPES: Final[list[frozenset[Scope]]] = [
    frozenset(chosen)
    for size in range(len(ALL_SCOPES) + 1)
    for chosen in itertools.combinations(sorted(ALL_SCOPES), size)
]


def key_of(scopes: Set[str], held: tuple[str, ...] | None) -> str:
    """Name the key of the caller who has these scopes in these tenants."""
    return f"bylaw_{'.'.join(sorted(scopes))}-{'.'.join(held or ('*',))}"


EVERYBODY: Final = [
    CallerFact(f"key:{digest_of(key_of(scopes, held))}", key_of(scopes, held), held, tuple(scopes))
    for scopes in SCOPES
    for held in HELD
]


def question(voices: Voices, who: str = "ann", **properties: object) -> dict[str, Any]:
    """Ask whether somebody may read a task, naming tenants in each of three places."""
    tenant, of_subject, of_resource = voices
    asked: dict[str, Any] = {
        "subject": {"type": "user", "id": who, "properties": {"tenant": of_subject, **properties}},
        "action": {"name": "read"},
        "resource": {"type": "task", "id": "t1", "properties": {"tenant": of_resource}},
    }
    return asked | {"tenant": tenant}


def may_ask(voices: Voices, held: tuple[str, ...] | None) -> bool:
    """Say whether a question is one of the tenants that a caller is held to."""
    named = {voice for voice in voices if voice is not None}
    return held is None or (bool(named) and named <= set(held))


Ask = Callable[[str, str, object], Awaitable[tuple[int, Any]]]


@asynccontextmanager
async def asking() -> AsyncIterator[Ask]:
    """Put the parts together that answer; give what asks: path, key and body to status and answer.

    What both lanes share is asked as they ask it, the rest over HTTP.
    """
    policies = Policies(STUDIO, STUDIO / "facts.yaml", report=lambda _: None)
    await policies.start()
    decider, gate = FileDecider(lambda: policies.loaded), gate_of(listed(*EVERYBODY))
    api = Api(decider, policies, DecisionIds(), gate.tellings)
    app = web.Application()
    app[DECIDER], app[SETTINGS] = decider, Settings()
    guard = make_guard(gate)
    app.router.add_post(EXPLAIN, guard(explain))
    app.router.add_get("/health", guard(health, is_probe=True))
    app.router.add_route("*", "/{path:.*}", guard(nothing_there))
    async with TestClient(TestServer(app)) as client:

        async def ask(path: str, key: str, body: object) -> tuple[int, Any]:
            written = json.dumps(body)
            if path in api.endpoints:
                reply = await answered(api, gate, Call(path, None, None, (f"Bearer {key}",)), written.encode())
                return reply.status, json.loads(reply.body)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            async with client.request("POST" if body else "GET", path, data=written, headers=headers) as response:
                return response.status, await response.json()

        yield ask


async def answered(api: Api, gate: Gate, asked: Call, body: bytes) -> Reply:
    """Answer as the fast lane does."""
    try:
        caller = gate.admit(asked) or await gate.admitted(asked)
        found = api.endpoints[asked.path](asked, caller, body)
        return found if isinstance(found, Reply) else await found
    except Exception as error:
        return gate.refuse(error, None)


@pytest.mark.parametrize("path", [CHECK, EVALUATION, EVALUATIONS, EXPLAIN])
def test_caller_scopes(path: str) -> None:
    """Whatever scopes a caller has and whichever tenants he is held to, a question is answered exactly if he has the
    scope of the endpoint and it is of his tenants, by every voice that names one; else it is 403 and says nothing."""
    needed = "explain" if path == EXPLAIN else "check"

    def expected(scopes: Set[str], held: tuple[str, ...] | None, voices: Voices) -> int:
        if needed not in scopes or not may_ask(voices, held):
            return 403
        return 200 if any(voices) or path in (EVALUATION, EVALUATIONS) else 400  # no tenant is named

    cases = [
        (scopes, held, voices)
        for scopes in SCOPES
        for held in HELD
        for voices in VOICES
        # over HTTP some of all, and all of some
        if path != EXPLAIN or voices in VOICES[::13] or (scopes == {needed} and held == ("acme",))
    ]

    async def scene() -> list[tuple[int, Any]]:
        async with asking() as ask:
            return [await ask(path, key_of(scopes, held), question(voices)) for scopes, held, voices in cases]

    found = run(scene())

    assert [status for status, _ in found] == [expected(*case) for case in cases]
    assert {answer["error"] for status, answer in found if status == 403} == {"forbidden"}
    assert not any("decision" in answer for status, answer in found if status != 200)
    assert any(answer.get("decision") is True for _, answer in found)


@pytest.mark.parametrize("path", [CHECK, EVALUATIONS])
@pytest.mark.parametrize("default", NAMED)
def test_caller_scopes_of_batches(path: str, default: str | None) -> None:
    """Each item of a batch is held to the caller's tenants by itself, also where its tenant is named once for all: a
    foreign one is refused with 403 in its place, the others are decided as they are alone."""
    items = [{name: said for name, said in question(voices).items() if said is not None} for voices in VOICES]
    whole = {"tenant": default, "evaluations": items}
    seen: list[Voices] = [(voices[0] or default, *voices[1:]) for voices in VOICES]

    async def scene() -> list[tuple[tuple[str, ...] | None, int, Any, list[tuple[int, Any]]]]:
        found = []
        async with asking() as ask:
            for held in HELD:
                key = key_of({"check"}, held)
                status, answer = await ask(path, key, whole)
                found.append((held, status, answer, [await ask(path, key, question(voices)) for voices in seen]))
        return found

    error = {"status": 403, "message": "the caller's key is not for this tenant"}
    refused = {"decision": False, "context": {"code": "forbidden", "error": error}}
    for held, status, answer, alone in run(scene()):
        assert status == 200
        for voices, item, (alone_status, single) in zip(seen, answer["evaluations"], alone, strict=True):
            if not may_ask(voices, held):
                assert (item, alone_status) == (refused, 403)
            elif alone_status == 200:
                assert (item["decision"], item["context"]["code"]) == (single["decision"], single["context"]["code"])
            else:
                assert item["context"]["error"]["status"] == alone_status


@pytest.mark.parametrize("path", [CHECK, EVALUATIONS])
def test_caller_scopes_of_whole_batches(path: str) -> None:
    """Without the scope of the endpoint a batch is refused as a whole."""
    whole = {"evaluations": [question(("acme", None, None))]}
    lacking = [scopes for scopes in SCOPES if "check" not in scopes]

    async def scene() -> list[int]:
        async with asking() as ask:
            return [(await ask(path, key_of(scopes, None), whole))[0] for scopes in lacking]

    assert run(scene()) == [403] * len(lacking)


def test_caller_scopes_of_claims() -> None:
    """Roles that a question claims count only from callers with the scope `claims`: alone, in a batch, and for all of
    a batch; from others they are ignored."""
    claiming = question(("acme", None, None), who="stranger", roles=["viewer"])
    batches = {"tenant": "acme", "evaluations": [claiming]}, {**claiming, "evaluations": [{}]}
    asked = [(path, body) for path in (CHECK, EVALUATIONS) for body in (claiming, *batches)] + [(EVALUATION, claiming)]

    async def scene() -> list[tuple[frozenset[Scope], list[tuple[int, Any]], tuple[int, Any]]]:
        found = []
        async with asking() as ask:
            for scopes in SCOPES:
                key = key_of(scopes, ("acme",))
                checks = [await ask(path, key, body) for path, body in asked]
                found.append((scopes, checks, await ask(EXPLAIN, key, claiming)))
        return found

    for scopes, checks, (status, explained) in run(scene()):
        decisions = [answer.get("evaluations", [answer])[0]["decision"] for code, answer in checks if code == 200]
        assert decisions == [("claims" in scopes)] * (len(asked) if "check" in scopes else 0)
        assert status == (200 if "explain" in scopes else 403)
        assert explained.get("decision", False) is ({"explain", "claims"} <= scopes)


def test_paths_that_are_none_and_probes() -> None:
    """Who has no key learns not even which paths there are; health is told to anybody."""

    async def scene() -> list[int]:
        async with asking() as ask:
            return [(await ask(path, "wrong", body))[0] for path, body in (("/nothing", {"a": 1}), ("/health", None))]

    assert run(scene()) == [401, 200]
