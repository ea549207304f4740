"""Revisions and request ids that go along with checks by themselves."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from bylaw.client import Bylaw, Question, current_scope, request_scope
from bylaw.client.revisions import MAX_TENANTS, Revisions
from bylaw.client.scope import make_scope, read_tokens, within
from tests.bylaw.client.conftest import MakeAsker
from tests.bylaw.client.scripted import ALLOW, ANN, Scripted, header, http, ok

KEPT_S = 10.0


class FrozenClock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def revisions(clock: FrozenClock) -> Revisions:
    return Revisions(KEPT_S, clock)


def test_a_revision_is_of_its_tenant(revisions: Revisions) -> None:
    """A write in a tenant is demanded of its checks alone, one that is named no tenant of all."""
    revisions.saw("a1", "acme")
    revisions.saw("g1", "globex")
    revisions.saw("all", None)

    assert set(revisions.demanded(["acme"])) == {"a1", "all"}
    assert set(revisions.demanded(["acme", "globex"])) == {"a1", "g1", "all"}
    assert revisions.demanded(["other"]) == ("all",)
    assert revisions.demanded([None]) == ("all",)


def test_several_are_kept(revisions: Revisions) -> None:
    """Of writes that are answered in any order all are demanded, the newest first; each once, and eight at most."""
    for number in range(10):
        revisions.saw(f"a{number}", "acme")
    revisions.saw("a5", "acme")

    assert revisions.demanded(["acme"]) == ("a5", "a9", "a8", "a7", "a6", "a4", "a3", "a2")


def test_the_newest_count(revisions: Revisions, clock: FrozenClock) -> None:
    """Where more than eight are known of all that a check is about, the newest are demanded."""
    for number in range(8):
        clock.now = number
        revisions.saw(f"a{number}", "acme")
        revisions.saw(f"all{number}", None)

    found = revisions.demanded(["acme"])

    assert set(found) == {f"{what}{number}" for what in ("a", "all") for number in range(4, 8)}


def test_they_are_dropped(revisions: Revisions, clock: FrozenClock) -> None:
    """After a while every process of the service has them, and they are demanded no more."""
    revisions.saw("a1", "acme")
    clock.now = 6.0
    revisions.saw("a2", "acme")
    clock.now = KEPT_S

    assert revisions.demanded(["acme"]) == ("a2",)
    clock.now = 16.0
    assert revisions.demanded(["acme"]) == ()


def test_nothing_grows(revisions: Revisions, clock: FrozenClock) -> None:
    """Of more tenants than are remembered those written longest ago are forgotten, and those that are over first."""
    revisions.saw("over", "over")
    clock.now = KEPT_S
    for number in range(MAX_TENANTS):
        revisions.saw("r", f"t{number}")
    revisions.saw("again", "t0")
    revisions.saw("r", "one more")

    assert len(revisions._held) == MAX_TENANTS
    assert revisions.demanded(["t0"]) == ("again", "r")
    assert revisions.demanded(["t1"]) == ()
    assert revisions.demanded(["t2"]) == ("r",)


def test_threads(revisions: Revisions) -> None:
    """Threads that write at once lose nothing of each other's."""

    def write(name: str) -> None:
        for number in range(300):
            revisions.saw(f"{name}{number}", name)
            revisions.saw(f"all-{name}", None)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert set(revisions.demanded([None])) == {"all-a", "all-b", "all-c", "all-d"}
    assert revisions.demanded(["a"])[0][0] == "a"


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "a b", "a\r\nX-Evil: 1", "é", "a\x00", "x" * 201, ",".join("abcdefghi")]
)
def test_what_is_no_revision(text: str) -> None:
    """What could not stand in the header is refused, and nothing can be put behind it."""
    with pytest.raises(ValueError, match="revision"):
        read_tokens(text)


def test_a_list_of_revisions() -> None:
    """A header may hold several, each counted once."""
    assert read_tokens("a, b ,a,\tc") == ("a", "b", "c")


# --- in a request -----------------------------------------------------------------------------------------------------


def test_a_request_demands_and_sees(revisions: Revisions) -> None:
    """Within a request its own writes are demanded first, then what its sender demands, then what the process knows."""
    revisions.saw("known", None)

    with request_scope(at_least="sent1,sent2") as scope:
        revisions.saw("own1", "acme")
        revisions.saw("own2", "acme")
        within_request = revisions.demanded(["acme"])
        elsewhere = revisions.demanded(["globex"])

    assert within_request == ("own2", "own1", "sent1", "sent2", "known")
    assert elsewhere == within_request
    assert scope.seen == ("own2", "own1")
    assert set(revisions.demanded(["acme"])) == {"own1", "own2", "known"}
    assert revisions.demanded(["globex"]) == ("known",)


def test_own_writes_are_not_pushed_out(revisions: Revisions) -> None:
    """Who demands eight revisions does not make the application forget its own write."""
    with request_scope(at_least="a,b,c,d,e,f,g,h"):
        revisions.saw("own", "acme")

        found = revisions.demanded(["acme"])

    assert found == ("own", "a", "b", "c", "d", "e", "f", "g")


def test_scopes_do_not_mix() -> None:
    """Each task has its own; what it begins, sees the same; and nothing is left behind."""
    revisions = Revisions(KEPT_S, FrozenClock())

    async def answer(name: str, both: asyncio.Barrier) -> tuple[str, ...]:
        with request_scope(at_least=name):
            await both.wait()
            await asyncio.to_thread(revisions.saw, f"{name}-own", name)
            await both.wait()
            scope = current_scope()
            assert scope is not None
            return (*scope.seen, *scope.at_least)

    async def both() -> list[tuple[str, ...]]:
        barrier = asyncio.Barrier(2)
        return [*await asyncio.gather(answer("a", barrier), answer("b", barrier))]

    assert asyncio.run(both()) == [("a-own", "a"), ("b-own", "b")]
    assert current_scope() is None


