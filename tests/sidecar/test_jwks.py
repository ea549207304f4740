"""Keys from files and key servers: what they are renewed by, what it costs, and how little of it can go wrong."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from engine import BylawError
from sidecar.identity import Identity, verify
from sidecar.jwks import MAX_BYTES, Keys, Pace, read_keys
from sidecar.settings import SettingsError
from tests.databases import run
from tests.sidecar.test_identity import EC, ED, GOOD, NOW, RSA, RULES

#: What may pass until a test has failed.
PATIENCE_S: Final = 8.0
#: Nothing is renewed by itself.
STILL: Final = Pace(renew_s=3600, look_s=3600, first_pause_s=3600, last_pause_s=3600)
OLD: Final = json.dumps({"keys": [EC.jwk()]}).encode()
BOTH: Final = json.dumps({"keys": [EC.jwk(), ED.jwk()]}).encode()
NEW: Final = json.dumps({"keys": [ED.jwk()]}).encode()


class FrozenClock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KeyServer:
    """A real key server.

    Attributes:
        says: the document. answer: instead of it.
        asked: how often, in all. gate: closed, nobody is answered.
    """

    def __init__(self, says: bytes = OLD) -> None:
        self.says = says
        self.answer: Answer | None = None
        self.asked = 0
        self.headers: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self._knock = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.headers = dict(request.headers)
        self._knock.set()
        await self.gate.wait()
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.says, content_type="application/json")

    async def knock(self) -> None:
        """Wait until it is asked again."""
        async with asyncio.timeout(PATIENCE_S):
            await self._knock.wait()
        self._knock.clear()


@asynccontextmanager
async def key_server(says: bytes = OLD, tls: ssl.SSLContext | None = None) -> AsyncIterator[KeyServer]:
    server = KeyServer(says)
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"{'https' if tls else 'http'}://{host}:{port}/keys"
    try:
        yield server
    finally:
        server.gate.set()
        await runner.cleanup()


@asynccontextmanager
async def started(source: str, pace: Pace = STILL, clock: Callable[[], float] | None = None) -> AsyncIterator[Keys]:
    keys = Keys(source, clock=clock or FrozenClock(), pace=pace)
    async with asyncio.timeout(PATIENCE_S):
        await keys.start()
        try:
            yield keys
        finally:
            await keys.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # nothing but itself tells of it
            await asyncio.sleep(0)


def kids(keys: Keys) -> set[str | None]:
    return set(keys.current.keys)


def verifies(keys: Keys, algorithm: str) -> bool:
    return isinstance(verify(GOOD[algorithm], keys.current, RULES, NOW), Identity)


def written(tmp_path: Path, document: bytes = OLD) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(document)
    return path


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "file:{path}", "file://localhost{path}", "FILE://{path}"])
def test_a_file(form: str, tmp_path: Path) -> None:
    """Keys come from a file, by its path or as a URL."""

    async def talk() -> None:
        async with started(form.format(path=written(tmp_path))) as keys:
            assert verifies(keys, "ES256")
            assert keys.status() == {"url": f"file:{tmp_path}/keys.json", "keys": 1, "age_s": 0.0, "status": "ok"}

    run(talk())


def test_a_file_with_a_blank_in_its_name(tmp_path: Path) -> None:
    """A URL is percent-encoded, a path is not."""

    async def talk() -> None:
        path = tmp_path / "a b%20c.json"
        path.write_bytes(OLD)
        for source in (str(path), f"file://{tmp_path}/a%20b%2520c.json"):
            async with started(source) as keys:
                assert verifies(keys, "ES256")

    run(talk())


UNREADABLE: Final = {
    "nonsense": (b"<html>", "no JSON"),
    "empty": (b"", "no JSON"),
    "half": (OLD[:-5], "no JSON"),
    "twice": (b'{"keys": [], "keys": []}', "stands twice"),
    "twice in a key": (b'{"keys": [{"kid": "a", "kid": "b"}]}', "stands twice"),
    "NaN": (b'{"keys": [NaN]}', "no JSON"),
    "deep": (b"[" * 100_000, "no JSON"),
    "another encoding": (OLD.decode().encode("utf-16"), "no JSON"),
    "another shape": (b"[]", 'an object with a list "keys"'),
    "no keys": (b'{"keys": []}', "no key of the set"),
    "only unfit ones": (json.dumps({"keys": [EC.jwk(use="enc")]}).encode(), '"use" is "enc"'),
    "too long": (b" " * MAX_BYTES + OLD, "longer than 256 KiB"),
}


@pytest.mark.parametrize(("document", "why"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_wrong_at_the_start(document: bytes, why: str, tmp_path: Path) -> None:
    """A file that has no keys to offer is an error at the start, which names it and what is wrong."""
    with pytest.raises(SettingsError, match=why) as caught:
        run(opened(str(written(tmp_path, document))))

    assert caught.value.code == "bad_settings"
    assert caught.value.message.startswith(f"BYLAW_JWKS, file:{tmp_path}/keys.json: ")


async def opened(source: str) -> None:
    async with started(source):
        pass


def test_what_is_no_file_at_the_start(tmp_path: Path) -> None:
    """A file that is missing, a directory, or a pipe that nobody writes to is an error at once."""
    os.mkfifo(tmp_path / "pipe")

    for name, why in (("missing", "No such file"), (".", "Is a directory"), ("pipe", "no regular file")):
        with pytest.raises(SettingsError, match=why):
            run(opened(str(tmp_path / name)))


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """A file is looked at again and again: what takes its place counts, though nobody asks for it."""

    async def talk() -> None:
        path = written(tmp_path)
        async with started(str(path), Pace(look_s=0.001)) as keys:
            other = tmp_path / "new.json"
            other.write_bytes(NEW)
            other.replace(path)
            await until(lambda: kids(keys) == {ED.kid})

            assert not verifies(keys, "ES256")
            assert verifies(keys, "EdDSA")

    run(talk())


def test_a_file_that_is_written_anew_in_the_same_instant(tmp_path: Path) -> None:
    """A change counts though size and times of the file stay the same."""

    async def talk() -> None:
        first, second = (json.dumps({"keys": [EC.jwk() | {"kid": kid}]}).encode() for kid in "ab")
        path = written(tmp_path, first)
        stamp = path.stat()
        async with started(str(path)) as keys:
            path.write_bytes(second)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

            await keys.refreshed("b")

            assert kids(keys) == {"b"}

    run(talk())


@pytest.mark.parametrize("document", [None, *(said for said, _ in UNREADABLE.values())], ids=["gone", *UNREADABLE])
def test_a_file_that_breaks_later(document: bytes | None, tmp_path: Path) -> None:
    """A file that goes away or breaks leaves the keys that are there, and is told; right again, it counts."""

    async def talk() -> None:
        path, clock = written(tmp_path), FrozenClock()
        async with started(str(path), clock=clock) as keys:
            path.unlink() if document is None else path.write_bytes(document)
            clock.now += 100
            await keys.refreshed("unknown")
            broken, was_verified = keys.status(), verifies(keys, "ES256")
            path.write_bytes(BOTH)
            clock.now += 100
            await keys.refreshed("unknown")

            assert was_verified
            assert (broken["status"], broken["keys"], broken["age_s"]) == ("degraded", 1, 100.0)
            assert broken["error"] == ("unavailable" if document is None else "bad_keys")
            assert broken["message"]
            assert (keys.status()["status"], kids(keys)) == ("ok", {EC.kid, ED.kid})

    run(talk())


# --- sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "write a path"),
        ("ftp://id.example/keys", "write a path"),
        ("https://", "names no host"),
        ("https:///keys", "names no host"),
        ("https:keys.json", "names no host"),
        ("https://id.example:99999/keys", "malformed"),
        ("https://[::1/keys", "malformed"),
        ("http://id.example/keys", "use https"),
        ("HTTP://id.example/keys", "use https"),
        ("http://10.0.0.1/keys", "use https"),
        ("http://127.0.0.1.example/keys", "use https"),
        ("http://localhost@id.example/keys", "use https"),
        ("http://user:secret@id.example/keys", "use https"),
        ("http://0.0.0.0/keys", "use https"),
        ("file:keys.json", "write file:///path"),
        ("file://other/keys.json", "write file:///path"),
        ("file:///keys.json?x", "write file:///path"),
        ("file:///keys.json#x", "write file:///path"),
        ("file:///keys%00.json", "write file:///path"),
    ],
)
def test_sources_that_are_refused(source: str, why: str) -> None:
    """What is no source of keys is an error with the cure, in which no password stands."""
    with pytest.raises(SettingsError, match=why) as caught:
        Keys(source, clock=FrozenClock())

    assert caught.value.message.startswith("BYLAW_JWKS: ")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://id.example/keys", "https://id.example/keys"),
        ("https://user:secret@id.example:8443/a?token=secret#secret", "https://id.example:8443/a"),
        ("http://localhost:8080/keys", "http://localhost:8080/keys"),
        ("http://[::1]:8080/keys", "http://[::1]:8080/keys"),
    ],
)
def test_sources_are_shown_without_credentials(source: str, shown: str) -> None:
    """What `/ready` tells of a source has no password, and no query."""
    keys = Keys(source, clock=FrozenClock())

    assert keys.status() == {"url": shown, "keys": 0, "age_s": None, "status": "ok"}


# --- key servers --------------------------------------------------------------------------------------


def test_a_key_server() -> None:
    """Keys come from a server, which is told what is wanted, and who asks if the URL says so."""

    async def talk() -> None:
        async with key_server() as server, started(server.url.replace("//", "//ann:secret@")) as keys:
            assert verifies(keys, "ES256")
            assert keys.status() == {"url": server.url, "keys": 1, "age_s": 0.0, "status": "ok"}
            assert server.headers["Accept"] == "application/jwk-set+json, application/json"
            assert server.headers["Authorization"].startswith("Basic ")

    run(talk())


def test_rotation() -> None:
    """New and old key verify side by side; the old one does not from the moment on at which the set is without it."""

    async def talk() -> None:
        clock = FrozenClock()
        async with key_server() as server, started(server.url, clock=clock) as keys:
            seen = [(verifies(keys, "ES256"), verifies(keys, "EdDSA"))]
            for document in (BOTH, NEW):
                server.says = document
                clock.now += 30
                await keys.refreshed("unknown")
                seen.append((verifies(keys, "ES256"), verifies(keys, "EdDSA")))

            assert seen == [(True, False), (True, True), (False, True)]

    run(talk())


def test_the_same_document_is_the_same_set() -> None:
    """Keys that did not change are the same object, so that nobody forgets what they verified."""

    async def talk() -> None:
        async with key_server() as server, started(server.url) as keys:
            before = keys.current

            await keys.refreshed("unknown")

            assert server.asked == 2
            assert keys.current is before

    run(talk())


def test_a_known_key_is_not_fetched() -> None:
    """Where the key is there, nothing is asked and nobody waits."""

    async def talk() -> None:
        async with key_server() as server, started(server.url) as keys:
            server.gate.clear()

            assert await keys.refreshed(EC.kid) is keys.current
            assert await keys.refreshed(None) is keys.current
            await asyncio.sleep(0)  # the turn of what may have been begun
            assert keys.fetches == 1

    run(talk())


def test_a_flood_of_unknown_keys() -> None:
    """However many tokens name keys that are not known, they cost one fetch per cool-down."""

    async def flood(keys: Keys) -> None:
        await asyncio.gather(*(keys.refreshed(f"unknown {n}") for n in range(500)))
        await keys.refreshed("one more")

    async def talk() -> None:
        clock = FrozenClock()
        async with key_server() as server, started(server.url, clock=clock) as keys:
            counts = []
            for passed_s in (0, 0, 29.999, 0.001, 0, 29.999, 1000):
                clock.now += passed_s
                await flood(keys)
                counts.append((server.asked, keys.fetches))

            assert counts == [(n, n) for n in (2, 2, 2, 3, 3, 3, 4)]

    run(talk())


def test_a_fetch_that_failed_counts_too() -> None:
    """Where the key server fails, unknown keys do not ask it more often."""

    async def talk() -> None:
        clock = FrozenClock()
        async with key_server() as server, started(server.url, clock=clock) as keys:
            server.answer = refuse
            counts = []
            for passed_s in (0, 1, 28.9, 0.1, 1):
                clock.now += passed_s
                await asyncio.gather(*(keys.refreshed(f"unknown {n}") for n in range(20)))
                counts.append((server.asked, keys.may_learn))

            assert counts == [(2, False), (2, False), (2, False), (3, False), (3, False)]

    run(talk())


async def refuse(_: web.Request) -> web.Response:
    return web.Response(status=500, text="driver text")


def test_one_fetch_at_a_time() -> None:
    """All who wait share one fetch; that one of them gives up takes nothing from the others."""

    async def talk() -> None:
        async with key_server() as server, started(server.url) as keys:
            server.says = BOTH
            server.gate.clear()
            waiting = [asyncio.create_task(keys.refreshed(ED.kid)) for _ in range(10)]
            await server.knock()
            await server.knock()
            waiting[0].cancel()
            was_flying = keys.may_learn
            server.gate.set()
            found = await asyncio.gather(*waiting[1:])

            assert was_flying
            assert server.asked == 2
            assert all(each is keys.current and each.find(ED.kid) is not None for each in found)

    run(talk())


def test_a_renewal_waits_for_no_second_fetch() -> None:
    """When it is time to renew and a fetch is on its way, that is the renewal."""

    async def talk() -> None:
        async with key_server() as server, started(server.url, Pace(renew_s=0.01)) as keys:
            server.gate.clear()
            waiting = asyncio.create_task(keys.refreshed("unknown"))
            await server.knock()
            await server.knock()

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await server.knock()

            server.gate.set()
            await waiting

    run(talk())


def test_a_fetch_that_began_before_the_key_was_there() -> None:
    """A renewal that is on its way when a token names a new key does not stand in for the fetch that the token may
    cause."""

    async def talk() -> None:
        async with key_server() as server, started(server.url, Pace(renew_s=0.001)) as keys:
            server.gate.clear()
            await server.knock()
            await server.knock()
            asked = server.asked
            waiting = asyncio.create_task(keys.refreshed(ED.kid))
            await asyncio.sleep(0)
            server.answer = say_then(server, OLD, BOTH)
            server.gate.set()

            found = await waiting

            assert found.find(ED.kid) is not None
            assert server.asked >= asked + 1

    run(talk())


def say_then(server: KeyServer, *documents: bytes) -> Answer:
    """Answer with one document after the other, and go on with the last."""
    left = list(documents)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=left.pop(0) if len(left) > 1 else left[0])

    return answer


def test_renewed_though_nobody_asks() -> None:
    """Keys are fetched again and again, so that a new one is there before the first token by it."""

    async def talk() -> None:
        async with key_server() as server, started(server.url, Pace(renew_s=0.001)) as keys:
            server.says = NEW
            await until(lambda: kids(keys) == {ED.kid})

            assert keys.status()["status"] == "ok"

    run(talk())


# --- key servers that fail ----------------------------------------------------------------------------


async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"}, body=NEW)


async def not_found(_: web.Request) -> web.Response:
    return web.Response(status=404, body=NEW)


async def huge(_: web.Request) -> web.Response:
    return web.Response(body=NEW[:-1] + b" " * MAX_BYTES + b"}")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def squeezed(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(NEW), headers={"Content-Encoding": "gzip"})


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(NEW) + 1)})
    await response.prepare(request)
    await response.write(NEW)
    assert request.transport is not None
    request.transport.close()
    return response


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"220 mail.example ESMTP\r\n\r\n")
    request.transport.close()
    return web.Response()


async def silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


def saying(document: bytes) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=document)

    return answer


FAILING: Final[dict[str, tuple[Answer, str]]] = {
    "an error": (refuse, "the key server answers 500"),
    "not found": (not_found, "the key server answers 404"),
    "a redirection": (redirect, "redirects, which is not followed"),
    "too much": (huge, "longer than 256 KiB"),
    "no end": (endless, "longer than 256 KiB"),
    "compressed": (squeezed, "no JSON"),
    "cut off": (cut_off, "the key server"),
    "hangs up": (hang_up, "cannot be reached, or breaks the connection off"),
    "another protocol": (no_http, "answers what is no HTTP"),
    "silence": (silent, "does not answer in time"),
    "a drip": (dripping, "does not answer in time"),
    **{f"says {name}": (saying(document), why) for name, (document, why) in UNREADABLE.items()},
}


@pytest.mark.parametrize(("answer", "why"), FAILING.values(), ids=FAILING)
def test_a_key_server_that_fails_changes_nothing(answer: Answer, why: str) -> None:
    """Whatever a key server does, the keys that are there go on verifying, and it is told in words of ours."""

    async def talk() -> None:
        clock = FrozenClock()
        async with key_server() as server, started(server.url, Pace(renew_s=3600, timeout_s=0.3), clock) as keys:
            before = keys.current
            server.answer = answer
            clock.now += 60

            await keys.refreshed("unknown")

            told = keys.status()
            assert keys.current is before
            assert verifies(keys, "ES256")
            assert why in told.pop("message")
            assert told.pop("error") in ("unavailable", "bad_keys")
            assert told == {"url": server.url, "keys": 1, "age_s": 60.0, "status": "degraded"}
            assert keys.fetches == 2

    run(talk())


def test_a_key_server_that_is_down_at_the_start() -> None:
    """Without a key server there are no keys yet; they come as soon as it answers, and nobody needs to ask."""

    async def talk() -> None:
        async with key_server() as server:
            server.answer = refuse
            async with started(server.url, Pace(renew_s=3600, first_pause_s=0.001)) as keys:
                told, was_verified = keys.status(), verifies(keys, "ES256")
                server.answer = None
                await until(lambda: bool(keys.current.keys))

                assert not was_verified
                assert (told["status"], told["keys"], told["age_s"]) == ("degraded", 0, None)
                assert verifies(keys, "ES256")

    run(talk())


def test_nobody_there_at_all() -> None:
    """Where nothing listens, it starts all the same, and says what is wrong."""

    async def talk() -> None:
        async with key_server() as server:
            pass
        async with started(server.url) as keys:
            assert "cannot be reached" in keys.status()["message"]

    run(talk())


def test_pauses_grow() -> None:
    """A source that fails is tried again after ever longer pauses, none longer than if all were well."""
    pace = Pace(renew_s=300, look_s=2, first_pause_s=1, last_pause_s=10)

    assert [pace.pause_s(pace.renew_s, failures) for failures in (0, 1, 2, 3, 4, 5, 10**6)] == [300, 1, 2, 4, 8, 10, 10]
    assert [pace.pause_s(pace.look_s, failures) for failures in (0, 1, 2, 3, 10**6)] == [2, 1, 2, 2, 2]


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """Keys are not taken from a server whose certificate is not trusted."""

    async def talk() -> None:
        async with key_server(tls=certificate(tmp_path)) as server, started(server.url) as keys:
            assert server.asked == 0
            assert not keys.current.keys
            assert "certificate that is not trusted" in keys.status()["message"]

    run(talk())


def certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for this machine that it signs itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, EC.private.public_key(), 1, day, day.replace(year=2120))
        .sign(EC.private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = EC.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(made + private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context


# --- what is told -------------------------------------------------------------------------------------


def test_keys_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that does not verify is told of, though all is well otherwise; of many, some."""

    async def talk() -> None:
        unfit = [RSA.jwk(use="enc") | {"kid": f"e{n}"} for n in range(20)]
        path = written(tmp_path, json.dumps({"keys": [EC.jwk(), *unfit]}).encode())
        async with started(str(path)) as keys:
            told = keys.status()

            assert (told["status"], told["keys"], len(told["left_out"])) == ("ok", 1, 10)
            assert told["left_out"][0] == 'kid "e0": its "use" is "enc", not "sig"'
            assert 'kid "e19"' in caplog.text

    run(talk())


