"""Traces: what asks for them, which spans there are, and what they never say."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, TypeVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, Span, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from sidecar import tracing
from sidecar.callers import ALL_SCOPES, Caller
from sidecar.envoy import Asked, Verdict
from sidecar.errors import PublicError
from sidecar.exchange import Call, Reply, said
from sidecar.tracing import Tracing, exporters, of_reply, set_up
from tests.sidecar.conftest import STUDIO
from tests.sidecar.test_process import BODY, HEAD, ask, connected, listening, over, process, running

T = TypeVar("T")
Judge = Callable[[Asked, Call], Verdict | Awaitable[Verdict]]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = Caller(ALL_SCOPES)
ALLOWED = json.dumps(
    {
        "decision": True,
        "context": {
            "code": "role",
            "by": "organization.manager on organization:acme",
            "at": "studio.bylaw:33",
            "because": "ann's own",
            "obligations": [{"id": "x.y", "type": "y", "properties": {"value": "user:ann"}}],
            "revision": "rev",
            "policy": "sha256:3b",
            "id": "01J",
        },
    }
)


class Traced:
    """A `Tracing`, and the spans that have ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def answer(self, found: object, trace: tuple[str, str] | None = None) -> Reply:
        """Ask an endpoint that gives, or raises, what it is told to; wait for it, where it must be waited for."""

        def endpoint(_: Call, __: Caller, ___: bytes) -> Reply | Awaitable[Reply]:
            if isinstance(found, BaseException):
                raise found
            return found  # type: ignore[return-value]  # it is one or the other

        call = Call("/check", "127.0.0.1", "localhost", request_id="ann@example.org", trace=trace)
        got = self.tracing.traced(endpoint)(call, CALLER, BODY)
        return got if isinstance(got, Reply) else asyncio.run(_awaited(got))


async def _awaited(found: Awaitable[T]) -> T:
    return await found


