"""The application: endpoints behind one door, errors as answers, and the life of the server.

    request ──▶ id ──▶ who asks ──▶ how often ──▶ shape ──▶ endpoint ──▶ answer
                 └──────── whatever goes wrong ──▶ PublicError ──▶ answer

Bodies are read whole and within a bound before anything is asked of the store. An answer to a write carries the
revision that it made; `?await=settled` waits until that counts in every process that decides.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ValidationError

from admin.actors import KEY_MARK as MARK
from admin.actors import Actor, Key, Verifier, bearer_of, unauthorized
from admin.bodies import MAX_BODY, parse, read_body
from admin.door import find_key
from admin.endpoint import PREFIX, Answer, Ask, Endpoint
from admin.errors import PublicError, bad_request, body_of, forbidden, invalid, not_found, to_public
from admin.manners import Manners, dress, options
from admin.openapi import describe
from admin.repetition import HEADER as REPEATED
from admin.repetition import Once, RepeatedRequestError, Reply, digest_of, read_key
from admin.services import Services
from admin.wire import etag_of
from engine.values import parse_duration
from store.settling import Settled
from store.tokens import Token

REQUEST_ID: Final = "X-Request-ID"
REVISION: Final = "Bylaw-Revision"
MAX_REQUEST_ID: Final = 256
#: How the server that runs the application is to read requests: a body that says that it is packed is refused, so
#: nothing is unpacked before that is seen; and any id and cursor fits a path.
SERVER: Final[Mapping[str, Any]] = {"auto_decompress": False, "max_line_size": 32 * 1024}
#: How long `?await=settled` waits if nothing else is said, and at most.
AWAIT_S: Final = 5.0
MAX_AWAIT_S: Final = 30.0
#: What stands behind the path of any write, beside the endpoint's own.
_OF_WRITES: Final = ("await", "timeout")
_log = logging.getLogger("bylaw.admin")

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Serving:
    """What every request is answered with."""

    services: Services
    verifier: Verifier | None
    manners: Manners


def create_app(
    services: Services,
    endpoints: Sequence[Endpoint],
    *,
    version: str,
    verifier: Verifier | None = None,
    manners: Manners | None = None,
) -> web.Application:
    """Make the application.

    Args:
        version: of the product.
        verifier: of end users' tokens; None: there are no keys for them, so no token is a good one.
        manners: None: the usual ones.
    """
    serving = _Serving(services, verifier, manners or Manners())
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_answering(serving.manners)])
    for each in endpoints:
        _serve(app, each.method, PREFIX + each.path, _handler(serving, each))
    described = json.dumps(describe(endpoints, version)).encode()
    _serve(app, "GET", "/openapi.json", _constant(described))
    _serve(app, "GET", "/health", _constant(b'{"status": "ok"}'))
    _serve(app, "GET", "/ready", _ready(services))
    _serve(app, "GET", "/settled/{token}", _settled(serving))
    return app


def _serve(app: web.Application, method: str, path: str, handler: Handle) -> None:
    """Add a route; whoever may get may ask for the head alone."""
    app.router.add_route(method, path, handler)
    if method == "GET":
        app.router.add_route("HEAD", path, handler)


def _constant(body: bytes) -> Handle:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return handler


def _ready(services: Services) -> Handle:
    async def handler(_: web.Request) -> web.Response:
        async with services.database.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")
        return web.json_response({"status": "ready", "policy": services.policy().digest})

    return handler


# --- around every request ---------------------------------------------------------------------------------------------


def _answering(manners: Manners) -> Middleware:
    """Make what answers, whatever happens."""

    @web.middleware
    async def answering(request: web.Request, handler: Handle) -> web.StreamResponse:
        request_id = _request_id(request)
        try:
            response = await handler(request)
        except web.HTTPMethodNotAllowed as error:
            is_asked = request.method == "OPTIONS"
            response = options(request, error.allowed_methods, manners) if is_asked else _failed(error, request_id)
        except Exception as error:  # the one place: nothing else may leave
            response = _failed(error, request_id)
        response.headers[REQUEST_ID] = request_id
        dress(request, response, manners)
        return response

    return answering


def _failed(error: Exception, request_id: str) -> web.Response:
    problem = _of_http(error) if isinstance(error, web.HTTPException) else to_public(error)
    if problem is not error and problem.status >= 500:
        _log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    headers, text = dict(problem.headers), body_of(problem, request_id)
    return web.Response(status=problem.status, text=text, content_type="application/json", headers=headers)


def _request_id(request: web.Request) -> str:
    sent = request.headers.get(REQUEST_ID, "")
    is_fit = 0 < len(sent) <= MAX_REQUEST_ID and sent.isascii() and sent.isprintable()
    return sent if is_fit else uuid4().hex


def _of_http(error: web.HTTPException) -> PublicError:
    match error:
        case web.HTTPNotFound():
            return PublicError(404, "not_found", "there is nothing at this path")
        case web.HTTPMethodNotAllowed():
            taken = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
            return PublicError(405, "method_not_allowed", f"this path takes {taken}", headers={"Allow": taken})
        case web.HTTPRequestEntityTooLarge():
            return PublicError(413, "too_large", f"a body has at most {MAX_BODY // 1024} KiB")
        case _:
            return PublicError(error.status, "bad_request", "this request cannot be answered")


# --- one endpoint -----------------------------------------------------------------------------------------------------


def _handler(serving: _Serving, endpoint: Endpoint) -> Handle:
    async def handler(request: web.Request) -> web.StreamResponse:
        services = serving.services
        actor = await _identify(serving, request)
        path = _path(request)
        _let_in(endpoint, actor, path.get("tenant"))
        query, wait_s = _query(request, endpoint)
        raw = b"" if endpoint.body is None else await read_body(request, timeout_s=serving.manners.body_timeout_s)
        ask = Ask(
            services,
            actor,
            path,
            _body(raw, endpoint.body),
            query,
            services.clock(),
            _if_match(request, endpoint),
            wait_s is not None,
            request.remote,
            _once(request, endpoint, services, actor, query, raw),
        )
        if endpoint.is_lines:
            return web.Response(body=(await endpoint.handler(ask)).lines, content_type="application/jsonl")
        reply = await _settle(services, await _reply(endpoint, ask), wait_s)
        return _respond(request, endpoint, reply)

    return handler


async def _identify(serving: _Serving, request: web.Request) -> Actor:
    """Say who asks, and count it.

    Raises:
        PublicError: it is not known, or he asks too much.
    """
    said = bearer_of(request.headers.getall("Authorization", ()))
    if said.startswith(MARK):
        actor: Actor | None = await find_key(serving.services, said)
    else:
        actor = await serving.verifier.verify(said) if serving.verifier is not None else None
    if actor is None:
        raise unauthorized()
    if serving.manners.limits is not None:
        await serving.manners.limits.take(actor.ref)
    return actor


def _path(request: web.Request) -> dict[str, str]:
    """Read what the path names. Nothing has a name that does not show, or that is no text."""
    found = dict(request.match_info)
    if not all(each.isprintable() for each in found.values()):
        raise not_found("thing of that name")
    return found


def _let_in(endpoint: Endpoint, actor: Actor, tenant: str | None) -> None:
    """Refuse who may not ask this at all. What an end user may do with it is looked at with the facts."""
    need = endpoint.need
    if isinstance(actor, Key):
        if not actor.reaches(need.scopes, tenant):
            scopes = sorted({"system", *need.scopes, *([f"tenant:{tenant}"] if tenant else [])})
            raise forbidden(f"the key has none of the scopes that may do this: {', '.join(scopes)}")
    elif need.right is None:
        raise forbidden("this takes a key: no end user may do it")


def _query(request: web.Request, endpoint: Endpoint) -> tuple[Any, float | None]:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise bad_request(f"not as it must be: query.{name}", {f"query.{name}": "it stands there twice"})
        if "\0" in value:
            raise bad_request(f"not as it must be: query.{name}", {f"query.{name}": "it has a character that is none"})
        given[name] = value
    wait_s = _wait(given) if endpoint.is_write else None
    try:
        return endpoint.query.model_validate(given), wait_s
    except ValidationError as error:
        raise invalid(error, "query") from error


def _wait(given: dict[str, str]) -> float | None:
    """Read how long to wait; None: not at all."""
    wanted, timeout = (given.pop(name, None) for name in _OF_WRITES)
    if wanted is None and timeout is None:
        return None
    length = parse_duration(timeout) if timeout is not None else None
    seconds = AWAIT_S if length is None else length / 1e9
    if wanted != "settled":
        raise bad_request("not as it must be: query.await", {"query.await": "write `await=settled`"})
    if (timeout is not None and length is None) or not 0 <= seconds <= MAX_AWAIT_S:
        raise bad_request("not as it must be: query.timeout", {"query.timeout": f"at most {MAX_AWAIT_S:g}s, like 5s"})
    return seconds


def _body(raw: bytes, shape: type[BaseModel] | None) -> Any:
    if shape is None:
        return None
    try:
        return shape.model_validate(parse(raw))
    except ValidationError as error:
        raise invalid(error, "body") from error


def _if_match(request: web.Request, endpoint: Endpoint) -> frozenset[str] | None:
    """Read of which states the thing must be one; None: of any. A condition that nobody would look at is refused."""
    if not endpoint.is_write:
        return None
    if "If-None-Match" in request.headers:
        raise bad_request("a write takes no If-None-Match")
    if "If-Match" not in request.headers:
        return None
    if not endpoint.takes_if_match:
        raise bad_request("this takes no If-Match: what it changes has no states")
    named = _tags(request, "If-Match")
    if not named:
        raise bad_request("If-Match is empty: send the ETag of the thing as you last read it")
    return None if "*" in named else named


def _tags(request: web.Request, header: str) -> frozenset[str]:
    said = ",".join(request.headers.getall(header, ()))
    return frozenset(each.strip() for each in said.split(",") if each.strip())


def _once(
    request: web.Request, endpoint: Endpoint, services: Services, actor: Actor, query: BaseModel, raw: bytes
) -> Once | None:
    """Read whether the request is to be done once. How long it waits makes it no other one."""
    key = read_key(request.headers.getall(REPEATED, [])) if endpoint.takes_key else None
    if key is None:
        return None
    asked = urlencode(sorted(query.model_dump(mode="json").items()))
    digest = digest_of(request.method.encode(), request.rel_url.raw_path.encode(), asked.encode(), raw)
    return Once(key, digest, services.writer, actor.ref)


async def _reply(endpoint: Endpoint, ask: Ask) -> Reply:
    """Have the endpoint's work done, or told again."""
    if ask.once is None:
        return _reply_of(endpoint, await endpoint.handler(ask))
    try:
        reply = _reply_of(endpoint, await endpoint.handler(ask))
        await ask.once.finish(reply)
    except RepeatedRequestError as error:
        return error.reply
    except BaseException as error:
        await ask.once.abandon(error)
        raise
    return reply


