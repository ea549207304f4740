"""Which files are a policy, and that none of them is missed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import PolicyError
from engine.loading import MAX_FILE, read_sources


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy in two folders, beside what is none."""
    for name in ("a.bylaw", "inner/b.bylaw", ".hidden/c.bylaw", ".d.bylaw", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("// nothing\n")
    (tmp_path / "folder.bylaw").mkdir()
    return tmp_path


def code_of(path: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        read_sources(path)
    return caught.value.code


def test_files_of_a_policy(policy: Path) -> None:
    """All `*.bylaw` count, in folders too, but nothing whose name begins with a point."""
    assert [source.name for source in read_sources(policy)] == ["a.bylaw", "inner/b.bylaw"]


def test_a_folder_that_cannot_be_read(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is there and cannot be listed is an error: there may be denies in it."""
    scandir = os.scandir

    def refusing(path: Any) -> Iterator[Any]:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)

    assert code_of(policy) == "unreadable"


def test_a_link_that_leads_nowhere(policy: Path) -> None:
    """A file that is listed and not there is an error, too."""
    (policy / "lost.bylaw").symlink_to(policy / "nowhere")

    assert code_of(policy) == "unreadable"


def test_a_file_that_is_too_large(policy: Path) -> None:
    """A huge file is refused before it is read."""
    with (policy / "huge.bylaw").open("wb") as file:
        file.truncate(MAX_FILE + 1)

    assert code_of(policy) == "too_large"
