"""The sockets of one service: of the decision API, of Envoy's HTTP variant where it has its own, and the place of gRPC.

gRPC opens its sockets itself. Where several processes serve it, their supervisor holds its place meanwhile.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace

from sidecar import addresses
from sidecar.settings import Settings


@dataclass(slots=True)
class Doors:
    """Sockets, bound and not yet listening."""

    http: list[socket.socket]
    envoy: list[socket.socket]

    @classmethod
    def open(cls, settings: Settings) -> Doors:
        """Open those of the settings.

        Raises:
            OSError: an address cannot be had.
        """
        http = addresses.bind(settings.http)
        try:
            return cls(http, addresses.bind(settings.envoy_http) if settings.envoy_http is not None else [])
        except OSError:
            close(http)
            raise

    @property
    def all(self) -> list[socket.socket]:
        return [*self.http, *self.envoy]

    @property
    def paths(self) -> list[str]:
        """The files of those that are Unix sockets."""
        return [each.getsockname() for each in self.all if each.family == socket.AF_UNIX]


def hold_grpc(settings: Settings) -> tuple[Settings, list[socket.socket], str | None]:
    """Keep the place of gRPC for several processes: return the settings that name it, sockets that hold it, and what is
    to be told if it cannot be had and may be missed.

    Raises:
        OSError: it cannot be had, and must be.
    """
    if settings.grpc is None:
        return settings, [], None
    try:
        sockets = addresses.bind(settings.grpc)
    except OSError as error:
        return replace(settings, grpc=None), [], missed(settings, error)
    addresses.hold(sockets)
    return replace(settings, grpc=addresses.shown(sockets)), sockets, None


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
