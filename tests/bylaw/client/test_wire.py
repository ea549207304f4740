"""Questions as they are written, and answers as they are read: strictly, and never as an allow by mistake."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bylaw.client import (
    BadAnswerError,
    BylawError,
    Decision,
    Obligation,
    Question,
    RefusedError,
    StaleError,
    UnavailableError,
)
from bylaw.client.model import Semantic, hold_to
from bylaw.client.wire import (
    MAX_ANSWER,
    Answer,
    read_decision,
    read_decisions,
    read_explanation,
    write_question,
    write_questions,
)
from tests.bylaw.client.scripted import ALLOW, CONTEXT, DENY


def said(body: object, status: int = 200, content_type: str = "application/json") -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, content_type, None, raw)


# --- questions --------------------------------------------------------------------------------------------------------


def test_a_question_without_properties_is_short() -> None:
    """What a person would write is what is sent."""
    question = Question("user:ann", "task.read", "task:t:1", tenant="acme", context={"mfa": True})

    written = json.loads(write_question(question))

    assert written == {
        "subject": "user:ann",
        "action": "task.read",
        "resource": "task:t:1",
        "tenant": "acme",
        "context": {"mfa": True},
    }


def test_a_question_with_properties_is_long() -> None:
    """Properties stand beside type and id, which part at the first colon; of `anonymous` both are the word."""
    question = Question(
        "anonymous",
        "create",
        "task:a:b",
        subject_properties={"x": 1},
        action_properties={"y": 2},
        resource_properties={"new": True},
    )

    written = json.loads(write_question(question))

    assert written == {
        "subject": {"type": "anonymous", "id": "anonymous", "properties": {"x": 1}},
        "action": {"name": "create", "properties": {"y": 2}},
        "resource": {"type": "task", "id": "a:b", "properties": {"new": True}},
    }


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"subject": "ann"}, "subject:"),
        ({"subject": "user:"}, "subject:"),
        ({"subject": ":ann"}, "subject:"),
        ({"subject": None}, "subject:"),
        ({"resource": "anonymous"}, "resource:"),
        ({"resource": 7}, "resource:"),
        ({"action": ""}, "action:"),
        ({"action": None}, "action:"),
        ({"tenant": ""}, "tenant:"),
        ({"tenant": ["acme"]}, "tenant:"),
        ({"context": "mfa"}, "context:"),
        ({"resource_properties": [1]}, "resource.properties:"),
        ({"context": {"at": datetime(2026, 1, 1)}}, "JSON"),
        ({"context": {"score": float("nan")}}, "JSON"),
        ({"context": {("a", "b"): 1}}, "JSON"),
    ],
)
def test_a_question_that_cannot_be_asked(changes: dict[str, Any], place: str) -> None:
    """It is refused here, by an error that names the place."""
    question = Question(**{"subject": "user:ann", "action": "read", "resource": "task:t1", **changes})

    with pytest.raises(RefusedError, match=place) as caught:
        write_question(question)

    assert (caught.value.code, caught.value.status) == ("bad_request", None)


def test_a_circle_is_refused() -> None:
    """A value that holds itself is no JSON."""
    circle: dict[str, Any] = {}
    circle["self"] = circle

    with pytest.raises(RefusedError, match="JSON"):
        write_question(Question("user:ann", "read", "task:t1", context=circle))


def test_too_many_questions() -> None:
    """More than a hundred are refused rather than parted, since they are decided at one instant."""
    with pytest.raises(RefusedError, match="at most 100 at once, and there are 101"):
        write_questions([Question("user:ann", "read", "task:t1")] * 101, "execute_all")


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_allow() -> None:
    """All of an answer is in the decision, which is true."""
    decision = read_decision(said(ALLOW))

    assert decision
    assert decision == Decision(True, "role", CONTEXT["by"], CONTEXT["at"], None, (), "r1", "sha256:0", "01J")


def test_a_deny() -> None:
    """A deny is an answer, and false."""
    decision = read_decision(said(DENY))

    assert not decision
    assert (decision.code, decision.by) == ("default", None)


def test_members_that_nobody_knows_are_ignored() -> None:
    """A later service may say more."""
    decision = read_decision(said({**ALLOW, "more": 1, "context": {**CONTEXT, "more": [2]}}))

    assert decision.allowed


def without(name: str) -> dict[str, Any]:
    return {"decision": True, "context": {key: value for key, value in CONTEXT.items() if key != name}}


NO_ALLOW: dict[str, object] = {
    "text": {**ALLOW, "decision": "true"},
    "one": {**ALLOW, "decision": 1},
    "null": {**ALLOW, "decision": None},
    "list": {**ALLOW, "decision": [True]},
    "no decision": {"context": CONTEXT},
    "no context": {"decision": True},
    "context is a list": {"decision": True, "context": []},
    "no code": without("code"),
    "no obligations": without("obligations"),
    "no id": without("id"),
    "obligations are null": {"decision": True, "context": {**CONTEXT, "obligations": None}},
    "obligations are an object": {"decision": True, "context": {**CONTEXT, "obligations": {}}},
    "obligation is a word": {"decision": True, "context": {**CONTEXT, "obligations": ["mask"]}},
    "obligation without a type": {"decision": True, "context": {**CONTEXT, "obligations": [{"properties": {}}]}},
    "an error": {"decision": True, "context": {**CONTEXT, "error": {"status": 400, "message": "no"}}},
    "a list": [ALLOW],
    "true": True,
    "empty": b"",
    "not JSON": b"decision: true",
    "more behind it": json.dumps(ALLOW).encode() + b"x",
    "two of them": json.dumps(ALLOW).encode() * 2,
    "twice": b'{"decision": false, ' + json.dumps(ALLOW).encode()[1:],
    "NaN": json.dumps({**ALLOW, "more": float("nan")}).encode(),
    "no UTF-8": json.dumps(ALLOW).encode() + b"\xff",
    "UTF-16": json.dumps(ALLOW).encode("utf-16"),
    "deep": b"[" * 100_000,
    "many": {"evaluations": [ALLOW]},
    "a long number": b'{"more": ' + b"9" * 10_000 + b", " + json.dumps(ALLOW).encode()[1:],
    "too large": json.dumps({**ALLOW, "more": "x" * MAX_ANSWER}).encode(),
}


@pytest.mark.parametrize("body", NO_ALLOW.values(), ids=NO_ALLOW)
def test_what_is_no_allow(body: object) -> None:
    """What is not exactly an answer is none."""
    with pytest.raises(BadAnswerError):
        read_decision(said(body))


@pytest.mark.parametrize("content_type", ["", "text/html", "text/json", "application/json+x", "application/jsonx"])
def test_another_content_type(content_type: str) -> None:
    """What does not say that it is JSON is not read as such."""
    with pytest.raises(BadAnswerError, match="Content-Type"):
        read_decision(said(ALLOW, content_type=content_type))


def test_a_content_type_with_a_charset() -> None:
    """JSON may say how it is written."""
    assert read_decision(said(ALLOW, content_type="Application/JSON; charset=utf-8"))


@pytest.mark.parametrize("status", [100, 201, 202, 203, 204, 206, 301, 302, 304, 307])
def test_another_status_is_no_answer(status: int) -> None:
    """An allow comes with status 200 and no other."""
    with pytest.raises(BadAnswerError, match=str(status)):
        read_decision(said(ALLOW, status))


ERROR = {"error": "overloaded", "message": "too much\r\nfaked: line", "requestId": "r-1", "details": {}}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_service_that_cannot_answer(status: int) -> None:
    """There is no answer; when to come again is told, and what is quoted holds no line of its own."""
    answer = Answer(status, "application/json", "7", json.dumps(ERROR).encode())

    with pytest.raises(UnavailableError) as caught:
        read_decision(answer)

    assert (caught.value.code, caught.value.retry_after_s, caught.value.request_id) == ("overloaded", 7, "r-1")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415])
def test_a_service_that_refuses(status: int) -> None:
    """The question or the caller is wrong; to ask again does not help."""
    with pytest.raises(RefusedError) as caught:
        read_decision(said(ERROR, status))

    assert (caught.value.status, caught.value.code) == (status, "overloaded")


def test_an_error_of_somebody_else() -> None:
    """An error that is no word of the service's is told by its status alone; nothing of it is quoted."""
    with pytest.raises(UnavailableError) as caught:
        read_decision(said(b"<h1>secret</h1>", 502, "text/html"))

    assert caught.value.code == "http_502"
    assert "secret" not in str(caught.value)


