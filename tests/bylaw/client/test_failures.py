"""Both clients before servers that misbehave: nothing but a good answer to this very question is an allow."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bylaw.client import (
    AsyncBylaw,
    BadAnswerError,
    BylawError,
    RefusedError,
    StaleError,
    TimedOutError,
    UnavailableError,
)
from bylaw.client.wire import MAX_ANSWER
from tests.bylaw.client.conftest import MakeAsker
from tests.bylaw.client.scripted import ALLOW, ANN, DENY, Script, Scripted, close, drip, hang, header, http, ok

YES = json.dumps(ALLOW).encode()
SHORT_S = 0.2


def chunked(body: bytes, end: bytes = b"0\r\n\r\n", size: bytes | None = None) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + (size or f"{len(body):x}".encode()) + b"\r\n" + body + b"\r\n" + end


def then_close(data: bytes) -> Script:
    def sent(server: Scripted, connection: socket.socket) -> None:
        connection.sendall(data)
        close(server, connection)

    return sent


def reset(_: Scripted, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def endless(head: bytes, more: bytes) -> Script:
    """Send more and more, until nobody wants it."""

    def sent(server: Scripted, connection: socket.socket) -> None:
        connection.sendall(head)
        while not server.over.is_set():
            connection.sendall(more)

    return sent


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NO_ANSWERS: dict[str, Script] = {
    "closes": close,
    "resets": reset,
    "closes in the head": then_close(HEAD),
    "closes in the body": then_close(http(200, YES)[:-5]),
    "closes in a chunk": then_close(chunked(YES)[:-12]),
    "closes before the last chunk": then_close(chunked(YES, end=b"")),
    "chunk of no size": then_close(chunked(YES, size=b"zz")),
    "garbage": then_close(b"\x16\x03\x01 what is this\r\n\r\n"),
    "HTTP/0.9": then_close(YES),
    "no head": then_close(b"HTTP/1.1 200 OK\r\n\r\n" + YES),
    "decision is a text": ok({**ALLOW, "decision": "true"}),
    "decision is a number": ok({**ALLOW, "decision": 1}),
    "no decision": ok({"context": ALLOW["context"]}),
    "other JSON": ok([True]),
    "no JSON": http(200, b"true!"),
    "nothing": http(200, b""),
    "a page": http(200, YES, "text/html"),
    "no type": http(200, YES, None),
    "compressed": http(200, gzip.compress(YES), "application/json", "Content-Encoding: gzip"),
    "no end": then_close(HEAD + b"\r\n" + YES),
    "longer than it is": then_close(HEAD + b"Content-Length: %d\r\n\r\n" % (len(YES) + 1) + YES),
    "no content": b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n",
    "created": http(201, YES),
    "redirected": http(302, YES, "application/json", "Location: /yes"),
    "sent again elsewhere": http(307, YES, "application/json", "Location: /yes"),
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Type: application/json\r\n\r\n",
    "early hints": then_close(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "too long": http(200, YES + b" " * MAX_ANSWER),
    "says it is too long": then_close(HEAD + b"Content-Length: 99999999999999\r\n\r\n" + YES),
    "length is no number": then_close(HEAD + b"Content-Length: many\r\n\r\n" + YES),
    "two lengths": then_close(HEAD + b"Content-Length: 5\r\nContent-Length: %d\r\n\r\n" % len(YES) + YES),
    "endless chunks": endless(chunked(YES, end=b""), b"400\r\n" + b" " * 1024 + b"\r\n"),
    "endless body": endless(HEAD + b"\r\n" + YES, b" " * 65536),
    "endless head": endless(HEAD, b"X-More: " + b"x" * 1024 + b"\r\n"),
    "endless line": endless(HEAD + b"X-More: ", b"x" * 65536),
    "failed": http(500, YES),
    "bad gateway": http(502, YES),
    "overloaded": http(503, YES),
    "too many": http(429, YES),
    "too slow for it": http(408, YES),
    "refused": http(400, YES),
    "unknown caller": http(401, YES),
    "may not ask": http(403, YES),
    "not there": http(404, YES),
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_no_allow(make: MakeAsker, answer: Script) -> None:
    """Whatever comes but an answer, a check raises, `is_allowed` is false, and nothing is asked anywhere else."""
    with Scripted(answer) as server:
        client = make(server.url, timeout_s=5.0)

        with pytest.raises(BylawError) as caught:
            client.ask(ANN)
        is_allowed = client.is_allowed(ANN)
        with pytest.raises(BylawError):
            client.check_many([ANN])

        assert is_allowed is False
        assert not isinstance(caught.value, TimedOutError)
        assert all(request.startswith(b"POST /check HTTP/1.1\r\n") for request in server.requests)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (close, UnavailableError),
        (then_close(http(200, YES)[:-5]), BadAnswerError),
        (http(200, YES, "text/html"), BadAnswerError),
        (http(302, YES), BadAnswerError),
        (http(503, json.dumps({"error": "stale", "message": "no"}).encode()), StaleError),
        (http(503, b"{}"), UnavailableError),
        (http(400, b"{}"), RefusedError),
    ],
)
def test_kinds_of_failure(make: MakeAsker, answer: Script, error: type[BylawError]) -> None:
    """Both clients tell failures apart alike."""
    with Scripted(answer) as server:
        client = make(server.url)

        with pytest.raises(BylawError) as caught:
            client.ask(ANN)

        assert type(caught.value) is error


@pytest.mark.parametrize(
    "answer",
    [hang, drip(http(200, YES)), drip(HEAD + b"\r\n" + b" " * 100), drip(chunked(YES))],
    ids=["silence", "dripping head", "dripping body", "dripping chunks"],
)
def test_an_answer_that_takes_its_time(make: MakeAsker, answer: Script) -> None:
    """The time is for the whole of an answer; one that is not there by then is not asked for again."""
    with Scripted(answer) as server:
        client = make(server.url, timeout_s=SHORT_S)
        began = time.monotonic()

        with pytest.raises(TimedOutError):
            client.ask(ANN)

        assert time.monotonic() - began < 10 * SHORT_S
        assert len(server.requests) == 1


def test_a_server_that_accepts_nobody(make: MakeAsker) -> None:
    """A connection that is never taken is given up like an answer that does not come."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = []
        for _ in range(4):  # until the queue of the kernel is full
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        client = make(f"http://127.0.0.1:{address[1]}", timeout_s=SHORT_S)

        with pytest.raises(TimedOutError):
            client.ask(ANN)

        for each in waiting:
            each.close()


