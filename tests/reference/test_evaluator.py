"""The reference evaluator is held to the conformance rows, as the engine is."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RequestError
from engine.policy import Facts, Policy
from engine.request import Request
from engine.values import parse_time
from tests.reference.evaluator import decide

ROOT = Path(__file__).parent.parent / "conformance"
#: Suites of decisions; the others are about routes, assignments, diagnostics and test blocks.
SUITES = (
    "boundary",
    "conditions",
    "custom-and-claimed",
    "denies",
    "example",
    "grants",
    "links-and-system",
    "membership",
    "new-and-external",
    "no-tenant",
    "searches",
)


@cache
def load(suite: str) -> tuple[Policy, Facts]:
    policy = Policy.load(ROOT / suite / "policy")
    return policy, Facts.load(ROOT / suite / "facts.yaml", policy)


def rows() -> list[Any]:
    """All rows that ask for a decision."""
    found = []
    for suite in SUITES:
        for row in json.loads((ROOT / suite / "cases.json").read_text(encoding="utf-8")):
            if "search" not in row:
                found.append(pytest.param(suite, row, id=row["id"]))
    return found


def reference(entity: dict[str, Any]) -> str:
    return f"{entity['type']}:{entity['id']}"


def request_of(row: dict[str, Any]) -> Request:
    asked = row["request"]
    return Request(
        tenant=row.get("tenant"),
        subject=reference(asked["subject"]),
        action=asked["action"]["name"],
        resource=reference(asked["resource"]),
        subject_properties=asked["subject"].get("properties"),
        resource_properties=asked["resource"].get("properties"),
        action_properties=asked["action"].get("properties"),
        context=asked.get("context"),
        token_tenant=row.get("token_tenant"),
    )


@pytest.mark.parametrize(("suite", "row"), rows())
def test_row(suite: str, row: dict[str, Any]) -> None:
    """The reference evaluator answers each row as it stands."""
    policy, facts = load(suite)
    now = parse_time(row.get("at", "2026-05-01T12:00:00Z"))
    assert now is not None

    if "error" in row:
        with pytest.raises(RequestError):
            decide(policy.model, facts.source, request_of(row), now)
        return
    answer = decide(policy.model, facts.source, request_of(row), now)

    assert answer.allowed is row["expect"]
    assert answer.code == row.get("code", answer.code)
    assert (answer.by or "").split(" on ")[0] == row.get("by", (answer.by or "").split(" on ")[0])
