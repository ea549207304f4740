"""`bylaw serve` and `bylaw dev` as they are started by hand, in a folder that holds policies and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bylaw.cli import main, parser
from bylaw.commands.serve import settings_of
from store.environment import VARIABLES
from tests.databases import StoreUrls
from tests.sidecar.conftest import Answer
from tests.sidecar.test_process import ROOT, ask, connected, read_until, running

#: Somebody whom the example's facts do not know.
ZOE = {"tenant": "acme", "subject": "user:zoe", "action": "read", "resource": "organization:acme"}
ZOES_FACTS = """
tenants: { acme: { attributes: { plan: pro } } }
users: { zoe: { attributes: { clearance: 1 } } }
assignments:
  - { subject: user:zoe, role: viewer, on: organization:acme }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the policy sets, to work in, and nothing said by the environment."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@contextmanager
def started(command: str, *arguments: str, folder: Path, http: str = "127.0.0.1:0") -> Iterator[Service]:
    """Start a command over the example; it must end well on SIGTERM."""
    words = [
        "-m",
        "bylaw",
        command,
        "--policies",
        "policies/studio",
        "--http",
        http,
        "--grpc",
        "none",
        "--json",
        *(["--admin", "127.0.0.1:0"] if command == "dev" and not {"--facts", "--admin"} & {*arguments} else []),
        *arguments,
    ]
    with running(*words, folder=folder) as process:
        service = Service(process, json.loads(read_until(process.stdout, "\n")))
        yield service
        process.terminate()
        assert process.wait(10) == 0
        service.said += process.stderr.read() if process.stderr else ""


class Service:
    """A command that listens.

    Attributes:
        greeting: what it wrote when it listened.
        said: what it wrote on standard error, once it ended.
    """

    def __init__(self, process: subprocess.Popen[str], greeting: Mapping[str, str]) -> None:
        self.process = process
        self.greeting = greeting
        self.where = greeting["listening"]
        self.said = ""

    def ask(self, body: Mapping[str, Any], path: str = "/check") -> Answer:
        with connected(self.where) as connection:
            return ask(connection, "POST", path, json.dumps(body).encode())

    def ready(self) -> Any:
        with connected(self.where) as connection:
            return ask(connection, "GET", "/ready").json


def refused(*arguments: str, folder: Path) -> str:
    """Run a command that cannot run; return what it says."""
    with running("-m", "bylaw", *arguments, folder=folder) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    return err


def question_of_the_readme() -> Mapping[str, Any]:
    """Take the body of the first request that the README shows."""
    found = re.search(r"-d '(\{.*\})'", (ROOT / "README.md").read_text("utf-8"))
    assert found is not None
    body: Mapping[str, Any] = json.loads(found.group(1))
    return body


# --- dev ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dev_makes_and_fills_its_store(folder: Path) -> None:
    """In a folder without a database it makes one, puts the policy's facts there, and answers what the README asks."""
    with started("dev", folder=folder) as service:
        answer = service.ask(question_of_the_readme())
        explained = service.ask(question_of_the_readme(), "/explain")
        ready = service.ready()

    assert (answer.json["decision"], answer.json["context"]["by"]) == (
        True,
        "organization.manager on organization:acme",
    )
    assert explained.status == 200
    assert ready["checks"]["database"]["url"] == "sqlite+aiosqlite:///bylaw.db"
    assert [line.partition(": ")[2].partition(": ")[2].partition(" (")[0] for line in service.said.splitlines()] == [
        "made the tables, or brought them up to date",
        "put the facts of policies/studio/facts.yaml there",
    ]


@pytest.mark.slow
def test_dev_keeps_what_is_there(folder: Path) -> None:
    """Started again it says nothing and changes nothing: what came into the store since is still there."""
    (folder / "zoe.yaml").write_text(ZOES_FACTS, encoding="utf-8")
    with started("dev", folder=folder) as first:
        before = first.ask(ZOE).json["decision"]
        assert main(["seed", "zoe.yaml", "--policies", "policies/studio"]) == 0

    with started("dev", "--workers", "2", folder=folder) as second:
        after = second.ask(ZOE).json["decision"]

    assert (before, after) == (False, True)
    assert second.said == ""


@pytest.mark.slow
def test_dev_without_facts_says_how_to_fill_it(folder: Path) -> None:
    """Where no facts lie beside the policy, the store stays empty, and how to fill it is said."""
    (folder / "policies/studio/facts.yaml").unlink()

    with started("dev", folder=folder) as service:
        answer = service.ask(ZOE)

    assert answer.json["decision"] is False
    assert "there are no facts; fill it with `bylaw seed FILE`" in service.said


