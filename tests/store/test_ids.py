"""Ids: what is accepted, how refusals read, and what new ones look like."""

from __future__ import annotations

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import RefusedError
from store.ids import MAX_ID_BYTES, check_id, new_id, split_ref

GOOD = [
    "acme",
    "p1",
    "ann@x.org",
    "a/b?c#d%20",
    "a:b",
    "42",
    "-",
    "\u00e9cole",
    "日本語",
    "Ελλάδα",
    "עברית",
    "😀",
    "x" * MAX_ID_BYTES,
    "é" * (MAX_ID_BYTES // 2),
]
BAD = [
    ("", "it is empty: choose at least one character"),
    ("a b", "it has a space, U+0020 SPACE, at character 2: leave it out"),
    ("a\u00a0b", "it has a space, U+00A0 NO-BREAK SPACE, at character 2: leave it out"),
    ("a\0", "it has a control character, U+0000, at character 2: leave it out"),
    ("\n", "it has a control character, U+000A, at character 1: leave it out"),
    ("a\x7f", "it has a control character, U+007F, at character 2: leave it out"),
    ("a\u0085", "it has a control character, U+0085, at character 2: leave it out"),
    ("a\u2028", "it has a line break, U+2028 LINE SEPARATOR, at character 2: leave it out"),
    ("a\u200b", "it has a character that does not show, U+200B ZERO WIDTH SPACE, at character 2: leave it out"),
    ("a\u202e", "it has a character that does not show, U+202E RIGHT-TO-LEFT OVERRIDE, at character 2: leave it out"),
    ("a\u2066", "it has a character that does not show, U+2066 LEFT-TO-RIGHT ISOLATE, at character 2: leave it out"),
    (
        "\ufeffa",
        "it has a character that does not show, U+FEFF ZERO WIDTH NO-BREAK SPACE, at character 1: leave it out",
    ),
    ("a\u3164", "it has a character that does not show, U+3164 HANGUL FILLER, at character 2: leave it out"),
    ("a\ud800", "it has half a character, U+D800, at character 2: leave it out"),
    ("e\u0301", "it has U+0301 COMBINING ACUTE ACCENT, which is not as NFC writes it: put it into NFC"),
    ("\u212b", "it has U+212B ANGSTROM SIGN, which is not as NFC writes it: put it into NFC"),
    ("x" * (MAX_ID_BYTES + 1), "it is longer than 256 bytes in UTF-8: choose a shorter one"),
    ("é" * (MAX_ID_BYTES // 2) + "x", "it is longer than 256 bytes in UTF-8: choose a shorter one"),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_people_choose_is_accepted(text: str) -> None:
    """An id that shows, in its one spelling, is taken as it is."""
    assert check_id(text, "it") == text


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_refusal_names_the_character_and_the_cure(text: str, said: str) -> None:
    """What must not be stored is refused in a sentence that says what to do."""
    with pytest.raises(RefusedError) as refused:
        check_id(text, "it")

    assert (refused.value.code, refused.value.message) == ("bad_id", said)


@given(st.text(st.characters()))
def test_what_is_accepted_can_be_stored_and_read_aloud(text: str) -> None:
    """Whatever is accepted is NFC, can be written as UTF-8 without NUL, and has neither space nor format character."""
    try:
        check_id(text, "it")
    except RefusedError:
        return

    assert unicodedata.is_normalized("NFC", text)
    assert 1 <= len(text.encode()) <= MAX_ID_BYTES
    assert not any(character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text)


@pytest.mark.parametrize("ref", ["ann", "user:", ":ann", "us er:ann", "user:a b", ""])
def test_a_reference_has_a_type_and_an_id(ref: str) -> None:
    """Both sides of the first colon are checked."""
    with pytest.raises(RefusedError):
        split_ref(ref, "it")


def test_a_reference_is_split_at_the_first_colon() -> None:
    """An id may have colons, a type may not."""
    assert split_ref("task:a:b", "it") == ("task", "a:b")


def test_new_ids_sort_by_time() -> None:
    """A new id is a UUIDv7: of two made in different milliseconds the later one sorts later."""
    moments = iter((0, 1_000_000, 2**47 * 1_000_000, (2**48 - 1) * 1_000_000))
    made = [new_id(moments.__next__) for _ in range(4)]

    assert made == sorted(made)
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {(7, uuid.RFC_4122)}
    assert uuid.UUID(made[1]).int >> 80 == 1


def test_new_ids_differ() -> None:
    """Ids that are made in one millisecond are not the same."""
    assert len({new_id(lambda: 0) for _ in range(100)}) == 100
