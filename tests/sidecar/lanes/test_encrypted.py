"""The lanes over TLS: handed over like any other connection, and the same caller in both."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.sidecar.conftest import ANN
from tests.sidecar.lanes.answers import Said
from tests.sidecar.lanes.battery import padded, request
from tests.sidecar.lanes.conftest import Asking
from tests.sidecar.lanes.wires import Lanes, Noted, connect

NAMES: Final = ("uri:spiffe://example/caller", "dns:caller.example")
HEALTH: Final = request(b"", begin="GET /health HTTP/1.1", length=None)


@dataclass(frozen=True, slots=True)
class Keys:
    """Both ends, each with a certificate that the other trusts."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def written(folder: Path, name: str, names: list[x509.GeneralName]) -> Path:
    """Make a key and a certificate of its own, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(title, title, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A server and a client who know each other."""
    folder = tmp_path_factory.mktemp("keys")
    server_file = written(folder, "server", [x509.DNSName("localhost")])
    client_file = written(
        folder, "client", [x509.UniformResourceIdentifier("spiffe://example/caller"), x509.DNSName("caller.example")]
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_file))
    server.load_cert_chain(server_file)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(server_file))
    client.load_cert_chain(client_file)
    return Keys(server, client)


@asynccontextmanager
async def ports(lanes: Lanes, keys: Keys) -> AsyncIterator[tuple[int, int]]:
    """Listen with TLS: the port of both lanes, and that of aiohttp's alone."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(factory, "127.0.0.1", 0, ssl=keys.server)
        for factory in (lanes.lane.connection, lanes.lane.slow)
    ]
    fast, slow = (server.sockets[0].getsockname()[1] for server in servers)
    try:
        yield fast, slow
    finally:
        for server in servers:
            server.close()


async def said(port: int, keys: Keys, *pieces: bytes, count: int) -> Said:
    """Send pieces, and hear so many answers."""
    client = await connect(port, ssl=keys.client, server_hostname="localhost")
    for piece in pieces:
        client.send(piece)
        await asyncio.sleep(0)
    found = await client.heard(count)
    await client.leave()
    return found.alike()


def test_both_lanes_over_tls(asking: Asking, keys: Keys) -> None:
    """Whole or cut, before and behind what is handed over, the answers are the same, and so is the caller: he whom the
    client's certificate names."""
    check = request(ANN, "X-Request-ID: r-1")
    sent = [check[:50], check[50:-3], check[-3:] + check, HEALTH + check, request(padded(200_000)), request(b"{")]

    async def scene() -> tuple[list[Said], list[list[Noted]]]:
        found, noted = [], []
        asking.lanes.noted()
        async with ports(asking.lanes, keys) as both:
            for port in both:
                found.append(await said(port, keys, *sent, count=6))
                noted.append(asking.lanes.noted())
        return found, noted

    (fast, slow), (read, meant) = asking.run(scene())

    assert [each.status for each in fast.answers] == [200, 200, 200, 200, 200, 400]
    assert (fast, read) == (slow, meant)
    assert all(call.certificates == NAMES for call, *_ in read)


def test_a_client_over_tls_that_reads_late(asking: Asking, keys: Keys) -> None:
    """A client that sends for long before it reads has all its answers."""

    async def scene() -> None:
        async with ports(asking.lanes, keys) as (port, _):
            client = await connect(port, ssl=keys.client, server_hostname="localhost")
            client.send(request())
            await client.heard(1)
            (connection,) = asking.lanes.lane.connections
            client.transport.pause_reading()
            sent = 1
            while not connection._is_waiting:
                client.send(request() * 200)
                sent += 200
                await asyncio.sleep(0)
            client.send(request())
            client.transport.resume_reading()
            found = await client.heard(sent + 1)
            await client.leave()

        assert {each.status for each in found.answers} == {200}
        assert len(found.answers) == sent + 1

    asking.run(scene())
