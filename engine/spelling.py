"""The nearest known name to a mistyped one, for "did you mean"."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `name`, or None where none is near enough to suggest."""
    known = sorted(set(candidates))
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    if name.lower() in folded:
        return folded[name.lower()]
    found = get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None
