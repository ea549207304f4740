"""Both clients before the real service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bylaw.cli import main
from bylaw.client import AsyncBylaw, Bylaw, Question, RefusedError, StaleError, request_scope
from sidecar.addresses import Address
from store.tokens import Line, Token
from tests.bylaw.client.conftest import MakeAsker
from tests.bylaw.client.scripted import ALLOW, ANN, OnLoop, Scripted, Waiting, ok
from tests.sidecar.conftest import Client, serve, studio_settings

ROOT = Path(__file__).parents[3]
ELSEWHERE = str(Token(Line("0" * 32), 1, 1))
#: Questions about different things, and their answers.
ANSWERS = {
    ANN: True,
    replace(ANN, subject="user:eve"): False,
    replace(ANN, subject="user:vic", action="read", resource="project:p1"): True,
    replace(ANN, subject="user:vic", action="read", resource="project:p2"): False,
    replace(ANN, subject="anonymous", action="read", resource="project:open"): True,
    replace(ANN, subject="anonymous"): False,
    Question("user:eve", "read", "project:g1", tenant="globex"): True,
    Question("user:eve", "read", "project:p1", tenant="globex"): False,
}


def test_answers(make: MakeAsker, url: str) -> None:
    """Each question gets its answer, with what determined it."""
    client = make(url)

    found = {question: client.ask(question).allowed for question in ANSWERS}
    decision = client.ask(ANN)

    assert found == ANSWERS
    assert (decision.code, decision.by) == ("role", "organization.manager on organization:acme")
    assert decision.at == "studio.bylaw:33"
    assert decision.policy.startswith("sha256:")
    assert len(decision.id) == 26


def test_properties_and_context(make: MakeAsker, url: str) -> None:
    """What is sent along is read by the policy."""
    client = make(url)
    new = {"new": True, "parent": "project:p1", "owner": "user:ann"}
    billing = Question("user:olga", "view_billing", "organization:acme", tenant="acme")

    created = client.ask(Question("user:ann", "create", "task:new", tenant="acme", resource_properties=new))
    denied = client.ask(billing)
    stepped_up = client.ask(replace(billing, context={"mfa": True}))

    assert (created.allowed, denied.allowed, stepped_up.allowed) == (True, False, True)
    assert denied.because == "billing needs a second factor"
    assert [(each.name, each.value) for each in denied.obligations] == [("step_up", "mfa")]


def test_a_slip_of_the_programmer(make: MakeAsker, url: str) -> None:
    """An action that the policy does not know is refused in the service's own words."""
    with pytest.raises(RefusedError, match="did you mean `read`") as caught:
        make(url).ask(replace(ANN, action="raed"))

    assert (caught.value.code, caught.value.status) == ("unknown_action", 400)


def test_many(make: MakeAsker, url: str) -> None:
    """A hundred questions are answered in their order; one that makes no sense is a deny that says why."""
    client = make(url)
    questions = [*ANSWERS, replace(ANN, resource="tsak:t1")]
    hundred = [question for _ in range(20) for question in [*ANSWERS][:5]]

    found = client.check_many(questions)
    many = client.check_many(hundred)

    assert [each.allowed for each in found] == [*ANSWERS.values(), False]
    assert (found[-1].code, found[-1].error) == (
        "unknown_type",
        "the policy has no type `tsak`; did you mean `task`?",
    )
    assert [each.allowed for each in many] == [*ANSWERS.values()][:5] * 20
    assert client.check_many([]) == []
    with pytest.raises(RefusedError, match="at most 100"):
        client.check_many([ANN] * 101)


def test_many_that_end_early(make: MakeAsker, url: str) -> None:
    """The service stops at the first deny, or the first allow, if it is told to."""
    client, eve = make(url), replace(ANN, subject="user:eve")

    until_deny = client.check_many([ANN, eve, ANN], "deny_on_first_deny")
    until_permit = client.check_many([eve, eve, ANN, ANN], "permit_on_first_permit")

    assert [each.allowed for each in until_deny] == [True, False]
    assert [each.allowed for each in until_permit] == [False, False, True]


def test_explain(make: MakeAsker, url: str) -> None:
    """The reasoning is an object for people to read."""
    found = make(url).explain(replace(ANN, subject="user:eve"))

    assert found["decision"] is False
    assert found["missing"]


