"""The middlewares for aiohttp, ASGI and WSGI, each held to the same.

A `Site` is a small application behind one of them: `/tasks/ID` is checked, `/public` needs no check, nobody thought of
`/forgotten`, `/guarded` raises what a guard raises. Who asks stands in `X-User`, which only these tests believe.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bylaw.client import (
    NO_CHECK,
    Asked,
    AsyncBylaw,
    Bylaw,
    BylawError,
    Decision,
    DeniedError,
    Question,
    current_scope,
    granted,
)
from bylaw.client.aiohttp_web import bylaw_middleware
from bylaw.client.asgi import BylawMiddleware as AsgiMiddleware
from bylaw.client.wsgi import BylawMiddleware as WsgiMiddleware
from tests.bylaw.client.scripted import ALLOW, CONTEXT, Scripted, header, http, ok

DENIED = DeniedError(Decision(False, "rule", because="the project is locked"))


@dataclass(frozen=True, slots=True)
class Got:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site(Protocol):
    """An application behind a middleware, that tells in which scope it ran."""

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Got: ...


def what_is_asked(path: str, user: str | None) -> Asked:
    """Say what to ask of a request."""
    match path.split("/"):
        case ["", "public" | "guarded" | "late" | "writes" | "fails"]:
            return NO_CHECK
        case ["", "tasks", task_id]:
            subject = "anonymous" if user is None else f"user:{user}"
            return Question(subject, "task.read", f"task:{task_id}", tenant="acme")
        case ["", "odd"]:
            return True  # type: ignore[return-value]  # a slip
        case ["", "broken"]:
            raise ZeroDivisionError
        case _:
            return None


def shown() -> bytes:
    """Write down what the application sees of its scope and of what let it in."""
    scope = current_scope()
    assert scope is not None
    try:
        code: str | None = granted().code
    except LookupError:
        code = None
    return json.dumps({"id": scope.request_id, "at_least": scope.at_least, "code": code}).encode()


def act(path: str, client: Bylaw | AsyncBylaw) -> bytes:
    """Do what a path does."""
    if path == "/guarded":
        raise DENIED
    if path == "/fails":
        raise ZeroDivisionError
    if path == "/writes":
        client.saw("w1", tenant="acme")
        client.saw("w2", tenant="acme")
    return shown()


class WsgiSite:
    """A plain WSGI application, held to the standard from both sides."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Bylaw(url, timeout_s=5.0)
        application = WsgiMiddleware(validator(self.answer), self.client, self.asked, **options)
        self._application = validator(application)

    def asked(self, environ: WSGIEnvironment) -> Asked:
        return what_is_asked(environ["PATH_INFO"], environ.get("HTTP_X_USER"))

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = act(environ["PATH_INFO"], self.client)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Got:
        sent = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()}
        return call_wsgi(self._application, path, sent)

    def close(self) -> None:
        self.client.close()


