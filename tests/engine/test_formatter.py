"""The formatter's laws, over every policy there is and over variants of them: the layout says nothing, and is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import PolicyError, nodes
from engine.formatter import format_source
from engine.lexer import tokenize
from engine.loading import compile_sources
from engine.parser import parse
from engine.source import Source
from engine.written import KEYWORDS, quote

ROOT = Path(__file__).parents[2]
POLICIES = sorted((ROOT / "policies").rglob("*.bylaw"))
FILES = [*POLICIES, *sorted((ROOT / "tests").rglob("*.bylaw"))]


def parseable() -> dict[str, str]:
    """Read the files without syntax errors; golden ones are several texts."""
    found = {}
    for path in FILES:
        for number, text in enumerate(path.read_text("utf-8").split("---\n")):
            if not parse(Source("x", text))[1]:
                found[f"{path.relative_to(ROOT)}:{number}"] = text
    return found


TEXTS = parseable()


def formatted(text: str) -> str:
    return format_source(Source("x.bylaw", text))


def comments(text: str) -> list[str]:
    source = Source("x", text)
    found: list[str] = []
    end = 0
    for token in tokenize(source)[0]:
        found += [comment.rstrip() for comment in re.findall(r"#[^\n]*", text[end : token.span.start])]
        end = token.span.end
    return found


def tokens(text: str) -> list[tuple[str, str]]:
    """List the tokens of a text but for parentheses; outside tests a quoted name is no other token than a bare one."""
    source = Source("x", text)
    tests = [d.span for d in parse(source)[0].declarations if isinstance(d, nodes.TestNode)]
    found: list[tuple[str, str]] = []
    for token in tokenize(source)[0]:
        is_in_test = any(span.start <= token.span.start < span.end for span in tests)
        if not (token.is_punct("(") or token.is_punct(")")):
            found.append((token.text, token.kind if is_in_test else ""))
    return found


def check_laws(text: str) -> None:
    """Format a text, and see that nothing but its layout has changed, and that this is final."""
    module, found = parse(Source("x", text))
    assert found == []

    result = formatted(text)

    assert parse(Source("x", result)) == (module, [])
    assert formatted(result) == result
    assert comments(result) == comments(text)
    assert tokens(result) == tokens(text)
    assert re.search(r"[ \t\r]$|\n\n\n|\A\n|\t", result, re.MULTILINE) is None or "\t" in "".join(comments(text))
    assert result == "" or result.endswith("\n")


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_laws(text: str) -> None:
    """Formatting keeps the tree, the comments and the tokens, and formatting twice is formatting once."""
    check_laws(text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_findings_stay(text: str) -> None:
    """What lint finds in a text it finds in the formatted one, if elsewhere."""

    def found(text: str) -> list[tuple[str, str]]:
        _, diagnostics = compile_sources([Source("x", text)])
        return sorted((d.code, re.sub(r"\bx:\d+", "x", d.message)) for d in diagnostics)

    assert found(formatted(text)) == found(text)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shipped_policies_are_formatted(path: Path) -> None:
    """The shipped policies, the example of the language's text among them, are in the canonical layout."""
    text = path.read_text("utf-8")

    assert formatted(text) == text


WHITE_SPACE = (" ", "  ", "\t", "\n", "\n\n", "\r\n", "\n\n\n   ")
GAPS = (*WHITE_SPACE, " # c\n", "#c#\r\n", "\n# own\n", "\n\n  # own\n\n", " # a\n# b\n")


def conditions(text: str) -> Iterator[nodes.ExprNode]:
    """List the conditions of a text and all their parts: where one stands, it may stand in parentheses."""
    for declaration in parse(Source("x", text))[0].declarations:
        match declaration:
            case nodes.RuleNode(when=when, unless=unless):
                yield from parts(when, unless)
            case nodes.RoleNode(cans=cans):
                yield from (part for can in cans for part in parts(can.when, can.unless))
            case nodes.AssignNode(when=when):
                yield from parts(when)
            case nodes.DefineNode(condition=condition):
                yield from parts(condition)
            case _:
                pass


def parts(*expressions: nodes.ExprNode | None) -> Iterator[nodes.ExprNode]:
    for expression in [each for each in expressions if each is not None]:
        yield expression
        match expression:
            case nodes.BoolNode(items=items) | nodes.ListNode(items=items) | nodes.CallNode(args=items):
                yield from parts(*items)
            case nodes.CompareNode(left=left, right=right) | nodes.ArithNode(left=left, right=right):
                yield from parts(left, right)
            case nodes.NotNode(item=item):
                yield from parts(item)
            case nodes.HasNode(path=path):
                yield path
            case _:
                pass


