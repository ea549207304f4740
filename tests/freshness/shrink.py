"""Makes a run that breaks a law shorter, while it still breaks the same one.

Moves are left out in ever smaller runs of them, and the rest is played again. A move that no longer makes sense does
nothing; gates that nobody waits for any more are left out with the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from tests.freshness.episode import Move, World
from tests.freshness.oracle import ViolationError
from tests.freshness.setting import Setting

MOST_S: Final = 60.0


def replay(setting: Setting, moves: Sequence[Move], *, is_finished: bool, is_traced: bool = False) -> World:
    """Make these moves in a new world; the first law that is broken is in `World.broken`.

    Args:
        is_finished: let everything come to an end after them.
    """
    world = World(setting, is_traced=is_traced)
    with world.running():
        try:
            for move in moves:
                world.make(move)
            if is_finished:
                world.finish()
        except ViolationError as error:
            world.broken = error
    return world


def shrink(setting: Setting, moves: Sequence[Move], law: str, *, most_s: float = MOST_S) -> list[Move]:
    """Leave out what can be left out, for at most so long."""
    is_finished = law.startswith("every_")
    deadline = time.monotonic() + most_s

    def breaks(fewer: Sequence[Move]) -> bool:
        broken = replay(setting, fewer, is_finished=is_finished).broken
        return broken is not None and broken.law == law

    kept = list(moves)
    size = max(1, len(kept) // 2)
    while time.monotonic() < deadline:
        before = len(kept)
        start = 0
        while start < len(kept) and time.monotonic() < deadline:
            fewer = kept[:start] + kept[start + size :]
            if fewer and breaks(fewer):
                kept = fewer
            else:
                start += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
