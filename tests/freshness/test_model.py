"""The invariants of freshness, each a test of its name, over one run of the model: the product's own code over a fake
database, in random interleavings. What breaks a law, `python -m tests.freshness.check` makes shorter and prints.

Each test says, too, what the run must have been through for its law to mean anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.freshness.oracle import INVARIANTS

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-m", "tests.freshness.check", "--seed", "1", "--decisions", "8000", "--json")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to.

    Attributes:
        laws: those that it broke, and how.
    """

    tally: Counter[str]
    laws: dict[str, str]

    def lacks(self, *names: str) -> list[str]:
        """List what the run was not through."""
        return [name for name in names if not self.tally[name]]


@pytest.fixture(scope="module")
def run() -> Run:
    """Make the run, with sets of texts in an order that is always the same."""
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    told = json.loads(done.stdout)
    return Run(Counter(told["tally"]), told["laws"])


def test_policy_is_of_its_revision(run: Run) -> None:
    """What decides is what was published at the revision that an answer names; who cannot have what was published next
    names the one before, and goes on with the facts."""
    assert run.lacks("by what is published", "behind what is published") == []
    assert "policy_is_of_its_revision" not in run.laws, run.laws


def test_decision_is_a_cut(run: Run) -> None:
    """An answer is what the engine says, in memory, of facts that stood together at the revision that it names."""
    assert run.lacks("real", "allowed", "probes", "writes", "overtaken loads", "from snapshots") == []
    assert "decision_is_a_cut" not in run.laws, run.laws


def test_expiry_is_exact(run: Run) -> None:
    """What ends by itself ends at its instant, whatever was derived from it before."""
    assert run.lacks("after an expiry") == []
    assert "expiry_is_exact" not in run.laws, run.laws


def test_never_older_than_asked(run: Run) -> None:
    """A question that comes with the token of an answer is not answered from before that answer."""
    assert run.lacks("to tokens of answers", "caught up for tokens", "stale with tokens") == []
    assert "never_older_than_asked" not in run.laws, run.laws


def test_read_your_writes(run: Run) -> None:
    """A question that comes with the token of a write is not answered from before that write."""
    assert run.lacks("to tokens of writes", "caught up for tokens", "stale with tokens") == []
    assert "read_your_writes" not in run.laws, run.laws


def test_stale_is_bounded(run: Run) -> None:
    """No answer comes from facts that were replaced longer ago than facts may be old."""
    assert run.lacks("of the past", "stale") == []
    assert "stale_is_bounded" not in run.laws, run.laws


def test_receipts_are_true(run: Run) -> None:
    """Once a process has given a receipt it answers from nothing before; once it is settled, no process does."""
    assert run.lacks("acknowledged", "settled", "settled by the bound", "removed", "bound by receipts") == []
    assert "receipts_are_true" not in run.laws, run.laws


def test_restore_and_failover(run: Run) -> None:
    """A process that has seen that the store went back answers from nothing that was lost."""
    assert run.lacks("restores", "after restores") == []
    assert "restore_and_failover" not in run.laws, run.laws


def test_past_never_comes_back(run: Run) -> None:
    """A process that has seen a state answers from none before it."""
    assert run.lacks("applied", "snapshots", "overtaken loads", "of the past") == []
    assert "past_never_comes_back" not in run.laws, run.laws


def test_no_recaching_of_the_past(run: Run) -> None:
    """What a process holds is what was stored where its streams stand."""
    assert run.lacks("views compared", "overtaken loads") == []
    assert "no_recaching_of_the_past" not in run.laws, run.laws


def test_every_question_is_answered(run: Run) -> None:
    """A question comes to an end, with an answer or with `stale`, whatever is slow, lost or down meanwhile."""
    tally = run.tally

    ends = tally["real"] + tally["stale"] + tally["stale with tokens"]

    assert ends == tally["decisions"] > 0
    assert "every_question_is_answered" not in run.laws, run.laws


def test_every_receipt_is_given(run: Run) -> None:
    """Once the database can be reached, all processes that are registered give the receipts that are waited for."""
    assert run.lacks("receipts due") == []
    assert "every_receipt_is_given" not in run.laws, run.laws


def test_every_law_has_its_test() -> None:
    """There is a test for each law that answers are held against."""
    assert {f"test_{law}" for law in INVARIANTS} <= globals().keys()
