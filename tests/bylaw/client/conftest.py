"""The example studio as it is served, and both clients, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.bylaw.client.scripted import Asker, OnLoop, Waiting
from tests.sidecar.conftest import Client, serve, studio_settings

MakeAsker = Callable[..., Asker]


@pytest.fixture(scope="module")
def service() -> Iterator[Client]:
    """The example studio, as `bylaw dev` serves it."""
    with serve(studio_settings()) as client:
        yield client


@pytest.fixture(scope="module")
def url(service: Client) -> str:
    """Where it is."""
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture(params=[Waiting, OnLoop], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeAsker]:
    """Makes clients of one of the two kinds, and closes them."""
    made: list[Asker] = []

    def makes(url: str, **options: Any) -> Asker:
        made.append(request.param(url, **options))
        return made[-1]

    yield makes
    for each in made:
        each.end()