@pytest.mark.slow
def test_dev_on_a_facts_file_makes_no_store(folder: Path) -> None:
    """With a facts file there is no database."""
    with started("dev", "--facts", "policies/studio/facts.yaml", folder=folder) as service:
        answer = service.ask(question_of_the_readme())

    assert answer.json["decision"] is True
    assert [path.name for path in folder.iterdir()] == ["policies"]


def test_a_file_and_a_store_are_one_too_many(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A facts file and a database together are refused: only one of them would count."""
    with pytest.raises(SystemExit) as ended:
        main(["dev", "--facts", "facts.yaml", "--database-url", "sqlite+aiosqlite:///x.db"])

    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_dev_shows_what_is_wrong_with_the_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts that do not fit the policy are listed, and nothing is served."""
    (folder / "policies/studio/facts.yaml").write_text("users: { ann: { statsu: active } }\n", encoding="utf-8")

    assert main(["dev", "--policies", "policies/studio"]) == 2
    assert "policies/studio/facts.yaml: users.ann" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "3"])
def test_dev_administers(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    """Its first start prints a key; what is granted by it is allowed, and what is revoked denied by every process."""
    may = {"tenant": "nova", "subject": "user:mia", "action": "read", "resource": "organization:nova"}
    role = ["user:mia", "manager", "organization:nova", "--tenant", "nova", "--wait"]
    with started("dev", "--workers", workers, folder=folder) as service:
        monkeypatch.setenv("BYLAW_ADMIN", service.greeting["administration"])
        monkeypatch.setenv("BYLAW_ADMIN_KEY", service.greeting["key"])
        made = [
            main(["admin", "create-tenant", "nova", "--attributes", '{"plan": "pro"}']),
            main(["admin", "add-user", "mia", "--attributes", '{"clearance": 1}']),
            main(["admin", "add-member", "user:mia", "--tenant", "nova"]),
            main(["admin", "grant", *role]),
        ]
        granted = {service.ask(may).json["decision"] for _ in range(12)}
        made.append(main(["admin", "revoke", *role]))
        revoked = {service.ask(may).json["decision"] for _ in range(12)}

    assert made == [0] * 5
    assert (granted, revoked) == ({True}, {False})


@pytest.mark.slow
def test_dev_prints_a_key_once(folder: Path) -> None:
    """Started again it makes no other key, and the first one still counts."""
    with started("dev", folder=folder) as first:
        key = first.greeting["key"]
    with started("dev", folder=folder) as second:
        where = second.greeting["administration"]
        (folder / "key").write_text(key)
        words = ["admin", "members", "--tenant", "acme", "--url", where, "--key-file", "key"]

        assert main(words) == 0
    assert "key" not in second.greeting


@pytest.mark.slow
def test_dev_where_the_place_is_taken(folder: Path) -> None:
    """Where somebody listens at the place that somebody named it does not start; `none` is nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        dev = ("dev", "--policies", "policies/studio", "--http", "127.0.0.1:0", "--grpc", "none", "--admin", place)
        said = [refused(*dev, *workers, folder=folder) for workers in ((), ("--workers", "2"))]
    with started("dev", "--admin", "none", folder=folder) as service:
        greeting = service.greeting

    assert all(f"administration cannot listen on {place}: Address already in use" in each for each in said)
    assert "administration" not in greeting


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--admin", "0.0.0.0:8190"], "not a loopback address"),
        (["--admin", "nowhere"], "--admin: address `nowhere`"),
        (["--facts", "policies/studio/facts.yaml", "--admin", "127.0.0.1:0"], "administration needs a store"),
    ],
)
def test_dev_where_administration_cannot_be(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A place for administration that is none, not of this machine, or without a store, is refused at start."""
    assert main(["dev", "--policies", "policies/studio", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "bylaw.db").exists()


@pytest.mark.slow
def test_dev_touches_no_postgres(folder: Path, postgres_urls: StoreUrls) -> None:
    """On PostgreSQL it makes nothing and fills nothing, and says what would."""
    words = ["--database-url", postgres_urls.sidecar, "--admin", "none"]
    with started("dev", *words, folder=folder) as service:
        answer = service.ask(question_of_the_readme())

    assert answer.json["decision"] is False
    assert "run `bylaw migrate up` and `bylaw seed policies/studio/facts.yaml`" in service.said


# --- serve --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_refuses_a_store_without_tables(folder: Path, workers: str) -> None:
    """Without tables it does not start, names the cure once, and leaves no file behind."""
    said = refused("serve", "--policies", "policies/studio", "--workers", workers, folder=folder)

    assert said == "bylaw: sqlite+aiosqlite:///bylaw.db: there is no such file: run `bylaw migrate up`\n"
    assert [path.name for path in folder.iterdir()] == ["policies"]


@pytest.mark.slow
def test_serve_follows_the_store(folder: Path) -> None:
    """Over a store that was made and filled by hand, each process answers; what is written is seen; nobody explains."""
    (folder / "zoe.yaml").write_text(ZOES_FACTS, encoding="utf-8")
    assert main(["migrate", "up"]) == 0
    assert main(["seed", "policies/studio/facts.yaml", "--policies", "policies/studio"]) == 0

    with started("serve", "--workers", "2", folder=folder) as service:
        before = [service.ask(ZOE).json["decision"] for _ in range(8)]
        assert main(["seed", "zoe.yaml", "--policies", "policies/studio"]) == 0
        for _ in range(8):
            while not service.ask(ZOE).json["decision"]:
                pass
        explained = service.ask(ZOE, "/explain")

    assert before == [False] * 8
    assert explained.json["error"] == "forbidden"
    assert service.said == ""


@pytest.mark.slow
def test_serve_on_postgres(folder: Path, postgres_urls: StoreUrls) -> None:
    """Over PostgreSQL, named in `.env`, processes with the service's login serve what the admin's login filled."""
    (folder / ".env").write_text(f"BYLAW_DATABASE_URL={postgres_urls.sidecar}\n", encoding="utf-8")
    seed = ["seed", "policies/studio/facts.yaml", "--policies", "policies/studio"]
    assert main([*seed, "--database-url", postgres_urls.admin]) == 0

    with started("serve", "--workers", "2", folder=folder) as service:
        answer = service.ask(question_of_the_readme())

    assert answer.json["decision"] is True
    owner = refused("serve", "--policies", "policies/studio", "--database-url", postgres_urls.owner, folder=folder)
    assert "owns the tables" in owner


# --- settings -----------------------------------------------------------------------------------------


def test_settings_come_from_flags_the_environment_and_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag wins over the environment, and that over `.env`."""
    (folder / ".env").write_text(
        "BYLAW_POLICIES='file'  # in quotes\nBYLAW_HTTP=127.0.0.1:1\nBYLAW_MAX_STALENESS=7s\n", encoding="utf-8"
    )
    monkeypatch.setenv("BYLAW_POLICIES", "environment")
    monkeypatch.setenv("BYLAW_HTTP", "127.0.0.1:2")

    settings = settings_of(parser().parse_args(["serve", "--http", "127.0.0.1:3", "--workers", "4"]))

    assert (settings.max_staleness_s, settings.policies, settings.http.port) == (7.0, Path("environment"), 3)
    assert (settings.workers, settings.database_url, settings.dev) == (4, "sqlite+aiosqlite:///bylaw.db", False)


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_an_unknown_variable_is_refused(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen in `.env` is an error, and told with what was probably meant."""
    (folder / ".env").write_text("BYLAW_POLICYS=there\n", encoding="utf-8")

    assert main([command]) == 2
    assert capsys.readouterr().err == "bylaw: unknown variable BYLAW_POLICYS; did you mean BYLAW_POLICIES?\n"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (["--workers", "0"], "workers: 1 to 64"),
        (["--workers", "many"], "workers: `many` is no number"),
        (["--max-staleness", "2m"], "max staleness: 1s to 60s"),
        (["--http", "0.0.0.0:8180"], "not a loopback address"),
        (["--callers", "anybody"], "write loopback, token or mtls"),
        (["--public-url", "pdp"], "expected https://host"),
    ],
)
def test_a_flag_that_is_not_right(folder: Path, flag: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be, or is not safe, is one sentence, and with --json an object."""
    codes = [main(["serve", *flag]), main(["serve", *flag, "--json"])]

    plain, as_json = capsys.readouterr().err.splitlines()
    assert codes == [2, 2]
    assert said in plain
    assert said in json.loads(as_json)["message"]


@pytest.mark.slow
def test_a_person_is_shown_what_to_try(folder: Path) -> None:
    """Started by a person, it prints a request to copy and its answer; Ctrl-C ends it well."""
    words = [
        "-m",
        "bylaw",
        "dev",
        "--policies",
        "policies/studio",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "none",
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "2",
    ]
    with running(*words, folder=folder) as process:
        said = read_until(process.stdout, "create-tenant")
        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 0
    assert said.count("bylaw listens on") == said.count("Administration listens on") == 1
    assert re.search(r"export BYLAW_ADMIN_KEY=bylaw_[\w-]{43}\n", said)
    assert '"by": "organization.manager on organization:acme"' in said
