"""Two lanes of one service, on a loop that the tests of a file share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import uvloop

from sidecar import slow_lane
from tests.sidecar.lanes.laws import Alone, each_alone
from tests.sidecar.lanes.wires import Lanes, running

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """Runs on the loop of the lanes.

    Args:
        alone: what aiohttp's lane says to everything, each on a connection of its own.
    """

    runner: asyncio.Runner
    lanes: Lanes
    alone: Alone

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)


@pytest.fixture(scope="module")
def short_lingering() -> Iterator[None]:
    """The rest of a body that is refused is waited for no longer than a blink, and refusals are not logged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(slow_lane.OPTIONS, "lingering_time", 0.01)
        patch.setattr(logging.getLogger("bylaw.http"), "disabled", True)
        yield


@pytest.fixture(scope="module")
def opened(short_lingering: None) -> Iterator[Asking]:
    """The example studio, to be asked over connections in memory."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        served = running()
        lanes = runner.run(served.__aenter__())
        yield Asking(runner, lanes, runner.run(each_alone(lanes)))
        runner.run(served.__aexit__(None, None, None))


@pytest.fixture
def asking(opened: Asking) -> Iterator[Asking]:
    """The same, with nobody connected."""
    yield opened
    opened.run(opened.lanes.leave())