def test_over_a_unix_socket(make: MakeAsker, tmp_path: Path) -> None:
    """A service may listen on a Unix socket."""
    path = str(tmp_path / "bylaw.sock")
    with serve(studio_settings(http=Address(path=path))):
        client = make(f"unix:{path}")

        found = [client.ask(ANN).allowed, client.ask(replace(ANN, subject="user:eve")).allowed]

    assert found == [True, False]


def test_a_service_that_was_started_anew(make: MakeAsker, tmp_path: Path) -> None:
    """The connections that it closed when it stopped are not missed."""
    path = str(tmp_path / "bylaw.sock")
    client = make(f"unix:{path}", timeout_s=5.0)
    for _ in range(2):
        with serve(studio_settings(http=Address(path=path))):
            decision = client.ask(ANN)

        assert decision
        assert not client.is_allowed(ANN)


def test_revisions_of_elsewhere(make: MakeAsker, url: str) -> None:
    """What cannot be as fresh as is demanded is an error of its own; a tenant's revision is demanded of that tenant."""
    client = make(url)
    client.saw(ELSEWHERE, "acme")

    with pytest.raises(StaleError):
        client.ask(ANN)
    other = client.ask(Question("user:eve", "read", "project:g1", tenant="globex"))

    assert other


def test_a_request_id_goes_along(make: MakeAsker, url: str) -> None:
    """An error of the service's has the id of the request that is being answered."""
    with request_scope(request_id="r-17"), pytest.raises(RefusedError) as caught:
        make(url).ask(replace(ANN, action="raed"))

    assert caught.value.request_id == "r-17"


def test_spelled_out(url: str) -> None:
    """`check` takes a question's parts, and is true where it allows."""
    with Bylaw(url) as client:
        assert client.check("user:ann", "task.read", "task:t1", tenant="acme")
        assert not client.check("user:eve", "task.read", "task:t1", tenant="acme")
        assert client.is_allowed("user:ann", "task.read", "task:t1", tenant="acme") is True


def test_threads(url: str) -> None:
    """Threads that share a client, and more of them than it has connections, each get their own answers."""
    with Bylaw(url, pool_size=3, timeout_s=20) as client, ThreadPoolExecutor(8) as threads:
        questions = [*ANSWERS] * 40

        found = [*threads.map(lambda question: client.ask(question).allowed, questions)]

    assert found == [*ANSWERS.values()] * 40


def test_tasks(url: str) -> None:
    """Tasks that share a client, and more of them than it has connections, each get their own answers."""

    async def ask() -> list[bool]:
        async with AsyncBylaw(url, pool_size=3, timeout_s=20) as client:
            return [each.allowed for each in await asyncio.gather(*map(client.ask, [*ANSWERS] * 40))]

    assert asyncio.run(ask()) == [*ANSWERS.values()] * 40


def test_a_check_that_was_not_awaited() -> None:
    """It is neither true nor false, and an error where it is taken for either: no `if` lets anybody in by it."""
    client = AsyncBylaw()
    question = Question("user:eve", "read", "project:p1")

    for begun in (
        client.check("user:eve", "read", "project:p1"),
        client.ask(question),
        client.is_allowed("user:eve", "read", "project:p1"),
        client.check_many([question]),
    ):
        with pytest.raises(TypeError, match="`await` is missing"):
            bool(begun)


def test_what_takes_coroutines(url: str) -> None:
    """A check can be made a task, waited for with others, and given up, like any coroutine."""

    async def use() -> list[bool]:
        async with AsyncBylaw(url) as client:
            task = asyncio.create_task(client.ask(ANN))
            waited = await asyncio.wait_for(client.ask(ANN), 20)
            shielded = await asyncio.shield(client.ask(ANN))
            given_up = asyncio.create_task(client.ask(ANN))
            given_up.cancel()
            await asyncio.wait({given_up})
            return [bool(await task), bool(waited), bool(shielded), given_up.cancelled()]

    assert asyncio.run(use()) == [True] * 4


def test_another_loop(url: str) -> None:
    """A client belongs to the loop on which it was first used, and says so on another."""
    first, second = asyncio.Runner(), asyncio.Runner()
    with first, second:
        client = AsyncBylaw(url)
        first.run(client.ask(ANN))

        with pytest.raises(RuntimeError, match="event loop"):
            second.run(client.ask(ANN))

        first.run(client.close())


