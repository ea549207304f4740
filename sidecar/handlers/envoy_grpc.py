"""Envoy's check over gRPC, `envoy.service.auth.v3.Authorization/Check`, on an address of its own.

    body ──▶ `unframed` ──▶ `read` ──▶ EnvoyCheck ──▶ `write` ──▶ `reply`

INVARIANT: every call of this method is answered, and its RPC is OK: Envoy takes any other status, and an
`error_response`, for an error, which `failure_mode_allow` lets through. So bodies are taken as they come and read here,
where one that cannot be read is an answer too, and so is one whose metadata is too large to be kept. How many calls are
open is for `gate` to judge, which answers; `http2` says what amounts no Envoy sends.

Beside it stands `grpc.health.v1.Health/Check`, for those who watch: SERVING, until the service stops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from functools import lru_cache
from typing import Final

# They come without types.
from envoy.config.core.v3.base_pb2 import HeaderValueOption  # type: ignore[import-untyped]
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext  # type: ignore[import-untyped]
from envoy.service.auth.v3.external_auth_pb2 import (  # type: ignore[import-untyped]
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sidecar.envoy import DECISION_ID, ENVOY, HOST, Asked, EnvoyCheck, Verdict, as_it_came, is_reserved
from sidecar.errors import PublicError, bad_request, too_large
from sidecar.exchange import Call, taken_over
from sidecar.grpc_lane import NOT_FOUND, PERMISSION_DENIED, Answer, Head, Lane, failure, reply, unframed
from sidecar.http2 import Response, Server

SERVICE: Final = "envoy.service.auth.v3.Authorization"
CHECK: Final = f"/{SERVICE}/Check"
HEALTH: Final = "/grpc.health.v1.Health/Check"
#: A request's headers are at most 60 KiB unless Envoy is told otherwise, and its body has no business here.
MAX_MESSAGE: Final = 1024 * 1024

#: As `google.rpc.Code` has them.
_UNAUTHENTICATED: Final = 16
#: Of the health check: bodies that ask about what is here, and what is said.
_ASKED_OF: Final = tuple(reply(message).body for message in (b"", b"\x0a%c%b" % (len(SERVICE), SERVICE.encode())))
_SERVING: Final = reply(b"\x08\x01")
_NOT_SERVING: Final = reply(b"\x08\x02")
_JSON: Final = ("Content-Type", "application/json")

Headers = tuple[tuple[str, str], ...]


def read(message: bytes) -> tuple[Asked, str | None]:
    """Read a check, and the request's id.

    Raises:
        PublicError: it is none, or none of an HTTP request.
    """
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as error:
        raise bad_request("this is no CheckRequest") from error
    if not attributes.request.HasField("http"):
        raise bad_request("there is no HTTP request to check: ext_authz is an HTTP filter here, not one of TCP")
    http = attributes.request.http
    authorization: list[str] = []
    reserved: list[str] = []
    path = request_id = None
    for name, value in _headers(http):
        if name == "authorization":
            authorization.append(value)
        elif name == "x-request-id":
            request_id = value
        elif name == ":path":
            path = value if path is None else path
        elif name.startswith("x") and is_reserved(name) and name not in reserved:
            reserved.append(name)
    asked = Asked(
        http.method,
        as_it_came(http.path) if path is None else path,
        tuple(authorization),
        attributes.source.address.socket_address.address or None,
        tuple(reserved),
    )
    return asked, taken_over(request_id)


def _headers(http: AttributeContext.HttpRequest) -> list[tuple[str, str]]:
    """List the headers: as they came, or as Envoy merged them."""
    sent = [(each.key.lower(), each.raw_value.decode("latin-1") or each.value) for each in http.header_map.headers]
    # Of those that are merged the path is not as it came.
    merged = [(name.lower(), value) for name, value in http.headers.items() if name != ":path"] if http.headers else []
    return sent + merged


def write(verdict: Verdict) -> bytes:
    """Write a verdict: a `CheckResponse`.

    A message may come in pieces, which are put together by whoever reads it. All of an allow but the decision's id is
    the same again and again, so it is written once.
    """
    rests_on = (verdict.rule, verdict.policy, verdict.revision) if verdict.decision_id else None
    if verdict.status == 200:
        written = _allowed(verdict.headers, verdict.removed, verdict.code, rests_on)
        return written + verdict.decision_id.encode().join(_around_id(len(verdict.decision_id)))
    response = _told(verdict.code, rests_on)
    response.status.code = _UNAUTHENTICATED if verdict.status == 401 else PERMISSION_DENIED
    denied = response.denied_response
    denied.status.code = verdict.status
    denied.body = verdict.body
    _set_headers(denied, (_JSON, *verdict.headers))
    if verdict.decision_id:
        response.dynamic_metadata.fields["decision_id"].string_value = verdict.decision_id
    return _written(response)


@lru_cache(4096)
def _allowed(headers: Headers, removed: tuple[str, ...], code: str, rests_on: tuple[str, str, str] | None) -> bytes:
    """Write an allow, but for the decision's id."""
    response = _told(code, rests_on)
    response.status.code = 0
    _set_headers(response.ok_response, headers)
    response.ok_response.headers_to_remove.extend(removed)
    return _written(response)


