"""Bodies: what is read, what is refused, each bound just within and just past."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.errors import PublicError
from sidecar.strict_json import parse

#: A loaded machine is no finding.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(body: bytes) -> PublicError:
    with pytest.raises(PublicError) as caught:
        parse(body)
    return caught.value


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.property
@UNHURRIED
@given(values)
def test_reading_what_was_written_is_the_identity(value: object) -> None:
    """Whatever is within the bounds is read as the standard library reads it."""
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=2).encode()) == value


@pytest.mark.property
@UNHURRIED
@given(st.binary(max_size=60) | st.text('{}[]":,\\ua1e9-. \n', max_size=40).map(str.encode))
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but a `PublicError` ever comes out of a body that cannot be read."""
    with suppress(PublicError):
        parse(body)


def test_depth() -> None:
    """Sixteen levels are read, the body itself being the first; seventeen are refused."""
    assert parse(nested(16)) is not None

    assert refused(nested(17)).code == "too_large"


def test_brackets_in_strings_are_no_depth() -> None:
    """Only real nesting counts."""
    assert parse(json.dumps({"a": "{[" * 40}).encode()) == {"a": "{[" * 40}


def test_bottomless_nesting_is_refused() -> None:
    """A body that is nothing but brackets is an error, not a crash."""
    assert refused(b"[" * 200_000).code == "too_large"


def test_members() -> None:
    """An object has up to 64 members."""
    assert len(parse(json.dumps({str(n): n for n in range(64)}).encode())) == 64

    assert refused(json.dumps({"a": {str(n): n for n in range(65)}}).encode()).code == "too_large"


def test_items() -> None:
    """A list has up to 1,000 items."""
    assert len(parse(json.dumps([1] * 1000).encode())) == 1000

    assert refused(json.dumps({"a": [1] * 1001}).encode()).code == "too_large"


@pytest.mark.parametrize("letter", ["a", "é", "€", "😀"])
def test_strings_are_measured_in_bytes(letter: str) -> None:
    """A string has up to 4,096 bytes of UTF-8, however it is written."""
    size = len(letter.encode())
    within, past = letter * (4096 // size), letter * (4096 // size + 1)

    for write_ascii in (True, False):
        assert parse(json.dumps([within], ensure_ascii=write_ascii).encode()) == [within]
        assert refused(json.dumps([past], ensure_ascii=write_ascii).encode()).code == "too_large"


def test_names_are_strings_too() -> None:
    """The bound of strings holds for names of members."""
    assert refused(json.dumps({"n" * 4097: 1}).encode()).code == "too_large"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "b": 2, "a": null}',
        b'{"x": [{"a": 1, "a": 2}]}',
        b'{"a": 1, "\\u0061": 2}',
    ],
)
def test_a_member_twice_is_refused(body: bytes) -> None:
    """An object that names a member twice is refused, at any depth and however it is spelt, by name."""
    assert '"a"' in refused(body).message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
def test_what_is_no_finite_number_is_refused(number: str) -> None:
    """Neither words for numbers nor numbers past all bounds are read."""
    assert refused(f'{{"a": {number}}}'.encode()).code == "bad_request"


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    """Python's bound on reading whole numbers is an error of the request."""
    assert refused(b"[" + b"9" * 5000 + b"]").code == "bad_request"


@pytest.mark.parametrize("body", [b'["\\ud800"]', b'["\\uDFFFx"]', b'{"\\ud83d": 1}', b'["\\ude00\\ud83d"]'])
def test_half_a_surrogate_pair_is_refused(body: bytes) -> None:
    """A lone surrogate is refused in values and names."""
    assert "surrogate" in refused(body).message


def test_whole_pairs_and_escaped_backslashes_are_read() -> None:
    """A whole pair is its character, and the text `\\ud800` is only text."""
    assert parse(b'["\\ud83d\\ude00", "\\\\ud800"]') == ["😀", "\\ud800"]


@pytest.mark.parametrize(
    "body",
    [b"", b"  \n", b"{", b"{'a': 1}", b'{"a": 1} x', b'{"a": 1}{}', b"[1,]", b'["\n"]', b"nil", b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Whatever is not one JSON text is refused."""
    assert refused(body).code == "bad_request"


@pytest.mark.parametrize("body", [b'["\xff"]', b'["\xed\xa0\x80"]', '{"a": 1}'.encode("utf-16")])
def test_what_is_no_utf8_is_refused(body: bytes) -> None:
    """Other encodings are refused, and so is a surrogate as bytes."""
    assert refused(body).code == "bad_request"


def test_blanks_around_it_are_allowed() -> None:
    """The blanks of JSON may stand around a body, others not."""
    read: Any = parse(b' \t\r\n{"a": [1.5, true, null]}\n')

    assert read == {"a": [1.5, True, None]}
    assert refused("\u00a0{}".encode()).code == "bad_request"
