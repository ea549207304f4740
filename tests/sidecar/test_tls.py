"""TLS: what is accepted of files and of clients, renewal, and callers by certificate in both lanes."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.api import CHECK, Api
from sidecar.callers import ALL_SCOPES
from sidecar.decider import FileDecider
from sidecar.decision_id import DecisionIds
from sidecar.exchange import names_in
from sidecar.fast_lane import FastLane
from sidecar.handlers.explain import explain
from sidecar.handlers.health import health
from sidecar.keys import DECIDER, SETTINGS
from sidecar.middleware import make_guard, serve
from sidecar.policies import Policies
from sidecar.settings import Settings, SettingsError
from sidecar.tls import Renewing, server_context
from store.views import CallerFact
from tests.sidecar.conftest import ANN, STUDIO
from tests.sidecar.test_stored_callers import gate_of, listed

SHOP: Final = "spiffe://example.org/shop"
NOW: Final = datetime.now(UTC)
DAY: Final = timedelta(days=1)


class Authority:
    """One who vouches: issues certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(self.name, self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *alternatives: x509.GeneralName,
        ends: timedelta = DAY,
        use: x509.ObjectIdentifier | None = None,
        encryption: KeySerializationEncryption | None = None,
    ) -> Pair:
        """Issue a certificate; its files are named after it."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.name, key, ends=ends)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives or [x509.DNSName("localhost")]), False)
        if use is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.certificate.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
        return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ends: timedelta = DAY
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 2 * DAY)
        .not_valid_after(NOW + ends)
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def replace(self, other: Pair) -> None:
        """Put another pair in the place of this one."""
        for mine, others in ((self.certificate, other.certificate), (self.key, other.key)):
            mine.write_bytes(others.read_bytes())


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


@pytest.fixture
def server(ours: Authority) -> Pair:
    """The service's own certificate, for localhost."""
    return ours.issue("server")


@pytest.fixture
def shop(ours: Authority) -> Pair:
    """A caller's certificate."""
    return ours.issue("shop", x509.UniformResourceIdentifier(SHOP), x509.DNSName("Shop.example.org"))


