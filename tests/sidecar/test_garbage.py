"""The collector of garbage: what is held is put aside, and garbage is not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from sidecar import garbage


class Thing:
    """Something that can refer to itself."""


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    gc.callbacks.remove(garbage._note)
    gc.unfreeze()


def test_what_outlives_a_long_collection_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked at by one full collection that takes long, and by none after it."""
    garbage.keep_short()
    monkeypatch.setattr(garbage, "LONG_S", 0.0)
    before = gc.get_freeze_count()
    held = [[number] for number in range(10_000)]

    gc.collect()

    assert gc.get_freeze_count() >= before + len(held)
    assert len(gc.get_objects(generation=2)) < 5_000


def test_a_short_collection_puts_nothing_aside() -> None:
    """As long as collections are short, all goes as Python has it."""
    garbage.keep_short()
    before = gc.get_freeze_count()

    gc.collect(0)
    gc.collect(1)
    gc.collect()

    assert gc.get_freeze_count() <= before


def test_garbage_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle that nothing refers to goes, also after much was put aside; and so does, without any collection, what was
    put aside itself."""
    garbage.keep_short()
    monkeypatch.setattr(garbage, "LONG_S", 0.0)
    aside, cycle = Thing(), Thing()
    gc.collect()
    vars(cycle)["me"] = other = Thing()
    vars(other)["me"] = other
    seen = weakref.ref(aside), weakref.ref(other)

    del aside, cycle, other
    gc.collect()

    assert [each() for each in seen] == [None, None]
