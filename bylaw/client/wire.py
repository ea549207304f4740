"""Questions out as JSON, answers in as decisions: the one place for both clients, without a connection.

Reading is strict, and a doubt is an error, never an allow: status 200, JSON by its header, UTF-8, no member twice, a
`decision` that is a boolean, an allow with its obligations. Members that nobody knows are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from bylaw.client.errors import (
    BadAnswerError,
    BylawError,
    RefusedError,
    StaleError,
    UnavailableError,
    bad_answer,
    bad_question,
)
from bylaw.client.model import ANONYMOUS, Decision, Obligation, Question, Semantic
from bylaw.client.scope import REVISION, known_request_id

#: Bytes of an answer that are read; the largest that a service writes, of 100 questions or an explanation, is smaller.
MAX_ANSWER: Final = 4 * 1024 * 1024
#: How many questions may be asked at once.
MAX_QUESTIONS: Final = 100
#: A service that says to come again later than this is believed this much.
_MAX_RETRY_AFTER_S: Final = 3600

Json = dict[str, Any]


class Answer(NamedTuple):
    """What came back: `body` is whole, and no longer than `MAX_ANSWER`; `revision` is a write's, where there is one."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes
    revision: str | None = None


def make_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Take what came; `headers` are found by any case.

    Raises:
        BadAnswerError: it did not say where it ends, so nobody knows whether this is all of it.
    """
    if not headers.get("Content-Length", "").isdigit() and "Transfer-Encoding" not in headers:
        raise bad_answer("it does not say where it ends")
    return Answer(status, headers.get("Content-Type", ""), headers.get("Retry-After"), body, headers.get(REVISION))


# --- questions --------------------------------------------------------------------------------------------------------


def write_question(question: Question) -> bytes:
    """Write the body of one question.

    Raises:
        RefusedError: it cannot be written.
    """
    return _encode(_question(question))


def write_questions(questions: Sequence[Question], semantic: Semantic) -> bytes:
    """Write the body of many.

    Raises:
        RefusedError: one cannot be written, or there are too many.
    """
    if len(questions) > MAX_QUESTIONS:
        raise bad_question(
            f"questions: at most {MAX_QUESTIONS} at once, and there are {len(questions)}; they are decided on one "
            "state of the facts, so only the caller can know how to part them"
        )
    items = [_question(each) for each in questions]
    return _encode({"evaluations": items, "options": {"evaluations_semantic": semantic}})


def _question(question: Question) -> Json:
    given: Json = {
        "subject": _reference(question.subject, question.subject_properties, "subject"),
        "action": _action(question.action, question.action_properties),
        "resource": _reference(question.resource, question.resource_properties, "resource"),
    }
    if question.tenant is not None:
        given["tenant"] = _tenant(question.tenant)
    if question.context is not None:
        given["context"] = _object_of(question.context, "context")
    return given


def _tenant(given: object) -> str:
    if not isinstance(given, str) or not given:
        raise bad_question(f"tenant: expected its id, got {given!r}")
    return given


def _object_of(given: object, what: str) -> Json:
    if not isinstance(given, Mapping):
        raise bad_question(f"{what}: expected a mapping, got {given!r}")
    return dict(given)


def _reference(given: object, properties: object, what: str) -> str | Json:
    """Write a subject or a resource: short, or with its properties."""
    kind, colon, identity = given.partition(":") if isinstance(given, str) else ("", "", "")
    if what == "subject" and given == ANONYMOUS:
        kind = identity = ANONYMOUS
    elif not (kind and colon and identity):
        raise bad_question(f'{what}: expected "type:id", got {given!r}')
    if properties is None:
        return f"{kind}{colon}{identity}" if colon else ANONYMOUS
    return {"type": kind, "id": identity, "properties": _object_of(properties, f"{what}.properties")}


def _action(given: object, properties: object) -> str | Json:
    if not isinstance(given, str) or not given:
        raise bad_question(f'action: expected "read" or "task.read", got {given!r}')
    if properties is None:
        return given
    return {"name": given, "properties": _object_of(properties, "action.properties")}


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def _encode(body: Json) -> bytes:
    try:
        return _ENCODER.encode(body).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise bad_question(f"the question holds what JSON has not: {error}") from error


# --- answers ----------------------------------------------------------------------------------------------------------


def read_decision(answer: Answer) -> Decision:
    """Read the answer to one question.

    Raises:
        BylawError: there is none.
    """
    return _decision(_answered(answer))


def read_decisions(answer: Answer, asked: int, semantic: Semantic) -> list[Decision]:
    """Read the answers to so many questions, in their order: fewer, where the semantic ended it early.

    Raises:
        BylawError: there are none, or others than were asked for.
    """
    items = _answered(answer).get("evaluations")
    if type(items) is not list:
        raise bad_answer("it has no list of decisions")
    found = [_decision(each) for each in items]
    ends = [index for index, each in enumerate(found) if each.allowed is (semantic == "permit_on_first_permit")]
    is_whole = len(found) == asked
    if semantic != "execute_all" and ends:
        is_whole = ends[0] == len(found) - 1 < asked
    if not is_whole:
        raise bad_answer(f"there are {len(found)} decisions for {asked} questions")
    return found


def read_explanation(answer: Answer) -> Json:
    """Read the answer to `/explain`.

    Raises:
        BylawError: there is none.
    """
    return _answered(answer)


def _answered(answer: Answer) -> Json:
    """Return the object that was answered.

    Raises:
        BylawError: it was an error, or nothing that can be read.
    """
    if answer.status != 200:
        raise _failure(answer)
    return _object(answer)


def _object(answer: Answer) -> Json:
    if answer.content_type.partition(";")[0].strip().lower() != "application/json":
        raise bad_answer("it is no JSON by its Content-Type")
    if len(answer.body) > MAX_ANSWER:
        raise bad_answer(f"it is larger than {MAX_ANSWER} bytes")
    try:
        found = _DECODER.decode(answer.body.decode())
    except (ValueError, RecursionError) as error:
        raise bad_answer("it is no JSON") from error
    if type(found) is not dict:
        raise bad_answer("it is no JSON object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice in one object")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant)


def _decision(given: object) -> Decision:
    if type(given) is not dict or type(given.get("decision")) is not bool:
        raise bad_answer("it has no decision that is true or false")
    allowed, context = given["decision"], given.get("context")
    if type(context) is not dict:
        raise bad_answer("its decision has no context")
    if "error" in context:
        return _undecided(allowed, context)
    return Decision(
        allowed,
        _text(context, "code"),
        _text_or_none(context, "by"),
        _text_or_none(context, "at"),
        _text_or_none(context, "because"),
        _obligations(context),
        _text(context, "revision"),
        _text(context, "policy"),
        _text(context, "id"),
    )


def _undecided(allowed: bool, context: Json) -> Decision:
    """Read the answer to one of many that could not be decided."""
    error = context["error"]
    if allowed or type(error) is not dict:
        raise bad_answer("its decision has an error")
    return Decision(False, _text(context, "code"), error=_text(error, "message"))


def _obligations(context: Json) -> tuple[Obligation, ...]:
    given = context.get("obligations")
    if type(given) is not list:
        raise bad_answer("its decision has no obligations")
    return tuple([_obligation(each) for each in given])


def _obligation(given: object) -> Obligation:
    if type(given) is not dict or type(given.get("properties")) is not dict:
        raise bad_answer("its decision has an obligation that is none")
    return Obligation(_text(given, "id"), _text(given, "type"), given["properties"].get("value"))


def _text(given: Json, name: str) -> str:
    value = given.get(name)
    if type(value) is not str:
        raise bad_answer(f"its `{name}` is no text")
    return value


def _text_or_none(given: Json, name: str) -> str | None:
    return None if given.get(name) is None else _text(given, name)


# --- errors -----------------------------------------------------------------------------------------------------------


def _failure(answer: Answer) -> BylawError:
    """Say why there is no decision: in the service's words, if it was the service that spoke."""
    code, message, request_id = _said(answer)
    if answer.status == 503 and code == "stale":
        return StaleError(code, message, retry_after_s=_retry_after(answer), request_id=request_id)
    if answer.status >= 500 or answer.status in (408, 429):
        return UnavailableError(code, message, retry_after_s=_retry_after(answer), request_id=request_id)
    if answer.status >= 400:
        return RefusedError(code, message, status=answer.status, request_id=request_id)
    return bad_answer(f"its status is {answer.status}")


def _said(answer: Answer) -> tuple[str, str, str | None]:
    try:
        body = _object(answer)
        request_id = known_request_id(_text_or_none(body, "requestId"))
        return _printable(_text(body, "error")), _printable(_text(body, "message")), request_id
    except BadAnswerError:
        return f"http_{answer.status}", f"somebody answered with status {answer.status}, and no decision", None


def _printable(text: str) -> str:
    """Take the control characters out: it may quote what an end user sent, and is logged."""
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    )


def _retry_after(answer: Answer) -> int | None:
    """Read how many seconds to wait; a date, which nobody here sends, is none."""
    given = answer.retry_after or ""
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        return None
    return min(int(given), _MAX_RETRY_AFTER_S)
