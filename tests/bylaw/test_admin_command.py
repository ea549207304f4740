"""The verbs of `bylaw admin` as their users meet them: words in, words and exit codes out, over a real service."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bylaw.admin_api import path_of, read_place
from bylaw.administration import Administration
from bylaw.cli import main
from engine.errors import BylawError
from sidecar.addresses import Address
from sidecar.settings import Settings
from store.environment import VARIABLES
from tests.admin.service import World, make_world

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
NO_PLACE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store with the example's facts, and a key."""
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("world"))


class Running:
    """A service in a thread of its own, so that commands may block while they ask it."""

    def __init__(self, settings: Settings, place: Address) -> None:
        self._settings = settings
        self._place = place
        self._loop = asyncio.new_event_loop()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._live(),))
        self.address = ""

    async def _live(self) -> None:
        service = Administration(self._settings, self._place, report=lambda _: None)
        self._stopping = asyncio.Event()
        await service.start()
        self.address = service.address
        self._listens.set()
        await self._stopping.wait()
        await service.stop()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._listens.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)
        self._loop.close()


class Terminal:
    """Runs verbs, and takes what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code, and what came on standard output and standard error."""
        try:
            code = main(["admin", *words])
        except SystemExit as exit_:  # the command line itself was wrong
            code = exit_.code if isinstance(exit_.code, int) else -1
        return code, *self._capsys.readouterr()

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal in a folder of its own, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Terminal(capsys)


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Settings:
    """The settings of a service over a copy of the store."""
    shutil.copyfile(world.path, tmp_path / "copy.db")
    flags = {"policies": str(STUDIO), "database_url": f"sqlite+aiosqlite:///{tmp_path / 'copy.db'}"}
    return Settings.read({}, flags)


@pytest.fixture
def service(settings: Settings, terminal: Terminal, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A service that the environment names, with its key."""
    with Running(settings, Address("127.0.0.1", 0)) as running:
        monkeypatch.setenv("BYLAW_ADMIN", running.address.removeprefix("http://"))
        monkeypatch.setenv("BYLAW_ADMIN_KEY", world.key)
        yield running


# --- what the verbs do ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_from_a_new_tenant_to_a_role_and_back(terminal: Terminal) -> None:
    """A tenant and a user are made, he becomes a member, gets a role, loses it, and leaves; each step is told."""
    steps = [
        terminal.run("create-tenant", "nova", "--attributes", '{"plan": "pro"}'),
        terminal.run("add-user", "mia", "--attributes", '{"clearance": 1}'),
        terminal.run("add-member", "user:mia", "--tenant", "nova"),
        terminal.run("grant", "user:mia", "manager", "organization:nova", "--tenant", "nova"),
    ]
    held = terminal.json("show", "user:mia", "--tenant", "nova")
    steps += [
        terminal.run("revoke", "user:mia", "manager", "organization:nova", "--tenant", "nova", "--wait"),
        terminal.run("remove-member", "user:mia", "--tenant", "nova"),
    ]
    left = terminal.run("show", "user:mia", "--tenant", "nova")

    assert steps == [
        (0, "made tenant nova\n", ""),
        (0, "made user:mia\n", ""),
        (0, "user:mia is in nova\n", ""),
        (0, "user:mia holds manager on organization:nova\n", ""),
        (0, "user:mia holds manager on organization:nova no more; it counts everywhere\n", ""),
        (0, "user:mia is in nova no more\n", ""),
    ]
    assert held["membership"]["status"] == "active"
    assert [(each["role"], each["on"]) for each in held["roles"]] == [("organization.manager", "organization:nova")]
    assert left == (1, "", "bylaw: user:mia is not in nova, and holds nothing there\n")


@pytest.mark.usefixtures("service")
def test_show_follows_groups(terminal: Terminal) -> None:
    """Who is in a group that stands in another is in both, and what those hold is shown with who holds it."""
    code, out, _ = terminal.run("show", "user:dan", "--tenant", "acme")

    assert code == 0
    assert out.splitlines() == [
        "user:dan in acme: active",
        "in groups: leads, staff",
        "",
        "HELD BY      ROLE            ON",
        "group:staff  project.editor  project:p1",
    ]


@pytest.mark.usefixtures("service")
def test_members_of_a_tenant(terminal: Terminal) -> None:
    """Members are a table, or with a status those of it alone; a column in which nothing stands is left out."""
    code, out, _ = terminal.run("members", "--tenant", "acme", "--status", "guest")
    everybody = terminal.json("members", "--tenant", "acme")["items"]

    assert (code, out) == (0, "SUBJECT   STATUS\nuser:gus  guest\n")
    assert len(everybody) == 12


@pytest.mark.usefixtures("service")
def test_what_somebody_may_do_is_a_table(terminal: Terminal) -> None:
    """Each action is a row, with whether it is allowed and why."""
    code, out, _ = terminal.run("what-can", "user:max", "project:p2", "--tenant", "acme")
    rows = [line.split() for line in out.splitlines()]

    assert code == 0
    assert rows[0] == ["ACTION", "CODE", "BY", "AT", "BECAUSE"]
    assert ["project.read", "✓", "role", "organization.admin"] in [row[:4] for row in rows]
    assert ["project.update", "✗", "rule", "locked"] in [row[:4] for row in rows]


@pytest.mark.usefixtures("service")
def test_a_role_on_the_system_needs_no_tenant(terminal: Terminal) -> None:
    """`system` is no tenant's: the service is asked there, and says that the policy has no such role."""
    code, _, err = terminal.run("grant", "user:ann", "root", "system")

    assert code == 2
    assert "no role `root` is held on a `system`" in err


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create-tenant", "acme"], 1, "bylaw: the tenant id `acme` is given"),
        (["revoke", "user:bob", "owner", "organization:acme", "--tenant", "acme"], 1, "user:bob does not hold owner"),
        (["remove-member", "user:eve", "--tenant", "acme"], 1, "bylaw: "),
        (["grant", "user:bob", "nonsense", "project:p1", "--tenant", "acme"], 2, "body.role: no role `nonsense`"),
        (["grant", "user:bob", "editor", "project:p1"], 2, "--tenant: say in which tenant"),
        (["members"], 2, "--tenant: say in which tenant"),
        (["remove-member", "..", "--tenant", "acme"], 2, "`..` names nothing"),
        (["create-tenant", "nova", "--attributes", "[1]"], 2, "--attributes: write an object"),
        (["create-tenant", "nova", "--attributes", "{"], 2, "--attributes: this is no JSON"),
        (["members", "--tenant", "acme", "--key-file", "nowhere"], 2, "nowhere"),
        (["members", "--tenant", "acme", "--url", "http://example.org"], 2, "would go there in the clear"),
        (["members", "--tenant", "acme", "--url", NO_PLACE], 2, "nothing answers at 127.0.0.1:1"),
    ],
)
def test_a_refusal_is_a_sentence(terminal: Terminal, words: list[str], code: int, said: str) -> None:
    """What the service does not do exits with 1, what could not be asked with 2, and both say why and print no more."""
    found, out, err = terminal.run(*words)

    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("service")
