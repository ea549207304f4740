"""Whatever comes in as a policy: diagnostics, never an exception, never a long wait."""

import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.diagnostics import concise, render
from engine.loading import compile_sources
from engine.source import Source

POLICIES = Path(__file__).parents[2] / "policies"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(POLICIES.rglob("*.bylaw"))]
ALPHABET = string.printable + "é\u2028\x00\ud800😀"


def survive(text: str) -> None:
    """Compile a text and render what is found: no exception may come of it."""
    _, found = compile_sources([Source("p.bylaw", text)])
    render(found)
    concise(found)
    for diagnostic in found:
        diagnostic.as_json()


def mutations(text: str, chance: random.Random) -> Iterator[str]:
    """Texts near to a policy: pieces cut, doubled, moved, words swapped, characters changed."""
    words = text.split(" ")
    while True:
        start, end = sorted(chance.randrange(len(text)) for _ in range(2))
        end = min(end, start + 200)
        at = chance.randrange(len(text))
        yield text[:start] + text[end:]
        yield text[:end] + text[start:end] + text[end:]
        yield text[:at] + chance.choice(ALPHABET) + text[at + 1 :]
        yield text[:at] + text[start:end] + text[at:]
        swapped = list(words)
        for _ in range(chance.randrange(1, 4)):
            first, second = chance.randrange(len(words)), chance.randrange(len(words))
            swapped[first], swapped[second] = swapped[second], swapped[first]
        yield " ".join(swapped)


@pytest.mark.parametrize("seed", range(8))
def test_random_text_never_crashes(seed: int) -> None:
    """Random characters give diagnostics and no exception."""
    chance = random.Random(seed)

    for _ in range(60):
        survive("".join(chance.choices(ALPHABET, k=chance.randrange(400))))


@pytest.mark.parametrize("seed", range(8))
def test_random_words_never_crash(seed: int) -> None:
    """The language's own words in any order give diagnostics and no exception."""
    chance = random.Random(seed)
    words = sorted({word for text in TEXTS for word in text.split()})

    for _ in range(40):
        survive(" ".join(chance.choices(words, k=chance.randrange(120))))


@pytest.mark.parametrize("seed", range(len(TEXTS)))
def test_mutated_policies_never_crash(seed: int) -> None:
    """A policy with pieces cut, doubled, moved or changed gives diagnostics and no exception."""
    chance = random.Random(seed)

    for _, text in zip(range(40), mutations(TEXTS[seed], chance), strict=False):
        survive(text)


@pytest.mark.parametrize(
    "text",
    [  # each took a stack, or minutes, or gigabytes from some parser
        "allow a: anyone to x.y when " + "(" * 50_000,
        "allow a: anyone to x.y when " + "not " * 50_000 + "true",
        "allow a: anyone to x.y when " + "[" * 50_000,
        "allow a: anyone to x.y when " + " + ".join(["1"] * 50_000) + " == 1",
        "allow a: anyone to x.y when " + " and ".join(["true"] * 50_000),
        "resource a { attributes { x: " + "set<" * 50_000 + "int" + ">" * 50_000 + " } }",
        "resource " + ".".join(["a"] * 50_000),
        'test "t" { user a { x: ' + "[" * 50_000,
        "{" * 100_000,
        '"' * 100_000,
        "\\" * 100_000,
        "#" + "x" * 1_000_000,
        "9" * 100_000,
        "allow a: anyone to x.y because " + '"' + "\\u{41}" * 20_000 + '"',
        "".join(f"define d{i} = d{i + 1} and d{i + 1}\n" for i in range(60))
        + "define d60 = true\nresource r { actions a }\nallow a: anyone to r.a when d0",
        "".join(f"define d{i} = d{(i + 1) % 500}\n" for i in range(500)),
        "".join(f"role r{i} on tenant is r{(i + 1) % 500} {{}}\n" for i in range(500)),
        "".join(f"resource t{i} in t{i + 1} {{ actions a }}\n" for i in range(400)) + "resource t400",
    ],
    ids=lambda text: text[:30],
)
def test_nothing_nests_without_bound(text: str) -> None:
    """What is nested, chained or repeated beyond measure is refused or read, and no stack runs out."""
    survive(text)
