"""What reading the store answers: plain values, made by `reading` and known to whoever decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.facts import Grant
from store.streams import Position
from store.tokens import Line
from store.views import Views

#: A poll that knows nothing of a stream asks for its last changes, to know what they touched.
HISTORY: Final = 1000
UNKNOWN: Final = Position(-1, "")


@dataclass(frozen=True, slots=True)
class Change:
    """One revision of a stream: upon which head, to which, and the keys that it touched."""

    n: int
    before: str
    head: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """Which history was read. `former`: stores that this one was, before restores."""

    line: Line
    former: frozenset[str] = frozenset()
    is_replica: bool = False


@dataclass(frozen=True, slots=True)
class Polled:
    """The answer to a poll.

    Attributes:
        at: where `g`, `p` and the streams that moved are.
        changes: what moved them, in order; old ones may be gone.
        waiting: receipts that somebody waits for: the revisions to be reached, by stream.
        is_registered: whether who asked is known to those who wait.
    """

    moment: Moment
    at: Mapping[str, Position]
    changes: Mapping[str, list[Change]]
    waiting: Mapping[str, Mapping[str, int]]
    is_registered: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """Views, and the state that all of them were read at."""

    moment: Moment
    at: Mapping[str, Position]
    shared: Views = field(default_factory=dict)
    own: Views = field(default_factory=dict)
    placed: Mapping[tuple[str, str], tuple[Grant, ...]] = field(default_factory=dict)


def known_text(known: Mapping[str, Position]) -> str:
    """Write where streams were, for a poll. It may be long, and seldom changes: keep it."""
    return json.dumps([[stream, at.n, at.head[:8]] for stream, at in known.items()])
