"""What tests of freshness share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.freshness.services import deafness


@pytest.fixture
def deaf() -> Iterator[None]:
    """Sidecars of this process hear no hint, so that a test says when they poll."""
    with deafness():
        yield
