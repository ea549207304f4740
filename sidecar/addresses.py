"""Places to listen: `host:port` or `unix:/path` as written, and the sockets there."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen: host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine reaches it. A name counts only if it is `localhost`: others may move."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `host:port` or `unix:/path`; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"address `{text}`: expected unix:/path")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not (colon and bare and port.isascii() and port.isdecimal())
        or int(port) > 65535
        or (":" in bare and bare == host)
    ):
        raise ValueError(f"address `{text}`: expected host:port or unix:/path")
    return Address(bare.lower(), int(port))


def bind(address: Address) -> list[socket.socket]:
    """Open the sockets of an address, not yet listening: `localhost` has two, where there is IPv6.

    Raises:
        OSError: it cannot be had.
    """
    if address.path is not None:
        return [_bind_unix(Path(address.path))]
    if address.host != "localhost":
        return [_bind_tcp(address.host, address.port)]
    first = _bind_tcp("127.0.0.1", address.port)
    try:
        return [first, _bind_tcp("::1", first.getsockname()[1])]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            first.close()
            raise
        return [first]  # a machine without IPv6


def hold(sockets: Iterable[socket.socket]) -> None:
    """Keep a place for sockets that `beside` opens, and from anybody else.

    A socket that is bound but does not listen gets no connection. But as `bind` leaves it, its address may be taken
    once more as long as nobody listens there: a second service would get in.
    """
    for each in sockets:
        if each.family != socket.AF_UNIX:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def beside(held: socket.socket) -> socket.socket:
    """Open one more socket at a place that is held: the kernel spreads connections over all that listen there.

    Of a Unix socket, which knows no such thing, it is the same once more.

    Raises:
        OSError: it cannot be had.
    """
    if held.family == socket.AF_UNIX:
        return held.dup()
    made = socket.socket(held.family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(held.getsockname())
    except OSError:
        made.close()
        raise
    return made


def _bind_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket; one that a process left behind is removed, one that somebody answers is not."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_answered(path):
            path.unlink()
        made.bind(str(path))
    except OSError:
        made.close()
        raise
    return made


def end_listening(listening: socket.socket) -> list[socket.socket]:
    """Accept the connections that wait to be accepted, and let no more come; the socket is still to be closed.

    A Unix socket may be shared with others that go on listening, so there the end is when it is closed.
    """
    listening.setblocking(False)
    waiting: list[socket.socket] = []
    with suppress(OSError):  # at the latest when nobody waits any more
        while True:
            waiting.append(listening.accept()[0])
    if listening.family != socket.AF_UNIX:
        with suppress(OSError):  # not every system can
            listening.shutdown(socket.SHUT_RDWR)  # at once: who comes in between is turned away
    return waiting


def remove(path: str) -> None:
    """Remove the socket file that `bind` made."""
    Path(path).unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def own_names(sockets: Iterable[socket.socket]) -> frozenset[str]:
    """List what a `Host` header may say: this machine's names for itself and the addresses listened on.

    Each stands with the port and without.
    """
    names = {"localhost", "127.0.0.1", "[::1]"}
    ports: set[int] = set()
    for each in sockets:
        if each.family != socket.AF_UNIX:
            host, port = each.getsockname()[:2]
            names.add(f"[{host}]" if ":" in host else host)
            ports.add(port)
    return frozenset(names | {f"{name}:{port}" for name in names for port in ports})


def shown(sockets: Iterable[socket.socket]) -> Address:
    """Name the place where sockets really listen: a port 0 has become a number."""
    first = next(iter(sockets))
    if first.family == socket.AF_UNIX:
        return Address(path=first.getsockname())
    host, port = first.getsockname()[:2]
    return Address(host, port)
