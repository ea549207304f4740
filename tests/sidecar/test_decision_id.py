"""Ids of decisions."""

from __future__ import annotations

import re

from sidecar.decision_id import DecisionIds

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def test_ids_are_ulids_that_ascend() -> None:
    """Ids of one millisecond and of later ones are ULIDs, each greater than the one before."""
    now = 1_700_000_000_000
    source = DecisionIds(clock=lambda: now * 1_000_000, randomness=lambda size: b"\x80" * size)

    ids = [source.next() for _ in range(3000)]
    now += 1
    ids += [source.next() for _ in range(3000)]

    assert ids == sorted(set(ids))
    assert all(ULID.fullmatch(each) for each in ids)


def test_the_time_is_in_front() -> None:
    """The first ten characters are the milliseconds since 1970, as the ULID specification writes them."""
    source = DecisionIds(clock=lambda: 1_469_918_176_385 * 1_000_000)

    assert source.next().startswith("01ARYZ6S41")


def test_processes_differ() -> None:
    """At the same instant two processes give different ids."""
    first, second = (DecisionIds(clock=lambda: 0) for _ in range(2))

    assert not {first.next() for _ in range(100)} & {second.next() for _ in range(100)}


def test_a_clock_that_stands_still_repeats_nothing() -> None:
    """After a million ids of one millisecond chance is drawn anew."""
    draws = iter(range(1 << 40, 1 << 41, 16))
    source = DecisionIds(clock=lambda: 0, randomness=lambda size: next(draws).to_bytes(size, "big"))
    ids = [source.next()]
    source._count = (1 << 20) - 3  # as if so many had been given

    ids += [source.next() for _ in range(64)]

    assert len(set(ids)) == len(ids)
    assert next(draws) == (1 << 40) + 32
