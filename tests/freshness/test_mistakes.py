"""The model of the freshness protocol finds mistakes that are seeded into the product, and tells of them alike each
time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.freshness.check import quiet, run
from tests.freshness.mistakes import MISTAKES, seeded
from tests.freshness.shrink import replay, shrink

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
#: Many times what each takes: the next change of the product makes other runs of the same seeds.
DECISIONS: Final = 20_000


@pytest.mark.parametrize("name", [mistake.name for mistake in MISTAKES])
def test_mistake_is_found(name: str) -> None:
    """The product with a mistake breaks a law, before long."""
    command = (sys.executable, "-m", "tests.freshness.check", "--decisions", str(DECISIONS), "--json")
    environment = os.environ | {"PYTHONHASHSEED": "0"}

    done = subprocess.run(
        (*command, "--mistakes", name), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )

    assert json.loads(done.stdout)[name]["law"] is not None


def test_one_seed_makes_one_run() -> None:
    """The same seed comes to the same, move by move."""
    with quiet():
        first, second = run(1, 200), run(1, 200)

    assert first.tally == second.tally


def test_what_is_found_is_made_shorter() -> None:
    """A finding can be played again, with most of its moves left out."""
    mistake = next(each for each in MISTAKES if each.name == "age ignored")

    with quiet(), seeded(mistake):
        finding = run(mistake.seed, DECISIONS, first_only=True).findings[0]
        fewer = shrink(finding.setting, finding.moves, finding.law)
        again = replay(finding.setting, fewer, is_finished=False)

    assert again.broken is not None
    assert again.broken.law == finding.law
    assert len(fewer) < len(finding.moves)
