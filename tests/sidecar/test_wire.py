"""Shapes of questions, and answers as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine import Facts, Policy, Request, RequestError
from sidecar.errors import PublicError
from sidecar.wire import Batch, Reader, parse_check, render_decision, render_item_error
from tests.sidecar.conftest import STUDIO

PERSON = Reader()
STANDARD = Reader(short_forms=False)
CLAIMING = Reader(may_claim=True)
LONG: dict[str, Any] = {
    "subject": {"type": "user", "id": "ann", "properties": {"department": "bookings"}},
    "action": {"name": "read", "properties": {"soft": True}},
    "resource": {"type": "task", "id": "t1", "properties": {"tenant": "acme"}},
    "context": {"mfa": True},
}
SHORT: dict[str, Any] = {"tenant": "acme", "subject": "user:ann", "action": "task.read", "resource": "task:t1"}


def one(reader: Reader, body: object) -> Request:
    read = reader.question(body)
    assert isinstance(read, Request)
    return read


def many(body: object) -> Batch:
    read = PERSON.question(body)
    assert isinstance(read, Batch)
    return read


def refused(body: object, reader: Reader = PERSON) -> PublicError:
    with pytest.raises(PublicError) as caught:
        reader.question(body)
    return caught.value


@pytest.mark.parametrize("reader", [PERSON, STANDARD])
def test_the_standards_form(reader: Reader) -> None:
    """Objects with type, id, name and properties are read as AuthZEN has them."""
    read = one(reader, LONG)

    assert (read.tenant, read.subject, read.action, read.resource) == (None, "user:ann", "read", "task:t1")
    assert read.subject_properties == {"department": "bookings"}
    assert read.action_properties == {"soft": True}
    assert read.resource_properties == {"tenant": "acme"}
    assert read.context == {"mfa": True}


def test_the_short_forms() -> None:
    """People write `"type:id"` and the action's name alone."""
    read = one(PERSON, {**SHORT, "context": {}})

    assert (read.tenant, read.subject, read.action, read.resource) == ("acme", "user:ann", "task.read", "task:t1")


def test_ids_keep_their_colons() -> None:
    """Only the first colon parts type and id."""
    read = one(PERSON, {**SHORT, "subject": {"type": "user", "id": "a:b"}, "resource": "task:c:d"})

    assert (read.subject, read.resource) == ("user:a:b", "task:c:d")


def test_a_type_with_a_colon_is_no_other_type() -> None:
    """`{"type": "user:x", "id": "ann"}` is not the user `x:ann`."""
    policy = Policy.load(STUDIO)
    read = one(PERSON, {**SHORT, "subject": {"type": "user:x", "id": "ann"}})

    with pytest.raises(RequestError) as caught:
        policy.decide(read, Facts.load(STUDIO / "facts.yaml", policy))

    assert caught.value.code == "unknown_type"


@pytest.mark.parametrize("member", ["subject", "action", "resource"])
def test_the_standard_has_no_short_forms(member: str) -> None:
    """On the standard's own paths a string where an object belongs is an error."""
    error = refused({**LONG, member: "user:ann"}, STANDARD)

    assert (error.status, error.code) == (400, "bad_request")
    assert error.message.startswith(f"{member}: expected an object")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"subject": None}, "subject: expected"),
        ({"subject": 5}, "subject: expected"),
        ({"subject": ["user", "ann"]}, "subject: expected"),
        ({"subject": {"id": "ann"}}, "subject.type: missing"),
        ({"subject": {"type": "user"}}, "subject.id: missing"),
        ({"subject": {"type": "user", "id": 7}}, "subject.id: expected a string"),
        ({"subject": {"type": "user", "id": None}}, "subject.id: expected a string"),
        ({"subject": {"type": "", "id": "ann"}}, "subject.type: must not be empty"),
        ({"subject": {"type": "user", "id": ""}}, "subject.id: must not be empty"),
        ({"subject": {"type": "user", "id": "ann", "properties": []}}, "subject.properties: expected an object"),
        ({"action": None}, "action: expected"),
        ({"action": 1}, "action: expected"),
        ({"action": ""}, "action: must not be empty"),
        ({"action": {}}, "action.name: missing"),
        ({"action": {"name": 1}}, "action.name: expected a string"),
        ({"action": {"name": "read", "properties": "x"}}, "action.properties: expected an object"),
        ({"resource": True}, "resource: expected"),
        ({"resource": {"type": "task"}}, "resource.id: missing"),
        ({"resource": {"type": ["task"], "id": "t1"}}, "resource.type: expected a string"),
        ({"resource": {"type": "task", "id": "t1", "properties": 1}}, "resource.properties: expected an object"),
        ({"context": []}, "context: expected an object"),
        ({"context": "mfa"}, "context: expected an object"),
        ({"tenant": 1}, "tenant: expected a string"),
        ({"tenant": ""}, "tenant: expected a string"),
        ({"evaluations": {}}, "evaluations: expected a list"),
        ({"evaluations": "x"}, "evaluations: expected a list"),
        ({"evaluations": [{}], "options": []}, "options: expected an object"),
        (
            {"evaluations": [{}], "options": {"evaluations_semantic": "first"}},
            "options.evaluations_semantic: expected one of",
        ),
        (
            {"evaluations": [{}], "options": {"evaluations_semantic": None}},
            "options.evaluations_semantic: expected one of",
        ),
    ],
)
def test_what_is_malformed_is_named(change: dict[str, Any], named: str) -> None:
    """An error begins with the member that is at fault."""
    error = refused({**SHORT, **change})

    assert (error.status, error.code) == (400, "bad_request")
    assert error.message.startswith(named)


