"""The OpenAPI 3.1 document of the decision API.

Bounds in it are those that the readers of requests hold to (`strict_json`, `wire`). What a schema cannot say, such as
that a type must be one of the policy's, is said in words: such a request is a 400 all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.codes import CODES
from sidecar.api import CHECK, EVALUATION, EVALUATIONS
from sidecar.callers import ALL_SCOPES
from sidecar.exchange import AT_LEAST, MAX_REQUEST_ID, REQUEST_ID
from sidecar.strict_json import MAX_BODY, MAX_MEMBERS, MAX_STRING
from sidecar.wire import MAX_EVALUATIONS, MAX_ID, SEMANTICS

Json = dict[str, Any]

_ERRORS: Final = {
    "400": "It is malformed, or names a type or action that the policy does not have.",
    "401": "The caller is not known.",
    "403": "The caller may not ask this, or the Host is not this service's.",
    "404": "The service knows no URL of its own to tell.",
    "408": "The body did not come in time.",
    "413": f"The body is larger than {MAX_BODY // 1024} KiB.",
    "429": "The caller asks too much; `Retry-After` says when to come back.",
    "500": "A mistake of the service; its log has the request id.",
    "503": "No answer can be trusted now (`stale`), or too much is asked at once (`overloaded`).",
}


def document(version: str, base_url: str | None) -> Json:
    """Write the document.

    Args:
        version: of the product. base_url: where clients reach the service, if that is known.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bylaw decision API",
            "version": version,
            "description": "May this principal do this action on this resource, in this tenant? A deny is an answer "
            'with status 200 and `"decision": false`; every failure is an error or a deny, never an allow.',
        },
        **({"servers": [{"url": base_url}]} if base_url else {}),
        "security": [{}, {"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "parameters": _parameters(),
            "responses": {code: _error(text) for code, text in _ERRORS.items()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A caller's key, where callers are known by one. Its scopes are of: "
                    + ", ".join(sorted(ALL_SCOPES)),
                }
            },
        },
    }


def _paths() -> Json:
    asked = ("400", "401", "403", "408", "413", "429", "500", "503")
    return {
        CHECK: {
            "post": _operation(
                "check", "One decision, or with `evaluations` many, in order.", asked, _body("Check"), _answer("Answer")
            )
        },
        EVALUATION: {
            "post": _operation(
                "evaluation",
                "One decision, as OpenID AuthZEN has it.",
                asked,
                _body("Evaluation"),
                _answer("Decision"),
            )
        },
        EVALUATIONS: {
            "post": _operation(
                "evaluations",
                "Many decisions, as OpenID AuthZEN has them.",
                asked,
                _body("Evaluations"),
                _answer("Answer"),
            )
        },
        "/explain": {
            "post": _operation(
                "explain",
                "One decision and the whole reasoning. Needs the scope `explain`.",
                asked,
                _body("Question"),
                _answer("Explanation"),
            )
        },
        "/.well-known/authzen-configuration": {
            "get": _operation(
                "metadata", "Where the AuthZEN endpoints are.", ("401", "403", "404"), None, _answer("Metadata")
            )
        },
        "/health": {"get": _operation("health", "Whether the process lives.", ("403",), None, _answer("Health"))},
        "/ready": {
            "get": _operation(
                "ready", "Whether to send requests here, and on what it stands.", ("403",), None, _answer("Ready")
            )
        },
        "/metrics": {"get": _operation("metrics", "Metrics for Prometheus.", ("403",), None, _TEXT)},
        "/openapi.json": {"get": _operation("openapi", "This document.", ("401", "403"), None, _answer("Document"))},
    }


def _operation(name: str, summary: str, errors: tuple[str, ...], body: Json | None, answer: Json) -> Json:
    parameters = ["RequestId", *(["AtLeast"] if body else [])]
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{each}"} for each in parameters],
        **({"requestBody": body} if body else {}),
        "responses": {
            "200": answer,
            **{code: {"$ref": f"#/components/responses/{code}"} for code in errors},
        },
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": _ref(schema)}}}


def _answer(schema: str) -> Json:
    return {"description": "The answer.", "content": {"application/json": {"schema": _ref(schema)}}}


_TEXT: Final = {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def _error(description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref("Error")}}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _parameters() -> Json:
    return {
        "RequestId": {
            "name": REQUEST_ID,
            "in": "header",
            "description": f"Echoed, if it is printable and has at most {MAX_REQUEST_ID} characters.",
            "schema": {"type": "string"},
        },
        "AtLeast": {
            "name": AT_LEAST,
            "in": "header",
            "description": "Up to eight revisions, between commas, that the facts must have reached.",
            "schema": {"type": "string", "minLength": 1},
        },
    }


# --- schemas ------------------------------------------------------------------------------------------


