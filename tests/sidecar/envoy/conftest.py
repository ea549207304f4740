"""What the tests with a real Envoy share: one application, one sidecar, and an Envoy for each way to ask it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.sidecar.envoy.front import (
    VARIANTS,
    Application,
    Front,
    Sidecar,
    application,
    front,
    open_up,
    sidecar,
    strip_bare,
)
from tests.sidecar.test_identity import jwk_of

PRIVATE: Final = Ed25519PrivateKey.generate()
MakeToken = Callable[..., str]


def make_token(subject: str = "ada", *, ttl_s: float = 300, **claims: Any) -> str:
    """Make a token of the issuer that the sidecar knows, for workspace `acme`."""
    usual = {"iss": "https://id.example", "aud": "api", "sub": subject, "tenant_id": "acme"}
    said = {**usual, "exp": time.time() + ttl_s, **claims}
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None}, PRIVATE, "EdDSA", {"kid": "k"}
    )


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The issuer's keys, as a file."""
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk_of(PRIVATE, "EdDSA", kid="k")]}), "ascii")
    return path


@pytest.fixture(scope="session")
def upstream() -> Iterator[Application]:
    """The application behind every Envoy."""
    with application() as server:
        yield server


@pytest.fixture(scope="session")
def well(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that nothing happens to for long."""
    folder = tmp_path_factory.mktemp("sidecar")
    (folder / "decisions").touch()
    with sidecar(keys, folder / "decisions") as process:
        yield process


@pytest.fixture(scope="session", params=VARIANTS)
def closed(
    request: pytest.FixtureRequest, well: Sidecar, upstream: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """An Envoy as it is deployed, for each variant."""
    with front(request.param, well.ports, upstream, tmp_path_factory.mktemp("envoy")) as envoy:
        yield envoy


@pytest.fixture(scope="session", params=VARIANTS)
def opened(
    request: pytest.FixtureRequest, well: Sidecar, upstream: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """An Envoy with `failure_mode_allow`, for each variant."""
    with front(request.param, well.ports, upstream, tmp_path_factory.mktemp("envoy"), open_up) as envoy:
        yield envoy


@pytest.fixture(scope="session", params=VARIANTS)
def bare(
    request: pytest.FixtureRequest, well: Sidecar, upstream: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """An Envoy that keeps nothing away by itself, for each variant."""
    with front(request.param, well.ports, upstream, tmp_path_factory.mktemp("envoy"), strip_bare) as envoy:
        yield envoy
