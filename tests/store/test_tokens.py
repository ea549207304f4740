"""Tokens: what they hold, which of two lines is the later, and what is none."""

from __future__ import annotations

from random import Random

import pytest

from store.queries import line_of
from store.tokens import Line, Token, tenant_digest

STORE = "0123456789abcdef" * 2
OLD, NEW = line_of(STORE, "7412345678901234567:0000000A"), line_of(STORE, "7412345678901234567:0000000B")
TOKENS = (
    Token(Line(STORE), 0, 0),
    Token(OLD, 1, 127, tenant_digest("acme"), 128),
    Token(NEW, 2**40, 2**62, tenant_digest("é"), 0),
)


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_written_and_read(token: Token) -> None:
    """What is written is read again, fits into a header, and tells nobody a tenant's name."""
    written = str(token)

    assert Token.parse(written) == token
    assert set(written) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(written) < 100


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_a_slip_of_the_pen(token: Token) -> None:
    """One character changed, lost or doubled makes it none."""
    written = str(token)
    rng = Random(1)

    for at in range(len(written)):
        other = rng.choice([letter for letter in "abcXYZ019-_" if letter != written[at]])
        for wrong in (
            written[:at] + other + written[at + 1 :],
            written[:at] + written[at + 1 :],
            written[:at] + written[at] * 2 + written[at + 1 :],
        ):
            if wrong != written:
                with pytest.raises(ValueError, match="revision token"):
                    Token.parse(wrong)


def test_a_server_that_took_over() -> None:
    """Of one cluster the greater timeline is the later; of two clusters, or two stores, neither is."""
    elsewhere = line_of(STORE, "7400000000000000000:0000000C")
    another = line_of("f" * 32, "7412345678901234567:0000000C")

    assert NEW.took_over_from(OLD)
    assert not any(
        one.took_over_from(other)
        for one, other in ((OLD, NEW), (NEW, NEW), (elsewhere, NEW), (NEW, elsewhere), (another, NEW))
    )
