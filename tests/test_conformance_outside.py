"""A sample of the conformance rows from outside: `bylaw decide --request` and `POST /check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bylaw.cli import main
from sidecar.addresses import Address
from sidecar.settings import Settings
from tests.sidecar.conftest import serve

ROWS = Path(__file__).parent / "conformance"
SUITES = sorted(
    path.parent for path in ROWS.glob("*/cases.json") if path.parent.name not in ("assign", "routes", "searches")
)
Row = dict[str, Any]


def rows_of(suite: Path, step: int, fits: Callable[[Row], bool]) -> list[Row]:
    """Every so many of the rows of a suite that can be asked like this. A token is no part of a body."""
    rows = json.loads((suite / "cases.json").read_text(encoding="utf-8"))
    return [row for row in rows if "token_tenant" not in row and "search" not in row and fits(row)][::step]


def body_of(row: Row) -> Row:
    tenant = {"tenant": row["tenant"]} if "tenant" in row else {}
    return {**row["request"], **tenant}


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_rows_through_the_command_line(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bylaw decide --request` exits 0 on an allow, 1 on a deny, 2 on an error, and names code and by."""
    for row in rows_of(suite, 7, lambda row: True):
        (tmp_path / "body.json").write_text(json.dumps(body_of(row)), encoding="utf-8")
        at = ["--at", row["at"]] if "at" in row else []

        where = ["--policy", str(suite / "policy"), "--facts", str(suite / "facts.yaml")]
        code = main(["decide", *where, "--json", *at, "--request", str(tmp_path / "body.json")])

        captured = capsys.readouterr()
        expected = 2 if "error" in row else 0 if row["expect"] else 1
        assert code == expected, row["id"]
        if expected < 2:
            context = json.loads(captured.out)["context"]
            assert row.get("code") in (None, context["code"]), row["id"]
            assert row.get("by") in (None, str(context["by"]).partition(" on ")[0]), row["id"]


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_rows_through_http(suite: Path) -> None:
    """`POST /check` answers 200 with the decision, code and by, and 400 on an error."""
    settings = Settings(suite / "policy", suite / "facts.yaml", Address("127.0.0.1", 0), dev=True)
    with serve(settings) as client:
        for row in rows_of(suite, 3, lambda row: "at" not in row):
            answer = client.post(body_of(row))

            if "error" in row:
                assert (answer.status, answer.json["error"]) == (400, row["error"]), row["id"]
                continue
            assert (answer.status, answer.json["decision"]) == (200, row["expect"]), row["id"]
            context = answer.json["context"]
            assert row.get("code") in (None, context["code"]), row["id"]
            assert row.get("by") in (None, str(context["by"]).partition(" on ")[0]), row["id"]
