"""The application: endpoints behind one door, errors as answers, and the life of the server.

    request ──▶ id ──▶ who asks ──▶ shape ──▶ endpoint ──▶ answer
                 └──────── whatever goes wrong ──▶ PublicError ──▶ answer

Bodies are read whole and within a bound before anything is asked of the store. An answer to a write carries the
revision that it made; `?await=settled` waits until that counts in every process that decides.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, ValidationError

from admin.actors import KEY_MARK as MARK
from admin.actors import Actor, Key, Verifier, bearer_of, unauthorized
from admin.door import find_key
from admin.endpoint import PREFIX, Answer, Ask, Endpoint
from admin.errors import PublicError, bad_request, body_of, forbidden, invalid, to_public
from admin.openapi import describe
from admin.services import Services
from admin.wire import etag_of
from engine.values import parse_duration
from store.settling import Settled
from store.tokens import Token

REQUEST_ID: Final = "X-Request-ID"
REVISION: Final = "Bylaw-Revision"
MAX_BODY: Final = 256 * 1024
MAX_DEPTH: Final = 16
MAX_REQUEST_ID: Final = 256
BODY_TIMEOUT_S: Final = 10.0
#: How long `?await=settled` waits if nothing else is said, and at most.
AWAIT_S: Final = 5.0
MAX_AWAIT_S: Final = 30.0
#: Answers that are longer are compressed, for who can read that.
COMPRESS_FROM: Final = 1024
#: What every answer says to a browser: it is data, for nobody to frame, guess at, or keep.
SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Cache-Control": "private, no-store",
}
#: What stands behind the path of any write, beside the endpoint's own.
_OF_WRITES: Final = ("await", "timeout")
_log = logging.getLogger("bylaw.admin")

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    services: Services, endpoints: Sequence[Endpoint], *, version: str, verifier: Verifier | None = None
) -> web.Application:
    """Make the application.

    Args:
        version: of the product.
        verifier: of end users' tokens; None: there are no keys for them, so no token is a good one.
    """
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_answering])
    for each in endpoints:
        app.router.add_route(each.method, PREFIX + each.path, _handler(services, each, verifier))
    described = json.dumps(describe(endpoints, version)).encode()
    app.router.add_get("/openapi.json", _constant(described))
    app.router.add_get("/health", _constant(b'{"status": "ok"}'))
    app.router.add_get("/ready", _ready(services))
    app.router.add_get("/settled/{token}", _settled(services, verifier))
    return app


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


@web.middleware
async def _answering(request: web.Request, handler: Handle) -> web.StreamResponse:
    """Answer, whatever happens."""
    request_id = _request_id(request)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _problem(_of_http(error), request_id)
    except Exception as error:  # the one place: nothing else may leave
        problem = to_public(error)
        if problem is not error and problem.status >= 500:
            _log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
        response = _problem(problem, request_id)
    response.headers[REQUEST_ID] = request_id
    response.headers.update({name: value for name, value in SECURITY.items() if name not in response.headers})
    if (response.content_length or 0) > COMPRESS_FROM:
        response.enable_compression()
    return response


def _request_id(request: web.Request) -> str:
    sent = request.headers.get(REQUEST_ID, "")
    is_fit = 0 < len(sent) <= MAX_REQUEST_ID and sent.isascii() and sent.isprintable()
    return sent if is_fit else uuid4().hex


def _of_http(error: web.HTTPException) -> PublicError:
    match error:
        case web.HTTPNotFound():
            return PublicError(404, "not_found", "there is nothing at this path")
        case web.HTTPMethodNotAllowed():
            taken = ", ".join(sorted(error.allowed_methods))
            return PublicError(405, "method_not_allowed", f"this path takes {taken}", headers={"Allow": taken})
        case web.HTTPRequestEntityTooLarge():
            return PublicError(413, "too_large", f"a body has at most {MAX_BODY // 1024} KiB")
        case _:
            return PublicError(error.status, "bad_request", "this request cannot be answered")


def _problem(problem: PublicError, request_id: str) -> web.Response:
    headers = dict(problem.headers)
    text = body_of(problem, request_id)
    return web.Response(status=problem.status, text=text, content_type="application/json", headers=headers)


# --- one endpoint -----------------------------------------------------------------------------------------------------


def _handler(services: Services, endpoint: Endpoint, verifier: Verifier | None) -> Handle:
    async def handler(request: web.Request) -> web.StreamResponse:
        actor = await authenticate(services, request, verifier)
        _let_in(endpoint, actor, request.match_info.get("tenant"))
        query, wait_s = _query(request, endpoint)
        ask = Ask(
            services,
            actor,
            dict(request.match_info),
            await _body(request, endpoint.body),
            query,
            services.clock(),
            _if_match(request),
            wait_s is not None,
            request.remote,
        )
        answer = await endpoint.handler(ask)
        return await _respond(request, endpoint, services, answer, wait_s)

    return handler


async def authenticate(services: Services, request: web.Request, verifier: Verifier | None) -> Actor:
    """Say who asks.

    Raises:
        PublicError: it is not known.
    """
    said = bearer_of(request.headers.getall("Authorization", ()))
    if said.startswith(MARK):
        return await find_key(services, said)
    found = await verifier.verify(said) if verifier is not None else None
    if found is None:
        raise unauthorized()
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


async def _body(request: web.Request, shape: type[BaseModel] | None) -> Any:
    if shape is None:
        return None
    if request.content_type != "application/json":
        raise PublicError(400, "bad_request", "send JSON, as `Content-Type: application/json`")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise PublicError(408, "body_timeout", f"the body was not complete within {BODY_TIMEOUT_S:g} s") from error
    try:
        return shape.model_validate(_parse(raw))
    except ValidationError as error:
        raise invalid(error, "body") from error


def _parse(raw: bytes) -> object:
    """Read JSON, strictly.

    Raises:
        PublicError: it is none, or says something twice, or goes too deep.
    """
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a character is none
    except (ValueError, RecursionError) as error:
        raise bad_request(f"this is no JSON as it must be: {_reason(error)}") from error
    if _depth(found) > MAX_DEPTH:
        raise bad_request(f"JSON goes at most {MAX_DEPTH} deep")
    return found


def _reason(error: Exception) -> str:
    match error:
        case UnicodeError():
            return "it is no UTF-8"
        case json.JSONDecodeError():
            return f"line {error.lineno}, column {error.colno}"
        case RecursionError():
            return "it goes too deep"
        case _:
            return str(error)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands there twice")
    return found


def _no_constant(_: str) -> object:
    raise ValueError("NaN and Infinity are no numbers")


def _depth(value: object) -> int:
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return 0
    return 1 + max(map(_depth, inner), default=0)


def _if_match(request: web.Request) -> frozenset[str] | None:
    said = ",".join(request.headers.getall("If-Match", ()))
    named = frozenset(each.strip() for each in said.split(",") if each.strip())
    return None if not named or "*" in named else named


async def _respond(
    request: web.Request, endpoint: Endpoint, services: Services, answer: Answer, wait_s: float | None
) -> web.Response:
    status = answer.status or endpoint.status
    body = answer.body.model_dump(mode="json", by_alias=True) if answer.body is not None else None
    headers: dict[str, str] = {}
    if answer.token is not None:
        headers[REVISION] = str(answer.token)
    if answer.location is not None:
        headers["Location"] = PREFIX + answer.location
    if answer.body is not None and not endpoint.path.endswith("s") and answer.location is None:
        headers["ETag"] = etag_of(answer.body)  # type: ignore[arg-type]  # every answer is a shape
    if endpoint.method == "GET" and headers.get("ETag") in request.headers.get("If-None-Match", "").split(", "):
        return web.Response(status=304, headers=headers)
    if answer.token is not None and answer.receipt is not None and wait_s is not None:
        settled = await services.receipts.settled(answer.receipt, timeout_s=wait_s)
        status = status if settled.is_settled else 202
        body = {**(body or {}), **_told(answer.token, settled)}
    if body is None:
        return web.Response(status=204 if status == 200 else status, headers=headers)
    return web.json_response(body, status=status, headers=headers)


def _told(token: Token, settled: Settled) -> dict[str, object]:
    said: dict[str, object] = {"revision": str(token), "settled": settled.is_settled}
    return said | ({"by": settled.by} if settled.by is not None else {"missing": settled.missing})


def _settled(services: Services, verifier: Verifier | None) -> Handle:
    """Answer whether a write counts everywhere, by the token that it was answered with."""

    async def handler(request: web.Request) -> web.Response:
        await authenticate(services, request, verifier)
        try:
            token = Token.parse(request.match_info["token"])
        except ValueError as error:
            raise bad_request("this is no revision", {"path.token": "as `Bylaw-Revision` had it"}) from error
        receipt = await services.receipts.find(str(token))
        if receipt is None:
            raise PublicError(
                404, "not_found", "nobody waits for this revision, or not any more: ask with ?await=settled"
            )
        settled = await services.receipts.settled(receipt, timeout_s=0)
        return web.json_response(_told(token, settled), status=200 if settled.is_settled else 202)

    return handler