def client(trusted: Authority, pair: Pair | None = None, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Make a client's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted.file)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    if newest is not None:
        context.maximum_version = newest
    return context


Ends = tuple[ssl.SSLObject, ssl.SSLObject]


def connect(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Ends:
    """Shake hands in memory; return the server's end, and the client's.

    Raises:
        ssl.SSLError: one of them refuses the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session),
    )
    for _ in range(6):  # more than a handshake has
        for end in reversed(ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    with suppress(ssl.SSLWantReadError):
        ends[1].read(1)  # what comes behind a handshake: tickets
    return ends


def names(end: ssl.SSLObject) -> tuple[str, ...]:
    return names_in(end.getpeercert())


def common_name(end: ssl.SSLObject) -> str:
    """Say which certificate the other end showed."""
    shown = end.getpeercert(True)
    assert shown is not None
    found = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value)


# --- what is accepted of clients ----------------------------------------------------------------------


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_may_come(newest: ssl.TLSVersion, ours: Authority, server: Pair, shop: Pair) -> None:
    """Who shows a certificate is known by its URIs and DNS names as they are written, who shows none by nothing."""
    context = server_context(server.certificate, server.key, ours.file)

    with_one, _ = connect(context, client(ours, shop, newest=newest))
    without, _ = connect(context, client(ours, newest=newest))

    assert names(with_one) == (f"uri:{SHOP}", "dns:Shop.example.org")
    assert names(without) == ()
    assert with_one.version() == newest.name.replace("_", ".")


@pytest.mark.parametrize("fault", ["another authority", "over", "a server's"])
def test_a_certificate_that_comes_must_be_good(fault: str, ours: Authority, theirs: Authority, server: Pair) -> None:
    """One of an authority that does not vouch here, one whose time is over, and one for servers are refused."""
    name = x509.UniformResourceIdentifier(SHOP)
    bad = {
        "another authority": lambda: theirs.issue("bad", name),
        "over": lambda: ours.issue("bad", name, ends=-DAY),
        "a server's": lambda: ours.issue("bad", name, use=ExtendedKeyUsageOID.SERVER_AUTH),
    }[fault]()
    context = server_context(server.certificate, server.key, ours.file)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(context, client(ours, bad))


def test_nobody_is_asked_without_an_authority(ours: Authority, server: Pair, shop: Pair) -> None:
    """Without authorities for callers a certificate is neither asked for nor seen."""
    context = server_context(server.certificate, server.key, None)

    end, _ = connect(context, client(ours, shop))

    assert names(end) == ()


def test_old_versions_are_refused(server: Pair) -> None:
    """Nothing older than TLS 1.2 is spoken, nothing is compressed, and who a connection is with never changes."""
    context = server_context(server.certificate, server.key, None)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


# --- what is accepted of files ------------------------------------------------------------------------

Files = tuple[Path, Path, Path | None]


def _refusals(ours: Authority, theirs: Authority, server: Pair) -> dict[str, tuple[Files, str]]:
    folder = server.certificate.parent
    text, nothing, both = folder / "text.pem", folder / "nothing.pem", folder / "both.pem"
    text.write_text("no certificate at all")
    both.write_bytes(server.certificate.read_bytes() + server.key.read_bytes())
    locked = ours.issue("locked", encryption=BestAvailableEncryption(b"secret"))
    good = (server.certificate, server.key)
    return {
        "no certificate": ((nothing, server.key, None), f"{nothing}: No such file or directory"),
        "no key": ((server.certificate, nothing, None), f"{nothing}: No such file or directory"),
        "no authorities": ((*good, nothing), f"{nothing}: No such file or directory"),
        "a directory": ((folder, server.key, None), f"{folder}: Is a directory"),
        "another key": (
            (server.certificate, theirs.issue("other").key, None),
            f"{folder / 'other.key'} is not the key of {server.certificate}",
        ),
        "text": ((text, server.key, None), f"{text}, {server.key}: expected a certificate and its key, both in PEM"),
        "a key with a password": ((locked.certificate, locked.key, None), f"{locked.key}: this key needs a password"),
        "authorities that are text": ((*good, text), f"{text}: expected certificates of authorities, in PEM"),
        "authorities that are none": ((*good, server.certificate), "there is no authority's certificate in it"),
    }


def test_files_that_will_not_do(ours: Authority, theirs: Authority, server: Pair) -> None:
    """What cannot be used is refused at the start, by the name of its file, and nobody is asked for a password."""
    for files, expected in _refusals(ours, theirs, server).values():
        with pytest.raises(SettingsError) as caught:
            server_context(*files)

        assert expected in caught.value.message
        assert caught.value.code == "bad_settings"


# --- renewal ------------------------------------------------------------------------------------------


class Watched:
    """A context that is renewed, and what is told of it."""

    def __init__(self, pair: Pair, client_ca: Path | None = None) -> None:
        self.told: list[str] = []
        self.renewing = Renewing(pair.certificate, pair.key, client_ca, report=self.told.append)

    def connect(self, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Ends:
        return connect(self.renewing.context, client, session)


def test_new_files_are_for_new_connections(ours: Authority, server: Pair) -> None:
    """From the poll on that finds new files new connections see them; those that are open stay; it is told once."""
    watched = Watched(server)
    (before, first), newer = watched.connect(client(ours)), ours.issue("newer")
    watched.renewing.poll()
    assert watched.told == []

    server.replace(newer)
    _, unpolled = watched.connect(client(ours))
    for _ in range(3):
        watched.renewing.poll()
    _, second = watched.connect(client(ours))

    assert [common_name(each) for each in (first, unpolled, second)] == ["server", "server", "newer"]
    assert watched.told == [f"renewed TLS from {server.certificate}"]
    before.write(b"still there")


def test_half_of_new_files_is_none(ours: Authority, server: Pair) -> None:
    """A certificate whose key is not there yet changes nothing, and is told once; when the key comes both count."""
    watched = Watched(server)
    newer = ours.issue("newer")

    server.certificate.write_bytes(newer.certificate.read_bytes())
    for _ in range(3):
        watched.renewing.poll()
    _, half = watched.connect(client(ours))
    problem = watched.renewing.problem
    server.replace(newer)
    watched.renewing.poll()
    _, whole = watched.connect(client(ours))

    said = f"{server.key} is not the key of {server.certificate}"
    assert [common_name(each) for each in (half, whole)] == ["server", "newer"]
    assert problem == said
    assert watched.told == [f"TLS goes on with the files before: {said}", f"renewed TLS from {server.certificate}"]
    assert watched.renewing.problem is None


def test_files_that_vanish_and_come_back(ours: Authority, server: Pair) -> None:
    """What is gone leaves what was; what comes back as it was is no problem any more."""
    watched = Watched(server)
    elsewhere = server.key.with_name("elsewhere")

    server.key.rename(elsewhere)
    watched.renewing.poll()
    problem = watched.renewing.problem
    _, meanwhile = watched.connect(client(ours))
    elsewhere.rename(server.key)
    watched.renewing.poll()

    assert problem == f"{server.key}: No such file or directory"
    assert common_name(meanwhile) == "server"
    assert watched.renewing.problem is None


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_authority_is_forgotten(
    newest: ssl.TLSVersion, ours: Authority, theirs: Authority, server: Pair, shop: Pair
) -> None:
    """Who was vouched for by an authority that is taken away is refused from then on, also where he had a session to
    resume, as TLS 1.2 lets him; and whom the new one vouches for is let in."""
    vouching = ours.folder / "vouching.pem"
    vouching.write_bytes(ours.file.read_bytes())
    watched = Watched(server, vouching)
    theirs_shop = theirs.issue("theirs_shop", x509.UniformResourceIdentifier(SHOP))
    of_ours, of_theirs = client(ours, shop, newest=newest), client(ours, theirs_shop, newest=newest)
    first = watched.connect(of_ours)  # kept: a session ends with what it was opened by
    resumed = watched.connect(of_ours, first[1].session)

    vouching.write_bytes(theirs.file.read_bytes())
    watched.renewing.poll()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        watched.connect(of_ours, first[1].session)
    renewed, _ = watched.connect(of_theirs)

    assert resumed[0].session_reused is (newest is ssl.TLSVersion.TLSv1_2)
    assert names(renewed) == (f"uri:{SHOP}",)


# --- callers by certificate, in both lanes ------------------------------------------------------------


class Door:
    """A service that speaks TLS, put together of what answers in both lanes; it lets in who has `SHOP`'s name."""

    def __init__(self, renewing: Renewing) -> None:
        self.renewing = renewing
        shop = CallerFact(f"certificate:uri:{SHOP}", "shop", None, tuple(ALL_SCOPES))
        self.gate = gate_of(listed(shop, kind="mtls"))

    async def __aenter__(self) -> Door:
        policies = Policies(STUDIO, STUDIO / "facts.yaml", report=lambda _: None)
        await policies.start()
        decider = FileDecider(lambda: policies.loaded)
        api = Api(decider, policies, DecisionIds(), self.gate.tellings)
        app, guard = web.Application(), make_guard(self.gate)
        app[DECIDER], app[SETTINGS] = decider, Settings()
        for path, endpoint in api.endpoints.items():
            app.router.add_post(path, guard(serve(endpoint)))
        app.router.add_post("/explain", guard(explain))
        app.router.add_get("/health", guard(health, is_probe=True))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        slow = self._runner.server
        assert slow is not None
        self._lane = FastLane(api.endpoints, self.gate, slow, 10.0)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            self._lane.connection, "127.0.0.1", 0, ssl=self.renewing.context, ssl_shutdown_timeout=1
        )
        self.port: int = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        self._lane.close()
        await self._runner.cleanup()
        self._lane.end()

    async def ask(self, context: ssl.SSLContext, *paths: str) -> list[tuple[int, Any]]:
        """Ask one after the other on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        found = []
        for path in paths:
            body = b"" if path == "/health" else json.dumps(ANN).encode()
            method = "POST" if body else "GET"
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
            found.append((int(answer.split()[1]), json.loads(await reader.readexactly(length))))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return found


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_callers_by_certificate(run: Run, newest: ssl.TLSVersion, ours: Authority, server: Pair, shop: Pair) -> None:
    """In the fast lane, in aiohttp's, and after a connection went over from one to the other, the certificate that was
    verified says who asks; who has none, or one that is not listed, is 401 in both, and may see that the service
    lives."""
    renewing = Renewing(server.certificate, server.key, ours.file)
    other = ours.issue("other", x509.UniformResourceIdentifier(f"{SHOP}2"))

    async def scene() -> list[list[tuple[int, Any]]]:
        async with Door(renewing) as door:
            return [
                await door.ask(client(ours, shop, newest=newest), CHECK, "/explain", CHECK, "/health"),
                await door.ask(client(ours, shop, newest=newest), "/explain"),
                await door.ask(client(ours, other, newest=newest), CHECK, "/explain"),
                await door.ask(client(ours, newest=newest), CHECK, "/explain", "/health"),
            ]

    in_both, slow, unlisted, without = run(scene())

    assert [status for status, _ in in_both] == [200, 200, 200, 200]
    assert [answer["decision"] for _, answer in in_both[:3]] == [True] * 3
    assert [status for status, _ in slow] == [200]
    assert [(status, answer.get("error")) for status, answer in unlisted] == [(401, "unauthorized")] * 2
    assert [status for status, _ in without] == [401, 401, 200]


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_renewal_on_the_wire(run: Run, ours: Authority, server: Pair, theirs: Authority, shop: Pair) -> None:
    """While a service listens, files are renewed without that it listens anew, for clients that name no host, too."""
    renewing = Renewing(server.certificate, server.key, ours.file)

    async def scene() -> list[list[tuple[int, Any]]]:
        async with Door(renewing) as door:
            found = [await door.ask(client(ours, shop), CHECK)]
            server.replace(theirs.issue("newer"))
            renewing.poll()
            with pytest.raises(ssl.SSLCertVerificationError):
                await door.ask(client(ours, shop), CHECK)
            return [*found, await door.ask(client(theirs, shop), CHECK)]

    assert [[status for status, _ in each] for each in run(scene())] == [[200], [200]]
