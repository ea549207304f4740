"""The sockets of one service: of the decision API, of Envoy's HTTP variant where it has its own, and of its gRPC."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from sidecar import addresses
from sidecar.settings import Settings


@dataclass(slots=True)
class Doors:
    """Sockets, bound and not yet listening.

    Attributes:
        problem: what is to be told of a place that cannot be had and may be missed.
    """

    http: list[socket.socket]
    envoy: list[socket.socket]
    grpc: list[socket.socket] = field(default_factory=list)
    problem: str | None = None

    @classmethod
    def open(cls, settings: Settings) -> Doors:
        """Open those of the settings.

        Raises:
            OSError: an address cannot be had.
        """
        opened = cls(addresses.bind(settings.http), [])
        try:
            if settings.envoy_http is not None:
                opened.envoy = addresses.bind(settings.envoy_http)
            opened.grpc, opened.problem = _grpc(settings)
        except OSError:
            close(opened.all)
            raise
        return opened

    @property
    def all(self) -> list[socket.socket]:
        return [*self.http, *self.envoy, *self.grpc]

    @property
    def paths(self) -> list[str]:
        """The files of those that are Unix sockets."""
        return [each.getsockname() for each in self.all if each.family == socket.AF_UNIX]


def _grpc(settings: Settings) -> tuple[list[socket.socket], str | None]:
    if settings.grpc is None:
        return [], None
    try:
        return addresses.bind(settings.grpc), None
    except OSError as error:
        return [], missed(settings, error)


def missed(settings: Settings, error: OSError) -> str:
    """Say that gRPC is not served.

    Raises:
        OSError: somebody named its place, so it must be.
    """
    if not settings.grpc_may_miss:
        raise OSError(error.errno, f"{error.strerror or error} ({settings.grpc}, BYLAW_GRPC)") from error
    return f"Envoy's gRPC is not served, since {settings.grpc} is taken: set BYLAW_GRPC to another place, or to none"


def close(sockets: list[socket.socket]) -> None:
    """Close them all."""
    for each in sockets:
        each.close()