def test_what_is_wrong_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged when it begins and when it ends, not at each fetch in between."""

    async def talk() -> None:
        clock = FrozenClock()
        async with key_server() as server, started(server.url, clock=clock) as keys:
            for answer in (refuse, refuse, refuse, None, None):
                server.answer = answer
                clock.now += 30
                await keys.refreshed("unknown")

        said = [record.getMessage() for record in caplog.records if record.name == "bylaw.jwks"]
        assert said == [f"{server.url}: the key server answers 500", f"{server.url}: the keys can be had again"]

    caplog.set_level(logging.INFO)
    run(talk())


def test_nothing_is_fetched_after_the_end() -> None:
    """Who stops it waits for nobody, and nobody waits for it."""

    async def talk() -> None:
        async with key_server() as server, started(server.url, Pace(renew_s=0.001)) as keys:
            server.gate.clear()
            await server.knock()
            await server.knock()
            waiting = asyncio.create_task(keys.refreshed("unknown"))
            await asyncio.sleep(0)
            await keys.stop()
            asked = server.asked

            assert (await waiting).find("unknown") is None
            assert not keys.may_learn
            assert await keys.refreshed("unknown") is keys.current
            assert server.asked == asked

    run(talk())


def test_long_certificates_are_no_fault() -> None:
    """A chain of certificates may be longer than any text in a request."""
    keys = read_keys(json.dumps({"keys": [EC.jwk(x5c=["A" * 20_000] * 3)]}).encode())

    assert set(keys.keys) == {EC.kid}


def test_a_document_of_the_greatest_length() -> None:
    """256 KiB are read."""
    assert read_keys(OLD + b" " * (MAX_BYTES - len(OLD))).keys
    with pytest.raises(BylawError, match="longer"):
        read_keys(OLD + b" " * (MAX_BYTES - len(OLD) + 1))
