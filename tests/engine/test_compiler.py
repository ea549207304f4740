"""The Python that conditions become: the same for the same policy, and gone with the program."""

from __future__ import annotations

import gc
import linecache
import os
from pathlib import Path

from engine import Facts, Policy, Request
from engine.compiler import source_of
from engine.model import Expr

ROOT = Path(__file__).parents[2]
EXPECTED = ROOT / "tests" / "golden" / "generated.expected"


def conditions(policy: Policy) -> dict[str, Expr]:
    """One condition of each rule, by name."""
    found: dict[str, Expr] = {}
    for rule in policy.model.rules:
        for condition in (rule.conditions or {}).values():
            found.setdefault(rule.name, condition)
    return found


def generated(policy: Policy) -> str:
    """All conditions of a policy in both their forms, as text."""
    rows = []
    for name, condition in sorted(conditions(policy).items()):
        for form in ("true", "false"):
            text, _ = source_of(form, condition)
            rows.append(f"# {name}, {form}\n{text}")
    return "\n".join(rows)


def test_generated_text() -> None:
    """What the conditions of a policy become is what a reviewer read last."""
    text = "\n".join(generated(Policy.load(ROOT / "policies" / name)) for name in ("clinic", "studio"))
    if os.environ.get("BYLAW_GOLDEN") == "rewrite":
        EXPECTED.write_text(text, encoding="utf-8")

    assert text == EXPECTED.read_text(encoding="utf-8")


def test_the_same_policy_gives_the_same_text() -> None:
    """Whatever else the policy holds, a condition gives the same text."""
    alone = "resource r { actions a attributes { n: int } }\nallow x: anyone to r.a when resource.n > 1\n"
    more = "allow b: anyone to r.a when resource.n < 9 or resource.n == 4\n"

    one, other = conditions(Policy.parse(alone))["x"], conditions(Policy.parse(more + alone))["x"]

    assert one == other
    assert source_of("true", one) == source_of("true", other)


def test_text_of_the_policy_is_data() -> None:
    """A string that looks like code is a string."""
    evil = "\\\") or __import__('os').abort() or (\\\""
    policy = Policy.parse(
        f'resource r {{ actions a attributes {{ s: string }} }}\nallow x: public to r.a when resource.s == "{evil}"'
    )
    facts = Facts({"resources": {"r:1": {"attributes": {"s": "x"}}}}, policy)

    assert not policy.decide(Request(subject="user:ann", action="a", resource="r:1"), facts).allowed


def test_a_program_that_is_gone_leaves_nothing() -> None:
    """Loading a policy again and again does not grow the process by its generated texts."""
    gc.collect()
    before = len(linecache.cache)
    for _ in range(5):
        policy = Policy.load(ROOT / "policies" / "studio")
        facts = Facts.load(ROOT / "policies" / "studio" / "facts.yaml", policy)
        policy.decide(Request("acme", "user:ann", "update", "task:t1"), facts)
        del policy, facts
    gc.collect()

    assert len(linecache.cache) <= before


def test_generated_code_names_its_place_in_the_policy() -> None:
    """A frame of a compiled condition says which condition of which file it is."""
    policy = Policy.parse(
        "resource r { actions a attributes { n: int } }\nallow x: anyone to r.a when resource.n > 1\n"
    )

    compiled = policy.program.compiler.true(conditions(policy)["x"])

    assert " policy.bylaw:2:29 true " in compiled.__code__.co_filename
    assert "return" in linecache.getline(compiled.__code__.co_filename, 2)