@pytest.mark.parametrize("member", ["subject", "action", "resource"])
def test_what_is_missing_is_named(member: str) -> None:
    """Subject, action and resource must be there."""
    body = {name: value for name, value in SHORT.items() if name != member}

    assert refused(body).message == f"{member}: missing"


@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_a_body_is_an_object(body: object) -> None:
    """Other JSON is no question."""
    assert refused(body).message == "the body must be a JSON object"


def test_nulls_are_left_out_and_unknown_members_ignored() -> None:
    """What may be left out may be null, and what nobody knows says nothing."""
    nulls = {"tenant": None, "context": None, "evaluations": None, "options": None, "page": 1}
    subject = {"type": "user", "id": "ann", "properties": None, "mood": "good"}

    read = one(PERSON, {**SHORT, **nulls, "subject": subject})

    assert (read.tenant, read.subject, read.context) == (None, "user:ann", {})


@pytest.mark.parametrize("letter", ["i", "é", "😀"])
@pytest.mark.parametrize("member", ["tenant", "subject", "resource", "subject.id", "resource.id"])
def test_ids_have_256_bytes(member: str, letter: str) -> None:
    """An id has up to 256 bytes of UTF-8, in every place where one stands."""
    size = len(letter.encode())

    def body(identity: str) -> object:
        match member.partition("."):
            case ("tenant", _, _):
                return {**SHORT, "tenant": identity}
            case (name, "", _):
                return {**SHORT, name: f"user:{identity}"}
            case (name, _, _):
                return {**SHORT, name: {"type": "user", "id": identity}}

    one(PERSON, body(letter * (256 // size)))
    error = refused(body(letter * (256 // size + 1)))
    assert (error.code, error.message.partition(":")[0]) == ("too_large", member)


def test_roles_count_only_from_those_who_may_claim() -> None:
    """Roles in a subject's properties are dropped, and nothing else with them, unless the caller may claim."""
    body = {**SHORT, "subject": {"type": "user", "id": "ann", "properties": {"roles": ["owner"], "clearance": 5}}}

    assert one(PERSON, body).subject_properties == {"clearance": 5}
    assert one(CLAIMING, body).subject_properties == {"roles": ["owner"], "clearance": 5}


def test_roles_in_items_of_a_batch_are_dropped_too() -> None:
    """Neither an item nor what it takes from the body brings roles in."""
    roles = {"type": "user", "id": "ann", "properties": {"roles": ["owner"]}}

    batch = many({**SHORT, "subject": roles, "evaluations": [{}, {"subject": roles}]})

    assert [item.subject_properties for item in batch.items if isinstance(item, Request)] == [{}, {}]


@pytest.mark.parametrize("evaluations", [[], None])
def test_no_evaluations_are_a_single_question(evaluations: object) -> None:
    """Without evaluations, or with none in the list, it is one question."""
    assert isinstance(PERSON.question({**SHORT, "evaluations": evaluations}), Request)


def test_a_hundred_evaluations() -> None:
    """A batch has up to 100 items."""
    assert len(many({**SHORT, "evaluations": [{}] * 100}).items) == 100

    assert refused({**SHORT, "evaluations": [{}] * 101}).code == "too_large"


def test_items_take_what_they_lack_whole() -> None:
    """An item takes an entity of the body as it stands, or its own instead of it; they are never merged."""
    body = {
        **LONG,
        "tenant": "acme",
        "evaluations": [{}, {"resource": {"type": "task", "id": "t2"}}, {"tenant": "globex"}],
    }

    first, second, third = (item for item in many(body).items if isinstance(item, Request))

    assert (first.resource, first.resource_properties, first.tenant) == ("task:t1", {"tenant": "acme"}, "acme")
    assert (second.resource, second.resource_properties) == ("task:t2", {})
    assert (third.tenant, third.context) == ("globex", {"mfa": True})


def test_a_null_entity_of_an_item_is_no_default() -> None:
    """An item that says `"subject": null` is not asked for the body's subject."""
    (item,) = many({**SHORT, "evaluations": [{"subject": None}]}).items

    assert isinstance(item, PublicError)


def test_items_have_their_own_errors() -> None:
    """What is wrong with an item leaves the others alone."""
    items = [
        {"action": "read", "resource": "task:t1"},
        {"action": "read"},
        5,
        {"action": "read", "resource": {"type": "task"}},
    ]

    first, *others = many({"subject": "user:ann", "evaluations": items}).items

    assert isinstance(first, Request)
    assert [item.message for item in others if isinstance(item, PublicError)] == [
        "resource: missing",
        "each of the evaluations must be an object",
        "resource.id: missing",
    ]


@pytest.mark.parametrize(
    "change", [{"subject": 5}, {"resource": {"type": "task"}}, {"action": {}}, {"context": 1}, {"tenant": 2}]
)
def test_a_malformed_default_is_an_error_of_the_whole(change: dict[str, Any]) -> None:
    """What all items would take must be well formed, though no item should need it."""
    whole = {"subject": "user:ann", "action": "read", "resource": "task:t1", "context": {}, "tenant": "acme"}

    assert refused({**change, "evaluations": [whole]}).status == 400


def test_unknown_options_are_ignored() -> None:
    """Options that nobody knows say nothing; the default is to answer everything."""
    assert many({**SHORT, "evaluations": [{}], "options": {"speed": "high"}}).semantic == "execute_all"


def test_bytes_of_a_body() -> None:
    """The body of a check is read from bytes in one call, claims included."""
    read = parse_check(json.dumps(LONG).encode())

    assert isinstance(read, Request)
    assert read.subject == "user:ann"
    with pytest.raises(RequestError, match="no JSON"):
        parse_check(b"{")


@pytest.mark.parametrize(
    "request_",
    [
        Request("acme", "user:ann", "task.read", "task:t1"),
        Request("acme", "user:max", "project.update", "project:p2"),
        Request("acme", "user:eve", "read", "task:t1"),
        Request("acme", "user:olga", "view_billing", "organization:acme"),
        Request("acme", "user:ann", "read", "task:none"),
    ],
    ids=repr,
)
def test_answers_are_what_the_engine_says(request_: Request) -> None:
    """An answer written by hand is the JSON of the decision."""
    policy = Policy.load(STUDIO)
    facts = Facts.load(STUDIO / "facts.yaml", policy)
    decision = policy.decide(request_, facts)

    written = render_decision(decision, policy.digest, "01X")

    extra = {"revision": facts.revision, "policy": policy.digest, "id": "01X"}
    assert json.loads(written) == decision.as_json(extra)


def test_texts_of_the_policy_are_escaped() -> None:
    """Whatever a policy's words hold, the answer is JSON."""
    text = 'say "no"\\ — für alle\u2028'
    policy = Policy.parse(
        "resource doc { actions read }\n"
        f"deny never: anyone to doc.read because {json.dumps(text, ensure_ascii=False)}\n"
    )
    facts = Facts({"users": {"ann": {}}, "resources": {"doc:d1": {}}}, policy)
    decision = policy.decide(Request(None, "user:ann", "read", "doc:d1"), facts)

    written = json.loads(render_decision(decision, "p", "i"))

    assert written["context"]["because"] == decision.because


def test_an_items_error_is_a_deny() -> None:
    """An item that is an error is answered as the standard has it, and with a code."""
    written = json.loads(render_item_error(PublicError(400, "bad_request", "subject: missing")))

    assert written == {
        "decision": False,
        "context": {"code": "bad_request", "error": {"status": 400, "message": "subject: missing"}},
    }
