"""Facts files: whatever stands in one, facts or a list of problems, never an exception of another kind."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from engine import Facts, FactsError, Policy

STUDIO = Path(__file__).parents[2] / "policies" / "studio"
ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    [],
    {},
    [[]],
    [{}],
    {"x": []},
    "user:",
    ":x",
    "a/b/c",
    "system",
    "anyone",
    ["x"],
    [["x"]],
    7,
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(STUDIO)


def document() -> dict[str, Any]:
    """Facts of every kind that there is."""
    return {
        "tenants": {"acme": {"attributes": {"plan": "pro"}}, "globex": {"attributes": {"plan": "free"}}},
        "users": {
            "ann": {
                "attributes": {"clearance": 1},
                "members": {"acme": {"status": "guest", "expires": "2027-01-01T00:00:00Z"}},
            }
        },
        "services": {"bot": {"members": {"acme": "active"}}},
        "groups": {
            "g": {"tenant": "acme", "members": ["user:ann", {"subject": "service:bot"}], "in": ["h"]},
            "h": {"tenant": "acme"},
        },
        "resources": {
            "project:p": {
                "parent": "organization:acme",
                "attributes": {"owner": "user:ann", "locked": False, "published": True},
            },
            "acme/folder:f": {"parent": "project:p"},
        },
        "assignments": [{"subject": "user:ann", "role": "viewer", "on": "project:p", "starts": "2026-01-01T00:00:00Z"}],
        "links": [{"subject": "user:ann", "home": "globex", "role": "auditor", "on": "organization:acme"}],
        "custom_roles": [{"tenant": "acme", "name": "c", "on": "organization", "can": ["task.*"]}],
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """The document with one value replaced."""
    if not path:
        return odd
    made = copy.copy(value)
    made[path[0]] = changed(value[path[0]], path[1:], odd)
    return made


def test_the_document_itself_is_good(policy: Policy) -> None:
    """What is spoilt below is good before."""
    assert Facts(document(), policy).source.principal("user", "ann") is not None


def test_one_odd_value_is_a_problem_with_a_place(policy: Policy) -> None:
    """Any value replaced by any odd one loads, or is refused with a sentence."""
    refused = 0
    for path in places(document())[1:]:
        for odd in ODD:
            try:
                Facts(changed(document(), path, odd), policy)
            except FactsError:
                refused += 1

    assert refused > 300


def test_one_odd_key_is_a_problem_with_a_place(policy: Policy) -> None:
    """Any key replaced by an odd one loads, or is refused with a sentence."""
    chance = random.Random(1)
    refused = 0
    for path in [path for path in places(document()) if path and isinstance(path[-1], str)]:
        made = copy.deepcopy(document())
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        holder[chance.choice(("", "x", "a:b", "/", "ünï", "x/y:z"))] = holder.pop(path[-1])
        try:
            Facts(made, policy)
        except FactsError:
            refused += 1

    assert refused > 20


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a: b: c",
        "\t",
        "- x",
        "a: *b",
        "? [1]\n: 2",
        "{a: 1, a: 2}",
        "\x00",
        "a: &x [*x]",
        "'",
        "---\n---\n",
    ],
)
def test_what_is_no_facts_file_is_refused(text: str, policy: Policy, tmp_path: Path) -> None:
    """What is no YAML, or none that holds facts, is an error with the file's name."""
    path = tmp_path / "facts.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(FactsError, match=r"facts\.yaml"):
        Facts.load(path, policy)