def test_nobody_listens(make: MakeAsker, tmp_path: Path) -> None:
    """A connection that is refused, and a socket that is not there, is an error at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    for url in (f"http://127.0.0.1:{port}", f"unix:{tmp_path}/none.sock", "http://name.invalid"):
        with pytest.raises(UnavailableError) as caught:
            make(url, timeout_s=5.0).ask(ANN)

        assert caught.value.code == "unreachable"


def test_chunks_are_an_answer(make: MakeAsker) -> None:
    """An answer may come in chunks, if all of them come."""
    with Scripted(chunked(YES)) as server:
        client = make(server.url)

        decisions = [client.ask(ANN), client.ask(ANN)]

        assert all(decisions)
        assert server.connections == 1


def test_connections_are_used_again(make: MakeAsker) -> None:
    """Many checks take one connection, also after an error that was answered whole."""
    with Scripted(ok(ALLOW), http(503, b"{}"), ok(ALLOW)) as server:
        client = make(server.url)

        found = [client.is_allowed(ANN) for _ in range(5)]

        assert found == [True, False, True, True, True]
        assert server.connections == 1


def test_a_connection_that_was_closed_meanwhile(make: MakeAsker) -> None:
    """A check whose connection ends before an answer begins is sent once more."""
    with Scripted(ok(ALLOW), close, ok(ALLOW)) as server:
        client = make(server.url)

        decisions = [client.ask(ANN), client.ask(ANN)]

        assert all(decisions)
        assert (len(server.requests), server.connections) == (3, 2)


def test_once_more_and_not_again(make: MakeAsker) -> None:
    """A second connection that ends is a failure."""
    with Scripted(ok(ALLOW), close) as server:
        client = make(server.url)
        client.ask(ANN)

        with pytest.raises(UnavailableError):
            client.ask(ANN)

        assert len(server.requests) == 3


def test_an_answer_that_was_begun_is_not_asked_for_again(make: MakeAsker) -> None:
    """What was cut off is a bad answer, not a closed connection."""
    with Scripted(then_close(http(200, YES)[:-5])) as server:
        client = make(server.url)

        with pytest.raises(BadAnswerError):
            client.ask(ANN)

        assert len(server.requests) == 1


def test_an_answer_that_comes_too_late(make: MakeAsker) -> None:
    """The answer to a check that was given up is not that of the next one."""

    def late(server: Scripted, connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)  # until the client hangs up, or asks its next question here
        connection.sendall(ok(ALLOW))

    with Scripted(late, ok(DENY)) as server:
        client = make(server.url, timeout_s=SHORT_S)
        with pytest.raises(TimedOutError):
            client.ask(ANN)

        decision = client.ask(replace(ANN, subject="user:eve"))

        assert not decision


@pytest.mark.parametrize("answers", [ok(DENY) + ok(ALLOW), ok(DENY) + b"HTTP/1.1 200 OK\r\n"])
def test_an_answer_that_nobody_asked_for(make: MakeAsker, answers: bytes) -> None:
    """What comes behind an answer is not the next one."""
    with Scripted(answers, ok(DENY)) as server:
        client = make(server.url)

        found = [client.ask(ANN).allowed for _ in range(3)]

        assert found == [False, False, False]


def test_an_answer_that_comes_while_nobody_asks(make: MakeAsker) -> None:
    """What comes on a connection that is not in use is not the answer to whatever is asked next."""
    kept: list[socket.socket] = []

    def answer(_: Scripted, connection: socket.socket) -> None:
        kept.append(connection)
        connection.sendall(ok(DENY))

    with Scripted(answer) as server:
        client = make(server.url)
        client.ask(ANN)
        kept[0].sendall(ok(ALLOW))

        found = [client.ask(ANN).allowed for _ in range(2)]

        assert found == [False, False]


def test_failures_leave_the_pool_whole(make: MakeAsker) -> None:
    """A pool of one connection survives any failure."""
    cut_off, too_large = then_close(chunked(YES, end=b"")), http(200, YES + b" " * MAX_ANSWER)
    with Scripted(close, close, too_large, cut_off, hang, ok(ALLOW)) as server:
        client = make(server.url, pool_size=1, timeout_s=SHORT_S)

        found = [client.is_allowed(ANN) for _ in range(5)]

        assert found == [False, False, False, False, True]


def test_a_task_that_is_cancelled() -> None:
    """A check that is given up by who asked gives its connection back, and leaves no answer behind."""

    async def ask(server: Scripted) -> tuple[bool, bool]:
        async with AsyncBylaw(server.url, pool_size=1, timeout_s=20) as client:
            given_up = asyncio.create_task(client.ask(ANN))
            await asyncio.to_thread(server.asked.wait)
            given_up.cancel()
            decision = await client.ask(ANN)
            await asyncio.wait({given_up})
            return given_up.cancelled(), decision.allowed

    with Scripted(hang, ok(DENY)) as server:
        found = asyncio.run(ask(server))

    assert found == (True, False)


def test_failures_are_logged_once_in_a_while(make: MakeAsker, caplog: pytest.LogCaptureFixture) -> None:
    """`is_allowed` logs each kind of failure once a minute, and nothing of what an end user may have sent as it is."""
    clock = [0.0]
    refusal = http(400, json.dumps({"error": "unknown_type", "message": "no type `a\nFAKED`"}).encode())
    with Scripted(http(503, b"{}"), http(503, b"{}"), refusal, http(503, b"{}")) as server:
        client = make(server.url, clock=lambda: clock[0])
        with caplog.at_level(logging.ERROR, "bylaw.client"):
            for clock[0] in (0.0, 1.0, 2.0, 59.0, 61.0):
                client.is_allowed(ANN)

    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[1] for line in lines] == ["http_503", "unknown_type", "http_503"]
    assert all(line.isprintable() for line in lines)


def test_a_question_that_cannot_be_asked_is_not_allowed(make: MakeAsker, caplog: pytest.LogCaptureFixture) -> None:
    """`is_allowed` is false for it, and nothing is sent."""
    with Scripted(ok(ALLOW)) as server, caplog.at_level(logging.ERROR, "bylaw.client"):
        client = make(server.url)

        found = client.is_allowed(replace(ANN, subject="user:"))

        assert (found, server.requests) == (False, [])
        assert "subject" in caplog.text


def test_a_closed_client(make: MakeAsker) -> None:
    """A client that was closed asks nothing, used before or not."""
    with Scripted(ok(ALLOW)) as server:
        for asks in (0, 1):
            client = make(server.url)
            for _ in range(asks):
                client.ask(ANN)
            client.close()

            with pytest.raises(UnavailableError, match="closed"):
                client.ask(ANN)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_environment_changes_nothing(make: MakeAsker, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy in the environment is not asked for decisions."""
    with Scripted(ok(ALLOW)) as proxy, Scripted(ok(DENY)) as server:
        monkeypatch.setenv(name, proxy.url)
        client = make(server.url)

        decision = client.ask(ANN)

        assert not decision
        assert proxy.connections == 0