FORKS = """
import os, sys
from bylaw.client import Bylaw

client = Bylaw(sys.argv[1], pool_size=1, timeout_s=20)
ask = lambda: client.is_allowed("user:ann", "task.read", "task:t1", tenant="acme")
first = ask()
child = os.fork()
if not child:
    os._exit(0 if ask() else 1)
its = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(0 if first and its == 0 and ask() else 1)
"""


def test_a_process_that_was_forked_off() -> None:
    """It makes a connection of its own, so that none reads the other's answers; the one that it came from keeps its."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Scripted(ok(ALLOW)) as server:
        command = [sys.executable, "-W", "error", "-c", FORKS, server.url]

        done = subprocess.run(command, env=environ, check=False, timeout=60)

        assert done.returncode == 0
        assert (len(server.requests), server.connections) == (3, 2)


# --- a store, and obligations -----------------------------------------------------------------------------------------

POLICY = """
tenant workspace { actions read }
resource note in workspace { actions read, list }
principal user
role member on workspace { can read }
allow masked: anyone to note.read with { mask_fields: "email" }
allow listed: anyone to note.list with { mask_fields: "email", watermark: true }
"""
FACTS = """
tenants: { acme: {} }
users: { ann: { members: { acme: active } } }
resources: { note:n1: { parent: workspace:acme } }
"""
MORE = (
    FACTS
    + """
assignments: [{ subject: user:ann, role: member, on: workspace:acme }]
"""
)
READ = Question("user:ann", "workspace.read", "workspace:acme", tenant="acme")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose allows oblige, and facts of it."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "notes.bylaw").write_text(POLICY)
    (folder / "facts.yaml").write_text(FACTS)
    (folder / "more.yaml").write_text(MORE)
    return folder


@pytest.fixture(scope="module")
def obliging(notes: Path) -> Iterator[Client]:
    """A service of that policy."""
    with serve(studio_settings(policies=notes, facts=notes / "facts.yaml")) as client:
        yield client


@pytest.mark.parametrize(
    ("known", "may_read", "may_list"),
    [
        ({}, False, False),
        ({"mask_fields": True}, True, False),
        ({"mask_fields": True, "watermark": True}, True, True),
        ({"mask_fields": lambda each: each.value == "email", "watermark": lambda each: each.value is True}, True, True),
        ({"mask_fields": lambda each: each.value == "name", "watermark": True}, False, False),
    ],
)
def test_obligations(
    make: MakeAsker, obliging: Client, known: dict[str, object], may_read: bool, may_list: bool
) -> None:
    """An allow is one only for a client that understands all it obliges to, one by one and among many."""
    client = make(f"http://127.0.0.1:{obliging.port}", obligations=known)
    questions = [Question("user:ann", action, "note:n1", tenant="acme") for action in ("read", "list")]

    read, listed = client.check_many(questions)
    alone = client.ask(questions[0])

    assert (read.allowed, listed.allowed, alone.allowed) == (may_read, may_list, may_read)
    assert client.is_allowed(questions[1]) is may_list
    assert [each.name for each in read.obligations] == ["mask_fields"]
    for each in (read, listed, alone):
        assert (each.code == "unknown_obligation") is not each.allowed
        assert each.allowed or (each.answered is not None and each.answered.allowed)


@pytest.mark.parametrize("kind", [Waiting, OnLoop])
def test_own_writes_are_read(
    kind: type[Waiting | OnLoop], notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written is known to the next check, which the service takes the revisions of the writes from."""
    store = ("--database-url", f"sqlite+aiosqlite:///{tmp_path}/bylaw.db")
    seed = ("seed", "--policies", str(notes), "--json", *store)
    main(["migrate", "up", *store])
    capsys.readouterr()
    main([*seed, str(notes / "facts.yaml")])
    first = json.loads(capsys.readouterr().out)["revision"]
    settings = studio_settings(policies=notes, facts=None, database_url=store[1], max_staleness_s=60.0)
    with serve(settings) as service:
        client = kind(f"http://127.0.0.1:{service.port}", timeout_s=10.0)
        before = client.ask(READ)
        main([*seed, str(notes / "more.yaml")])

        client.saw(first)
        client.saw(json.loads(capsys.readouterr().out)["revision"], "acme")
        after = client.ask(READ)
        client.end()

    assert (before.allowed, after.allowed) == (False, True)