def call_wsgi(application: Any, path: str, variables: Mapping[str, str]) -> Got:
    environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", **variables}
    setup_testing_defaults(environ)
    started: list[tuple[int, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        assert len({name.lower() for name, _ in headers}) == len(headers)
        started[:] = [(int(status[:3]), {name.lower(): value for name, value in headers})]
        return lambda _: None

    answered = application(environ, start_response)
    try:
        body = b"".join(answered)
    finally:
        if hasattr(answered, "close"):
            answered.close()
    return Got(*started[0], body)


class AsgiSite:
    """A plain ASGI application."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = AsyncBylaw(url, timeout_s=5.0)
        self.application = AsgiMiddleware(self.answer, self.client, self.asked, **options)
        self.runner = asyncio.Runner()

    async def asked(self, scope: MutableMapping[str, Any]) -> Asked:
        user = dict(scope["headers"]).get(b"x-user")
        return what_is_asked(scope["path"], user.decode() if user is not None else None)

    async def answer(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        elif scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise DENIED
        else:
            body = act(scope["path"], self.client)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
            await send({"type": "http.response.body", "body": body})

    def call(self, kind: str, path: str, headers: Mapping[str, str] | None = None) -> list[Any]:
        """Make one connection; return the messages that were sent."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nobody needs to be asked for more")

        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": kind, "path": path, "headers": raw}
        self.runner.run(self.application(scope, receive, send))
        return sent

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Got:
        start, body = self.call("http", path, headers)
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(found) == len(start["headers"])
        return Got(start["status"], found, body["body"])

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


class AiohttpSite:
    """An aiohttp application, on a port of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncBylaw(url, timeout_s=5.0)
        app = web.Application(middlewares=[bylaw_middleware(self.client, self.asked, **options)])
        app.router.add_get("/{path:.*}", self.answer)
        self.server: TestClient[web.Request, web.Application] = self.runner.run(self._start(app))

    async def _start(self, app: web.Application) -> TestClient[web.Request, web.Application]:
        client = TestClient(TestServer(app))
        await client.start_server()
        return client

    def asked(self, request: web.Request) -> Asked | Awaitable[Asked]:
        return what_is_asked(request.path, request.headers.get("X-User"))

    async def answer(self, request: web.Request) -> web.Response:
        body = act(request.path, self.client)
        if request.query.get("then") == "redirect":
            raise web.HTTPSeeOther("/public")
        return web.Response(body=body, content_type="application/json")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Got:
        async def fetch() -> Got:
            async with self.server.get(path, headers=headers, allow_redirects=False) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Got(answer.status, found, await answer.read())

        return self.runner.run(fetch())

    def close(self) -> None:
        self.runner.run(self.server.close())
        self.runner.run(self.client.close())
        self.runner.close()


MakeSite = Callable[..., Site]


@pytest.fixture(params=[AiohttpSite, AsgiSite, WsgiSite], ids=["aiohttp", "asgi", "wsgi"])
def make_site(request: pytest.FixtureRequest) -> Iterator[MakeSite]:
    """Makes an application behind one of the middlewares."""
    made: list[Any] = []

    def makes(url: str, **options: Any) -> Site:
        made.append(request.param(url, **options))
        site: Site = made[-1]
        return site

    yield makes
    for each in made:
        each.close()


def test_who_may_gets_in(make_site: MakeSite, url: str) -> None:
    """The application answers, knows by which decision, and in which request."""
    got = make_site(url).get("/tasks/t1", {"X-User": "ann", "X-Request-ID": "r-17"})

    assert got.status == 200
    assert got.json == {"id": "r-17", "at_least": [], "code": "role"}


def test_who_may_not_is_told_so(make_site: MakeSite, url: str) -> None:
    """The answer is 403, with an error, a sentence and the request's id, and nothing of the policy."""
    got = make_site(url).get("/tasks/t1", {"X-User": "eve", "X-Request-ID": "r-17"})

    assert got.status == 403
    assert got.json == {"error": "forbidden", "message": "this is not allowed", "requestId": "r-17"}
    assert (got.headers["content-type"], got.headers["x-request-id"]) == ("application/json", "r-17")
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["content-length"] == str(len(got.body))
    assert "www-authenticate" not in got.headers


def test_nobody_is_asked_who_he_is(make_site: MakeSite, url: str) -> None:
    """Where nobody in particular asked the answer is 401, with the challenge that the application names."""
    site = make_site(url, challenge='Bearer realm="studio"')

    got = site.get("/tasks/t1")

    assert (got.status, got.json["error"]) == (401, "unauthenticated")
    assert got.headers["www-authenticate"] == 'Bearer realm="studio"'


def test_what_needs_no_check(make_site: MakeSite) -> None:
    """A path that is named so is let through, also where there is no service; and nothing is said to be granted."""
    got = make_site("http://127.0.0.1:1").get("/public")

    assert (got.status, got.json["code"]) == (200, None)


@pytest.mark.parametrize("path", ["/forgotten", "/", "/tasks", "/tasks/t1/more", "/public/", "/Public"])
def test_what_nobody_thought_of(make_site: MakeSite, url: str, path: str) -> None:
    """It is denied, whoever asks."""
    got = make_site(url).get(path, {"X-User": "ann"})

    assert got.status == 403


def test_a_guard_further_in(make_site: MakeSite, url: str) -> None:
    """A deny that the application raises is answered likewise, with the rule's own words."""
    got = make_site(url).get("/guarded")

    assert (got.status, got.json["message"]) == (403, "the project is locked")


FAILURES = {
    "overloaded": http(503, b"{}", "application/json", "Retry-After: 7"),
    "not ours": http(200, b"<html>", "text/html"),
    "a slip": http(400, json.dumps({"error": "unknown_type", "message": "the policy has no type `tsak`"}).encode()),
    "no caller": http(401, b"{}"),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_no_decision(make_site: MakeSite, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Without one nobody gets in: 503, and why is logged, not told."""
    with Scripted(answer) as service, caplog.at_level(logging.ERROR, "bylaw.client"):
        got = make_site(service.url).get("/tasks/t1", {"X-User": "ann"})

    assert (got.status, got.json["error"]) == (503, "unavailable")
    assert got.headers.get("retry-after") == ("7" if b"Retry-After" in answer else None)
    assert "tsak" not in got.body.decode()
    assert "no decision" in caplog.text


def test_no_service(make_site: MakeSite) -> None:
    """Where there is none, nobody gets in."""
    got = make_site("http://127.0.0.1:1").get("/tasks/t1", {"X-User": "ann"})

    assert got.status == 503


def test_facts_that_are_too_old(make_site: MakeSite) -> None:
    """A deny for want of facts says nothing of who asked: it is 503."""
    stale = {"decision": False, "context": {**CONTEXT, "code": "stale"}}
    with Scripted(ok(stale)) as service:
        got = make_site(service.url).get("/tasks/t1", {"X-User": "ann"})

    assert got.status == 503


def test_an_obligation_that_is_not_understood(make_site: MakeSite) -> None:
    """An allow that obliges to what the application does not know of lets nobody in."""
    obligation = {"id": "r.mask", "type": "mask", "properties": {"value": 1}}
    with Scripted(ok({"decision": True, "context": {**CONTEXT, "obligations": [obligation]}})) as service:
        got = make_site(service.url).get("/tasks/t1", {"X-User": "ann"})

    assert got.status == 403


@pytest.mark.parametrize(("path", "error"), [("/odd", TypeError), ("/broken", ZeroDivisionError)])
@pytest.mark.parametrize("kind", [AsgiSite, WsgiSite])
def test_a_slip_in_what_is_asked(kind: type[AsgiSite | WsgiSite], url: str, path: str, error: type[Exception]) -> None:
    """A function that fails, or says what it should not, is an error of the application's, and lets nobody in."""
    site = kind(url)

    with pytest.raises(error):
        site.get(path)

    site.close()


@pytest.mark.parametrize("path", ["/odd", "/broken"])
def test_a_slip_in_what_is_asked_on_aiohttp(url: str, path: str) -> None:
    """There the server answers it with 500."""
    site = AiohttpSite(url)

    got = site.get(path)

    site.close()
    assert got.status == 500


# --- what goes along --------------------------------------------------------------------------------------------------


def test_ids_and_revisions_go_to_the_service(make_site: MakeSite) -> None:
    """The check has the id of the request, and its revisions where the application takes any."""
    sent = {"X-User": "ann", "X-Request-ID": "r-17", "Bylaw-At-Least": "a, b"}
    with Scripted(ok(ALLOW)) as service:
        got = make_site(service.url, carries_at_least=True).get("/tasks/t1", sent)
        asked = service.requests[0]

    assert got.json["at_least"] == ["a", "b"]
    assert (header(asked, "X-Request-ID"), header(asked, "Bylaw-At-Least")) == ("r-17", "a,b")


def test_revisions_are_taken_from_nobody_unless_told_so(make_site: MakeSite) -> None:
    """By default what a request demands is not read, and nothing is handed back."""
    with Scripted(ok(ALLOW)) as service:
        site = make_site(service.url)
        got = site.get("/tasks/t1", {"X-User": "ann", "Bylaw-At-Least": "a"})
        wrote = site.get("/writes", {"Bylaw-At-Least": "no revision"})

        assert header(service.requests[0], "Bylaw-At-Least") is None
    assert got.json["at_least"] == []
    assert "bylaw-revision" not in wrote.headers


def test_revisions_of_own_writes_are_handed_back(make_site: MakeSite) -> None:
    """Who sent the request is told what to demand with the next one, wherever that is answered."""
    with Scripted(ok(ALLOW)) as service:
        site = make_site(service.url, carries_at_least=True)
        wrote = site.get("/writes")
        read = site.get("/tasks/t1", {"X-User": "ann"})

    assert wrote.headers["bylaw-revision"] == "w2, w1"
    assert "bylaw-revision" not in read.headers


def test_a_redirect_after_a_write(url: str) -> None:
    """On aiohttp, where an answer may be raised, it is told there as well."""
    site = AiohttpSite(url, carries_at_least=True)

    got = site.get("/writes?then=redirect")

    site.close()
    assert (got.status, got.headers["bylaw-revision"]) == (303, "w2, w1")


@pytest.mark.parametrize("sent", ["a b", "x" * 201, "a,,b", ",".join("abcdefghi")])
def test_revisions_that_are_none(make_site: MakeSite, url: str, sent: str) -> None:
    """A request that demands what is no revision is malformed, rather than answered as if it did not."""
    got = make_site(url, carries_at_least=True).get("/tasks/t1", {"X-User": "ann", "Bylaw-At-Least": sent})

    assert (got.status, got.json["error"]) == (400, "bad_request")


@pytest.mark.parametrize("given", ["", "x" * 300])
def test_a_request_without_an_id_gets_one(make_site: MakeSite, url: str, given: str) -> None:
    """The body and the header of a refusal have the same."""
    got = make_site(url).get("/forgotten", {"X-Request-ID": given})

    assert got.json["requestId"] == got.headers["x-request-id"]
    assert got.json["requestId"].isalnum()


def test_requests_leave_nothing_behind(make_site: MakeSite, url: str) -> None:
    """What belongs to one request is not there for the next, also after an error."""
    site = make_site(url, carries_at_least=True)
    site.get("/tasks/t1", {"X-User": "ann", "X-Request-ID": "r-1", "Bylaw-At-Least": "a"})

    got = site.get("/public")

    assert got.json["id"] != "r-1"
    assert (got.json["at_least"], got.json["code"]) == ([], None)
    assert current_scope() is None


# --- ASGI alone -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asgi(url: str) -> Iterator[AsgiSite]:
    site = AsgiSite(url)
    yield site
    site.close()


def test_websockets(asgi: AsgiSite) -> None:
    """One that is not allowed is closed before it is accepted."""
    let_in = asgi.call("websocket", "/tasks/t1", {"X-User": "ann"})
    denied = asgi.call("websocket", "/tasks/t1", {"X-User": "eve"})
    nobody = asgi.call("websocket", "/forgotten")

    assert let_in == [{"type": "websocket.accept"}]
    assert denied == nobody == [{"type": "websocket.close", "code": 1008, "reason": ""}]


def test_websockets_without_a_decision() -> None:
    """It is closed as well, to be tried again."""
    site = AsgiSite("http://127.0.0.1:1")

    sent = site.call("websocket", "/tasks/t1", {"X-User": "ann"})

    site.close()
    assert sent == [{"type": "websocket.close", "code": 1013, "reason": ""}]


def test_lifespan(asgi: AsgiSite) -> None:
    """The start and end of the application are not anybody's request."""
    assert asgi.call("lifespan", "") == [{"type": "lifespan.startup.complete"}]


def test_other_connections(asgi: AsgiSite) -> None:
    """A kind of connection that nobody thought of is let nowhere."""
    with pytest.raises(RuntimeError, match="webtransport"):
        asgi.call("webtransport", "/public")


def test_an_answer_that_was_begun(asgi: AsgiSite) -> None:
    """A deny behind the beginning of an answer cannot become another answer, and is the server's to break off."""
    with pytest.raises(DeniedError):
        asgi.call("http", "/late")


def test_an_error_of_the_application(asgi: AsgiSite) -> None:
    """What else it raises is the server's, too."""
    with pytest.raises(ZeroDivisionError):
        asgi.call("http", "/fails")


# --- WSGI alone -------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(url: str) -> Iterator[Bylaw]:
    with Bylaw(url) as client:
        yield client


def test_an_answer_that_is_made_while_it_is_sent(waiting: Bylaw) -> None:
    """It is made in its request's scope to the end, and closed there."""
    closed: list[str] = []

    def application(_: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            yield shown()
            yield shown()
        finally:
            closed.append(json.loads(shown())["id"])

    guarded = WsgiMiddleware(validator(application), waiting, lambda _: NO_CHECK)
    got = call_wsgi(validator(guarded), "/", {"HTTP_X_REQUEST_ID": "r-17"})

    assert got.body.count(b'"id": "r-17"') == 2
    assert closed == ["r-17"]
    assert current_scope() is None


def test_a_file_that_the_server_sends(waiting: Bylaw) -> None:
    """What a server sends in a way of its own reaches it as it is."""
    sent = FileWrapper(io.BytesIO(b"data"))

    def application(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return sent

    guarded = WsgiMiddleware(application, waiting, lambda _: NO_CHECK)

    for wrapper in ({"wsgi.file_wrapper": FileWrapper}, {"wsgi.file_wrapper": lambda file: file}, {}):
        answered = guarded({"PATH_INFO": "/", **wrapper}, lambda *_: lambda _: None)
        assert (answered is sent) is (wrapper.get("wsgi.file_wrapper") is FileWrapper)


def test_a_deny_behind_the_beginning(waiting: Bylaw) -> None:
    """As long as nothing was sent, it takes the place of what was begun; only then the server is told of an error."""
    begun: list[object] = []

    def application(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise DENIED

    def start_response(status: str, _: object, exc_info: Any = None) -> Callable[[bytes], object]:
        begun.append((status, exc_info and exc_info[1]))
        return lambda _: None

    WsgiMiddleware(application, waiting, lambda _: NO_CHECK)({"PATH_INFO": "/"}, start_response)
    WsgiMiddleware(application, waiting, lambda _: None)({"PATH_INFO": "/"}, start_response)

    assert begun == [("200 OK", None), ("403 Forbidden", DENIED), ("403 Forbidden", None)]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refusal_outside_a_request() -> None:
    """A framework that answers errors itself can have the answer, under an id that is made for it."""
    with Bylaw() as client:
        refusal = client.refusal_of(DENIED)

    assert (refusal.status, json.loads(refusal.body)["message"]) == (403, "the project is locked")
    assert dict(refusal.headers)["X-Request-ID"] == json.loads(refusal.body)["requestId"]


def test_any_error_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """There is no error of the client's that lets anybody in; and a deny is none that is logged."""
    kinds: list[type[BylawError]] = [BylawError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    errors = [DENIED if issubclass(kind, DeniedError) else kind(kind.__name__, "message") for kind in kinds]

    with Bylaw() as client, caplog.at_level(logging.ERROR, "bylaw.client"):
        statuses = [client.refusal_of(error).status for error in errors]

    assert sorted(statuses) == [403] + [503] * 6
    assert len(caplog.records) == 6