def _reply_of(endpoint: Endpoint, answer: Answer) -> Reply:
    status = answer.status or endpoint.status
    body = answer.body.model_dump(mode="json", by_alias=True) if answer.body is not None else None
    headers: dict[str, str] = {}
    if answer.token is not None:
        headers[REVISION] = str(answer.token)
    if answer.location is not None:
        headers["Location"] = PREFIX + answer.location
    if endpoint.has_etag and answer.body is not None and status == endpoint.status:
        headers["ETag"] = etag_of(answer.body)
    return Reply(204 if body is None and status == 200 else status, body, headers)


async def _settle(services: Services, reply: Reply, wait_s: float | None) -> Reply:
    """Wait until a write counts everywhere, if that is wished."""
    if wait_s is None or REVISION not in reply.headers:
        return reply
    token = reply.headers[REVISION]
    receipt = await services.receipts.find(token)
    if receipt is None:
        return reply
    settled = await services.receipts.settled(receipt, timeout_s=wait_s)
    status = (200 if reply.status == 204 else reply.status) if settled.is_settled else 202
    return Reply(status, {**(reply.body or {}), **_told(token, settled)}, reply.headers)


def _respond(request: web.Request, endpoint: Endpoint, reply: Reply) -> web.Response:
    headers = dict(reply.headers)
    if not endpoint.is_write and "ETag" in headers:
        tags = {each.removeprefix("W/") for each in _tags(request, "If-None-Match")}
        if tags & {"*", headers["ETag"]}:
            return web.Response(status=304, headers=headers)
    if reply.body is None:
        return web.Response(status=reply.status, headers=headers)
    return web.json_response(reply.body, status=reply.status, headers=headers)


def _told(token: str, settled: Settled) -> dict[str, object]:
    said: dict[str, object] = {"revision": token, "settled": settled.is_settled}
    return said | ({"by": settled.by} if settled.by is not None else {"missing": settled.missing})


def _settled(serving: _Serving) -> Handle:
    """Answer whether a write counts everywhere, by the token that it was answered with."""

    async def handler(request: web.Request) -> web.Response:
        await _identify(serving, request)
        try:
            token = Token.parse(request.match_info["token"])
        except ValueError as error:
            raise bad_request("this is no revision", {"path.token": "as `Bylaw-Revision` had it"}) from error
        receipt = await serving.services.receipts.find(str(token))
        if receipt is None:
            raise PublicError(
                404, "not_found", "nobody waits for this revision, or not any more: ask with ?await=settled"
            )
        settled = await serving.services.receipts.settled(receipt, timeout_s=0)
        return web.json_response(_told(str(token), settled), status=200 if settled.is_settled else 202)

    return handler
