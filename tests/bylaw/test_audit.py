"""`bylaw audit` as its users meet it: words in, words and exit codes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from bylaw.cli import main
from store import tables
from store.changes import Writer
from store.database import Database
from store.pseudonyms import erase
from store.writes import memberships, principals, resources, tenants
from tests.databases import StoreUrls, run

LOG = tables.audit_log.c
ROW = (LOG.tenant_id == "acme") & (LOG.n == 2)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment that says nothing."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("BYLAW_DATABASE_URL", raising=False)
    return place


@pytest.fixture
def store(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> StoreUrls:
    """A store, where the product looks for it, with acme (4 revisions) and globex (1), made by 7 of what all share."""

    async def fill() -> None:
        database = Database(store_urls.admin)
        try:
            await _fill(Writer(database))
        finally:
            await database.close()

    run(fill())
    monkeypatch.setenv("BYLAW_DATABASE_URL", store_urls.admin)
    return store_urls


async def _fill(writer: Writer) -> None:
    for tenant in ("acme", "globex"):
        async with writer.write(tenant=tenant, making=True) as write:
            await tenants.make(write)
    for ref in ("user:ann", "user:bob"):
        async with writer.write() as write:
            await principals.make(write, ref)
    async with writer.write(tenant="acme", actor="user:bob") as write:
        await memberships.put(write, "user:ann")
    for ref in ("project:p1", "project:p2"):
        async with writer.write(tenant="acme", actor="user:ann") as write:
            await resources.make(write, ref)
    async with writer.write() as write:
        await principals.delete(write, "user:bob")
    async with writer.write() as write:
        await erase(write, "user:bob")
    async with writer.write() as write:
        await principals.make(write, "service:mail")


def forge(store: StoreUrls, statement: Any) -> None:
    """Change what no service may change."""

    async def change() -> None:
        database = Database(store.superuser)
        try:
            async with database.changing("acme") as connection:
                await connection.execute(statement)
        finally:
            await database.close()

    run(change())


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


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


# --- a store ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_a_store_that_is_whole(terminal: Terminal) -> None:
    """All streams are verified, or those of the tenants that are named, also after an erasure."""
    everything = terminal.run("audit", "verify")
    named = terminal.run("audit", "verify", "--tenant", "acme", "--tenant", "globex", "--tenant", "acme")
    code, out, err = terminal.run("audit", "verify", "--json")

    assert everything == (0, "4 streams, 12 rows: whole\n", "")
    assert named == (0, "2 streams, 5 rows: whole\n", "")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert [(each["stream"], each["rows"], each["proven"], each["fault"]) for each in told["streams"]] == [
        ("g", 7, 7, None),
        ("p", 0, 0, None),
        ("t:acme", 4, 4, None),
        ("t:globex", 1, 1, None),
    ]
    assert told["broken"] == 0


def test_a_store_that_is_broken(store: StoreUrls, terminal: Terminal) -> None:
    """Each stream that breaks has a line of its own, with the row and the reason; exit code 1."""
    forge(store, update(tables.audit_log).where(ROW).values(actor="user:nobody"))
    forge(store, delete(tables.platform_audit_log).where(tables.platform_audit_log.c.n == 3))

    code, out, err = terminal.run("audit", "verify")
    as_json = terminal.run("audit", "verify", "--json")
    other = terminal.run("audit", "verify", "--tenant", "globex")

    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "g: row 3: the row is missing",
        "t:acme: row 2: the row was changed",
        "4 streams, 4 rows: 2 broken",
    ]
    told = json.loads(as_json[1])
    assert (as_json[0], told["broken"]) == (1, 2)
    assert [each["fault"] for each in told["streams"] if each["fault"]] == [
        {"n": 3, "why": "the row is missing"},
        {"n": 2, "why": "the row was changed"},
    ]
    assert other[0] == 0


def test_a_tenant_that_was_taken_away_is_missed(store: StoreUrls, terminal: Terminal) -> None:
    """A log that is gone with its counter is found by the name that was given."""
    forge(store, delete(tables.audit_log).where(LOG.tenant_id == "acme"))
    forge(store, delete(tables.revisions).where(tables.revisions.c.stream == "t:acme"))

    code, out, _ = terminal.run("audit", "verify")

    assert code == 1
    assert out.splitlines()[0] == "t:acme: row 0: the stream has no head"


# --- an export --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_an_export_and_its_head(place: Path, terminal: Terminal) -> None:
    """A file holds a tenant's rows for its owner alone, and the head that is told proves it to be complete."""
    exported = terminal.run("audit", "export", "--tenant", "acme", "--output", "log.jsonl")
    _, head = exported[1].splitlines()[1].split()
    unproven = terminal.run("audit", "verify", "log.jsonl")
    proven = terminal.run("audit", "verify", "log.jsonl", "--head", head)

    assert (exported[0], exported[2]) == (0, "")
    assert exported[1].splitlines()[0] == "4 rows of t:acme to log.jsonl"
    assert head.startswith("t:acme=4:")
    assert (place / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert unproven[0] == 0
    assert unproven[1].splitlines() == [
        "1 stream, 4 rows: whole",
        "t:acme: nothing shows whether rows are missing at the end: give the --head that `export` printed",
    ]
    assert proven == (0, "1 stream, 4 rows: whole\n", "")


@pytest.mark.usefixtures("store")
def test_an_export_of_what_all_share(terminal: Terminal) -> None:
    """On standard output stand rows alone; what is told of them, heads as JSON too, is on standard error."""
    code, out, err = terminal.run("audit", "export", "--platform", "--json")
    told = json.loads(err)
    Path("log.jsonl").write_text(out)
    heads = [word for each in told["streams"] for word in ("--head", each["head"])]
    verified = terminal.run("audit", "verify", "log.jsonl", *heads, "--json")

    assert code == 0
    assert told["file"] is None
    assert [(each["stream"], each["rows"]) for each in told["streams"]] == [("g", 7), ("p", 0)]
    assert [json.loads(line)["n"] for line in out.splitlines()] == [1, 2, 3, 4, 5, 6, 7]
    assert "user:ann" not in out
    assert verified[0] == 0
    assert [(each["stream"], each["proven"]) for each in json.loads(verified[1])["streams"]] == [("g", 7), ("p", 0)]


@pytest.mark.usefixtures("store")
def test_what_was_done_to_an_export(terminal: Terminal) -> None:
    """A row that was changed is named; rows that were cut off at the end are, where the head is given."""
    head = terminal.run("audit", "export", "--tenant", "acme", "--output", "log.jsonl")[1].splitlines()[1].split()[1]
    rows = Path("log.jsonl").read_text().splitlines(keepends=True)
    Path("short.jsonl").write_text("".join(rows[:3]))
    Path("changed.jsonl").write_text("".join([rows[0], rows[1].replace("user:", "user:x"), *rows[2:]]))

    changed = terminal.run("audit", "verify", "changed.jsonl")
    short = terminal.run("audit", "verify", "short.jsonl", "--head", head)
    unproven = terminal.run("audit", "verify", "short.jsonl")
    older = terminal.run("audit", "verify", "log.jsonl", "--head", f"t:acme=3:{json.loads(rows[2])['hash']}")

    assert changed[:2] == (1, "t:acme: row 2: the row was changed\n1 stream, 1 row: 1 broken\n")
    assert short[:2] == (1, "t:acme: row 4: the row is missing\n1 stream, 3 rows: 1 broken\n")
    assert unproven[0] == 0
    assert "nothing shows whether rows are missing at the end" in unproven[1]
    assert older[0] == 0
    assert "t:acme: the head vouches for rows up to 3; " in older[1]


# --- what cannot be done ----------------------------------------------------------------------------------

_SHA = "0" * 64


@pytest.mark.usefixtures("store")
def test_what_is_refused(terminal: Terminal) -> None:
    """What cannot be looked at is told in one sentence on standard error, exit code 2; no file is made or replaced."""
    Path("empty.jsonl").write_text("\n")
    Path("there.jsonl").write_text("mine\n")
    cases = [
        (("verify", "--tenant", "nowhere"), "bylaw: there is no tenant `nowhere`"),
        (("verify", "nowhere.jsonl"), "bylaw: nowhere.jsonl: No such file or directory"),
        (("verify", "empty.jsonl"), "bylaw: empty.jsonl: there is no row in it"),
        (("verify", "--head", f"g=1:{_SHA}"), "bylaw: --head is for a FILE"),
        (("verify", "there.jsonl", "--tenant", "acme"), "bylaw: a FILE says itself whose it is"),
        (("verify", "there.jsonl", "--head", "1:abc"), "bylaw: --head: `1:abc` is none: write STREAM=N:HASH"),
        (("export", "--tenant", "nowhere", "--output", "new.jsonl"), "bylaw: there is no tenant `nowhere`"),
        (("export", "--platform", "--output", "there.jsonl"), "bylaw: there.jsonl: File exists"),
        (("export",), "one of the arguments --tenant --platform is required"),
        (("export", "--tenant", "acme", "--platform"), "not allowed with argument --tenant"),
    ]

    for words, said in cases:
        code, out, err = terminal.run("audit", *words)
        assert (code, out) == (2, ""), words
        assert said in err
    error = json.loads(terminal.run("audit", "verify", "--tenant", "nowhere", "--json")[2])
    assert error["error"] == "unknown_tenant"
    assert sorted(path.name for path in Path().iterdir()) == ["empty.jsonl", "there.jsonl"]
    assert Path("there.jsonl").read_text() == "mine\n"


@pytest.mark.parametrize("words", [("verify",), ("export", "--platform"), ("export", "--platform", "--output", "new")])
def test_without_a_store(words: tuple[str, ...], place: Path, terminal: Terminal) -> None:
    """Where there is no store none is made: exit code 2, with the cure."""
    code, out, err = terminal.run("audit", *words)

    assert (code, out) == (2, "")
    assert "run `bylaw migrate up`" in err
    assert list(place.iterdir()) == []


def test_a_login_that_may_not(postgres_urls: StoreUrls, terminal: Terminal) -> None:
    """The login of a process that decides sees no log, and is told the cure."""
    verify = terminal.run("audit", "verify", "--database-url", postgres_urls.sidecar)
    export = terminal.run("audit", "export", "--platform", "--database-url", postgres_urls.sidecar)

    assert [(code, out) for code, out, _ in (verify, export)] == [(2, ""), (2, "")]
    for _, _, err in (verify, export):
        assert "this login may not read the audit logs: GRANT bylaw_admin TO it" in err
