"""What is reported of a wrong policy: all of it, in order, at the right place, with a cure that cures."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest

from engine.diagnostics import CODES, LIMIT, Diagnostic, concise, errors, render, sort
from engine.loading import compile_sources
from engine.source import Source, Span
from tests.test_golden import GOLDEN, chunks, findings

CHUNKS = [chunk for path in sorted(GOLDEN.glob("*.bylaw")) for chunk in chunks(path)]
FIXED = [(chunk.source, found) for chunk in CHUNKS if chunk.marks for found in findings(chunk.source) if found.fix]


def found_in(*texts: str) -> list[Diagnostic]:
    """Check files together, called `a.bylaw`, `b.bylaw` …; return the errors."""
    sources = [Source(f"{chr(ord('a') + index)}.bylaw", text) for index, text in enumerate(texts)]
    return errors(compile_sources(sources)[1])


def lines(found: list[Diagnostic]) -> list[str]:
    return [f"{d.span.at} {d.code}" for d in found]


# --- all of them, in order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code in CODES if code.startswith("E")])
def test_every_error_has_an_example_and_its_cure(code: str) -> None:
    """For every kind of error the golden files show a policy that has it, and next to that one that is cured of it."""
    wrong = [index for index, chunk in enumerate(CHUNKS) if any(mark[1] == code for mark in chunk.marks)]

    assert wrong
    assert not any(CHUNKS[index + 1].marks for index in wrong)


def test_all_errors_of_all_files_come_in_one_run() -> None:
    """Errors of every stage and of every file are reported together, by file and place."""
    found = found_in(
        "deny d: anyone to t.fly\ndefine x = 1 +\ncontext { a: into }\n",
        "resource p in q {\n",
        "tenant t { actions read, read }\nrole r on t { can read when 3 }\n",
    )

    assert lines(found) == ["a.bylaw:3 E0100", "b.bylaw:1 E0100", "c.bylaw:1 E0201", "c.bylaw:2 E0300"]


def test_files_come_by_name_and_places_by_position() -> None:
    """The order in which files are given means nothing."""
    texts = {"z.bylaw": "tenant t { actions read, read }", "b/a.bylaw": "context { a: int, a: int, b: into }"}
    sources = [Source(name, text) for name, text in texts.items()]

    found = errors(compile_sources(sources)[1])

    assert found == errors(compile_sources(reversed(sources))[1]) == sort(reversed(found))
    assert [(d.span.source.name, d.code) for d in found] == [
        ("b/a.bylaw", "E0201"),
        ("b/a.bylaw", "E0200"),
        ("z.bylaw", "E0201"),
    ]


def test_names_are_not_missed_while_a_file_does_not_parse() -> None:
    """What a broken declaration may have declared is not reported as unknown; what is wrong otherwise is."""
    found = found_in(
        "resource page in t [ actions read ]\ntenant t { actions read, read }\nallow a: anyone to page.read\n"
    )

    assert lines(found) == ["a.bylaw:1 E0100", "a.bylaw:2 E0201"]


def test_a_finding_is_reported_once() -> None:
    """A condition that is checked for many actions and principals reports its error once."""
    found = found_in(
        "tenant t { actions a, b, c }\nprincipal user { attributes { x: int } }\n"
        "principal service { attributes { x: int } }\nallow r: anyone to t.* when tenant.y and principal.x"
    )

    assert lines(found) == ["a.bylaw:4 E0301", "a.bylaw:4 E0300"]


def test_no_more_than_help_anybody() -> None:
    """Of very many errors the first are reported."""
    found = found_in("".join(f"context {{ a{number}: into }}\n" for number in range(LIMIT + 50)))

    assert len(found) == LIMIT
    assert [d.span.line for d in found[:2]] == [1, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system { actions a  attributes { b: int } }\nallow x anyone to t.read\n", [1, 2]),
        ("define a = principal is owner\nallow x anyone to t.read\n", [2, 2]),
        ("alow x: anyone to t.read\nalow y: anyone to t.read\ntenant 3\n", [1, 3]),
        ("role r on t { can read, }\n  deny d anyone to t.read\ndeny e anyone to t.read\n", [1, 3]),
    ],
)
def test_after_a_syntax_error_the_next_declaration_is_read(text: str, expected: list[int]) -> None:
    """An error takes no other declaration with it, not even if the declaration after it is where it shows."""
    assert [d.span.line for d in found_in(text) if d.code == "E0100"] == expected


# --- the place --------------------------------------------------------------------------------------------------------


BEFORE = [
    "",
    "\t",
    " \t \t",
    'define x = tenant.id == "日本語" ',
    'define y = tenant.id == "😀é" ',
    'define z = "e\u0301" == "\t" ',
]


@pytest.mark.parametrize("before", BEFORE)
def test_columns_count_characters(before: str) -> None:
    """A column counts characters, however wide they are on the screen or in bytes, a tab for one."""
    line = f"{before}allow a: anyone to t.read when resource.id == princpal"

    (found,) = found_in(f"tenant t {{ actions read }}\n{line}\n")

    place = found.as_json()
    column = line.index("princpal") + 1
    assert (place["line"], place["column"]) == (2, column)
    assert (place["end_line"], place["end_column"]) == (2, column + len("princpal"))
    assert concise([found]) == f"a.bylaw:2:{column}: E0200 unknown name `princpal`"


@pytest.mark.parametrize("before", BEFORE)
def test_carets_stand_below_the_span(before: str) -> None:
    """The line is shown with a space for each tab, and the carets stand below what is meant."""
    (found,) = found_in(
        f"tenant t {{ actions read }}\n{before}allow a: anyone to t.read when resource.id == princpal\r\n"
    )

    shown, carets = render([found]).split("\n")[3:5]

    assert shown == f"2 | {before.replace(chr(9), ' ')}allow a: anyone to t.read when resource.id == princpal"
    assert carets.replace("|", " ").rstrip("^").strip() == ""
    assert shown[carets.index("^") :] == "princpal"
    assert carets.count("^") == len("princpal")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("role r on t {", (1, 13, 1, 14)),
        ("role r on t {\n\n# no more\n", (1, 13, 1, 14)),
        ("tenant", (1, 1, 1, 7)),
        ("tenant t { actions a }\ncontext { a: int,\n  a: int }\ncontext {\n}", (3, 3, 3, 4)),
        ("context { b: int }\ncontext {\n}", (2, 1, 3, 2)),
        ('define a = "no end\ncontext { b: int }', (1, 12, 1, 19)),
        ('define a = "\\x" == ""', (1, 13, 1, 15)),
    ],
)
def test_spans_are_as_small_as_they_can_be(text: str, place: tuple[int, int, int, int]) -> None:
    """A finding spans what is wrong and no more; where the text ends too early, the last word before that."""
    found = found_in(text)[0].as_json()

    assert (found["line"], found["column"], found["end_line"], found["end_column"]) == place


def test_a_span_over_several_lines_is_underlined_to_the_end_of_its_first() -> None:
    """Of a declaration over several lines the first is shown."""
    (found,) = found_in("context { b: int }\ncontext {\n  a: int\n}\n")

    assert render([found]).split("\n")[3:] == ["2 | context {", "  | ^^^^^^^^^"]


def test_of_a_very_long_line_the_part_around_is_shown() -> None:
    """A line of thousands of characters is cut to what is around the place, and the caret stands where it should."""
    many = " or ".join(f'resource.id == "{number}"' for number in range(90))
    (found,) = found_in(
        f"tenant t {{ actions read }}\nallow a: anyone to t.read when {many} or princpal == 3 or {many}"
    )

    shown, carets = render([found]).split("\n")[3:5]

    assert len(shown) < 200
    assert shown[carets.index("^") :].startswith("princpal == 3 or")
    assert carets.count("^") == len("princpal")


def test_colours_change_nothing_else() -> None:
    """With colours the text is the same but for the escapes of a terminal."""
    found = found_in("tenant t { actions read, read }")

    coloured = render(found, colour=True)

    assert coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", "") == render(found)
    assert coloured.count("\x1b[1;31m") == coloured.count("\x1b[0m") == 2


# --- the cure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("tennant t", "tenant"),
        ("tenant t { actons read }", "actions"),
        ("resource a in tenannt", "tenant"),
        ("resource a { actions read  attributes { b: sting } }", "string"),
        ("tenant t { actions read }\nrole r on t { can raed }", "read"),
        ("tenant t { actions read }\nallow a: anyone to t.raed", "t.read"),
        ("tenant t { actions read }\nallow a: anyone to *.raed", "*.read"),
        ("resource ns.page { actions read }\nallow a: anyone to ns.pgae.read", "ns.page.read"),
        ("resource page { actions read }\nrole Editor on page {}\nallow a: editor to page.read", "Editor"),
        ("resource page { actions read }\nallow a: anyone to page.read when resorce.id == \"x\"", "resource"),
        ("resource page { actions read }\nallow a: anyone to page.read when hour(now(), \"UTC\") < size([])\n"
         "define b = wekday(now(), \"UTC\") == 1\nallow c: anyone to page.read when b", "weekday"),
        ("context { mfa: bool }\nresource page { actions read }\nallow a: anyone to page.read when context.mfq", "mfa"),
    ],
)  # fmt: skip
def test_did_you_mean(text: str, fix: str) -> None:
    """The nearest known name of the right kind is suggested, as it would have to be written there."""
    (found,) = found_in(text)

    assert found.fix == fix
    assert found.help == f"did you mean `{fix}`?"


@pytest.mark.parametrize("text", ["zzz t", "resource a in qqqqq", "resource a { actions read }\nrole r on a { can x }"])
def test_nothing_is_suggested_that_is_not_near(text: str) -> None:
    """Where no known name is like it, there is no suggestion."""
    (found,) = found_in(text)

    assert found.fix is None


@pytest.mark.parametrize(("source", "found"), FIXED, ids=[f"{f.span.at}-{f.fix}" for _, f in FIXED])
def test_fixes_cure(source: Source, found: Diagnostic) -> None:
    """Writing the fix in the place of the span, as an editor does, cures that error and makes no new one."""
    assert found.fix is not None
    cured = source.text[: found.span.start] + found.fix + source.text[found.span.end :]

    before = Counter(d.message for d in findings(source))
    after = Counter(d.message for d in findings(Source(source.name, cured)) if d.severity == "error")

    assert after[found.message] < before[found.message]
    assert after <= before


def test_json_has_what_the_contract_says() -> None:
    """A finding as JSON: code, severity, message, place from 1, and the fix, or null."""
    (found,) = found_in("tenant t { actons read }")

    assert json.loads(json.dumps(found.as_json())) == {
        "code": "E0100",
        "severity": "error",
        "message": "expected `actions`, `attributes` or `}`, but there is `actons`",
        "file": "a.bylaw",
        "line": 1,
        "column": 12,
        "end_line": 1,
        "end_column": 18,
        "fix": "actions",
        "help": "did you mean `actions`?",
    }


def test_codes_are_plain() -> None:
    """A message is one sentence in the words of the language: no capital, no point, no name of a Python class."""
    messages = [found.message for chunk in CHUNKS for found in findings(chunk.source)]

    assert messages
    for message in messages:
        assert not message[0].isupper()
        assert not message.endswith(".")
        assert "Node" not in message
        assert "None" not in message


def test_sorting_is_by_place_and_merges_doubles() -> None:
    """What is found twice at one place is shown once, and what is earlier in the text comes first."""
    source = Source("x", "abcdef")
    late, early = (Diagnostic("E0200", "unknown name `x`", Span(source, at, at + 1)) for at in (4, 1))

    found = sort([late, early, late])

    assert found == [early, late]
    assert all(a.span.start < b.span.start for a, b in pairwise(found))