def test_a_refusal_for_machines(terminal: Terminal) -> None:
    """With `--json` a refusal is JSON on standard error, with the code of the service."""
    code, out, err = terminal.run("create-tenant", "acme", "--json")

    assert (code, out) == (1, "")
    assert json.loads(err)["error"] == "taken"


def test_without_a_key_nothing_is_asked(terminal: Terminal, tmp_path: Path) -> None:
    """No key, and a file that holds none, are told before anything is sent."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "prose").write_text("my key\n")

    none = terminal.run("members", "--tenant", "acme", "--url", NO_PLACE)
    empty = terminal.run("members", "--tenant", "acme", "--url", NO_PLACE, "--key-file", "empty")
    prose = terminal.run("members", "--tenant", "acme", "--url", NO_PLACE, "--key-file", "prose")

    assert [none[0], empty[0], prose[0]] == [2, 2, 2]
    assert none[2].startswith("bylaw: no key: set BYLAW_ADMIN_KEY")
    assert empty[2] == none[2]
    assert prose[2] == "bylaw: --key-file: prose holds no key\n"


def test_an_unknown_key_is_refused(terminal: Terminal, service: Running, tmp_path: Path) -> None:
    """A key that the service does not know exits with 2; the file wins over the variable, and is not repeated."""
    (tmp_path / "key").write_text("bylaw_unknown\n")

    code, out, err = terminal.run("members", "--tenant", "acme", "--key-file", "key")

    assert (code, out) == (2, "")
    assert "it is not known who asks" in err
    assert "bylaw_unknown" not in err


def test_a_unix_socket(terminal: Terminal, settings: Settings, world: World, tmp_path: Path) -> None:
    """A service at a Unix socket is asked there."""
    place = tmp_path / "s"
    (tmp_path / "key").write_text(f"{world.key}\n")
    with Running(settings, Address(path=str(place))):
        found = terminal.json("members", "--tenant", "globex", "--url", f"unix:{place}", "--key-file", "key")

    assert [each["subject"] for each in found["items"]] == ["user:audrey", "user:eve", "user:gus"]


# --- who answers may be anybody ---------------------------------------------------------------------------------------


class _Scripted(BaseHTTPRequestHandler):
    """Answers whatever is asked with what a test wrote."""

    status = 200
    body = b"{}"
    #: What is answered before that, one after the other.
    pages: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        body = self.pages.pop(0) if self.pages else self.body
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # as the library names it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Scripted]]:
    """A server that answers as a test says."""
    handler = type("Handler", (_Scripted,), {})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("BYLAW_ADMIN", f"127.0.0.1:{server.server_port}")
    monkeypatch.setenv("BYLAW_ADMIN_KEY", "bylaw_key")
    yield handler
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "its answer is no JSON"),
        (200, b"[]", "its answer is no JSON object"),
        (302, b"{}", "it answers with status 302"),
        (404, b'{"message": 1}', "it answers with status 404"),
        (500, b'{"error": "internal", "message": "something went wrong"}', "something went wrong"),
    ],
)
def test_what_is_no_answer_is_not_taken_for_done(
    terminal: Terminal, answering: type[_Scripted], status: int, body: bytes, said: str
) -> None:
    """An answer that is none of the service's exits with 2, and nothing is told as done."""
    answering.status, answering.body = status, body

    code, out, err = terminal.run("create-tenant", "nova")

    assert (code, out) == (2, "")
    assert said in err


