"""Python's collector of garbage, kept from going again and again through all that is held.

What a process holds of the facts is millions of small objects that live long. A full collection goes through all of
them, and nothing is answered meanwhile: more than a second with 100,000 principals. So what has outlived one that took
long is put aside (`gc.freeze`), and the next one is short. What is put aside goes as ever when nothing refers to it
any more; only cycles in it would stay, and facts have none.
"""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Final

#: A full collection that takes longer is followed by putting aside.
LONG_S: Final = 0.02
_FULL: Final = 2

_began = 0.0


def keep_short() -> None:
    """Keep collections short from now on, in this process. To be called when it is set up."""
    gc.collect()
    gc.freeze()
    if _note not in gc.callbacks:
        gc.callbacks.append(_note)


def _note(phase: str, info: dict[str, int]) -> None:
    global _began  # noqa: PLW0603  # there is one collector
    if info["generation"] != _FULL:
        return
    if phase == "start":
        _began = perf_counter()
    elif perf_counter() - _began > LONG_S:
        gc.freeze()