def _object(required: tuple[str, ...], members: Mapping[str, Json], *, text: str = "") -> Json:
    return {
        "type": "object",
        **({"description": text} if text else {}),
        **({"required": list(required)} if required else {}),
        "properties": dict(members),
    }


def _maybe(kind: str, **more: object) -> Json:
    """Make the schema of what may be left out, or null."""
    return {"type": [kind, "null"], **more}


_PROPERTIES: Final = _maybe("object", maxProperties=MAX_MEMBERS, description="Values that the request brings along.")
_NAME: Final[Json] = {"type": "string", "minLength": 1, "maxLength": MAX_STRING}
_ID: Final[Json] = {"type": "string", "minLength": 1, "maxLength": MAX_ID}
_TENANT: Final = _maybe("string", minLength=1, maxLength=MAX_ID, description="The active tenant.")


def _schemas() -> Json:
    return _questions() | _answers() | _watching()


def _questions() -> Json:
    entity = _object(("type", "id"), {"type": _NAME, "id": _ID, "properties": _PROPERTIES})
    action = _object(("name",), {"name": _NAME, "properties": _PROPERTIES})
    short = {**_NAME, "description": "`type:id`, split at the first colon."}
    one: Json = {
        "tenant": _TENANT,
        "subject": {"anyOf": [_ref("Entity"), short]},
        "action": {"anyOf": [_ref("Action"), {**_NAME, "description": "`read`, or with its type `task.read`."}]},
        "resource": {"anyOf": [_ref("Entity"), short]},
        "context": _PROPERTIES,
    }
    standard = {**one, "subject": _ref("Entity"), "action": _ref("Action"), "resource": _ref("Entity")}
    asked = ("subject", "action", "resource")
    return {
        "Entity": entity,
        "Action": action,
        "Question": _object(asked, one),
        "Check": _many(one, asked),
        "Evaluation": _object(asked, standard),
        "Evaluations": _many(standard, asked),
    }


def _many(one: Json, asked: tuple[str, ...]) -> Json:
    options = {"evaluations_semantic": {"type": "string", "enum": list(SEMANTICS)}}
    listed = {
        "type": ["array", "null"],
        "maxItems": MAX_EVALUATIONS,
        "description": "Questions. What one lacks it takes whole from beside the list; what is wrong with one is its "
        "own answer.",
    }
    members = {**one, "evaluations": listed, "options": _maybe("object", properties=options)}
    whole = {"required": ["evaluations"], "properties": {"evaluations": {"type": "array", "minItems": 1}}}
    return {**_object((), members), "anyOf": [{"required": list(asked)}, whole]}


def _answers() -> Json:
    text = {"type": ["string", "null"]}
    obligation = _object(("id", "type"), {"id": _NAME, "type": _NAME, "properties": {"type": "object"}})
    context = _object(
        ("code",),
        {
            "code": {"type": "string", "description": "Why, in one word.", "examples": list(CODES)},
            "by": {**text, "description": "The rule, or `TYPE.NAME on TYPE:ID` of the role, that determined."},
            "at": {**text, "description": "Where that stands in the policy."},
            "because": {**text, "description": "The rule's own words."},
            "obligations": {"type": "array", "items": obligation},
            "revision": {"type": "string", "description": "Of the facts."},
            "policy": {"type": "string", "description": "The policy's digest."},
            "id": {"type": "string", "description": "Of this decision."},
            "error": {"type": "object", "description": "What is wrong with this question of many."},
        },
    )
    decision = _object(("decision",), {"decision": {"type": "boolean"}, "context": context})
    decisions = _object(("evaluations",), {"evaluations": {"type": "array", "items": _ref("Decision")}})
    error = _object(
        ("error", "message", "requestId", "timestamp"),
        {
            "error": {"type": "string", "description": "A stable code."},
            "message": {"type": "string"},
            "details": {"type": "object"},
            "requestId": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
        },
    )
    return {
        "Decision": decision,
        "Decisions": decisions,
        "Answer": {"anyOf": [_ref("Decision"), _ref("Decisions")]},
        "Explanation": {"type": "object", "description": "Boundary, denies, roles, rules, and the values read."},
        "Error": error,
    }


def _watching() -> Json:
    endpoint = {"type": "string", "format": "uri"}
    check = _object(("status",), {"status": {"type": "string", "enum": ["ok", "degraded", "failed"]}})
    return {
        "Metadata": _object(
            ("policy_decision_point", "access_evaluation_endpoint"),
            {
                "policy_decision_point": endpoint,
                "access_evaluation_endpoint": endpoint,
                "access_evaluations_endpoint": endpoint,
            },
        ),
        "Health": _object(("status",), {"status": {"const": "ok"}}),
        "Ready": _object(
            ("status", "checks"),
            {
                "status": {"type": "string", "enum": ["ready", "degraded", "failed", "stopping"]},
                "checks": {"type": "object", "additionalProperties": check},
            },
        ),
        "Document": _object(("openapi",), {"openapi": {"type": "string"}}),
    }