@pytest.mark.parametrize("given", [None, "", "x" * 257, "a\r\nb", "é"])
def test_a_request_without_an_id_gets_one(given: str | None) -> None:
    """An id that cannot be sent as it is is replaced."""
    with request_scope(request_id=given) as scope:
        assert scope.request_id != given
        assert scope.request_id.isalnum()


# --- on the wire ------------------------------------------------------------------------------------------------------


def test_what_goes_along(make: MakeAsker, clock: FrozenClock) -> None:
    """Checks, many at once and explanations carry what they must, and after a while no more."""
    with Scripted(ok(ALLOW), ok({"evaluations": [ALLOW]}), ok(ALLOW)) as server:
        client = make(server.url, clock=clock, remember_s=KEPT_S)
        client.saw(None)
        client.saw("r1", "acme")
        with request_scope(request_id="r-17", at_least="r0"):
            client.ask(ANN)
            client.check_many([ANN])
            client.explain(ANN)
        clock.now = KEPT_S
        client.ask(ANN)

        found = [(header(each, "Bylaw-At-Least"), header(each, "X-Request-ID")) for each in server.requests]

    assert found == [("r0,r1", "r-17")] * 3 + [(None, None)]


@pytest.mark.parametrize(
    "question",
    [
        ANN,
        replace(ANN, tenant=None, subject_properties={"tenant": "acme"}),
        replace(ANN, tenant=None, resource_properties={"tenant": "acme"}),
    ],
)
def test_wherever_the_tenant_is_named(make: MakeAsker, question: Question) -> None:
    """A question may name its tenant in one of three places."""
    with Scripted(ok(ALLOW)) as server:
        client = make(server.url)
        client.saw("r1", "acme")

        client.ask(question)

        assert header(server.requests[0], "Bylaw-At-Least") == "r1"


def test_what_a_decision_rests_on_is_not_demanded(make: MakeAsker) -> None:
    """The revision of one decision is not demanded of the next: no two processes are ever equally far."""
    with Scripted(ok(ALLOW)) as server:
        client = make(server.url)

        assert client.ask(ANN).revision == "r1"
        client.ask(ANN)

        assert header(server.requests[1], "Bylaw-At-Least") is None


@pytest.mark.parametrize(("sent", "carried"), [("w1", "w1"), ("no revision", None)])
def test_a_revision_that_an_answer_comes_with(make: MakeAsker, sent: str, carried: str | None) -> None:
    """One in the header of an answer is that of a write, and is demanded from then on, in the same tenant."""
    answer = http(200, json.dumps(ALLOW).encode(), "application/json", f"Bylaw-Revision: {sent}")
    with Scripted(answer, ok(ALLOW)) as server:
        client = make(server.url)

        for question in (ANN, ANN, replace(ANN, tenant="globex")):
            client.ask(question)

        assert [header(each, "Bylaw-At-Least") for each in server.requests] == [None, carried, None]


def test_what_is_no_revision_is_not_seen() -> None:
    """It is an error where it is handed in, not with the next check."""
    with Bylaw() as client:
        with pytest.raises(ValueError, match="no revision"):
            client.saw("yester day")

        assert client.at_least("acme") == ()


def test_passing_revisions_on() -> None:
    """Who calls another application can hand on what a check of his would demand."""
    with Bylaw() as client, within(make_scope(None, "sent")):
        client.saw("own", tenant="acme")

        assert client.at_least("acme") == ("own", "sent")


def test_a_key_and_what_is_sent(make: MakeAsker) -> None:
    """The key goes along with each question, and is nowhere in what the client says of itself."""
    with Scripted(ok(ALLOW)) as server:
        client = make(server.url + "/behind/", key="s3cret")
        client.ask(ANN)

        request = server.requests[0]

    assert request.startswith(b"POST /behind/check HTTP/1.1\r\n")
    assert header(request, "Authorization") == "Bearer s3cret"
    assert header(request, "Content-Type") == "application/json"
    assert header(request, "Accept-Encoding") == "identity"
    assert json.loads(request.partition(b"\r\n\r\n")[2])["subject"] == "user:ann"
    assert "s3cret" not in repr(getattr(client, "client", None))


@pytest.mark.parametrize("key", ["", "a b", "a\r\nHost: evil", "é"])
def test_what_is_no_key(key: str) -> None:
    """A key that cannot stand in a header is refused, and not told on."""
    with pytest.raises(ValueError, match="without a space"):
        Bylaw(key=key)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8180",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:http",
        "http://127.0.0.1:99999",
        "http://host/?q=1",
        "http://host/#x",
        "http://ho st/",
        "http://host\n.evil",
        "unix:bylaw.sock",
        "",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """A place that cannot be asked is refused when the client is made."""
    with pytest.raises(ValueError, match="expected http://HOST:PORT, https://HOST or unix:/PATH"):
        Bylaw(url)


def test_credentials_in_a_url() -> None:
    """They are refused, and not told on."""
    with pytest.raises(ValueError, match="credentials") as caught:
        Bylaw("http://me:secret@127.0.0.1:8180")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"pool_size": 0}, {"remember_s": -1}]
)
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    """They are refused when the client is made."""
    with pytest.raises(ValueError, match="timeout_s must"):
        Bylaw(**options)  # type: ignore[arg-type]  # one at a time
