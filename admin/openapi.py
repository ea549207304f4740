"""The OpenAPI 3.1 description, made of the endpoints and of the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from admin.approvals.wire import Waiting
from admin.endpoint import PREFIX, Endpoint

Json = dict[str, Any]
Mode = tuple[type[BaseModel], Literal["validation", "serialization"]]
Schemas = Mapping[Mode, Json]
_REF: Final = "#/components/schemas/{model}"
_NAMES: Final = re.compile(r"\{(\w+)")
_PROBLEM: Final[Json] = {
    "type": "object",
    "required": ["error", "message", "details", "requestId", "timestamp"],
    "properties": {
        "error": {"type": "string", "description": "a stable code"},
        "message": {"type": "string", "description": "what is wrong, and what would cure it"},
        "details": {"type": "object", "description": "`fields`: what is wrong with each"},
        "requestId": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
}
_SAID: Final = {
    400: "It is not shaped as it must be; `details.fields` names every field.",
    401: "It is not known who asks.",
    403: "He may not do this; `error` says by which rule.",
    404: "It is not there.",
    408: "The body did not come in time.",
    409: "It contradicts what is stored.",
    410: "What was changed since then is not known any more: read all anew.",
    412: "It is not, or not any more, in the state that `If-Match` names.",
    413: "The body is too large.",
    422: "This key of idempotency was used for something else.",
    429: "It was too much; `Retry-After` says when to come again.",
    503: "The store does not answer; `Retry-After` says when to try again.",
}
_ALWAYS: Final = (400, 401, 403, 404, 429, 503)
_TEXT: Final[Json] = {"type": "string"}
#: What `?await=settled` adds to an answer.
_SETTLED: Final[Json] = {
    "revision": {"type": "string", "description": "as the header `Bylaw-Revision` has it"},
    "settled": {"type": "boolean", "description": "whether it counts in every process that decides"},
    "by": {"enum": ["acks", "bound"], "description": "all said so, or can no longer answer from before it"},
    "missing": {"type": "integer", "description": "so many have not said so yet"},
}
_REVISION: Final[Json] = {"schema": _TEXT, "description": "the state that this made"}
_ETAG: Final[Json] = {"schema": _TEXT, "description": "the state that the thing is in, for `If-Match`"}
_LOCATION: Final[Json] = {"schema": _TEXT, "description": "of what was made, or of what waits"}


def describe(endpoints: Sequence[Endpoint], version: str) -> Json:
    """Make the description; `version` is the product's."""
    asked = {each.body for each in endpoints if each.body is not None}
    answered = {each.answer for each in endpoints if each.answer is not None} | {Waiting}
    modes: list[Mode] = [(shape, "validation") for shape in sorted(asked, key=_name)]
    modes += [(shape, "serialization") for shape in sorted(answered, key=_name)]
    named, rest = models_json_schema(modes, ref_template=_REF)
    shapes = cast("Schemas", named)  # its keys are the shapes that went in
    schemas, components = _apart(shapes, rest.get("$defs", {}))
    components = _opened(components, schemas)
    paths: Json = {}
    for each in endpoints:
        path = PREFIX + each.path
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, schemas)
    paths |= _plain_paths()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Bylaw administration", "version": version, "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "tags": [{"name": tag} for tag in sorted({each.tag for each in endpoints})],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _apart(schemas: Schemas, components: Json) -> tuple[Schemas, Json]:
    """Give shapes that are asked and answered alike a second name where they are answered, to be opened there alone."""
    asked = {schema.get("$ref") for (_, mode), schema in schemas.items() if mode == "validation"} - {None}
    both = {each: schema["$ref"] for each, schema in schemas.items() if schema.get("$ref") in asked}
    answered = {each: ref + "Answered" for each, ref in both.items() if each[1] == "serialization"}
    copies = {ref.rpartition("/")[2]: components[both[each].rpartition("/")[2]] for each, ref in answered.items()}
    return {**schemas, **{each: {"$ref": ref} for each, ref in answered.items()}}, {**components, **copies}


def _opened(components: Json, schemas: Schemas) -> Json:
    """Let answers have members that are not named: those of `?await=settled`, and of later versions."""
    asked = {schema["$ref"] for (_, mode), schema in schemas.items() if mode == "validation" and "$ref" in schema}
    answered = {schema["$ref"] for schema in schemas.values() if "$ref" in schema} - asked
    open_ones = {each.rpartition("/")[2] for each in answered}
    return {
        name: {word: said for word, said in schema.items() if name not in open_ones or word != "additionalProperties"}
        for name, schema in components.items()
    }


def _name(shape: type[BaseModel]) -> str:
    return shape.__name__


def _operation(endpoint: Endpoint, schemas: Schemas) -> Json:
    found: Json = {
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "operationId": _operation_id(endpoint),
        "parameters": [*_of_path(endpoint), *_of_query(endpoint), *_of_headers(endpoint)],
        "responses": _good(endpoint, schemas) | {str(status): _refused(status) for status in _statuses(endpoint)},
    }
    if endpoint.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body, "validation"]}},
        }
    return found


def _statuses(endpoint: Endpoint) -> list[int]:
    """List how it can refuse."""
    found = {*_ALWAYS, *endpoint.errors}
    if endpoint.is_write:
        found.add(409)
    if endpoint.body is not None:
        found |= {408, 413}
    if endpoint.takes_key:
        found.add(422)
    return sorted(found)


def _of_path(endpoint: Endpoint) -> Iterator[Json]:
    for name in _NAMES.findall(endpoint.path):
        yield _parameter("path", name, {"type": "string", "minLength": 1}, is_required=True)


