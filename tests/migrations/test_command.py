"""`bylaw migrate` as its users meet it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bylaw.cli import main
from store import migrating
from tests.databases import StoreUrls

ROOT = Path(__file__).parents[2]
HEAD = migrating.head()
ALL = sorted(path.name[:13] for path in (migrating.FOLDER / "versions").glob("[!_]*.py"))
FIRST = "20261121_1400  All tables, the roles of the services, and the wall between tenants."
MEMBER = "INSERT INTO memberships (tenant_id, type, id, status) VALUES ('acme', 'user', 'ann', 'active')"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("BYLAW_MIGRATE_URL", "BYLAW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_whole_life(empty_urls: StoreUrls, capsys: pytest.CaptureFixture[str]) -> None:
    """Up, status and down do their work, say so in plain words, and exit with 0."""
    url = ["--database-url", empty_urls.owner]

    codes = [main(["migrate", step, *url]) for step in ("status", "up", "up", "status", *["down"] * len(ALL), "down")]

    said = capsys.readouterr().out.splitlines()
    steps = said[1 + len(ALL) : 1 + 2 * len(ALL)]
    assert codes == [0] * len(codes)
    assert steps[0] == FIRST
    assert [step.split()[0] for step in steps] == ALL
    assert said == [
        "at no migration, to do:",
        *(f"  {name}" for name in ALL),
        *steps,
        f"{len(ALL)} steps done",
        "nothing to do: the tables are up to date",
        f"at {HEAD}, up to date",
        *(step.replace("  ", "  taken back: ", 1) for step in reversed(steps)),
        "nothing to take back: there are no tables",
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one object and nothing else."""
    found = []

    for words in (["status"], ["up"], ["up"], ["down"]):
        main(["migrate", *words, "--json"])
        found.append(json.loads(capsys.readouterr().out))

    assert found == [
        {"current": None, "head": HEAD, "pending": ALL},
        {"applied": ALL, "current": HEAD},
        {"applied": [], "current": HEAD},
        {"undone": HEAD, "current": ALL[-2]},
    ]


def test_a_restored_database(capsys: pytest.CaptureFixture[str]) -> None:
    """`up --restored` names the history anew."""
    main(["migrate", "up"])
    capsys.readouterr()

    code = main(["migrate", "up", "--restored", "--json"])

    with sqlite3.connect("bylaw.db") as connection:
        rows = connection.execute("SELECT uuid FROM store ORDER BY seq").fetchall()
    connection.close()
    assert code == 0
    assert len(rows) == 2
    assert json.loads(capsys.readouterr().out)["store"] == rows[1][0]


def test_down_with_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """Down exits with 2 where facts would be lost, and loses them when told to."""
    main(["migrate", "up"])
    with sqlite3.connect("bylaw.db") as connection:
        connection.execute(MEMBER)
    connection.close()

    codes = [main(["migrate", "down", *more]) for more in ([], ["--lose-facts"])]

    assert codes == [2, 0]
    assert "bylaw migrate down --lose-facts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "environment", "file", "expected"),
    [
        ([], {}, "", "bylaw.db"),
        ([], {}, "BYLAW_DATABASE_URL='sqlite:///file.db'  # a comment", "file.db"),
        ([], {"BYLAW_DATABASE_URL": "sqlite:///process.db"}, "BYLAW_DATABASE_URL=sqlite:///file.db", "process.db"),
        (
            [],
            {"BYLAW_DATABASE_URL": "sqlite:///services.db", "BYLAW_MIGRATE_URL": "sqlite:///owner.db"},
            "",
            "owner.db",
        ),
        ([], {"BYLAW_DATABASE_URL": "sqlite:///services.db"}, "BYLAW_MIGRATE_URL=sqlite:///owner.db", "owner.db"),
        (["--database-url", "sqlite:///flag.db"], {"BYLAW_MIGRATE_URL": "sqlite:///owner.db"}, "", "flag.db"),
    ],
)
def test_which_database(
    flag: list[str],
    environment: dict[str, str],
    file: str,
    expected: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flag wins over the owner's URL, that over the services', and the process over the file."""
    (place / ".env").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    main(["migrate", "up", *flag])

    assert [path.name for path in place.glob("*.db")] == [expected]


def test_an_unknown_variable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen, in the file too, is told and nothing is done."""
    (place / ".env").write_text("BYLAW_MIGRATE_ULR=sqlite:///owner.db\n")

    code = main(["migrate", "up"])

    assert code == 2
    assert capsys.readouterr().err == ("bylaw: unknown variable BYLAW_MIGRATE_ULR; did you mean BYLAW_MIGRATE_URL?\n")
    assert list(place.glob("*.db")) == []


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """What went wrong is one line on standard error, without the password, and exit code 2."""
    url = "postgresql://owner:secret@/bylaw?host=/nowhere"

    codes = [main(["migrate", step, "--database-url", url]) for step in ("up", "down", "status")]

    said = capsys.readouterr()
    assert codes == [2, 2, 2]
    assert said.out == ""
    assert len(said.err.splitlines()) == 3
    assert "secret" not in said.err


def test_where_another_project_has_migrations(place: Path) -> None:
    """In a directory with a folder of that name, ours are run."""
    (place / "migrations").mkdir()
    (place / "migrations" / "__init__.py").write_text("raise ImportError('of somebody else')")
    command = [sys.executable, "-m", "bylaw", "migrate", "up", "--json"]

    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)

    assert json.loads(done.stdout)["applied"] == ALL


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is an object on standard error."""
    code = main(["migrate", "up", "--json", "--database-url", "nonsense"])

    assert code == 2
    assert json.loads(capsys.readouterr().err)["error"] == "bad_url"
