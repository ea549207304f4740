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

from sidecar.addresses import Address, bind, shown
from sidecar.errors import PublicError
from sidecar.grpc_lane import Head, reply
from sidecar.handlers.envoy_grpc import MAX_MESSAGE, EnvoyGrpc, call_of, make_server, read, write
from sidecar.http2 import Response
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


def test_health(well: Sidecar) -> None:
    """Who watches is told that it serves; of another service that there is none here."""
    place = f"127.0.0.1:{well.ports['grpc']}"
    with grpc.insecure_channel(place) as channel:
        watch = channel.unary_unary("/grpc.health.v1.Health/Check")

        of_all, of_ours = (watch(message, timeout=PATIENCE_S) for message in (b"", b"\x0a\x23" + METHOD[1:36].encode()))
        with pytest.raises(grpc.RpcError) as caught:
            watch(b"\x0a\x01x", timeout=PATIENCE_S)

    assert of_all == of_ours == b"\x08\x01"
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_while_stopping() -> None:
    """A service that stops says so to who watches, and nobody else on another machine is told anything."""
    check = check_of(loaded_of(OPEN))
    watch, body = EnvoyGrpc(check).health, reply(b"").body
    head = Head(watch, "127.0.0.1", ())

    before = watch(head, body)
    check.gate.traffic.stop()
    after = watch(head, body)
    stranger = watch(head._replace(peer="192.0.2.1"), body)

    assert (before, after) == (reply(b"\x08\x01"), reply(b"\x08\x02"))
    assert isinstance(stranger, Response)
    assert b"grpc-status\x017" in stranger.head


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages(well: Sidecar, compression: grpc.Compression) -> None:
    """A message that is compressed is answered, and denied: Envoy sends none."""
    place = f"127.0.0.1:{well.ports['grpc']}"
    with grpc.insecure_channel(place, compression=compression) as channel:
        message = check_request(headers={"cookie": "c" * 10_000})

        said = CheckResponse.FromString(channel.unary_unary(METHOD)(message, timeout=PATIENCE_S))

    assert (said.status.code, said.denied_response.status.code) == (PERMISSION_DENIED, 503)


def test_more_metadata_than_is_kept(ask: Ask) -> None:
    """Metadata that is too large denies by an answer, too."""
    said = ask(check_request(), (("tracestate", "t" * 500_000),))

    assert (said.status.code, said.denied_response.status.code) == (PERMISSION_DENIED, 503)
    assert said.dynamic_metadata.fields["code"].string_value == "too_large"


def test_many_at_once(well: Sidecar) -> None:
    """However many checks are open on one connection, each gets the answer that is its own."""

    async def ask_all() -> list[tuple[int, str]]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{well.ports['grpc']}") as channel:
            call = channel.unary_unary(METHOD)
            paths = ("/healthz", "/nowhere", "/v1/me")
            calls = [call(check_request(paths[turn % 3]), timeout=PATIENCE_S) for turn in range(600)]
            answers = [CheckResponse.FromString(await each) for each in calls]
            return [(each.status.code, each.dynamic_metadata.fields["code"].string_value) for each in answers]

    codes = run(ask_all())

    expected = [(OK, "rule"), (UNAUTHENTICATED, "no_route"), (UNAUTHENTICATED, "default")]
    shed = (PERMISSION_DENIED, "overloaded")
    assert [got for turn, got in enumerate(codes) if got not in (expected[turn % 3], shed)] == []
    assert set(codes) >= {expected[0]}


def test_a_client_that_gives_up() -> None:
    """A deadline and a cancelled call end for the client, and the connection serves the next."""

    async def live() -> tuple[Any, Any, int]:
        broken = Broken()
        check = check_of(loaded_of(OPEN), broken)
        server, doors = make_server(check), bind(Address("127.0.0.1", 0))
        await server.listen(doors)
        async with grpc.aio.insecure_channel(str(shown(doors))) as channel:
            call = channel.unary_unary(METHOD)
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await call(check_request("/open"), timeout=0.05)
            cancelled = call(check_request("/open"), timeout=PATIENCE_S)
            await broken.is_asked.wait()
            cancelled.cancel()
            said = CheckResponse.FromString(await call(check_request("/open"), timeout=PATIENCE_S))
        await check.gate.traffic.drained(PATIENCE_S)
        in_flight = check.gate.traffic.count
        await server.stop(1)
        assert in_flight == 0
        return late.value.code(), await cancelled.code(), said.denied_response.status.code

    assert run(live()) == (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, 503)


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


def test_what_envoy_says_of_itself() -> None:
    """A caller's keys and trace are in the metadata; an end user's token is in the request, and is none of it."""
    metadata = (
        ("authorization", "Bearer k"), ("authorization", "Bearer l"), ("traceparent", "00-a-b-01"), ("x-bin", "MQ"),
    )  # fmt: skip
    message = check_request(headers={"authorization": "Bearer user", "traceparent": "no", "x-request-id": "r-1"})

    asked, request_id = read(message)
    call = call_of("127.0.0.1", metadata, request_id)

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
        server, doors = make_server(check_of(loaded_of(OPEN))), bind(address)
        await server.listen(doors)
        where = shown(doors)
        code: int = (await _asked_of(where)).status.code
        await server.stop(1)
        if where.path is None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((where.host, where.port), timeout=PATIENCE_S)
        return code

    assert run(live(Address("127.0.0.1", 0))) == OK
    assert run(live(Address(path=str(tmp_path / "envoy.sock")))) == OK


def test_what_is_under_way_is_answered() -> None:
    """Stopping waits for the answer of a check that waits for facts."""

    async def live() -> tuple[int, int]:
        broken = Broken()
        server, doors = make_server(check_of(loaded_of(OPEN), broken)), bind(Address("127.0.0.1", 0))
        await server.listen(doors)
        async with grpc.aio.insecure_channel(str(shown(doors))) as channel:
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