def test_stale() -> None:
    """Facts that cannot be had as fresh as demanded are an error of their own, and only with their status."""
    with pytest.raises(StaleError):
        read_decision(said({**ERROR, "error": "stale"}, 503))
    with pytest.raises(RefusedError):
        read_decision(said({**ERROR, "error": "stale"}, 400))


@pytest.mark.parametrize(
    ("given", "seconds"), [("0", 0), ("99999", 3600), ("-1", None), ("1.5", None), ("٣", None), ("9" * 99, None)]
)
def test_when_to_come_again(given: str, seconds: int | None) -> None:
    """Whole seconds are taken, up to an hour."""
    with pytest.raises(UnavailableError) as caught:
        read_decision(Answer(503, "application/json", given, b"{}"))

    assert caught.value.retry_after_s == seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["decision", "context", "code", "obligations", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_no_json_is_an_allow_by_chance(body: Any) -> None:
    """Whatever JSON comes, it is read as a decision only with a true or false, and as an allow only with a true."""
    try:
        decision = read_decision(said(body))
    except BylawError:
        return
    assert body["decision"] is decision.allowed


# --- many -------------------------------------------------------------------------------------------------------------

FAILED = {"decision": False, "context": {"code": "unknown_type", "error": {"status": 400, "message": "no such type"}}}


def test_many_answers() -> None:
    """They come in order; one that could not be decided is a deny that says why."""
    found = read_decisions(said({"evaluations": [ALLOW, DENY, FAILED]}), 3, "execute_all")

    assert [each.allowed for each in found] == [True, False, False]
    assert (found[2].code, found[2].error) == ("unknown_type", "no such type")


@pytest.mark.parametrize(
    ("semantic", "items"),
    [
        ("execute_all", [ALLOW, ALLOW]),
        ("execute_all", [ALLOW] * 4),
        ("execute_all", []),
        ("deny_on_first_deny", [ALLOW, ALLOW]),
        ("deny_on_first_deny", [DENY, ALLOW]),
        ("deny_on_first_deny", [DENY, DENY]),
        ("deny_on_first_deny", []),
        ("deny_on_first_deny", [ALLOW, ALLOW, ALLOW, DENY]),
        ("permit_on_first_permit", [DENY, DENY]),
        ("permit_on_first_permit", [ALLOW, DENY]),
        ("permit_on_first_permit", [DENY, DENY, DENY, ALLOW]),
        ("execute_all", [ALLOW, ALLOW, {"decision": "true"}]),
        ("execute_all", ["allow"] * 3),
    ],
)
def test_other_answers_than_were_asked_for(semantic: Semantic, items: list[Any]) -> None:
    """Three questions have three answers, or fewer where the last of them is what ends it."""
    with pytest.raises(BadAnswerError):
        read_decisions(said({"evaluations": items}), 3, semantic)


@pytest.mark.parametrize("body", [ALLOW, {"evaluations": None}, {"evaluations": {"0": ALLOW}}, {}])
def test_no_list_of_answers(body: object) -> None:
    """One answer is none to many questions."""
    with pytest.raises(BadAnswerError):
        read_decisions(said(body), 1, "execute_all")


@pytest.mark.parametrize(
    ("semantic", "items"),
    [
        ("deny_on_first_deny", [ALLOW, DENY]),
        ("deny_on_first_deny", [ALLOW, ALLOW, DENY]),
        ("deny_on_first_deny", [ALLOW, ALLOW, ALLOW]),
        ("permit_on_first_permit", [DENY, ALLOW]),
        ("permit_on_first_permit", [DENY, FAILED, DENY]),
    ],
)
def test_answers_that_end_early(semantic: Semantic, items: list[Any]) -> None:
    """The semantic may end it before the last question."""
    found = read_decisions(said({"evaluations": items}), 3, semantic)

    assert [each.allowed for each in found] == [each["decision"] for each in items]


def test_an_explanation() -> None:
    """It is handed over as it came; what is no object is none."""
    assert read_explanation(said({"decision": False, "missing": []})) == {"decision": False, "missing": []}
    with pytest.raises(BadAnswerError):
        read_explanation(said([]))


# --- obligations ------------------------------------------------------------------------------------------------------

MASK = {"id": "rule.mask", "type": "mask", "properties": {"value": "email"}}
LOG = {"id": "rule.log", "type": "log", "properties": {"value": True}}


def obliging(*obligations: object, allowed: bool = True) -> Decision:
    context = {**CONTEXT, "obligations": list(obligations)}
    return read_decision(said({"decision": allowed, "context": context}))


def test_an_obligation_is_read() -> None:
    """It has an id, a name and a value."""
    assert obliging(MASK).obligations == (Obligation("rule.mask", "mask", "email"),)


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"log": True},
        {"mask": False},
        {"mask": None},
        {"mask": "yes"},
        {"mask": 1},
        {"Mask": True},
        {"rule.mask": True},
        {"mask": lambda _: False},
        {"mask": lambda _: None},
        {"mask": lambda _: "yes"},
        {"mask": lambda _: 1 / 0},
    ],
)
def test_an_obligation_that_is_not_understood(known: Any) -> None:
    """The allow becomes a deny, which keeps what the service said."""
    answered = obliging(MASK)

    held = hold_to(answered, known)

    assert (held.allowed, held.code, held.because) == (False, "unknown_obligation", None)
    assert held.answered is answered


@pytest.mark.parametrize("known", [{"mask": True}, {"mask": lambda each: each.value == "email"}])
def test_an_obligation_that_is_understood(known: Any) -> None:
    """The allow stays what it is."""
    answered = obliging(MASK)

    assert hold_to(answered, known) is answered


def test_every_obligation_counts() -> None:
    """One that is not understood is enough."""
    assert not hold_to(obliging(MASK, LOG), {"mask": True})
    assert hold_to(obliging(MASK, LOG), {"mask": True, "log": True})


def test_obligations_of_a_deny() -> None:
    """A deny stays one, with what it asks for."""
    answered = obliging(MASK, allowed=False)

    assert hold_to(answered, {}) is answered
