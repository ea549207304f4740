"""The seeded mistakes of `python -m tests.mutants` keep up with the code that they are seeded into."""

import pytest

from tests.mutants import MISTAKES, ROOT, Mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: str(mistake.name))
def test_a_mistake_can_be_seeded(mistake: Mistake) -> None:
    """The text that a seeded mistake replaces stands in its file just once."""
    assert (ROOT / "engine" / mistake.file).read_text(encoding="utf-8").count(mistake.text) == 1
