"""The gRPC variant without Envoy: whatever is sent, the RPC is OK and the answer is the check's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # it comes without types
import grpc.aio  # type: ignore[import-untyped]
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from sidecar.addresses import Address
from sidecar.errors import PublicError
from sidecar.handlers.envoy_grpc import MAX_MESSAGE, EnvoyGrpc, call_of, peer_in, read, write
from tests.databases import run
from tests.sidecar.envoy.conftest import make_token
from tests.sidecar.envoy.front import PATIENCE_S, Sidecar
from tests.sidecar.envoy.test_check import CALL, OPEN, Broken, check_of, loaded_of
from tests.sidecar.test_identity import UNHURRIED

METHOD: Final = "/envoy.service.auth.v3.Authorization/Check"
OK, PERMISSION_DENIED, UNAUTHENTICATED = 0, 7, 16
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(well: Sidecar) -> Iterator[Ask]:
    """Send bytes as a check; an RPC that is not OK raises."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 24)]
    with grpc.insecure_channel(f"127.0.0.1:{well.ports['grpc']}", options) as channel:
        call = channel.unary_unary(METHOD)

        def send(message: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
            return CheckResponse.FromString(call(message, timeout=PATIENCE_S, metadata=metadata))

        yield send


def check_request(
    path: str = "/healthz", headers: dict[str, str] | None = None, raw: tuple[tuple[str, bytes], ...] = ()
) -> bytes:
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = "GET", path
    for name, value in (headers or {}).items():
        http.headers[name] = value
    for name, raw_value in raw:
        http.header_map.headers.add(key=name, raw_value=raw_value)
    message: bytes = request.SerializeToString()
    return message


def asked_in(message: bytes) -> Any:
    return read(message)[0]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_allow(ask: Ask) -> None:
    """An allow is status 0, headers that overwrite, names that are removed, and why, for Envoy's log."""
    headers = {"authorization": f"Bearer {make_token('ada')}", "x_bylaw_subject": "user:root", "x-bylaw-roles": "a"}

    said = ask(check_request("/v1/projects/site", headers))

    written = {option.header.key: option.header.value for option in said.ok_response.headers}
    assert said.status.code == OK
    assert {option.append_action for option in said.ok_response.headers} == {2}
    assert set(written) == {"x-bylaw-subject", "x-bylaw-tenant", "x-bylaw-decision-id"}
    assert {"x_bylaw_subject", "x-bylaw-roles"} <= set(said.ok_response.headers_to_remove)
    metadata = {name: value.string_value for name, value in said.dynamic_metadata.fields.items()}
    assert metadata.pop("policy").startswith("sha256:")
    assert metadata.pop("revision")
    assert metadata == {
        "code": "role",
        "rule": "workspace.admin on workspace:acme",
        "decision_id": written["x-bylaw-decision-id"],
    }


def test_a_deny(ask: Ask) -> None:
    """A deny has its own status and a body, and the metadata says why here too."""
    said = ask(check_request("/nowhere", {"authorization": f"Bearer {make_token('ada')}"}))

    assert (said.status.code, said.denied_response.status.code) == (PERMISSION_DENIED, 403)
    assert said.dynamic_metadata.fields["code"].string_value == "no_route"
    assert not said.HasField("ok_response")


def test_a_token_is_asked_for(ask: Ask) -> None:
    """Where no good token came the status is UNAUTHENTICATED, and the client is told how to come again."""
    said = ask(check_request("/v1/me"))

    headers = {option.header.key: option.header.value for option in said.denied_response.headers}
    assert (said.status.code, said.denied_response.status.code) == (UNAUTHENTICATED, 401)
    assert headers == {"Content-Type": "application/json", "WWW-Authenticate": "Bearer"}


ODD: Final = {
    "nothing": b"",
    "rubbish": b"\xff\xff\xff",
    "cut off": check_request()[:-3],
    "no text": check_request("/\x00x").replace(b"\x00", b"\xff"),
    "of TCP": CheckRequest(attributes={"source": {}}).SerializeToString(),
    "too large": check_request(headers={"cookie": "c" * (MAX_MESSAGE + 1)}),
    "far too large": check_request(headers={"cookie": "c" * (8 << 20)}),
}


@pytest.mark.parametrize("message", ODD.values(), ids=ODD)
def test_what_cannot_be_read_is_answered(ask: Ask, message: bytes) -> None:
    """What is no check of an HTTP request denies by an answer, never by an RPC that fails."""
    said = ask(message)

    assert (said.status.code, said.denied_response.status.code) == (PERMISSION_DENIED, 503)
    assert said.dynamic_metadata.fields["code"].string_value in ("bad_request", "too_large")
    assert not said.HasField("error_response")


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes(message: bytes) -> None:
    """Any bytes at all are a check, or a bad request."""
    with suppress(PublicError):
        asked = asked_in(message)
        assert isinstance(asked.path, str)


def test_large_metadata(ask: Ask) -> None:
    """However much a client says of its trace, Envoy passes it on, and it fails no check."""
    said = ask(check_request(), (("tracestate", "t" * 100_000),))

    assert said.status.code == OK


def test_other_methods_are_none(well: Sidecar) -> None:
    """There is one method; another is a mistake in Envoy's configuration, and says so."""
    place = f"127.0.0.1:{well.ports['grpc']}"

    with grpc.insecure_channel(place) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/envoy.service.auth.v2.Authorization/Check")(b"", timeout=PATIENCE_S)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- reading ----------------------------------------------------------------------------------------------------------


def test_both_forms_of_headers() -> None:
    """Headers are read as Envoy merges them, or each as it came; duplicates stay duplicates."""
    merged = asked_in(check_request(headers={"authorization": "Bearer a,Bearer b", "X_Bylaw_A": ""}))
    raw = asked_in(check_request(raw=(("authorization", b"Bearer a"), ("authorization", b"Bearer \xff"))))

    assert merged.authorization == ("Bearer a,Bearer b",)
    assert merged.reserved == ("x_bylaw_a",)
    assert raw.authorization == ("Bearer a", "Bearer \xff")


def test_the_path_as_it_came() -> None:
    """The raw path counts, where Envoy sends it; else one with a byte that may have been replaced is no path."""
    assert asked_in(check_request("/a!b", raw=((":path", b"/a\xffb"),))).path == "/a\xffb"
    assert asked_in(check_request("/a!b", raw=((":path", b"/a!b"),))).path == "/a!b"
    assert asked_in(check_request("/a!b", {":path": "/a!b"})).path == "/a\N{REPLACEMENT CHARACTER}b"
    assert asked_in(check_request("/a?b!")).path == "/a?b!"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ipv4:127.0.0.1:43690", "127.0.0.1"), ("ipv6:%5B::1%5D:5", "::1"), ("ipv6:[::2]:5", "::2"),
        ("unix:", None), ("unix:/run/x", None), ("unix-abstract:x", "unix-abstract:x"), ("vsock:1:2", "1"), ("", ""),
    ],
)  # fmt: skip
def test_peers(written: str, address: str | None) -> None:
    """A peer's address is read from what gRPC calls it; only a Unix socket has none."""
    assert peer_in(written) == address