def _of_query(endpoint: Endpoint) -> Iterator[Json]:
    schema = endpoint.query.model_json_schema(ref_template=_REF)
    for name, said in schema.get("properties", {}).items():
        yield _parameter("query", name, _without_null(said), is_required=name in schema.get("required", ()))
    if endpoint.is_write:
        yield _parameter("query", "await", {"const": "settled"}, is_required=False)
        yield _parameter("query", "timeout", {"type": "string", "examples": ["5s"], "pattern": "^[0-9]+(ms|s)$"})


def _without_null(schema: Json) -> Json:
    """Say of a member that may be absent what it is where it is there: a query has no null."""
    found = {name: value for name, value in schema.items() if name not in ("anyOf", "default", "title")}
    if "default" in schema and schema["default"] is not None:
        found["default"] = schema["default"]
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return found | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _of_headers(endpoint: Endpoint) -> Iterator[Json]:
    if endpoint.takes_if_match:
        yield _parameter("header", "If-Match", _TEXT)
    if endpoint.takes_key:
        yield _parameter("header", "Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,256}$"})
    if endpoint.has_etag and not endpoint.is_write:
        yield _parameter("header", "If-None-Match", _TEXT)


def _parameter(where: str, name: str, schema: Json, *, is_required: bool = False) -> Json:
    return {"in": where, "name": name, "required": is_required, "schema": schema}


def _good(endpoint: Endpoint, schemas: Schemas) -> Json:
    """Say how it answers where all went well."""
    headers = {"Bylaw-Revision": _REVISION} if endpoint.is_write else {}
    if endpoint.has_etag:
        headers["ETag"] = _ETAG
    if endpoint.status == 201:
        headers["Location"] = _LOCATION
    made = schemas[endpoint.answer, "serialization"] if endpoint.answer is not None else None
    if not endpoint.is_write:
        found = {str(endpoint.status): _answered(endpoint.summary, made, headers)}
        if endpoint.is_lines:
            found[str(endpoint.status)]["content"] = {"application/jsonl": {"schema": _TEXT}}
        return found | ({"304": {"description": "It is as `If-None-Match` has it."}} if endpoint.has_etag else {})
    settled: Json = {"type": "object", "properties": _SETTLED}
    late = _answered("It is done, and does not count everywhere yet; or it waits for an approval.", settled, headers)
    if made is None:
        at_once = {"description": endpoint.summary, "headers": headers}
        return {"204": at_once, "200": _answered("It is done, and counts everywhere.", settled, headers), "202": late}
    late = _answered(late["description"], {"anyOf": [made, schemas[Waiting, "serialization"], settled]}, headers)
    return {str(endpoint.status): _answered(endpoint.summary, settled | {"allOf": [made]}, headers), "202": late}


def _answered(summary: str, schema: Json | None, headers: Json) -> Json:
    said: Json = {"description": summary}
    if schema is not None:
        said["content"] = {"application/json": {"schema": schema}}
    return said | ({"headers": headers} if headers else {})


def _refused(status: int) -> Json:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    said: Json = {"description": _SAID[status], "content": {"application/json": problem}}
    if status in (429, 503):
        said["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "in seconds"}}
    return said


def _plain_paths() -> Json:
    """Describe what lies beside the resources."""
    settled: Json = {"type": "object", "properties": _SETTLED, "required": ["revision", "settled"]}
    token = [_parameter("path", "token", {"type": "string", "minLength": 1}, is_required=True)]
    waited = {
        "200": _answered("It counts everywhere.", settled, {}),
        "202": _answered("It does not count everywhere yet.", settled, {}),
        **{str(status): _refused(status) for status in (400, 401, 404, 429, 503)},
    }
    ready = _readiness("ready", "degraded")
    alive: Json = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return {
        "/settled/{token}": {"get": _plain("Say whether a write counts everywhere", waited) | {"parameters": token}},
        "/health": {"get": _plain("Say that the process lives", {"200": _answered("It does.", alive, {})}, ())},
        "/ready": {
            "get": _plain(
                "Say whether the service can answer",
                {
                    "200": _answered("It can; `degraded`: a check says what is wrong all the same.", ready, {}),
                    "503": _answered("It cannot: the store does not answer.", _readiness("failed"), {}),
                },
                (),
            )
        },
        "/metrics": {
            "get": _plain(
                "Tell Prometheus what was asked, written and refused",
                {"200": {"description": "In its text format.", "content": {"text/plain": {"schema": _TEXT}}}},
                (),
            )
        },
    }


def _readiness(*statuses: str) -> Json:
    """Describe what a probe is answered: each check has a status, and where that is not `ok` the reason."""
    check: Json = {
        "type": "object",
        "properties": {
            "status": {"enum": ["ok", "degraded", "failed"]},
            "error": _TEXT,
            "message": _TEXT,
            "policy": {"type": "string", "description": "the digest of the one that runs"},
            "published": {"type": "string", "description": "its id, where it is a published one"},
        },
        "required": ["status"],
    }
    return {
        "type": "object",
        "properties": {
            "status": {"enum": list(statuses)},
            "checks": {
                "type": "object",
                "properties": dict.fromkeys(("database", "policies", "redis"), check),
                "required": ["database", "policies"],
            },
        },
        "required": ["status", "checks"],
    }


def _plain(summary: str, responses: Json, security: Sequence[Json] = ({"bearer": []},)) -> Json:
    return {"summary": summary, "security": list(security), "responses": responses}


def _operation_id(endpoint: Endpoint) -> str:
    words = [part.strip("{}") for part in endpoint.path.strip("/").replace("-", "_").split("/")]
    return "_".join([endpoint.method.lower(), *words])
