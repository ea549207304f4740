"""The rows of `tests/conformance/`: what the language's text decides, told apart from any implementation.

Its README says what the fields mean. Here each row goes through the Python API, the diagnostics through the checker,
the `test` blocks through the test runner.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine import Facts, HttpRequest, Policy, Request, RequestError
from engine.diagnostics import errors
from engine.fixtures import check_tests
from engine.loading import compile_sources, read_sources
from engine.nodes import AskNode, ResourceSearchNode, RouteAskNode, SubjectSearchNode
from engine.testing import run_tests

Row = dict[str, Any]

ROOT = Path(__file__).parent / "conformance"
SUITES = sorted(path.parent.name for path in ROOT.glob("*/cases.json") if path.parent.name != "assign")
ROWS: list[tuple[str, Row]] = [
    (name, row) for name in SUITES for row in json.loads((ROOT / name / "cases.json").read_text("utf-8"))
]
#: Instants for rows to which the time is nothing; none lies before what their facts call past.
INSTANTS = tuple(datetime(year, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC) for year in (2026, 2077, 2150))
KINDS = {
    "syntax": "E0100",
    "unknown-name": "E0200",
    "duplicate": "E0201",
    "ambiguous-name": "E0202",
    "reserved": "E0203",
    "cycle": "E0204",
    "type-mismatch": "E0300",
    "missing-path": "E0301",
    "unguarded-optional": "E0302",
    "bad-literal": "E0303",
    "dead-pattern": "E0400",
    "misplaced": "E0401",
    "route-conflict": "E0402",
    "unbound": "E0403",
}


@dataclass(frozen=True, slots=True)
class Suite:
    """A policy, and the facts to decide on."""

    policy: Policy
    facts: Facts


@cache
def suite(name: str) -> Suite:
    """Load a suite once: its rows share the facts, and with them whatever is remembered of earlier rows."""
    policy = Policy.load(ROOT / name / "policy")
    return Suite(policy, Facts.load(ROOT / name / "facts.yaml", policy))


# --- decisions and searches -------------------------------------------------------------------------------------------


def reference(part: dict[str, Any]) -> str:
    if part["type"] == "anonymous":
        return "anonymous"
    return f"{part['type']}:{part['id']}" if "id" in part else str(part["type"])


def question(row: Row, now: datetime | None) -> Request | HttpRequest:
    """Put a row as a question of the Python API."""
    named: dict[str, Any] = {"tenant": row.get("tenant"), "token_tenant": row.get("token_tenant"), "now": now}
    if "method" in row:
        return HttpRequest(row["method"], row["path"], row["subject"], **named)
    asked = row["request"]
    return Request(
        subject=reference(asked["subject"]),
        action=asked.get("action", {}).get("name"),
        resource=reference(asked["resource"]),
        subject_properties=asked["subject"].get("properties"),
        resource_properties=asked["resource"].get("properties"),
        action_properties=asked.get("action", {}).get("properties"),
        context=asked.get("context"),
        **named,
    )


def answer(here: Suite, row: Row, now: datetime | None) -> Row:
    """Ask, and tell of the answer what the row speaks of."""
    asked = question(row, now)
    try:
        if "search" in row:
            assert isinstance(asked, Request)
            found = here.policy.search(asked, here.facts)
            assert found == sorted(set(found))
            return {"expect": found}
        decision = here.policy.decide(asked, here.facts)
    except RequestError:
        return {"error": row.get("error")}
    told = {"expect": decision.allowed, "code": decision.code, "by": decision.by and decision.by.split(" on ")[0]}
    return {key: told[key] for key in told if key in row}


def instants(row: Row) -> tuple[datetime | None, ...]:
    """When to ask: at the row's instant if it has one, else whenever."""
    at = row.get("at")
    return (None, None, *INSTANTS) if at is None else (datetime.fromisoformat(at),) * 2


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[row["id"] for _, row in ROWS])
def test_row(name: str, row: Row) -> None:
    """A row comes out as it says, asked again too, and at any instant where it names none."""
    expected = {key: row[key] for key in ("expect", "code", "by", "error") if key in row}
    if "search" in row:
        expected["expect"] = sorted(row["expect"])

    answers = [answer(suite(name), row, now) for now in instants(row)]

    assert answers == [expected] * len(answers)


def test_rows_are_all_there() -> None:
    """No row has an id that another one has, and the suites are whole."""
    ids = [row["id"] for _, row in ROWS]

    assert len(ids) == len(set(ids)) >= 1240


# --- diagnostics ------------------------------------------------------------------------------------------------------


def marks(text: str, pattern: str) -> Iterator[tuple[int, str]]:
    """Find the lines that end in a mark, and what it says."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := re.search(pattern, line):
            yield number, found.group(1)


@pytest.mark.parametrize("path", sorted((ROOT / "diagnostics").glob("*.bylaw")), ids=lambda path: path.stem)
def test_diagnostics(path: Path) -> None:
    """The errors of a policy are of the kind and in the lines that its marks say, and there are no others."""
    expected = {(line, KINDS[kind]) for line, kind in marks(path.read_text("utf-8"), r"#! ([a-z-]+)$")}

    _, found = compile_sources(read_sources(path))

    assert bool(expected) != path.stem.startswith("ok-")
    assert {(d.span.line, d.code) for d in errors(found)} == expected


# --- test blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.bylaw")), ids=lambda path: path.stem)
def test_blocks(path: Path) -> None:
    """Exactly the expectations below a line `#! fails` fail."""
    expected = {line + 1 for line, _ in marks(path.read_text("utf-8"), r"^\s*#! (fails)$")}
    policy = Policy.load(path)
    asked = AskNode | RouteAskNode | ResourceSearchNode | SubjectSearchNode
    total = sum(isinstance(statement, asked) for test in policy.model.tests for statement in test.statements)

    run = run_tests(policy)

    assert check_tests(policy.model) == []
    assert sorted(failure.span.line for failure in run.failures) == sorted(expected)
    assert run.passed + len(run.failures) == total
