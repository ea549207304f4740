"""The new enemy: no order of writes is turned round by whoever decides."""

from __future__ import annotations

import pytest

from tests.databases import StoreUrls
from tests.freshness.enemy import hunt

ROUNDS = 100


@pytest.mark.slow
def test_the_new_enemy_is_not_met(store_urls: StoreUrls) -> None:
    """What was taken away before something new was granted, or written, is nowhere seen after it, by whichever sidecar
    and in whichever way it was held; `python -m tests.freshness.enemy` looks for longer."""
    report = hunt(store_urls, ROUNDS)

    assert report.violations == []
    assert report.asked["allow"] == ROUNDS / 2  # before she lost it, she had it
    assert report.rounds == ROUNDS