def with_parentheses(random: Random, text: str) -> str:
    """Put parentheses around some parts of conditions; they change nothing."""
    marks: list[tuple[int, str]] = []
    for part in conditions(text):
        pairs = random.choice((0, 0, 0, 1, 2))
        marks += [(part.span.start, "(" * pairs), (part.span.end, ")" * pairs)]
    for place, mark in sorted(marks, reverse=True):
        text = text[:place] + mark + text[place:]
    return text


@st.composite
def variants(draw: st.DrawFn) -> str:
    """Make a variant of a text: other white space, comments, longer names, parentheses that change nothing."""
    random = draw(st.randoms(use_true_random=False))
    text = with_parentheses(random, random.choice(list(TEXTS.values())))
    rate = random.choice((0.02, 0.1, 0.5))
    is_flat, grows = random.random() < 0.3, random.random() < 0.3
    made: list[str] = []
    end = 0
    for token in tokenize(Source("x", text))[0]:
        gap, word = text[end : token.span.start], text[token.span.start : token.span.end]
        if "#" not in gap:
            gap = " " if is_flat and gap else gap
            gap = random.choice(GAPS) if random.random() < rate else gap
        if grows and token.kind == "name" and word not in KEYWORDS and random.random() < rate:
            word += "_" + "x" * random.randint(1, 40)
        made += (gap, word)
        end = token.span.end
    return "".join(made)


@pytest.mark.property
@settings(max_examples=100, deadline=None)
@given(variants())
def test_laws_of_variants(text: str) -> None:
    """The laws hold whatever the white space, and wherever comments and needless parentheses stand."""
    check_laws(text)


# --- cases ------------------------------------------------------------------------------------------------------------


def test_syntax_errors_are_raised() -> None:
    """A text with syntax errors is not touched: all of them are reported."""
    with pytest.raises(PolicyError) as caught:
        formatted("tenant 3\nrole x\n")

    assert caught.value.code == "bad_policy"
    assert [d.code for d in caught.value.diagnostics] == ["E0100", "E0100"]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\r\n"])
def test_nothing_stays_nothing(text: str) -> None:
    """A text without declarations and comments comes out empty."""
    assert formatted(text) == ""


def test_comments_alone() -> None:
    """A file may be a comment and nothing else."""
    assert formatted("  # a\n\n\n # b") == "# a\n\n# b\n"


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 62 + "a == b" + ")" * 62,
        "not (" * 31 + "a" + ")" * 31,
        "lower(" * 60 + "a" + ")" * 60 + " == b",
        "a in " + "[" * 60 + "b" + "]" * 60,
        "a or (b and (" * 15 + "c" + "))" * 15,
    ],
)
def test_deep_nesting(condition: str) -> None:
    """What the parser takes, the formatter takes, however deep."""
    check_laws(f"define x = {condition}")


def test_line_ends_of_other_systems() -> None:
    """Lines end in a line feed, whatever they ended in."""
    assert formatted("tenant a # x\r\n\r\n\r\ncontext { b: int }\r\n") == "tenant a  # x\n\ncontext { b: int }\n"


@pytest.mark.parametrize("value", ["", 'a"b\\c', "\n\t\r\0", "\u202e\u2028\x7f", "é😀 ", "#", "\u00a0"])
def test_strings_are_escaped_in_one_way(value: str) -> None:
    """A string reads as it did, and shows what else could not be seen."""
    written = quote(value)
    token = tokenize(Source("x", written))[0][0]

    assert (token.kind, token.text) == ("string", value)
    assert written.isprintable()


def test_quotes_stay_where_they_mean_something() -> None:
    """Quotes stay on keywords, in tests, on who is meant, and on what else would be a string or a word."""
    text = (
        'allow a: "anyone", "viewer" to "when".read, "page"."new"\n'
        'define b = "resource".x == "principal" and "q"."r" has "s"\n'
        'test "t" {\n  "org" "acme"\n  "ann" can "read" "acme"\n}\n'
    )

    assert formatted(text).replace("\n\n", "\n") == text.replace('"page".', "page.").replace('"s"', "s")
