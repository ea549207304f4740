"""Every migration says what it costs, stands for itself, and has a name that sorts."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from migrations.__main__ import main
from store import migrating

FILES = sorted((migrating.FOLDER / "versions").glob("[!_]*.py"))


def note_of(path: Path) -> dict[str, str]:
    """Read the parts of a safety note."""
    written = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    note = written.partition("Safety note\n")[2]
    return dict(re.findall(r"^    ([A-Z][\w ]+): (.+)$", note, re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_migration_has_its_safety_note(path: Path) -> None:
    """Locks, time and the way back are thought of, and written down."""
    note = note_of(path)

    assert list(note) == ["Locks", "Time", "Way back"]
    assert not any("TODO" in said for said in note.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_migration_stands_for_itself(path: Path) -> None:
    """A migration imports nothing of ours, since that will change, and it will not."""
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }

    assert not imported & {"store", "engine", "sidecar", "admin", "bylaw", "migrations", "tests"}


def test_migrations_are_one_line() -> None:
    """Each migration follows the one before, and is named after its time and what it does."""
    script = ScriptDirectory.from_config(migrating.scripts())

    found = [revision.revision for revision in script.walk_revisions()]

    assert found == [path.name[:13] for path in reversed(FILES)]
    assert all(re.fullmatch(r"\d{8}_\d{4}_[a-z0-9_]+\.py", path.name) for path in FILES)


def test_a_new_migration_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python -m migrations` writes follows the last migration, and has a safety note to fill."""
    (tmp_path / "versions").mkdir()
    for path in (*FILES, migrating.FOLDER / "env.py", migrating.FOLDER / "script.py.mako"):
        place = tmp_path / path.relative_to(migrating.FOLDER)
        place.write_text(path.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(migrating, "FOLDER", tmp_path)

    code = main(["links", "may end"], datetime(2999, 1, 1, 7, 8, tzinfo=UTC))

    made = tmp_path / "versions" / "29990101_0708_links_may_end.py"
    assert code == 0
    assert list(note_of(made)) == ["Locks", "Time", "Way back"]
    assert f"down_revision = '{FILES[-1].name[:13]}'" in made.read_text()


def test_a_migration_needs_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Without words there is nothing to name a migration after."""
    assert main([], datetime(2999, 1, 1, tzinfo=UTC)) == 2
    assert "say what it does" in capsys.readouterr().err
