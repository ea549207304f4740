"""Addresses as written, and the sockets there."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.addresses import Address, bind, own_names, parse_address, shown


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8180", Address("127.0.0.1", 8180)),
        ("[::1]:0", Address("::1", 0)),
        ("Localhost:80", Address("localhost", 80)),
        ("unix:/run/bylaw.sock", Address(path="/run/bylaw.sock")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    """An address is read as it is written, and shown as it is read."""
    assert parse_address(text) == address
    assert str(parse_address(text)) == text.lower()


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/x"])
def test_loopback(text: str) -> None:
    """What only this machine reaches is loopback."""
    assert parse_address(text).is_loopback


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "localhost.example:1", "[::ffff:1.2.3.4]:1"])
def test_not_loopback(text: str) -> None:
    """What others reach, or a name that may move, is not."""
    assert not parse_address(text).is_loopback


def test_own_names_and_place() -> None:
    """The names that a `Host` may have are the machine's own and the address, with the port or without."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in bind(Address("127.0.0.2", 0))]
        port = sockets[0].getsockname()[1]

        assert shown(sockets) == Address("127.0.0.2", port)
        assert own_names(sockets) == {
            f"{host}{ending}"
            for host in ("localhost", "127.0.0.1", "127.0.0.2", "[::1]")
            for ending in ("", f":{port}")
        }


def test_localhost_is_one_port_in_both_families() -> None:
    """Under `localhost` both families answer at the same port, where the machine has both."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in bind(Address("localhost", 0))]

        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert sockets[0].getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_an_error() -> None:
    """An address that somebody listens on cannot be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bind(Address("127.0.0.1", taken.getsockname()[1]))


def test_a_socket_file_left_behind_is_replaced(tmp_path: Path) -> None:
    """The file of a process that is gone is taken over, that of one that listens and any other file are not."""
    path = tmp_path / "s"
    address = Address(path=str(path))
    (dead,) = bind(address)
    dead.close()

    (made,) = bind(address)
    with made:
        made.listen()
        with pytest.raises(OSError, match="in use"):
            bind(address)
    path.unlink()
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(OSError, match="in use"):
        bind(address)
    assert path.read_text(encoding="utf-8") == "precious"