def test_a_write_that_is_not_yet_in_effect(terminal: Terminal, answering: type[_Scripted]) -> None:
    """What waits for approval, and what does not count everywhere yet, exits with 1 and says so."""
    answering.status = 202
    answering.body = b'{"approval": "a1", "message": "it waits for the approval of another"}'
    waits = terminal.run("grant", "user:ann", "owner", "organization:acme", "--tenant", "acme")
    answering.body = b'{"revision": "R", "settled": false, "missing": 1}'
    unsettled = terminal.run("create-tenant", "nova", "--wait")

    assert waits == (1, "not done yet: it waits for the approval of another\n", "")
    assert unsettled[:1] == (1,)
    assert "does not count everywhere yet" in unsettled[1]


def test_a_list_of_many_pages_is_whole(terminal: Terminal, answering: type[_Scripted]) -> None:
    """A list is followed to its end; one whose next page is the same once more is given up."""
    page = '{"items": [{"subject": "user:%s"}], "next": %s}'
    answering.pages = [(page % ("a", '"1"')).encode(), (page % ("b", '"2"')).encode()]
    answering.body = (page % ("c", "null")).encode()
    found = terminal.json("members", "--tenant", "acme")["items"]
    answering.body = (page % ("c", '"3"')).encode()
    code, out, err = terminal.run("members", "--tenant", "acme")

    assert [each["subject"] for each in found] == ["user:a", "user:b", "user:c"]
    assert (code, out) == (2, "")
    assert "the next page is the same once more" in err


def test_nothing_reaches_the_terminal_but_text(terminal: Terminal, answering: type[_Scripted]) -> None:
    """Names that would move the cursor, and messages too, are shown without what does that."""
    answering.body = json.dumps({"items": [{"subject": "user:\x1b[2Jann", "status": "active"}]}).encode()
    listed = terminal.run("members", "--tenant", "acme")
    answering.status, answering.body = 409, b'{"error": "taken", "message": "\\u001b]0;x\\u0007 is taken"}'
    refused = terminal.run("create-tenant", "nova")

    assert (listed[0], refused[0]) == (0, 1)
    assert "\x1b" not in listed[1] + refused[2]
    assert "user:?[2Jann" in listed[1]


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("127.0.0.1:8190", "127.0.0.1:8190"),
        ("http://localhost:8190", "localhost:8190"),
        ("[::1]:8190", "[::1]:8190"),
        ("unix:/run/admin", "unix:/run/admin"),
        ("https://admin.example.org", "admin.example.org:443"),
    ],
)
def test_places(written: str, shown: str) -> None:
    """A place is written as where to listen is, or as a URL."""
    assert str(read_place(written)) == shown


@pytest.mark.parametrize(
    "written", ["", "nowhere:x", "10.0.0.1:8190", "http://10.0.0.1", "https://a:b@c.org", "https://a.org/x", "unix:x"]
)
def test_places_that_are_none(written: str) -> None:
    """What is no place, has a path or a password, or would get the key in the clear, is refused."""
    with pytest.raises(BylawError):
        read_place(written)


def test_a_path_leads_nowhere_else() -> None:
    """Whatever a name holds, it is one step of the path."""
    assert path_of("tenants", "a/../b?c#d") == "/admin/v1/tenants/a%2F..%2Fb%3Fc%23d"
    for name in ("", ".", ".."):
        with pytest.raises(BylawError, match="names nothing"):
            path_of("tenants", name)
