"""What the environment and the `.env` file say, and which of them wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.environment import environment, unknown_variable
from store.errors import UnfitError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a `.env` file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BYLAW_POLICIES", raising=False)
    return tmp_path


def test_the_process_wins_over_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process was given stands, and the file adds what it was not."""
    (place / ".env").write_text("BYLAW_POLICIES=file\nBYLAW_HTTP='unix:/run/b'  # quoted\nexport BYLAW_GRPC=x\nBARE\n")
    monkeypatch.setenv("BYLAW_POLICIES", "process")

    found = environment()

    assert (found["BYLAW_POLICIES"], found["BYLAW_HTTP"], found["BYLAW_GRPC"]) == ("process", "unix:/run/b", "x")
    assert "BARE" not in found


def test_no_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the process says all."""
    monkeypatch.setenv("BYLAW_POLICIES", "process")

    assert environment()["BYLAW_POLICIES"] == "process"


def test_the_file_changes_nothing_for_others(place: Path) -> None:
    """Reading the file leaves the process' own environment as it is."""
    (place / ".env").write_text("BYLAW_POLICIES=file\n")

    found = environment()

    assert found["BYLAW_POLICIES"] == "file"
    assert "BYLAW_POLICIES" not in os.environ


def test_a_file_that_is_no_text(place: Path) -> None:
    """Bytes that are no UTF-8 are refused in words."""
    (place / ".env").write_bytes(b"BYLAW_POLICIES=\xff\n")

    with pytest.raises(UnfitError, match=r"\.env is no UTF-8"):
        environment()


def test_unknown_variables() -> None:
    """A variable that nobody reads is named, with the one that may have been meant; others are not ours."""
    assert unknown_variable({"PATH": "/bin", "BYLAW_ADMIN": "x"}) is None
    assert unknown_variable({"BYLAW_ADMN": "x"}) == "unknown variable BYLAW_ADMN; did you mean BYLAW_ADMIN?"
    assert unknown_variable({"BYLAW_QQQQQQQQ": "x"}) == "unknown variable BYLAW_QQQQQQQQ"
