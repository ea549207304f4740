"""One endpoint: a request goes in, the answer of its handler comes out.

    who asks ──▶ the policy of now ──▶ who may ask this at all ──▶ query, body, headers ──▶ handler ──▶ answer
       └── nobody known: counted (`attempts`)     └───── may not: taken down (`refusals`) ────┘

Bodies are read whole and within a bound before anything but who asks is looked up in the store. An answer to a write
carries the revision that it made; `?await=settled` waits until that counts in every process that decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, ValidationError

from admin.actors import KEY_MARK as MARK
from admin.actors import Actor, Key, Verifier, bearer_of, unauthorized
from admin.attempts import Attempts, neighbourhood
from admin.bodies import parse, read_body
from admin.bulk import UNDONE, BulkResult
from admin.door import find_key, want_inside
from admin.endpoint import PREFIX, Answer, Ask, Endpoint
from admin.errors import PublicError, bad_request, forbidden, invalid, no_policy, not_found
from admin.manners import Manners
from admin.metrics import Metrics
from admin.refusals import Refusal, Refusals, is_refusal, plain_id
from admin.repetition import HEADER as REPEATED
from admin.repetition import Once, RepeatedRequestError, Reply, digest_of, read_key
from admin.services import Services
from admin.uses import Uses
from admin.watching import ACTOR, REQUEST_ID
from admin.wire import etag_of
from engine.values import parse_duration
from store.settling import Settled

REVISION: Final = "Bylaw-Revision"
#: How long `?await=settled` waits if nothing else is said, and at most.
AWAIT_S: Final = 5.0
MAX_AWAIT_S: Final = 30.0
#: What stands behind the path of any write, beside the endpoint's own.
_OF_WRITES: Final = ("await", "timeout")

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Serving:
    """What every request is answered with."""

    services: Services
    verifier: Verifier | None
    manners: Manners
    attempts: Attempts
    refusals: Refusals
    uses: Uses
    metrics: Metrics


def handler_of(serving: Serving, endpoint: Endpoint) -> Handle:
    """Make what answers requests to an endpoint."""

    async def handler(request: web.Request) -> web.StreamResponse:
        actor = await identify(serving, request)
        try:
            return await answered(request, actor)
        except PublicError as error:
            await note(request, actor, [error, *(_items_of(error.details) if error.code == UNDONE else ())])
            raise

    async def note(request: web.Request, actor: Actor, errors: Iterable[PublicError]) -> None:
        for error in filter(is_refusal, errors):
            serving.metrics.note_refusal(error.code)
            if endpoint.is_write:
                await serving.refusals.note(_refusal(request, endpoint, actor, error))

    async def answered(request: web.Request, actor: Actor) -> web.StreamResponse:
        services = serving.services.for_request(plain_id(request[REQUEST_ID]))
        await _catch_up(services, actor)
        path = _path(request)
        _let_in(endpoint, actor, path.get("tenant"))
        query, wait_s = _query(request, endpoint)
        raw = b"" if endpoint.body is None else await _raw(request, endpoint, serving.manners)
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
        await _count_items(serving.manners, endpoint, ask)
        if endpoint.need.right == "by_assign" and "tenant" in path:
            await want_inside(ask, path["tenant"])
        if endpoint.is_lines:
            return web.Response(body=(await endpoint.handler(ask)).lines, content_type="application/jsonl")
        reply = await _reply(endpoint, ask)
        if REVISION in reply.headers:
            serving.metrics.note_write(endpoint.tag)
        if endpoint.answer is BulkResult and endpoint.is_write:
            await note(request, actor, _items_of(reply.body))
        return _respond(request, endpoint, await _settle(services, reply, wait_s))

    return handler


def _items_of(body: Mapping[str, Any]) -> Iterator[PublicError]:
    """List what items of a bulk were refused for, out of what is answered."""
    for each in body.get("results", ()):
        if (fault := each.get("error")) is not None:
            yield PublicError(each["status"], fault["error"], fault["message"], details=fault["details"])


def _refusal(request: web.Request, endpoint: Endpoint, actor: Actor, error: PublicError) -> Refusal:
    at = error.details.get("assign")
    return Refusal(
        actor.ref,
        request.match_info.get("tenant"),
        endpoint.method,
        endpoint.path,
        error.code,
        str(at) if at is not None else None,
        request[REQUEST_ID],
    )


async def identify(serving: Serving, request: web.Request) -> Actor:
    """Say who asks, and count it.

    Raises:
        PublicError: it is not known, or he asks too much.
    """
    try:
        actor = await _known(serving, request)
    except PublicError as error:
        if error.status == 401 and "Authorization" in request.headers:
            _count_stranger(serving, request.remote)
        raise
    request[ACTOR] = actor
    if serving.manners.limits is not None:
        await serving.manners.limits.take(actor.ref)
    return actor


async def _known(serving: Serving, request: web.Request) -> Actor:
    said = bearer_of(request.headers.getall("Authorization", ()))
    if said.startswith(MARK):
        return await find_key(serving.services, serving.uses, said)
    actor = await serving.verifier.verify(said) if serving.verifier is not None else None
    if actor is None:
        raise unauthorized()
    return actor


def _count_stranger(serving: Serving, address: str | None) -> None:
    """Count an attempt of nobody known.

    Raises:
        PublicError: there were too many from his address.
    """
    wait_s = serving.attempts.fail(address)
    serving.refusals.note_stranger(neighbourhood(address), is_limited=wait_s is not None)
    serving.metrics.note_stranger(is_limited=wait_s is not None)
    if wait_s is not None:
        raise PublicError(
            429,
            "too_many_failures",
            "from this address it was asked too often by nobody who is known: a good key is let in at any time",
            headers={"Retry-After": str(wait_s)},
        )


async def _count_items(manners: Manners, endpoint: Endpoint, ask: Ask) -> None:
    """Count each item of a bulk as a request of its own; the first was counted with the request.

    Raises:
        PublicError: they are too many.
    """
    if manners.limits is not None and endpoint.answer is BulkResult and len(ask.body.items) > 1:
        await manners.limits.take(ask.actor.ref, len(ask.body.items) - 1)


async def _catch_up(services: Services, actor: Actor) -> None:
    """See that the policy is the one that decides by now; without it no end user may do anything.

    Raises:
        PublicError: he asks, and it cannot be had.
    """
    async with services.database.reading() as connection:
        if await services.is_current(connection):
            return
    await services.catch_up()
    async with services.database.reading() as connection:
        if not isinstance(actor, Key) and not await services.is_current(connection):
            raise no_policy()


async def _raw(request: web.Request, endpoint: Endpoint, manners: Manners) -> bytes:
    return await read_body(request, timeout_s=manners.body_timeout_s, limit=endpoint.max_body)


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
        raise invalid(error, "query", endpoint.query.model_fields) from error


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
    return Once(key, digest, services.writer, actor.ref, services.ring)


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
    return Reply(status, {**(reply.body or {}), **told(token, settled)}, reply.headers)


def _respond(request: web.Request, endpoint: Endpoint, reply: Reply) -> web.Response:
    headers = dict(reply.headers)
    if not endpoint.is_write and "ETag" in headers:
        tags = {each.removeprefix("W/") for each in _tags(request, "If-None-Match")}
        if tags & {"*", headers["ETag"]}:
            return web.Response(status=304, headers=headers)
    if reply.body is None:
        return web.Response(status=reply.status, headers=headers)
    return web.json_response(reply.body, status=reply.status, headers=headers)


def told(token: str, settled: Settled) -> dict[str, object]:
    said: dict[str, object] = {"revision": token, "settled": settled.is_settled}
    return said | ({"by": settled.by} if settled.by is not None else {"missing": settled.missing})
