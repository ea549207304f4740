"""`bylaw seed` as its users meet it: words in, words and exit codes out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from bylaw.cli import main
from bylaw.commands.seed import Progress

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
FACTS = str(STUDIO / "facts.yaml")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the policy where the product looks for it, and no store yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("BYLAW_POLICIES", "BYLAW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "policies").symlink_to(STUDIO)
    return tmp_path


@pytest.fixture
def store(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same, with an empty store."""
    main(["migrate", "up"])
    capsys.readouterr()
    return place / "bylaw.db"


@pytest.mark.usefixtures("store")
def test_seed_tells_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    """Kinds are counted, and the revision is named; nothing goes to standard error where no terminal is."""
    code = main(["seed", FACTS])

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert out.startswith("added: 2 tenants, ")
    assert "1 custom role" in out
    assert "; the store is now at " in out


@pytest.mark.usefixtures("store")
def test_seed_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A second time there is nothing to do, and this is told with the same revision."""
    main(["seed", FACTS, "--json"])
    first = json.loads(capsys.readouterr().out)

    code = main(["seed", FACTS, "--json"])
    second = json.loads(capsys.readouterr().out)
    main(["seed", FACTS])

    assert code == 0
    assert second == {
        "revision": first["revision"],
        "revisions": 0,
        "added": {},
        "changed": {},
        "unchanged": sum(first["added"].values()) + 2,  # a tenant is a row for all, and one of its own
        "members": [],
    }
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.usefixtures("store")
def test_seed_names_whom_it_made_members(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A role for somebody of whom nothing is said makes him a member, and that is told."""
    file = place / "facts.yaml"
    file.write_text(
        "tenants: { acme: { attributes: { plan: pro } } }\n"
        "assignments: [{ subject: user:zoe, role: viewer, on: organization:acme }]\n"
    )

    main(["seed", str(file)])
    told = capsys.readouterr().out
    file.write_text(file.read_text("utf-8").replace("zoe", "yan"))
    main(["seed", str(file), "--json"])

    assert "made a member, since the file gives a role there: user:zoe of acme\n" in told
    assert json.loads(capsys.readouterr().out)["members"] == [{"user": "user:yan", "tenant": "acme"}]


@pytest.mark.usefixtures("place")
def test_seed_without_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no store it is not made: exit code 2, with the cure on standard error."""
    code = main(["seed", FACTS])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "run `bylaw migrate up`" in err
    assert not Path("bylaw.db").exists()


def test_seed_of_a_wrong_file(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem is told with the file and the place, and nothing is written."""
    before = store.read_bytes()
    file = store.parent / "wrong.yaml"
    file.write_text("users: { ann: { attributes: { clearance: high } }, bob: { atributes: {} } }\n")

    code = main(["seed", str(file)])

    err = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(err) == 2
    assert err[0] == f"bylaw: {file}: users.ann.attributes.clearance: expected a whole number of 64 bits"
    assert store.read_bytes() == before


@pytest.mark.usefixtures("store")
def test_seed_of_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is exit code 2, as JSON where JSON is asked for."""
    code = main(["seed", "none.yaml", "--json"])

    error = json.loads(capsys.readouterr().err)
    assert (code, error["error"]) == (2, "unreadable")


@pytest.mark.usefixtures("store")
def test_settings_come_from_flags_the_environment_and_a_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag wins over the environment, and the environment over `.env`."""
    (place / ".env").write_text("BYLAW_POLICIES=nowhere\nBYLAW_DATABASE_URL=sqlite+aiosqlite:///file.db\n")
    codes = [main(["seed", FACTS])]
    monkeypatch.setenv("BYLAW_POLICIES", str(STUDIO))
    codes.append(main(["seed", FACTS]))
    monkeypatch.setenv("BYLAW_DATABASE_URL", "sqlite+aiosqlite:///environment.db")
    codes.append(main(["seed", FACTS]))

    codes.append(main(["seed", FACTS, "--database-url", "sqlite+aiosqlite:///bylaw.db"]))

    said = capsys.readouterr().err.splitlines()
    assert codes == [2, 2, 2, 0]
    assert [word in line for word, line in zip(("nowhere", "file.db", "environment.db"), said, strict=True)] == [
        True
    ] * 3


@pytest.mark.usefixtures("store")
def test_an_unknown_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that nobody reads is an error."""
    monkeypatch.setenv("BYLAW_DATABASE", "x")

    code = main(["seed", FACTS])

    assert code == 2
    assert "unknown variable BYLAW_DATABASE; did you mean BYLAW_DATABASE_URL?" in capsys.readouterr().err


# --- the bar --------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A person sits before it."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal() -> None:
    """A bar fills, with how much is done and how fast, and its line is empty in the end."""
    terminal = Terminal()
    seconds = iter([0.0, 2.0, 4.0])

    with Progress(terminal, clock=lambda: next(seconds)) as progress:
        progress(500, 2000)
        progress(2000, 2000)

    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == [
        "",
        f"{'█' * 7}{'░' * 23} 500 of 2,000 rows, 250 a second",
        f"{'█' * 30} 2,000 of 2,000 rows, 500 a second",
        "",
    ]


def test_no_progress_elsewhere() -> None:
    """Where no person sits nothing is written."""
    stream = io.StringIO()

    with Progress(stream) as progress:
        progress(500, 2000)

    assert stream.getvalue() == ""


def test_no_progress_where_nothing_is_done() -> None:
    """Where there is nothing to do there is no bar."""
    terminal = Terminal()

    with Progress(terminal) as progress:
        progress(0, 0)

    assert terminal.getvalue() == ""