@lru_cache(4)
def _around_id(length: int) -> tuple[bytes, ...]:
    """Write what stands round the decision's id in an allow: before it, between its two places, and after it."""
    response, mark = CheckResponse(), "\0" * length
    _set_headers(response.ok_response, ((DECISION_ID, mark),))
    response.dynamic_metadata.fields["decision_id"].string_value = mark
    return tuple(_written(response).split(mark.encode()))


def _told(code: str, rests_on: tuple[str, str, str] | None) -> CheckResponse:
    """Begin a response with what Envoy's log and other filters are told."""
    response = CheckResponse()
    said = {"code": code}
    if rests_on is not None:
        said |= zip(("rule", "policy", "revision"), rests_on, strict=True)
    for name, value in said.items():
        response.dynamic_metadata.fields[name].string_value = value
    return response


def _set_headers(said: OkHttpResponse | DeniedHttpResponse, headers: Headers) -> None:
    """Have headers set, in place of what there is under their names."""
    for name, value in headers:
        option = said.headers.add(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
        option.header.key, option.header.value = name, value


def _written(response: CheckResponse) -> bytes:
    found: bytes = response.SerializeToString()
    return found


def make_server(check: EnvoyCheck) -> Server[Head]:
    """Make the server of Envoy's calls."""
    methods = EnvoyGrpc(check)
    return Server(Lane({CHECK: methods.check, HEALTH: methods.health}))


class EnvoyGrpc:
    """What Envoy may call."""

    def __init__(self, check: EnvoyCheck) -> None:
        self._check = check

    def check(self, head: Head, body: bytes) -> Answer:
        """Answer one check, whatever happens."""
        call = Call(ENVOY, head.peer, HOST)
        try:
            if not head.is_whole:
                raise too_large("there is more metadata than a check can have")
            asked, request_id = read(unframed(body, MAX_MESSAGE))
            call = call_of(head.peer, head.metadata, request_id)
            verdict = self._check.judge(asked, call)
            return reply(write(verdict)) if isinstance(verdict, Verdict) else self._later(verdict, call)
        except Exception as error:  # the one place: nothing but an answer may leave
            return reply(write(self._check.failed(error, call)))

    async def _later(self, verdict: Awaitable[Verdict], call: Call) -> Response:
        try:
            return reply(write(await verdict))
        except Exception as error:  # the same, of what had to wait
            return reply(write(self._check.failed(error, call)))

    def health(self, head: Head, body: bytes) -> Answer:
        """Say whether to ask here."""
        gate = self._check.gate
        try:
            gate.probing(call_of(head.peer, head.metadata, None))
        except PublicError as error:
            return failure(PERMISSION_DENIED, error.message)
        if body not in _ASKED_OF:
            return failure(NOT_FOUND, "there is no such service here")
        return _NOT_SERVING if gate.traffic.is_stopping else _SERVING


def call_of(peer: str | None, metadata: Iterable[tuple[str, str]], request_id: str | None) -> Call:
    """Say who calls, by the metadata that Envoy itself adds: no header of the end user's is in it."""
    keys: list[str] = []
    parent, state = None, ""
    for name, value in metadata:
        if name == "authorization":
            keys.append(value)
        elif name == "traceparent":
            parent = value
        elif name == "tracestate":
            state = value
    trace = None if parent is None else (parent, state)
    return Call(ENVOY, peer, HOST, tuple(keys), request_id, trace=trace)
