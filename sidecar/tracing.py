"""Traces of the decision API, by OpenTelemetry, for who has installed its SDK and asks for them.

A span goes round each decision endpoint, in both lanes (`Tracing.traced` wraps it), and round what Envoy asks
(`judged`); below it one round each wait for facts. What came in as `traceparent` is its parent. What is refused before
an endpoint is asked (too much at once, a caller who may not) has no span: turning it away must stay cheap.

    environment ──▶ `set_up` ──▶ Tracing ──┬─ traced(endpoint) ──▶ span /check
                       └─ nothing asked    └─ span("load")     ──▶    └─ span load

What asks is OpenTelemetry's own: `OTEL_TRACES_EXPORTER`, or where that is not set an endpoint of OTLP. Without it
nothing of it is imported, no endpoint is wrapped, and nothing costs. The SDK reads the other variables (sampler, batch,
headers) itself.

No personal data: a span holds the outcome, the code, the decision's id and the policy. Not in it are who asks for what,
the rule and the role (they may name a resource), the tenant (it may be one person), and the request id, which is the
caller's own text: whoever may see those finds the decision by its id in the decision log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.callers import Caller
from sidecar.errors import to_public
from sidecar.exchange import Call, Reply

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from sidecar.api import Endpoint
    from sidecar.envoy import Asked, Verdict

    Judge = Callable[[Asked, Call], Verdict | Awaitable[Verdict]]

#: How long the last spans may take to be sent in the end.
CLOSE_S: Final = 0.5
SERVICE: Final = "bylaw"
#: Statuses that are errors of ours.
FAULTS: Final = range(500, 600)
_EXPORTERS: Final = ("otlp", "console")
_NEEDED: Final = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"

T = TypeVar("T")
#: Attributes of a span.
Told = Mapping[str, str | int]
_NOTHING: Final[Told] = {}

_log = logging.getLogger("bylaw.tracing")


# --- what is asked for --------------------------------------------------------------------------------


def exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """List the exporters that the environment asks for, as OpenTelemetry's variables have it; what is not known here is
    left out, and the log says so.

    >>> exporters({"OTEL_TRACES_EXPORTER": "otlp"}), exporters({"OTEL_TRACES_EXPORTER": "none"}), exporters({})
    (('otlp',), (), ())
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    asked = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not asked:
        endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        asked = "otlp" if any(environ.get(name) for name in endpoints) else "none"
    names = dict.fromkeys(name.strip() for name in asked.split(","))
    unknown = [name for name in names if name not in (*_EXPORTERS, "none", "")]
    if unknown:
        _log.warning("OTEL_TRACES_EXPORTER: %s is not known here; write otlp, console or none", ", ".join(unknown))
    return tuple(name for name in names if name in _EXPORTERS and (name != "otlp" or _speaks_http(environ)))


def _speaks_http(environ: Mapping[str, str]) -> bool:
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol in (None, "", "http/protobuf"):
        return True
    _log.warning("OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent by http/protobuf alone; write that, or leave it out")
    return False


