"""The places of a service: all of them or none, but for one that may be missed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidecar.addresses import Address
from sidecar.doors import Doors, close
from sidecar.settings import Settings

ANY = Address("127.0.0.1", 0)


def settings_at(taken: socket.socket, *, may_miss: bool, http: Address = ANY) -> Settings:
    return Settings(http=http, grpc=Address("127.0.0.1", taken.getsockname()[1]), grpc_may_miss=may_miss)


def test_all_places(tmp_path: Path) -> None:
    """Each place has its own sockets, and those with a file are known by it."""
    path = str(tmp_path / "envoy.sock")

    place = Doors.open(Settings(http=ANY, grpc=ANY, envoy_http=Address(path=path)))

    assert [len(place.http), len(place.envoy), len(place.grpc)] == [1, 1, 1]
    assert place.all == [*place.http, *place.envoy, *place.grpc]
    assert (place.paths, place.problem) == ([path], None)
    close(place.all)


def test_a_place_that_may_be_missed() -> None:
    """Where nobody named gRPC's place and somebody has it, the service goes on without, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Doors.open(settings_at(taken, may_miss=True))

    assert (place.grpc, len(place.http)) == ([], 1)
    assert "gRPC is not served" in (place.problem or "")
    close(place.all)


def test_a_place_that_was_named() -> None:
    """Where somebody named gRPC's place it must be had, and what was opened before is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        http = Address(*probe.getsockname())
        probe.close()

        with pytest.raises(OSError, match="BYLAW_GRPC"):
            Doors.open(settings_at(taken, may_miss=False, http=http))

        socket.create_server((http.host, http.port)).close()