def test_what_envoy_says_of_itself() -> None:
    """A caller's keys and trace are in the metadata; an end user's token is in the request, and is none of it."""
    metadata = (
        ("authorization", "Bearer k"), ("authorization", "Bearer l"), ("traceparent", "00-a-b-01"), ("x-bin", b"1"),
    )  # fmt: skip
    message = check_request(headers={"authorization": "Bearer user", "traceparent": "no", "x-request-id": "r-1"})

    asked, request_id = read(message)
    call = call_of("ipv4:127.0.0.1:5", metadata, request_id)

    assert asked.authorization == ("Bearer user",)
    assert (call.peer, call.host, call.request_id) == ("127.0.0.1", "localhost", "r-1")
    assert call.authorization == ("Bearer k", "Bearer l")
    assert call.trace == ("00-a-b-01", "")


# --- the server -------------------------------------------------------------------------------------------------------


async def _asked_of(address: Address) -> Any:
    async with grpc.aio.insecure_channel(str(address)) as channel:
        return CheckResponse.FromString(await channel.unary_unary(METHOD)(check_request("/open"), timeout=PATIENCE_S))


def test_its_life(tmp_path: Path) -> None:
    """It listens at a port or a Unix socket, says where, and is gone once it is stopped."""

    async def live(address: Address) -> int:
        server = EnvoyGrpc(check_of(loaded_of(OPEN)))
        where = await server.start(address)
        code: int = (await _asked_of(where)).status.code
        await server.stop(1)
        if where.path is None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((where.host, where.port), timeout=PATIENCE_S)
        return code

    assert run(live(Address("127.0.0.1", 0))) == OK
    assert run(live(Address(path=str(tmp_path / "envoy.sock")))) == OK


def test_an_address_that_is_taken() -> None:
    """Two services do not share a port by mistake, and the one that comes second is told."""

    async def live() -> None:
        first, second = EnvoyGrpc(check_of(loaded_of(OPEN))), EnvoyGrpc(check_of(loaded_of(OPEN)))
        where = await first.start(Address("127.0.0.1", 0))
        try:
            with pytest.raises(OSError, match=r"127\.0\.0\.1:\d+ is taken"):
                await second.start(where)
        finally:
            await first.stop(1)

    run(live())


def test_workers_share_a_port() -> None:
    """Processes of one service may listen on one port."""

    async def live() -> None:
        servers = [EnvoyGrpc(check_of(loaded_of(OPEN)), is_shared=True) for _ in range(2)]
        where = await servers[0].start(Address("127.0.0.1", 0))
        assert await servers[1].start(where) == where
        for server in servers:
            await server.stop(1)

    run(live())


def test_what_is_under_way_is_answered() -> None:
    """Stopping waits for the answer of a check that waits for facts."""

    async def live() -> tuple[int, int]:
        broken = Broken()
        server = EnvoyGrpc(check_of(loaded_of(OPEN), broken))
        where = await server.start(Address("127.0.0.1", 0))
        async with grpc.aio.insecure_channel(str(where)) as channel:
            call = channel.unary_unary(METHOD)(check_request("/open"), timeout=PATIENCE_S)
            await broken.is_asked.wait()
            await server.stop(5)
            said = CheckResponse.FromString(await call)
        return said.status.code, said.denied_response.status.code

    assert run(live()) == (PERMISSION_DENIED, 503)


def test_writing_never_names_a_header_twice() -> None:
    """A denied answer has no more headers than the client is to see."""
    check = check_of(loaded_of(OPEN))

    said = CheckResponse.FromString(write(check.failed(RuntimeError(), CALL)))

    assert [option.header.key for option in said.denied_response.headers] == ["Content-Type"]