def set_up(environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """Begin to trace, if that is asked for; None: it is not, or cannot be, and then the log says why."""
    names = exporters(environ)
    if not names:
        return None
    try:
        return Tracing(_provider(names, environ))
    except ImportError:
        _log.warning("there are no traces: what OTEL_TRACES_EXPORTER asks for is missing: pip install %s", _NEEDED)
    except Exception as error:  # whatever is wrong with it, decisions go on
        _log.warning("there are no traces: %s", error)
    return None


def _provider(names: tuple[str, ...], environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    is_named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own: dict[str, str | int] = {"process.pid": os.getpid()} | ({} if is_named else {"service.name": SERVICE})
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)  # that may take half a minute
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    return provider


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        # Standard output is for whoever started the process; a line each, as the log has it.
        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


# --- spans --------------------------------------------------------------------------------------------


class Tracing:
    """Traces for one process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("bylaw")
        self._propagator = TraceContextTextMapPropagator()
        self._nothing = Context()

    def traced(self, endpoint: Endpoint) -> Endpoint:
        """Put a span round an endpoint."""

        def answer(call: Call, caller: Caller, body: bytes) -> Reply | Awaitable[Reply]:
            return self.around(call, lambda: endpoint(call, caller, body), of_reply)

        return answer

    def judged(self, judge: Judge) -> Judge:
        """Put a span round what answers Envoy. Whatever a span does, the answer is the judge's: Envoy takes what is
        raised for an error, which it may let through."""

        def answer(asked: Asked, call: Call) -> Verdict | Awaitable[Verdict]:
            try:
                span = self._begin(call)
            except Exception:
                _log.debug("a check has no span", exc_info=True)
                return judge(asked, call)
            found = judge(asked, call)
            if isinstance(found, Awaitable):
                return self._judged_later(span, found)
            self._end_quietly(span, lambda: of_verdict(found))
            return found

        return answer

    async def _judged_later(self, span: Span, found: Awaitable[Verdict]) -> Verdict:
        with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                verdict = await found
            except BaseException as raised:
                error = raised
                self._end_quietly(span, lambda: _of_error(error))
                raise
            self._end_quietly(span, lambda: of_verdict(verdict))
            return verdict

    def _end_quietly(self, span: Span, tell: Callable[[], Told]) -> None:
        try:
            self._end(span, tell() if span.is_recording() else _NOTHING)
        except Exception:
            _log.debug("a check's span is lost", exc_info=True)

    def around(self, call: Call, ask: Callable[[], T | Awaitable[T]], of: Callable[[T], Told]) -> T | Awaitable[T]:
        """Ask within a span; `of` says what it tells of the answer."""
        span = self._begin(call)
        try:
            found = ask()
        except BaseException as error:
            self._end(span, _of_error(error))
            raise
        if isinstance(found, Awaitable):
            return self._later(span, found, of)
        self._end(span, of(found) if span.is_recording() else _NOTHING)
        return found

    async def _later(self, span: Span, found: Awaitable[T], of: Callable[[T], Told]) -> T:
        with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                answer = await found
            except BaseException as error:
                self._end(span, _of_error(error))
                raise
            self._end(span, of(answer) if span.is_recording() else _NOTHING)
            return answer

    def _begin(self, call: Call) -> Span:
        http = {"http.request.method": "POST", "http.route": call.path} if call.path.startswith("/") else {}
        return self._tracer.start_span(call.path, self._parent(call), self._trace.SpanKind.SERVER, http)

    def _parent(self, call: Call) -> Context:
        """Read where a request belongs; what is malformed belongs nowhere, and neither to what runs just now."""
        if call.trace is None:
            return self._nothing
        parent, state = call.trace
        return self._propagator.extract({"traceparent": parent, "tracestate": state})

    def _end(self, span: Span, told: Told) -> None:
        if told.get("http.response.status_code", 0) in FAULTS:
            span.set_status(self._trace.StatusCode.ERROR)
        span.set_attributes(told)
        span.end()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Put a span round a part of what the task that runs is about."""
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._trace.StatusCode.ERROR)
                raise

    async def close(self) -> None:
        """Send what is left, as far as that can be done in a moment."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, CLOSE_S)


# --- what a span tells --------------------------------------------------------------------------------


def of_reply(reply: Reply) -> Told:
    """Say what a span tells of a reply: of a decision how it went, of many how many there are; of another nothing.

    >>> of_reply(Reply(200, b'{"decision": true, "context": {"code": "role", "by": "editor on task:t1"}}'))
    {'http.response.status_code': 200, 'bylaw.decision.outcome': 'allow', 'bylaw.decision.code': 'role'}
    """
    status: Told = {"http.response.status_code": reply.status}
    said = json.loads(reply.body)
    if "evaluations" in said:
        many = said["evaluations"]
        counts = {"bylaw.batch.size": len(many), "bylaw.batch.allowed": sum(each["decision"] for each in many)}
        policy = next((each["context"]["policy"] for each in many if "policy" in each["context"]), None)
        return {**status, **counts, **({"bylaw.policy": policy} if policy else {})}
    if "decision" not in said:
        return status
    context = said["context"]
    return {**status, **_decision(said["decision"], context["code"], context.get("id"), context.get("policy"))}


def of_verdict(verdict: Verdict) -> Told:
    """Say what a span tells of an answer to Envoy."""
    decision = _decision(verdict.status == 200, verdict.code, verdict.decision_id, verdict.policy)
    return {"http.response.status_code": verdict.status, **decision}


def _decision(is_allowed: bool, code: str, identity: str | None, policy: str | None) -> Told:
    told = {
        "bylaw.decision.outcome": "allow" if is_allowed else "deny",
        "bylaw.decision.code": code,
        "bylaw.decision.id": identity,
        "bylaw.policy": policy,
    }
    return {name: value for name, value in told.items() if value}


def _of_error(error: BaseException) -> Told:
    if not isinstance(error, Exception):
        return {"error.type": "cancelled"}
    public = to_public(error)
    return {"http.response.status_code": public.status, "error.type": public.code}