# --- what is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "pdp"}, ()),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": " Console, otlp,otlp"}, ("console", "otlp")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp",)),
    ],
)
def test_the_environment_asks(
    environ: Mapping[str, str], names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The variables of OpenTelemetry say whether there are traces, and where they go."""
    assert exporters(environ) == names
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("environ", "said_of_it"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER: jaeger is not known here; write otlp, console"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent by http/protobuf alone",
        ),
    ],
)
def test_what_is_not_there_is_told(
    environ: Mapping[str, str], said_of_it: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is asked for and is not there is told, with the cure, and there are no traces."""
    assert set_up(environ) is None
    assert said_of_it in caplog.text


def test_without_the_sdk_there_are_no_traces(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the SDK is not installed, the log says what to install, and the service goes on."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    assert set_up({"OTEL_TRACES_EXPORTER": "otlp"}) is None
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in caplog.text


def test_what_the_sdk_refuses_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the SDK cannot be set up as its variables say, the log says why, and the service goes on."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")

    assert set_up({"OTEL_TRACES_EXPORTER": "console"}) is None
    assert "there are no traces: max_queue_size must be a positive integer" in caplog.text


def test_where_nobody_asks_nothing_is_imported() -> None:
    """A process that traces nothing has nothing of OpenTelemetry in it."""
    script = (
        "import sys, sidecar.tracing as t; assert t.set_up({}) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    with running("-c", script) as started:
        out, err = started.communicate(timeout=30)

    assert (out, err) == ("[]\n", "")


# --- spans --------------------------------------------------------------------------------------------


def test_an_answer_is_a_span() -> None:
    """An answer is a span by the name of its endpoint, with what was decided and by which policy."""
    traced = Traced()

    reply = traced.answer(said(ALLOWED))

    [span] = traced.spans
    assert reply == said(ALLOWED)
    assert (span.name, span.kind, span.parent, span.status.status_code) == (
        "/check",
        SpanKind.SERVER,
        None,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/check",
        "http.response.status_code": 200,
        "bylaw.decision.outcome": "allow",
        "bylaw.decision.code": "role",
        "bylaw.decision.id": "01J",
        "bylaw.policy": "sha256:3b",
    }


def test_a_batch_is_counted() -> None:
    """Of many answers a span says how many there are, and how many allow."""
    denied = {"decision": False, "context": {"code": "unknown_type", "error": {"status": 400}}}
    many = json.dumps({"evaluations": [json.loads(ALLOWED), denied]}).encode()

    told = [of_reply(Reply(200, body)) for body in (many, b'{"evaluations": []}', b'{"results": []}')]

    status = {"http.response.status_code": 200}
    assert told == [
        {**status, "bylaw.batch.size": 2, "bylaw.batch.allowed": 1, "bylaw.policy": "sha256:3b"},
        {**status, "bylaw.batch.size": 0, "bylaw.batch.allowed": 0},
        status,
    ]


@pytest.mark.parametrize("broken", ["start_span", "is_recording", "set_attributes", "set_status", "end"])
def test_a_span_that_fails_changes_no_answer(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a span does, Envoy is answered as it was judged, at once and later."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(broken)

    tracing, stale = Traced().tracing, Verdict(503, "stale")
    monkeypatch.setattr(Tracer if broken == "start_span" else Span, broken, fail)

    async def later() -> Verdict:
        return stale

    judges: list[Judge] = [lambda *_: stale, lambda *_: later()]
    found = [tracing.judged(judge)(Asked("GET", "/"), Call("envoy", None, "localhost")) for judge in judges]

    assert found[0] == stale
    assert isinstance(found[1], Awaitable)
    assert asyncio.run(_awaited(found[1])) == stale


def test_what_envoy_asks_is_a_span() -> None:
    """An answer to Envoy is a span, an error where it says that nobody can decide; no header of it is told."""
    traced = Traced()
    mark = ("x-bylaw-subject", "user:ann")
    allowed = Verdict(200, "role", (mark,), decision_id="01J", rule="manager", policy="sha256:3b")
    stale = Verdict(503, "stale")
    call, asked = Call("envoy", None, "localhost"), Asked("GET", "/tasks/t1")

    async def later() -> Verdict:
        return stale

    found = traced.tracing.judged(lambda *_: allowed)(asked, call)
    waited = traced.tracing.judged(lambda *_: later())(asked, call)
    assert isinstance(waited, Awaitable)

    assert (found, asyncio.run(_awaited(waited))) == (allowed, stale)
    assert [(span.name, span.status.status_code, dict(span.attributes or {})) for span in traced.spans] == [
        (
            "envoy",
            StatusCode.UNSET,
            {
                "http.response.status_code": 200,
                "bylaw.decision.outcome": "allow",
                "bylaw.decision.code": "role",
                "bylaw.decision.id": "01J",
                "bylaw.policy": "sha256:3b",
            },
        ),
        (
            "envoy",
            StatusCode.ERROR,
            {"http.response.status_code": 503, "bylaw.decision.outcome": "deny", "bylaw.decision.code": "stale"},
        ),
    ]


def test_a_request_is_part_of_its_trace() -> None:
    """A span's parent is what `traceparent` names, and it hands on the state."""
    traced = Traced()

    traced.answer(said(ALLOWED), (PARENT, "vendor=1"))

    [span] = traced.spans
    assert span.parent is not None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(span.context.trace_state) == {"vendor": "1"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "rubbish",
        PARENT[:-3],
        PARENT.replace("0af7", "0AF7"),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
        "é" * 55,
    ],
)
def test_a_malformed_parent_is_none(parent: str) -> None:
    """What is no `traceparent` begins a trace of its own, whatever runs just then, and the answer is the same."""
    traced = Traced()

    with traced.tracing.span("of another request"):
        replies = [traced.answer(said(ALLOWED), trace) for trace in (None, (parent, ",,,=\x00"))]

    assert [reply.status for reply in replies] == [200, 200]
    assert [span.parent for span in traced.spans] == [None, None, None]


def test_a_load_is_a_span_below() -> None:
    """What an answer waits for is a span below it; one load that fails says so, and no more."""
    traced = Traced()

    async def loading() -> Reply:
        with traced.tracing.span("load"):
            await asyncio.sleep(0)
        with pytest.raises(ValueError, match="ann"), traced.tracing.span("load"):
            raise ValueError("no task:t1 for user:ann")
        return said(ALLOWED)

    traced.answer(loading(), (PARENT, ""))

    load, failed, answer = traced.spans
    assert answer.context is not None
    assert [span.name for span in traced.spans] == ["load", "load", "/check"]
    for span in (load, failed):
        assert span.parent is not None
        assert span.parent.span_id == answer.context.span_id
    assert (load.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert dict(failed.attributes or {}) == {"error.type": "ValueError"}
    assert failed.events == ()


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize(
    ("error", "attributes", "status"),
    [
        (
            PublicError(400, "unknown_type", "no `ann`"),
            {"http.response.status_code": 400, "error.type": "unknown_type"},
            StatusCode.UNSET,
        ),
        (
            PublicError(503, "stale", "x"),
            {"http.response.status_code": 503, "error.type": "stale"},
            StatusCode.ERROR,
        ),
        (
            KeyError("user:ann"),
            {"http.response.status_code": 500, "error.type": "internal"},
            StatusCode.ERROR,
        ),
        (asyncio.CancelledError(), {"error.type": "cancelled"}, StatusCode.UNSET),
    ],
)
def test_an_error_ends_its_span(
    error: BaseException, attributes: dict[str, object], status: StatusCode, *, is_later: bool
) -> None:
    """A refusal is told by status and code, a fault of ours as an error, and the error goes on as it was."""
    traced = Traced()

    async def later() -> Reply:
        raise error

    with pytest.raises(type(error)) as raised:
        traced.answer(later() if is_later else error)

    [span] = traced.spans
    known = {"http.request.method", "http.route"}
    assert {name: value for name, value in (span.attributes or {}).items() if name not in known} == attributes
    assert (span.status.status_code, span.status.description, span.events) == (status, None, ())
    assert is_later or raised.value is error


def test_what_is_not_sampled_is_not_told() -> None:
    """Where the sampler says no, or the parent's does, there is no span, and the answer is the same."""
    off, parents = Traced(ALWAYS_OFF), Traced(ParentBased(ALWAYS_OFF))

    replies = [off.answer(said(ALLOWED)), parents.answer(said(ALLOWED), (PARENT[:-1] + "0", ""))]
    parents.answer(said(ALLOWED), (PARENT, ""))

    assert replies == [said(ALLOWED)] * 2
    assert off.spans == ()
    assert len(parents.spans) == 1


def test_spans_hold_no_personal_data() -> None:
    """No span says who asked for what, on what, in which tenant, by which rule, nor the caller's own request id."""
    traced = Traced()

    traced.answer(said(ALLOWED))
    with pytest.raises(PublicError):
        traced.answer(PublicError(400, "unknown_type", "no `ann` on task:t1 in acme"))

    told = "".join(span.to_json() for span in traced.spans)
    assert not [word for word in ("ann", "acme", "t1", "manager", "studio", "rev") if word in told]


# --- a real process -----------------------------------------------------------------------------------


class Collector:
    """Takes traces by OTLP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        taken = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def services(self) -> set[str]:
        return {
            attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


@pytest.mark.slow
def test_both_lanes_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is asked to sends a span for each decision, of either lane, and what is left when it ends."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    odd = b"X_Odd: 1\r\n\r\n"  # a head that the fast lane does not know
    with collector.running(), process(*over(STUDIO)) as started, connected(listening(started)) as connection:
        traced = HEAD.replace(b"\r\n\r\n", f"\r\ntraceparent: {PARENT}\r\n\r\n".encode())
        for head in (traced, traced.replace(b"\r\n\r\n", b"\r\n" + odd)):
            connection.sock.sendall(head + BODY)
            received = b""
            while b'"id": "' not in received:
                received += connection.sock.recv(65536)
        assert ask(connection, "GET", "/health").status == 200
        started.terminate()
        code = started.wait(10)

    assert code == 0
    assert collector.services == {"bylaw"}
    assert [span.name for span in collector.spans] == ["/check", "/check"]
    assert {span.parent_span_id.hex() for span in collector.spans} == {"b7ad6b7169203331"}


def test_what_is_left_may_not_keep_it_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody takes the last spans, closing takes a moment and no longer."""
    monkeypatch.setattr(tracing, "CLOSE_S", 0.05)
    stuck = threading.Event()

    class Stuck(TracerProvider):
        def shutdown(self) -> None:
            stuck.wait()

    provider = Stuck(shutdown_on_exit=False)
    try:
        asyncio.run(asyncio.wait_for(Tracing(provider).close(), 5))
    finally:
        stuck.set()
