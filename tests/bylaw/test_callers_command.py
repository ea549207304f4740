"""`bylaw callers` as its users meet it: words in, words and exit codes out."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bylaw.cli import main
from store.keys import digest_of
from store.tokens import Token
from tests.databases import StoreUrls

KEY = re.compile(r"^bylaw_[A-Za-z0-9_-]{43}$", re.MULTILINE)
MESH = "uri:spiffe://example.org/mesh"
ADD = ("callers", "add", "shop", "--key", "--tenant", "acme")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a store, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("BYLAW_POLICIES", "BYLAW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def store(place: Path, sqlite_template: Path) -> Path:
    """A store with the tenants acme and globex."""
    path = Path(shutil.copy(sqlite_template, place / "bylaw.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO tenants VALUES (?, 'active')", [("acme",), ("globex",)])
    return path


class Terminal:
    """Runs commands, and takes what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code, and what came on standard output and standard error."""
        try:
            code = main(words)
        except SystemExit as exit_:  # the command line itself was wrong
            code = exit_.code if isinstance(exit_.code, int) else -1
        return code, *self._capsys.readouterr()

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.mark.usefixtures("store")
def test_a_first_key(terminal: Terminal) -> None:
    """The key stands on a line of its own, this once; the list shows its beginning only, and may do as little as can
    be unless more is asked for."""
    code, out, err = terminal.run(*ADD)
    listed = terminal.run("callers", "list")[1]

    (key,) = KEY.findall(out)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "added shop: check in acme"
    assert out.splitlines()[-1].startswith("the store is now at ")
    assert f"key {key[:8]}…" in listed
    assert key[8:] not in listed


def test_the_key_is_the_one_that_counts(store: Path, terminal: Terminal) -> None:
    """What is stored is the digest of the key that is printed."""
    added = terminal.json(*ADD)

    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT id, prefix FROM callers").fetchall()
    assert rows == [(f"key:{digest_of(added['key'])}", added["key"][:8])]


@pytest.mark.usefixtures("store")
def test_json(terminal: Terminal) -> None:
    """--json prints one object each time, with the revision that it made, or is of."""
    wanted = ("--scope", "explain", "--scope", "check", "--rate", "100/1s,5000/1m", "--expires", "2999-01-01T00:00:00Z")
    shop = terminal.json(*ADD, "--tenant", "globex", *wanted)
    mesh = terminal.json("callers", "add", "mesh", "--certificate", MESH, "--all-tenants")
    listed = terminal.json("callers", "list")
    removed = terminal.json("callers", "remove", "shop")

    expected = {
        "name": "shop",
        "prefix": shop["key"][:8],
        "tenants": ["acme", "globex"],
        "scopes": ["check", "explain"],
        "rate": "100/1s,5000/1m",
        "expires": "2999-01-01T00:00:00Z",
        "made": shop["made"],
    }
    assert shop == {**expected, "key": shop["key"], "revision": shop["revision"]}
    assert KEY.fullmatch(shop["key"])
    assert listed["callers"] == [{name: mesh[name] for name in mesh if name != "revision"}, expected]
    assert (mesh["certificate"], mesh["tenants"], mesh["scopes"]) == (MESH, None, ["check"])
    assert "key" not in mesh
    assert removed["name"] == "shop"
    revisions = [Token.parse(each["revision"]).g for each in (shop, mesh, listed, removed)]
    assert revisions == [revisions[0], revisions[0] + 1, revisions[0] + 1, revisions[0] + 2]


@pytest.mark.usefixtures("store")
def test_the_list_for_people(terminal: Terminal) -> None:
    """Columns stand under each other; where nobody is listed that is said, with the cure."""
    empty = terminal.run("callers", "list")[1]
    terminal.run("callers", "add", "mesh", "--certificate", MESH, "--all-tenants", "--expires", "2999-01-01T00:00:00Z")
    key = terminal.json(*ADD)["key"]
    listed = terminal.run("callers", "list")[1]

    assert empty.startswith("nobody may ask: `bylaw callers add` lets somebody\n")
    assert listed.splitlines()[:-1] == [
        "NAME  KNOWN BY                       TENANTS      SCOPES  RATE  UNTIL",
        "mesh  uri:spiffe://example.org/mesh  all tenants  check         2999-01-01T00:00:00Z",
        f"shop  key {key[:8]}…                  acme         check",
    ]


@pytest.mark.usefixtures("store")
def test_removing(terminal: Terminal) -> None:
    """Who is removed is gone from the list; who is not there cannot be removed."""
    terminal.run(*ADD)

    codes = [terminal.run("callers", "remove", "shop")[0] for _ in range(2)]

    assert codes == [0, 2]
    assert terminal.json("callers", "list")["callers"] == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key",), "one of the arguments --tenant --all-tenants is required"),
        (("--tenant", "acme"), "one of the arguments --key --certificate is required"),
        (("--key", "--certificate", "dns:a", "--tenant", "acme"), "not allowed with argument --key"),
        (("--key", "--tenant", "acme", "--all-tenants"), "not allowed with argument --tenant"),
        (("--key", "--tenant", "nowhere"), "bylaw: there is no tenant `nowhere`"),
        (
            ("--key", "--all-tenants", "--scope", "admin"),
            "`admin` is no scope: known are check, search, explain, claims",
        ),
        (("--certificate", "a.example", "--all-tenants"), "written with its kind: `uri:spiffe://example.org/shop`"),
        (("--key", "--all-tenants", "--rate", "lots"), "rate `lots`: write 100/1s or 5000/1m"),
        (
            ("--key", "--all-tenants", "--expires", "soon"),
            "--expires: `soon` is no time: write it as 2027-01-01T00:00:00Z",
        ),
        (("--key", "--all-tenants", "--expires", "2020-01-01T00:00:00Z"), "it would be over already"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str, terminal: Terminal) -> None:
    """What is missing or wrong is told in one sentence, exit code 2; nobody is added, and no key is printed."""
    code, out, err = terminal.run("callers", "add", "new", *words)

    assert (code, out) == (2, "")
    assert said in err
    assert terminal.json("callers", "list")["callers"] == []


@pytest.mark.usefixtures("store")
def test_errors_as_json(terminal: Terminal) -> None:
    """With --json an error is an object on standard error."""
    terminal.run(*ADD)

    code, out, err = terminal.run(*ADD, "--json")

    assert (code, out, json.loads(err)["error"]) == (2, "", "taken")


@pytest.mark.parametrize("words", [ADD, ("callers", "list"), ("callers", "remove", "shop")])
def test_without_a_store(words: tuple[str, ...], place: Path, terminal: Terminal) -> None:
    """Where there is no store none is made: exit code 2, with the cure."""
    code, out, err = terminal.run(*words)

    assert (code, out) == (2, "")
    assert "run `bylaw migrate up`" in err
    assert list(place.iterdir()) == []


@pytest.mark.usefixtures("store")
def test_an_unknown_variable(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen in a variable is told, and nothing is done."""
    monkeypatch.setenv("BYLAW_DATABASE_ULR", "sqlite:///other.db")

    assert terminal.run(*ADD)[0] == 2


def test_on_postgres(postgres_urls: StoreUrls, terminal: Terminal) -> None:
    """The login of who writes facts adds and lists; that of a process that decides may not, and is told the cure."""
    admin, sidecar = (("--database-url", url) for url in (postgres_urls.admin, postgres_urls.sidecar))
    add = ("callers", "add", "shop", "--key", "--all-tenants")

    refused = terminal.run(*add, *sidecar)
    added = terminal.json(*add, *admin)

    assert (refused[0], refused[1]) == (2, "")
    assert "GRANT bylaw_admin" in refused[2]
    assert [each["prefix"] for each in terminal.json("callers", "list", *admin)["callers"]] == [added["prefix"]]
