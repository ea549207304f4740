"""JSON of the decision API in, engine `Request`s out; and decisions back as JSON.

The shapes are AuthZEN's, with `tenant`, and short forms for people: `"user:ann"`, `"read"`. All endpoints that take
questions read them here: with `short_forms=False` only what the standard has is taken. Members that nobody knows are
ignored, as the standard wants it; a null where something may be left out is left out.

What is checked here is shape. What the words mean (types, actions, attributes) is the engine's to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Final, Literal

from engine import Decision, Request, RequestError
from sidecar.errors import PublicError, bad_request, too_large
from sidecar.strict_json import parse

MAX_EVALUATIONS = 100
MAX_ID = 256
#: So many characters are at most `MAX_ID` bytes, whatever they are.
_SURELY_SHORT = MAX_ID // 4

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
SEMANTICS: Final[tuple[Semantic, ...]] = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
Json = dict[str, Any]
Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """How questions are read.

    Args:
        short_forms: whether people's short forms are taken beside the standard's.
        may_claim: whether the caller may say which roles the subject has.
    """

    short_forms: bool = True
    may_claim: bool = False

    def question(self, body: object) -> Request | Batch:
        """Read a body: one question, or with `evaluations` many.

        Raises:
            PublicError: it is malformed as a whole.
        """
        given = _whole(body)
        evaluations = given.get("evaluations")
        if evaluations is None or evaluations == []:
            return self.request(given)
        return self.batch(given, evaluations)

    def request(self, given: Json) -> Request:
        """Read one question.

        Raises:
            PublicError: a member is missing or malformed.
        """
        subject, subject_properties = self.reference(given, "subject")
        action, action_properties = self.action(given)
        resource, resource_properties = self.reference(given, "resource")
        if subject_properties and "roles" in subject_properties and not self.may_claim:
            subject_properties = {name: value for name, value in subject_properties.items() if name != "roles"}
        return Request(
            read_tenant(given),
            subject,
            action,
            resource,
            subject_properties,
            resource_properties,
            action_properties,
            read_object(given, "context", "context"),
        )

    def batch(self, given: Json, evaluations: object) -> Batch:
        """Read many questions; what an item lacks it takes whole from the body."""
        if not isinstance(evaluations, list):
            raise bad_request("evaluations: expected a list of questions")
        if len(evaluations) > MAX_EVALUATIONS:
            raise too_large(f"evaluations: at most {MAX_EVALUATIONS} of them")
        semantic = read_semantic(given)
        defaults = {name: given[name] for name in _MEMBERS if given.get(name) is not None}
        self.check_defaults(defaults)
        return Batch(tuple(self.item(defaults, item) for item in evaluations), semantic)

    def check_defaults(self, defaults: Json) -> None:
        """Refuse the whole where what all items would take is malformed, rather than every item."""
        if "subject" in defaults:
            self.reference(defaults, "subject")
        if "resource" in defaults:
            self.reference(defaults, "resource")
        if "action" in defaults:
            self.action(defaults)
        read_tenant(defaults)
        read_object(defaults, "context", "context")

    def item(self, defaults: Json, item: object) -> Request | PublicError:
        """Read one of many questions. An error in it is its own, and an answer: the others are not its fault."""
        if not isinstance(item, dict):
            return bad_request("each of the evaluations must be an object")
        own = {name: item[name] for name in _MEMBERS if name in item and (item[name] is not None or name in _ENTITIES)}
        try:
            return self.request({**defaults, **own})
        except PublicError as error:
            return error

    def reference(self, given: Json, what: str) -> tuple[str, Properties | None]:
        """Read a subject or resource: `"type:id"`, and its properties."""
        value = given.get(what)
        if type(value) is str and self.short_forms:
            if len(value) > _SURELY_SHORT:
                _check_id(value.partition(":")[2], what)
            return value, None
        if not isinstance(value, dict):
            raise _unfit(given, what, 'an object with "type" and "id"', 'or "type:id"' if self.short_forms else "")
        kind, identity = read_text(value, "type", what), read_text(value, "id", what)
        # INVARIANT: type and id are joined by a colon and split at the first one, so a type must have none. One that
        # has is unknown to every policy, and so it is with a colon that no policy can write.
        if ":" in kind:
            kind = kind.replace(":", "\N{FULLWIDTH COLON}")
        if len(identity) > _SURELY_SHORT:
            _check_id(identity, f"{what}.id")
        return f"{kind}:{identity}", read_object(value, "properties", f"{what}.properties")

    def action(self, given: Json) -> tuple[str, Properties | None]:
        """Read an action: its name, and its properties."""
        value = given.get("action")
        if type(value) is str and self.short_forms:
            if not value:
                raise bad_request("action: must not be empty")
            return value, None
        if not isinstance(value, dict):
            raise _unfit(given, "action", 'an object with "name"', "or the name" if self.short_forms else "")
        return read_text(value, "name", "action"), read_object(value, "properties", "action.properties")


def parse_check(body: bytes) -> Request | Batch:
    """Read the body of a `POST /check` offline, as from a caller who may claim roles.

    Raises:
        RequestError: it is malformed.
    """
    try:
        return Reader(may_claim=True).question(parse(body))
    except PublicError as error:
        raise RequestError(error.code, error.message) from error


@dataclass(frozen=True, slots=True)
class Batch:
    """Many questions, or what is wrong with one, in order; and when to stop."""

    items: tuple[Request | PublicError, ...]
    semantic: Semantic


_ENTITIES = ("subject", "action", "resource")
_MEMBERS = (*_ENTITIES, "context", "tenant")


def _whole(body: object) -> Json:
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    return body


def read_semantic(given: Json) -> Semantic:
    """Read when a batch stops; other options are ignored."""
    options = read_object(given, "options", "options") or {}
    wanted = options.get("evaluations_semantic", "execute_all")
    for known in SEMANTICS:
        if wanted == known:
            return known
    raise bad_request(f"options.evaluations_semantic: expected one of {', '.join(SEMANTICS)}")


def read_tenant(given: Json) -> str | None:
    """Read the tenant that the body itself names."""
    tenant = given.get("tenant")
    if tenant is None:
        return None
    if type(tenant) is not str or not tenant:
        raise bad_request("tenant: expected a string, not empty")
    if len(tenant) > _SURELY_SHORT:
        _check_id(tenant, "tenant")
    return tenant


def read_object(given: Json, name: str, what: str) -> Properties | None:
    """Read an object that may be left out."""
    value = given.get(name)
    if value is not None and not isinstance(value, dict):
        raise bad_request(f"{what}: expected an object")
    return value


def read_text(given: Json, name: str, what: str) -> str:
    """Read a string that must be there."""
    value = given.get(name)
    if type(value) is not str:
        raise bad_request(f"{what}.{name}: " + ("expected a string" if name in given else "missing"))
    if not value:
        raise bad_request(f"{what}.{name}: must not be empty")
    return value


def _check_id(identity: str, what: str) -> None:
    if len(identity.encode()) > MAX_ID:
        raise too_large(f"{what}: an id has at most {MAX_ID} bytes")


def _unfit(given: Json, what: str, *expected: str) -> PublicError:
    if what not in given:
        return bad_request(f"{what}: missing")
    return bad_request(f"{what}: expected {' '.join(filter(None, expected))}")


# --- answers ----------------------------------------------------------------------------------------------------------


def render_decision(decision: Decision, policy: str, identity: str) -> str:
    """Write an answer. By hand: the parts are few, and `json.dumps` of the whole costs three times as much.

    Args:
        policy: the policy's digest. identity: of the decision.
    """
    reasons = decision.reasons
    obligations = json.dumps([each.as_json() for each in reasons.obligations]) if reasons.obligations else "[]"
    return (
        f'{{"decision": {"true" if decision.allowed else "false"}, "context": {{"code": "{decision.code}", '
        f'"by": {_text(reasons.by)}, "at": {_text(reasons.at)}, "because": {_text(reasons.because)}, '
        f'"obligations": {obligations}, "revision": {_quote(decision.revision)}, "policy": "{policy}", '
        f'"id": "{identity}"}}}}'
    )


def render_item_error(error: PublicError) -> str:
    """Write the answer to an item of a batch that could not be decided: a deny that says why."""
    said = {"status": error.status, "message": error.message}
    return json.dumps({"decision": False, "context": {"code": error.code, "error": said}})


def render_batch(answers: list[str]) -> str:
    return f'{{"evaluations": [{", ".join(answers)}]}}'


def _text(value: str | None) -> str:
    return "null" if value is None else _quote(value)
