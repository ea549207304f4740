"""`bylaw admin publish` and its like, over a real service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bylaw.cli import main
from sidecar.addresses import Address
from sidecar.settings import Settings
from tests.admin.service import World, make_world
from tests.bylaw.test_admin_command import Running

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store with the example's facts, and a key."""
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run a verb over a copy of the store; return its exit code and what it said."""
    store = shutil.copyfile(world.path, tmp_path / "copy.db")
    settings = Settings(STUDIO, database_url=f"sqlite+aiosqlite:///{store}", watch_s=0.02)
    with Running(settings, Address("127.0.0.1", 0)) as service:
        monkeypatch.setenv("BYLAW_ADMIN", service.address.removeprefix("http://"))
        monkeypatch.setenv("BYLAW_ADMIN_KEY", world.key)

        def run(*words: str) -> tuple[int, Any]:
            code = main(["admin", *words, "--json"])
            said = capsys.readouterr()
            return code, json.loads(said.out or said.err)

        yield run


def test_publish_go_back_and_withdraw(run: Run, tmp_path: Path) -> None:
    """A directory is published, another after it; going back and withdrawing tell what decides then."""
    other = shutil.copytree(STUDIO, tmp_path / "other")
    (other / "more.bylaw").write_text("# nothing more\n", encoding="utf-8")

    first, second = run("publish", str(STUDIO), "--note", "first"), run("publish", str(other))
    listed = run("policies")
    back, gone = run("rollback"), run("withdraw")
    again = run("publish", "--id", second[1]["policy"])

    assert [each[0] for each in (first, second, listed, back, gone, again)] == [0] * 6
    assert [each["note"] for each in listed[1]["items"]] == ["", "first"]
    assert listed[1]["published"] == second[1]["policy"]
    assert back[1]["policy"] == first[1]["policy"]
    assert gone[1]["policy"] is None
    assert again[1]["policy"] == second[1]["policy"]


def test_what_cannot_be_published_says_why(run: Run, tmp_path: Path) -> None:
    """A policy with errors is refused with its place; a directory that is none could not be asked about."""
    (tmp_path / "bad.bylaw").write_text("typ x\n", encoding="utf-8")

    bad = run("publish", str(tmp_path / "bad.bylaw"))
    none, both = run("publish"), run("publish", str(STUDIO), "--id", "x")
    nothing = run("rollback")

    assert (bad[0], bad[1]["error"]) == (1, "bad_policy")
    assert "bad.bylaw:1:1" in bad[1]["message"]
    assert [none[0], both[0]] == [2, 2]
    assert (nothing[0], nothing[1]["error"]) == (1, "conflict")