def test_cookies_are_not_kept(make: MakeAsker) -> None:
    """What one answer sets does not go along with the next question."""
    with Scripted(http(200, YES, "application/json", "Set-Cookie: a=b; Path=/")) as server:
        client = make(f"http://localhost:{server.port}")  # of an address nobody would keep any

        client.ask(ANN)
        client.ask(ANN)

        assert header(server.requests[1], "Cookie") is None


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(written + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def encrypted(certificate: Path) -> Callable[[socket.socket], socket.socket]:
    """Makes the connections of a server encrypted ones."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return lambda sock: context.wrap_socket(sock, server_side=True)


def test_tls(make: MakeAsker, certificate: Path, encrypted: Callable[[socket.socket], socket.socket]) -> None:
    """Over https the certificate must be of somebody who is trusted, and of this host; then it is like any other."""
    trusting = ssl.create_default_context(cafile=str(certificate))
    with Scripted(ok(ALLOW), ok(DENY), drip(http(200, YES)), wrap=encrypted) as server:
        known = make(f"https://localhost:{server.port}", ssl_context=trusting, timeout_s=5.0)
        with pytest.raises(UnavailableError):
            make(f"https://localhost:{server.port}", timeout_s=5.0).ask(ANN)
        with pytest.raises(UnavailableError):
            make(f"https://127.0.0.1:{server.port}", ssl_context=trusting, timeout_s=5.0).ask(ANN)
        seen = len(server.requests)

        found = [known.ask(ANN).allowed, known.ask(ANN).allowed]

        assert (seen, found) == (0, [True, False])
        with pytest.raises(TimedOutError):
            make(f"https://localhost:{server.port}", ssl_context=trusting, timeout_s=SHORT_S * 2).ask(ANN)


def test_the_service_is_asked_in_clear_only_where_it_is_told_so(make: MakeAsker) -> None:
    """A server that does not speak TLS is no https server."""
    with Scripted(ok(ALLOW)) as server, pytest.raises(UnavailableError):
        make(f"https://localhost:{server.port}", timeout_s=0.5).ask(ANN)

    assert server.requests == []
