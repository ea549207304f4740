"""The OpenAPI 3.1 description, made of the endpoints and of the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from admin.endpoint import PREFIX, Endpoint

Json = dict[str, Any]
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
    412: "It is not, or not any more, in the state that `If-Match` names.",
    413: "The body is too large.",
    422: "This key of idempotency was used for something else.",
    429: "It was too much; `Retry-After` says when to come again.",
    503: "The store does not answer; `Retry-After` says when to try again.",
}
_ALWAYS: Final = (400, 401, 403, 404, 503)


def describe(endpoints: Sequence[Endpoint], version: str) -> Json:
    """Make the description; `version` is the product's."""
    shapes = sorted({each for one in endpoints for each in _shapes(one)}, key=lambda shape: shape.__name__)
    modes = [(shape, "validation") for shape in shapes if _is_asked(shape, endpoints)]
    modes += [(shape, "serialization") for shape in shapes if not _is_asked(shape, endpoints)]
    names, schemas = models_json_schema(modes, ref_template=_REF)  # type: ignore[arg-type]  # the literals are right
    by_shape: dict[Any, Json] = {shape: schema for (shape, _), schema in names.items()}
    paths: Json = {}
    for each in endpoints:
        path = PREFIX + each.path
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Bylaw administration", "version": version, "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "tags": [{"name": tag} for tag in sorted({each.tag for each in endpoints})],
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shapes(endpoint: Endpoint) -> Iterator[type[BaseModel]]:
    for each in (endpoint.answer, endpoint.body):
        if each is not None:
            yield each


def _is_asked(shape: type[BaseModel], endpoints: Sequence[Endpoint]) -> bool:
    return any(each.body is shape for each in endpoints)


def _operation(endpoint: Endpoint, schemas: dict[Any, Json]) -> Json:
    parameters = [
        _parameter("path", name, {"type": "string"}, is_required=True) for name in _NAMES.findall(endpoint.path)
    ]
    parameters += list(_of_query(endpoint))
    found: Json = {
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "operationId": _operation_id(endpoint),
        "parameters": parameters,
        "responses": {str(endpoint.status): _answered(endpoint, schemas)},
    }
    if endpoint.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    statuses = {*_ALWAYS, *endpoint.errors, *((409, 413, 408) if endpoint.is_write else ())}
    for status in sorted(statuses):
        found["responses"][str(status)] = _refused(status)
    if endpoint.is_write:
        found["responses"]["202"] = {"description": "It is done, and does not count everywhere yet."}
    return found


def _of_query(endpoint: Endpoint) -> Iterator[Json]:
    schema = endpoint.query.model_json_schema(ref_template=_REF)
    for name, said in schema.get("properties", {}).items():
        yield _parameter("query", name, said, is_required=name in schema.get("required", ()))
    if endpoint.is_write:
        yield _parameter("query", "await", {"const": "settled"}, is_required=False)
        yield _parameter("query", "timeout", {"type": "string", "examples": ["5s"]}, is_required=False)


def _parameter(where: str, name: str, schema: Json, *, is_required: bool) -> Json:
    return {"in": where, "name": name, "required": is_required, "schema": schema}


def _answered(endpoint: Endpoint, schemas: dict[Any, Json]) -> Json:
    said: Json = {"description": endpoint.summary}
    if endpoint.answer is not None:
        said["content"] = {"application/json": {"schema": schemas[endpoint.answer]}}
    if endpoint.is_write:
        said["headers"] = {"Bylaw-Revision": {"schema": {"type": "string"}, "description": "the state that this made"}}
    return said


def _refused(status: int) -> Json:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"description": _SAID[status], "content": {"application/json": problem}}


def _operation_id(endpoint: Endpoint) -> str:
    words = [part.strip("{}") for part in endpoint.path.strip("/").replace("-", "_").split("/")]
    return "_".join([endpoint.method.lower(), *words])
