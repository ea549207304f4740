"""Envoy's check over gRPC, `envoy.service.auth.v3.Authorization/Check`, on an address of its own.

    bytes ──▶ `read` ──▶ EnvoyCheck ──▶ `write` ──▶ bytes

INVARIANT: every call of this method is answered, and its RPC is OK: Envoy takes any other status, and an
`error_response`, for an error, which `failure_mode_allow` lets through. So messages are taken as bytes and read here,
where one that cannot be read is an answer too; there is no bound on how many calls are open (`gate` says when it is too
much) nor on what a message or its metadata may weigh: Envoy bounds that, and what goes past `MAX_MESSAGE` is refused by
an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

# They come without types.
import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from envoy.config.core.v3.base_pb2 import HeaderValueOption  # type: ignore[import-untyped]
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext  # type: ignore[import-untyped]
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sidecar.addresses import Address
from sidecar.envoy import ENVOY, HOST, Asked, EnvoyCheck, Verdict, as_it_came, is_reserved
from sidecar.errors import bad_request, too_large
from sidecar.exchange import Call, taken_over

SERVICE: Final = "envoy.service.auth.v3.Authorization"
#: A request's headers are at most 60 KiB unless Envoy is told otherwise, and its body has no business here.
MAX_MESSAGE: Final = 1024 * 1024
#: As much metadata as Envoy may ever send: what a client says of its trace comes along.
MAX_METADATA: Final = 16 * 1024 * 1024
#: A peer that does not answer for so long is gone.
KEEPALIVE_MS: Final = 60_000

#: As `google.rpc.Code` has them.
_UNAUTHENTICATED: Final = 16
_PERMISSION_DENIED: Final = 7
_JSON: Final = ("Content-Type", "application/json")


def read(message: bytes) -> tuple[Asked, str | None]:
    """Read a check, and the request's id.

    Raises:
        PublicError: it is none, or none of an HTTP request.
    """
    if len(message) > MAX_MESSAGE:
        raise too_large(f"a check has at most {MAX_MESSAGE // 1024} KiB: leave out with_request_body")
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as error:
        raise bad_request("this is no CheckRequest") from error
    if not attributes.request.HasField("http"):
        raise bad_request("there is no HTTP request to check: ext_authz is an HTTP filter here, not one of TCP")
    http = attributes.request.http
    sent = _headers(http)
    asked = Asked(
        http.method,
        sent[":path"][0] if ":path" in sent else as_it_came(http.path),
        tuple(sent.get("authorization", ())),
        attributes.source.address.socket_address.address or None,
        tuple(name for name in sent if is_reserved(name)),
    )
    return asked, taken_over(sent.get("x-request-id", [None])[-1])


def _headers(http: AttributeContext.HttpRequest) -> dict[str, list[str]]:
    """List the headers by name: as they came, or as Envoy merged them."""
    sent: dict[str, list[str]] = {}
    for each in http.header_map.headers:
        sent.setdefault(each.key.lower(), []).append(each.raw_value.decode("latin-1") if each.raw_value else each.value)
    for name, value in http.headers.items():
        if name != ":path":  # here it is not as it came
            sent.setdefault(name.lower(), []).append(value)
    return sent


def write(verdict: Verdict) -> bytes:
    """Write a verdict."""
    response = CheckResponse()
    if verdict.status == 200:
        response.status.code = 0
        for name, value in verdict.headers:
            option = response.ok_response.headers.add(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
            option.header.key, option.header.value = name, value
        response.ok_response.headers_to_remove.extend(verdict.removed)
    else:
        response.status.code = _UNAUTHENTICATED if verdict.status == 401 else _PERMISSION_DENIED
        denied = response.denied_response
        denied.status.code = verdict.status
        denied.body = verdict.body
        for name, value in (_JSON, *verdict.headers):
            option = denied.headers.add(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
            option.header.key, option.header.value = name, value
    for name, value in verdict.metadata.items():
        response.dynamic_metadata.fields[name].string_value = value
    written: bytes = response.SerializeToString()
    return written


class EnvoyGrpc:
    """A server of this one method. `start`, then `stop`; each once.

    Args:
        is_shared: whether other processes listen on the same port.
    """

    def __init__(self, check: EnvoyCheck, *, is_shared: bool = False) -> None:
        self.check = check
        self._is_shared = is_shared
        self._server: grpc.aio.Server | None = None

    async def answer(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one check, whatever happens."""
        call = Call(ENVOY, None, HOST)
        try:
            asked, request_id = read(message)
            call = call_of(context.peer(), context.invocation_metadata() or (), request_id)
            verdict = self.check.judge(asked, call)
            return write(verdict if isinstance(verdict, Verdict) else await verdict)
        except Exception as error:  # the one place: nothing but an answer may leave
            return write(self.check.failed(error, call))

    async def start(self, address: Address) -> Address:
        """Listen; return where.

        Raises:
            OSError: the address cannot be had.
        """
        server = grpc.aio.server(options=_options(is_shared=self._is_shared))
        handler = grpc.unary_unary_rpc_method_handler(self.answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))
        try:
            port = server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise OSError(f"the address {address} is taken, or is none of this machine") from error
        await server.start()
        self._server = server
        return address if address.path is not None else Address(address.host, port)

    async def stop(self, drain_s: float) -> None:
        """Take no more calls, and answer those that are under way."""
        if self._server is not None:
            await self._server.stop(drain_s)


def _options(*, is_shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(is_shared)),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", MAX_METADATA),
        ("grpc.absolute_max_metadata_size", MAX_METADATA),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        # However often Envoy looks whether somebody is there: it is not sent away for that.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def call_of(peer: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str | None) -> Call:
    """Say who calls, by the metadata that Envoy itself adds: no header of the end user's is in it."""
    said: dict[str, list[str]] = {}
    for name, value in metadata:
        if isinstance(value, str):
            said.setdefault(name, []).append(value)
    trace = (said["traceparent"][-1], said.get("tracestate", [""])[-1]) if "traceparent" in said else None
    return Call(ENVOY, peer_in(peer), HOST, tuple(said.get("authorization", ())), request_id, trace=trace)


@lru_cache(1024)
def peer_in(written: str) -> str | None:
    """Read the address of the other end; None: a Unix socket. What is neither is no address of this machine.

    >>> peer_in("ipv4:127.0.0.1:43690"), peer_in("ipv6:%5B::1%5D:43690")
    ('127.0.0.1', '::1')
    """
    kind, _, place = written.partition(":")
    if kind == "unix":
        return None
    return unquote(place).rpartition(":")[0].strip("[]") or written
