"""The HTTP variant without Envoy: what is read of a request, and that nothing on the way changes it."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse

import pytest

from sidecar.envoy import Verdict
from sidecar.handlers.envoy_http import address_in, read, reply_of
from tests.sidecar.envoy.conftest import make_token
from tests.sidecar.envoy.front import PATIENCE_S, Answer, Sidecar


def send(well: Sidecar, data: bytes, method: str = "GET") -> Answer:
    """Send bytes to the sidecar itself."""
    with socket.create_connection(("127.0.0.1", well.ports["http"]), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        with HTTPResponse(connection, method=method) as response:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())


def check(well: Sidecar, target: bytes, method: bytes = b"GET", fields: bytes = b"", body: bytes = b"") -> Answer:
    head = b"%b %b HTTP/1.1\r\nHost: api.example\r\n%b\r\n" % (method, target, fields)
    return send(well, head + body, method.decode())


def test_an_allow(well: Sidecar) -> None:
    """An allow is exactly 200, with headers for the application, and those that it must not see."""
    answer = check(well, b"/envoy/v1/me", fields=b"Authorization: Bearer %b\r\n" % make_token("ada").encode())

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-bylaw-subject"] == "user:ada"
    assert "x-bylaw-tenant" in answer.headers["x-envoy-auth-headers-to-remove"].split(",")


@pytest.mark.parametrize(("status", "written"), [(200, 200), (401, 401), (403, 403), (503, 403)])
def test_no_answer_is_an_error(status: int, written: int) -> None:
    """Envoy takes 5xx for an error, so nothing is answered by one."""
    assert reply_of(Verdict(status, "code")).status == written


TARGETS = {
    b"/envoy": "",
    b"/envoy/": "/",
    b"/envoy//docs/a": "//docs/a",
    b"/envoy/docs/../check": "/docs/../check",
    b"/envoy/../check": "/../check",
    b"/envoy/docs/%2e%2e/a?b=%2f#c": "/docs/%2e%2e/a?b=%2f#c",
    b"/envoy/docs/a;b\\c": "/docs/a;b\\c",
    b"/envoy/docs/%0a": "/docs/%0a",
    b"/envoy/docs/a%": "/docs/a%",
    b"/envoydocs/a": "docs/a",
}


@pytest.mark.parametrize(("target", "path"), TARGETS.items())
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"OPTIONS", b"PROPFIND", b"HEAD"])
def test_targets_arrive_as_they_were_sent(well: Sidecar, target: bytes, path: str, method: bytes) -> None:
    """Whatever stands behind the prefix is decided on as it is, under any method: no 404, no 405, no redirect."""
    before = well.decisions.read_text("ascii").count("\n")

    answer = check(well, target, method)

    said = json.loads(well.decisions.read_text("ascii").splitlines()[before])
    assert (said["method"], said["path"]) == (method.decode(), path)
    assert answer.status in (200, 401)


@pytest.mark.parametrize(
    ("target", "method"),
    [(b"/envoy/caf\xc3\xa9", b"GET"), (b"/envoy/docs/a", b"BREW"), (b"/envoy/docs/" + b"a/" * 5000, b"GET")],
)
def test_what_http_itself_refuses(well: Sidecar, target: bytes, method: bytes) -> None:
    """What does not get as far as the check is 400, which denies."""
    assert check(well, target, method).status == 400


@pytest.mark.parametrize("target", [b"http://other.example/envoy/healthz", b"http://other.example/healthz"])
def test_absolute_targets(well: Sidecar, target: bytes) -> None:
    """Envoy sends none, and nothing is open by one."""
    assert check(well, target).status in (401, 403, 404)


def test_bodies_are_nothing(well: Sidecar) -> None:
    """A body, of any length, changes no answer, and the connection goes on or ends after it."""
    small = check(well, b"/envoy/healthz", b"POST", b"Content-Length: 9\r\n", b'{"a": 1}\n')
    large = check(well, b"/envoy/docs/a", b"GET", b"Content-Length: 3000000\r\n", b"x" * 100_000)

    assert (small.status, large.status) == (401, 200)


def test_several_authorizations(well: Sidecar) -> None:
    """Two headers are two, also where one of them is empty."""
    token = make_token("ada").encode()

    answer = check(well, b"/envoy/healthz", fields=b"Authorization: Bearer %b\r\nauthorization:\r\n" % token)

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading() -> None:
    """What counts is read in any case of letters; the host is the end user's, and a caller's key has its own header."""
    named = {"Host": "h", "AUTHORIZATION": "a", "X_Bylaw_A": "1", "Bylaw-Caller-Key": "k", "X-Request-ID": "r"}
    named |= {"traceparent": "00-a-b-01", "tracestate": "c=d"}

    asked, call = read("GET", "/envoy/a?b", named.items(), "192.0.2.1", 0)

    assert asked == ("GET", "/a?b", ("a",), None, ("x_bylaw_a",), False)
    assert (call.peer, call.host, call.authorization, call.request_id) == ("192.0.2.1", "localhost", ("Bearer k",), "r")
    assert call.trace == ("00-a-b-01", "c=d")


@pytest.mark.parametrize("request_id", ["", "a\tb", "caf\u00e9", "r" * 257])
def test_request_ids_that_cannot_be_echoed(request_id: str) -> None:
    """An id that cannot be logged as it is, is none."""
    assert read("GET", "/envoy/", [("x-request-id", request_id)], None, 0)[1].request_id is None


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        (["203.0.113.9, 192.0.2.1"], 0, None),
        (["203.0.113.9, 192.0.2.1"], 1, "192.0.2.1"),
        (["203.0.113.9,192.0.2.1"], 2, "203.0.113.9"),
        (["203.0.113.9, 192.0.2.1"], 3, None),
        (["203.0.113.9", "192.0.2.1"], 1, "192.0.2.1"),
        ([""], 1, ""),
        ([], 1, None),
    ],
)
def test_hops(forwarded: list[str], hops: int, address: str | None) -> None:
    """As many hops are believed as the settings say, from the nearest on; without any there is no address."""
    assert address_in(forwarded, hops) == address
