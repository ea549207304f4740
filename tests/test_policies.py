"""The shipped policy sets: clean, tested in full, and loadable with their facts."""

from pathlib import Path

import pytest

from engine import Facts, Policy
from engine.fixtures import check_tests
from engine.testing import run_tests

SETS = sorted(path for path in (Path(__file__).parents[1] / "policies").iterdir() if path.is_dir())


@pytest.fixture(params=SETS, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """Each shipped set."""
    path: Path = request.param
    return path


def test_set_is_clean(folder: Path) -> None:
    """A shipped set has no warning, and no mistake in its tests."""
    policy = Policy.load(folder)

    assert [d for d in policy.diagnostics if d.severity != "note"] == []
    assert check_tests(policy.model) == []


def test_set_passes_its_own_tests(folder: Path) -> None:
    """A shipped set has tests, and all of them hold."""
    run = run_tests(Policy.load(folder))

    assert run.passed > 0
    assert [(failure.span.at, failure.message) for failure in run.failures] == []


def test_set_is_covered(folder: Path) -> None:
    """Every rule and `can` of a shipped set applies in some test, and every condition is seen true and false."""
    assert run_tests(Policy.load(folder)).coverage.as_json()["missing"] == []


def test_set_has_facts(folder: Path) -> None:
    """A shipped set's facts fit its policy."""
    policy = Policy.load(folder)

    assert Facts.load(folder / "facts.yaml", policy).revision


def test_set_allows_and_denies(folder: Path) -> None:
    """The tests of a shipped set expect allows and denies."""
    expected = {
        getattr(statement, "expected", None)
        for test in Policy.load(folder).model.tests
        for statement in test.statements
    }

    assert {True, False} <= expected
