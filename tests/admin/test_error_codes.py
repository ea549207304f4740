"""The table of error codes in the documentation: it has each code that the service can answer with, and no other.

Codes stand in the code as texts, where an error is made. So the text of the files is read in which a request's errors
are made, and what is handed on from elsewhere is named here.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from engine.codes import CODES

ROOT: Final = Path(__file__).parents[2]
#: Where errors of requests are made. `bylaw callers` alone writes callers.
FILES: Final = (
    *sorted((ROOT / "admin").rglob("*.py")),
    *(path for path in sorted((ROOT / "store" / "writes").glob("*.py")) if path.stem != "callers"),
    *(ROOT / "store" / f"{name}.py" for name in ("audit_search", "changes", "ids", "keys", "signatures")),
    *(ROOT / "engine" / f"{name}.py" for name in ("assign_names", "assign_rules", "assigning", "last_holder")),
    *(ROOT / "engine" / f"{name}.py" for name in ("authorizer", "bundle", "loading", "policy", "program")),
    *(ROOT / "sidecar" / f"{name}.py" for name in ("limits", "policies")),
)
#: Which argument of what makes an error is its code.
MAKERS: Final = {"PublicError": 1, "forbidden": 1, "_refused": 0, "Ruling": 1} | dict.fromkeys(
    ("BylawError", "RefusedError", "RequestError", "PolicyError"), 0
)
#: How a policy refuses an end user what is no change: that nobody may have a route or a role is none of it.
DECIDED: Final = frozenset(CODES) - {"role", "exists", "bad_path", "no_route", "stale"}
#: What is said when the service starts, or by the store to itself; names of settings that a function of a maker's name
#: takes; and what a directory on disk may be, and an upload not.
NOT_ANSWERED: Final = {
    *("bad_settings", "unreadable", "not_utf8"),
    *("invitation_days", "invited_domains", "max_link_days", "max_key_days"),
}


def codes_in(path: Path) -> Iterator[str]:
    """List the codes that a file makes errors with."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = MAKERS.get(name)
            if place is not None and len(node.args) > place and _is_error(node):
                yield from _text(path, node.args[place])
            elif name == "forbidden":
                yield name  # if nothing else is said
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and path.stem == "assign_rules":
            yield from _text(path, node.value.elts[0])  # the code and the sentence of a broken option


def _is_error(node: ast.Call) -> bool:
    """Say whether a ruling refuses; whatever else makes an error does."""
    is_ruling = getattr(node.func, "id", "") == "Ruling"
    return not is_ruling or ast.literal_eval(node.args[0]) == "refused"


def _text(path: Path, node: ast.expr) -> Iterator[str]:
    """Read a text, or a constant of the file that is one; what is handed on stands where it was made."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id.isupper():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield getattr(importlib.import_module(module), node.id)


def documented() -> list[str]:
    """List the codes of the table, in its order."""
    page = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8")
    table = page.partition("| code | status |")[2].partition("\n\n")[0]
    return [code for row in table.splitlines() for code in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")]


def test_each_code_is_documented() -> None:
    """The table has each code that can be answered, once."""
    made = {code for path in FILES for code in codes_in(path)}

    found = documented()

    assert sorted(found) == sorted(set(found))
    assert set(found) == (made | DECIDED) - NOT_ANSWERED


@pytest.mark.parametrize("name", sorted(NOT_ANSWERED))
def test_what_is_left_out_is_there(name: str) -> None:
    """What the table leaves out is still made somewhere, so that nothing is left out for ever."""
    assert name in {code for path in FILES for code in codes_in(path)}
