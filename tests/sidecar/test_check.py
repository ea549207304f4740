"""`POST /check` over HTTP: answers, batches, bounds, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from sidecar.strict_json import MAX_BODY
from tests.sidecar.conftest import ANN, JSON, Client, answer_of, serve, studio_settings

LOCKED = {"tenant": "acme", "subject": "user:max", "action": "update", "resource": "project:p2"}
ALLOWED: dict[str, str] = {}
DENIED, ABSURD = {"subject": "user:eve"}, {"action": "fly"}


@pytest.fixture(scope="module")
def impatient() -> Iterator[Client]:
    """A service that waits a tenth of a second for a body."""
    with serve(studio_settings(body_timeout_s=0.1)) as client:
        yield client


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_allow_says_by_what(studio: Client) -> None:
    """An answer holds the decision and what it rests on."""
    answer = studio.post(ANN)

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    context = answer.json["context"]
    assert answer.json["decision"] is True
    assert (context["code"], context["by"]) == ("role", "organization.manager on organization:acme")
    assert re.fullmatch(r"studio\.bylaw:\d+", context["at"])
    assert (context["because"], context["obligations"]) == (None, [])
    assert context["policy"] == studio.service.policies.loaded.policy.digest
    assert context["revision"] == studio.service.policies.loaded.facts.revision
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", context["id"])


def test_a_deny_is_an_answer(studio: Client) -> None:
    """A deny is 200, with the rule's own words and what it asks for."""
    locked = studio.post(LOCKED)
    billing = studio.post({**ANN, "subject": "user:olga", "action": "view_billing", "resource": "organization:acme"})

    assert (locked.status, locked.json["decision"]) == (200, False)
    assert locked.json["context"]["because"] == "the project is locked"
    assert billing.json["context"]["obligations"] == [
        {"id": "step_up.step_up", "type": "step_up", "properties": {"value": "mfa"}}
    ]


def test_the_standards_form_and_the_short_one_mean_the_same(studio: Client) -> None:
    """AuthZEN's objects are answered as the short forms are."""
    standard = studio.post(
        {
            "subject": {"type": "user", "id": "max"},
            "action": {"name": "update"},
            "resource": {"type": "project", "id": "p2", "properties": {"tenant": "acme"}},
        }
    )

    assert without_id(standard.json) == without_id(studio.post(LOCKED).json)


def test_context_counts(studio: Client) -> None:
    """What the request says of itself is what conditions read."""
    billing = {**ANN, "subject": "user:olga", "action": "view_billing", "resource": "organization:acme"}

    assert studio.post({**billing, "context": {"mfa": True}}).json["decision"] is True
    assert studio.post({**billing, "context": {"mfa": False}}).json["decision"] is False


@pytest.mark.parametrize("subject", ["anonymous", {"type": "anonymous", "id": "anonymous"}])
def test_anonymous(studio: Client, subject: object) -> None:
    """Nobody in particular may ask for what is public."""
    body = {"tenant": "acme", "subject": subject, "action": "read"}

    assert studio.post({**body, "resource": "project:open"}).json["decision"] is True
    assert studio.post({**body, "resource": "project:p1"}).json["context"]["code"] == "boundary"


def test_ids_of_decisions_differ_and_ascend(studio: Client) -> None:
    """No two decisions have the same id, not those of one batch either, and later ones are greater."""
    batch = studio.post({**ANN, "evaluations": [{}] * 50}).json["evaluations"]
    ids = [each["context"]["id"] for each in batch] + [studio.post(ANN).json["context"]["id"]]

    assert ids == sorted(set(ids))


def test_many_requests_on_one_connection(studio: Client) -> None:
    """A connection is kept, and errors do not end it."""
    connection = HTTPConnection("127.0.0.1", studio.port, timeout=20)
    bodies = [json.dumps(ANN), "{", json.dumps(LOCKED), json.dumps({**ANN, "action": "fly"}), json.dumps(ANN)]

    statuses = []
    for body in bodies:
        connection.request("POST", "/check", body, JSON)
        statuses.append(answer_of(connection.getresponse()).status)
    connection.close()

    assert statuses == [200, 400, 200, 400, 200]


def without_id(answer: Any) -> Any:
    return {**answer, "context": {name: value for name, value in answer["context"].items() if name != "id"}}


# --- questions that make no sense -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"action": "fly"}, "unknown_action"),
        ({"action": "project.read"}, "unknown_action"),
        ({"resource": "tusk:t1"}, "unknown_type"),
        ({"subject": "alien:ann"}, "unknown_type"),
        ({"subject": "group:staff"}, "unknown_type"),
        ({"subject": {"type": "user:x", "id": "ann"}}, "unknown_type"),
        ({"tenant": None}, "tenant_required"),
        ({"context": {"mfa": "yes"}}, "wrong_type"),
        ({"subject": "ann"}, "bad_request"),
        ({"subject": "user:"}, "bad_request"),
        ({"resource": ":t1"}, "bad_request"),
        ({"resource": ""}, "bad_request"),
        ({"subject": 7}, "bad_request"),
        ({"evaluations": 7}, "bad_request"),
        ({"evaluations": [{}] * 101}, "too_large"),
        ({"subject": f"user:{'x' * 257}"}, "too_large"),
    ],
)
def test_a_question_that_makes_no_sense_is_400(studio: Client, change: dict[str, Any], code: str) -> None:
    """A programmer's slip is told as such, with a code."""
    answer = studio.post({**ANN, **change})

    assert (answer.status, answer.json["error"]) == (400, code)
    assert answer.json["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b'{"tenant": "acme", "tenant": "globex"}', b'{"a": NaN}', b'["\\ud800"]'],
)
def test_what_is_no_json_object_is_400(studio: Client, body: bytes) -> None:
    """Bad JSON, ambiguous JSON and other JSON than an object are refused."""
    answer = studio.post(body)

    assert (answer.status, answer.json["error"]) == (400, "bad_request")


def test_an_error_body_has_all_its_members(studio: Client) -> None:
    """Errors have one shape, with the request's id and the time."""
    answer = studio.post({**ANN, "action": "fly"}, X_Request_ID="r-1")

    body = answer.json
    assert set(body) == {"error", "message", "details", "requestId", "timestamp"}
    assert (body["requestId"], body["details"]) == ("r-1", {})
    assert body["timestamp"].endswith("Z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])) < timedelta(minutes=1)


# --- batches ----------------------------------------------------------------------------------------------------------


def decided(studio: Client, items: list[Any], semantic: str | None = None) -> list[bool]:
    options = {} if semantic is None else {"options": {"evaluations_semantic": semantic}}
    answer = studio.post({**ANN, "evaluations": items, **options})
    assert (answer.status, set(answer.json)) == (200, {"evaluations"})
    return [each["decision"] for each in answer.json["evaluations"]]


def test_a_batch_is_answered_in_order(studio: Client) -> None:
    """Every item has its answer at its place, equal ones too."""
    assert decided(studio, [ALLOWED, DENIED, ALLOWED, ALLOWED]) == [True, False, True, True]
    assert decided(studio, [ALLOWED, DENIED, ABSURD, ALLOWED], "execute_all") == [True, False, False, True]


def test_deny_on_first_deny(studio: Client) -> None:
    """After the first item that is not allowed, an error too, nothing more is answered."""
    assert decided(studio, [ALLOWED, DENIED, ALLOWED], "deny_on_first_deny") == [True, False]
    assert decided(studio, [ALLOWED, ABSURD, ALLOWED], "deny_on_first_deny") == [True, False]
    assert decided(studio, [ALLOWED, ALLOWED], "deny_on_first_deny") == [True, True]


def test_permit_on_first_permit(studio: Client) -> None:
    """After the first item that is allowed nothing more is answered; errors are passed over."""
    assert decided(studio, [DENIED, ABSURD, ALLOWED, ALLOWED], "permit_on_first_permit") == [False, False, True]
    assert decided(studio, [DENIED, DENIED], "permit_on_first_permit") == [False, False]


def test_an_unknown_semantic_is_400(studio: Client) -> None:
    """What to do is not guessed."""
    answer = studio.post({**ANN, "evaluations": [{}], "options": {"evaluations_semantic": "any"}})

    assert (answer.status, answer.json["error"]) == (400, "bad_request")


def test_errors_of_items_are_answers(studio: Client) -> None:
    """An item that makes no sense is denied with the reason, and the others are answered."""
    items = [{"action": "fly"}, {"resource": {"type": "task"}}, {"tenant": 1}, 5, {"resource": "tusk:t1"}, {}]

    answer = studio.post({**ANN, "evaluations": items})

    assert answer.status == 200
    contexts = [each["context"] for each in answer.json["evaluations"]]
    assert [context["code"] for context in contexts[:-1]] == [
        "unknown_action", "bad_request", "bad_request", "bad_request", "unknown_type",
    ]  # fmt: skip
    assert [context["error"]["status"] for context in contexts[:-1]] == [400] * 5
    assert contexts[1]["error"]["message"] == "resource.id: missing"
    assert answer.json["evaluations"][-1]["decision"] is True


def test_items_have_their_own_tenant(studio: Client) -> None:
    """An item's tenant stands in place of the batch's, and a batch needs none if its items have theirs."""
    eve = {"subject": "user:eve", "action": "read", "resource": "project:g1"}
    body = {"evaluations": [eve, {**eve, "tenant": "globex"}, {**eve, "tenant": "acme"}]}

    with_default = studio.post({**body, "tenant": "acme"}).json["evaluations"]
    without = studio.post(body).json["evaluations"]

    assert [each["decision"] for each in with_default] == [False, True, False]
    assert [each["context"]["code"] for each in without] == ["tenant_required", "role", "boundary"]


def test_an_empty_batch_is_a_single_question(studio: Client) -> None:
    """No evaluations, one answer."""
    assert studio.post({**ANN, "evaluations": []}).json["decision"] is True


# --- what HTTP brings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_another_content_type_is_400(studio: Client, kind: str) -> None:
    """Only JSON is taken: what a page in a browser can send unasked is not."""
    answer = studio.post(ANN, Content_Type=kind)

    assert (answer.status, answer.json["error"]) == (400, "bad_content_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"])
def test_parameters_of_the_content_type_are_ignored(studio: Client, kind: str) -> None:
    """JSON is JSON however its type is written."""
    assert studio.post(ANN, Content_Type=kind).status == 200


def test_a_packed_body_is_400(studio: Client) -> None:
    """A body is sent as it is, so that a small one cannot become a large one."""
    answer = studio.post(ANN, Content_Encoding="gzip")

    assert (answer.status, answer.json["error"]) == (400, "bad_content_encoding")


def padded(size: int) -> bytes:
    body = json.dumps(ANN).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_has_256_kib(studio: Client, is_chunked: bool) -> None:
    """A body of 256 KiB is read and one byte more is 413, however it comes."""
    statuses = []
    for size in (MAX_BODY, MAX_BODY + 1):
        connection = HTTPConnection("127.0.0.1", studio.port, timeout=20)
        body = padded(size)
        parts = [body[n : n + 10_000] for n in range(0, size, 10_000)]
        connection.request("POST", "/check", iter(parts) if is_chunked else body, JSON, encode_chunked=is_chunked)
        answer = answer_of(connection.getresponse())
        statuses.append((answer.status, answer.json.get("error")))
        connection.close()

    assert statuses == [(200, None), (413, "too_large")]


def test_a_body_that_is_announced_too_large_is_not_read(studio: Client) -> None:
    """A length past the bound is refused before anything of the body has come."""
    with studio.raw() as connection:
        connection.sendall(head(MAX_BODY + 1))

        assert status_of(connection) == 413


def test_a_body_without_end_is_413(studio: Client) -> None:
    """A body in chunks that goes past the bound is refused before its end."""
    with studio.raw() as connection:
        connection.sendall(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        for _ in range(4):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

        assert status_of(connection) == 413


def test_a_body_in_pieces_is_read(studio: Client) -> None:
    """A body may come in after the headers, in any pieces."""
    body = json.dumps(ANN).encode()
    with studio.raw() as connection:
        connection.sendall(head(len(body)))
        for byte in body:
            connection.sendall(bytes([byte]))

        assert status_of(connection) == 200


def test_a_slow_body_is_408(impatient: Client) -> None:
    """A body that does not come in is answered after its time, and its connection closed."""
    with impatient.raw() as connection:
        connection.sendall(head(100) + b'{"tenant"')

        response = HTTPResponse(connection)
        response.begin()
        answer = answer_of(response)

    assert (answer.status, answer.json["error"], answer.headers["connection"]) == (408, "body_timeout", "close")


def test_a_client_that_leaves_harms_nobody(studio: Client) -> None:
    """A body that ends with its connection is nobody's fault."""
    with studio.raw() as connection:
        connection.sendall(head(100) + b'{"tenant"')

    assert studio.post(ANN).status == 200


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\xff\r\n\r\n", b"GET\r\n\r\n", b"POST /check HTTP/1.1\r\nA\r\n\r\n"]
)
def test_what_is_no_http_is_400(studio: Client, junk: bytes) -> None:
    """Junk is answered as such, and the service goes on."""
    with studio.raw() as connection:
        connection.sendall(junk)

        assert status_of(connection) == 400
    assert studio.post(ANN).status == 200


def head(length: int) -> bytes:
    lines = ["POST /check HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(connection: Any) -> int:
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def test_the_request_id_is_echoed(studio: Client) -> None:
    """The caller's own id of a request comes back, on answers and on errors."""
    longest = "x" * 255 + "~"

    for sent in ("r-1", "two words", longest):
        assert studio.post(ANN, X_Request_ID=sent).headers["x-request-id"] == sent
        error = studio.post(b"{", X_Request_ID=sent)
        assert (error.headers["x-request-id"], error.json["requestId"]) == (sent, sent)


@pytest.mark.parametrize("sent", ["x" * 257, "é", "tab\there"])
def test_an_id_that_cannot_be_echoed_is_not_taken_over(studio: Client, sent: str) -> None:
    """An id too long or not printable is as good as none."""
    assert "x-request-id" not in studio.post(ANN, X_Request_ID=sent).headers
    error = studio.post(b"{", X_Request_ID=sent)
    assert error.headers["x-request-id"] == error.json["requestId"] != sent


def test_errors_without_an_id_get_one(studio: Client) -> None:
    """Every error can be found in the log."""
    first, second = studio.post(b"{"), studio.post(b"{")

    assert first.json["requestId"] == first.headers["x-request-id"]
    assert first.json["requestId"] != second.json["requestId"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LocalHost"])
@pytest.mark.parametrize("with_port", [False, True])
def test_own_names_are_accepted(studio: Client, host: str, with_port: bool) -> None:
    """This machine's names for itself are fine, with the port or without."""
    assert studio.post(ANN, Host=f"{host}:{studio.port}" if with_port else host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost:1", "127.0.0.2", "", "[::2]"])
def test_another_host_is_403(studio: Client, host: str) -> None:
    """A name that somebody else gave to this address is refused, on every path."""
    for answer in (studio.post(ANN, Host=host), studio.get("/ready", Host=host), studio.get("/nothing", Host=host)):
        assert (answer.status, answer.json["error"]) == (403, "bad_host")


def test_the_public_urls_host_is_accepted() -> None:
    """A host by which clients know the service is accepted beside its own."""
    with serve(studio_settings(public_url="https://PDP.example:8443")) as client:
        assert client.post(ANN, Host="pdp.example:8443").status == 200
        assert client.post(ANN, Host="pdp.example").status == 403


def test_forwarded_headers_say_nothing(studio: Client) -> None:
    """Who asks is read off the connection."""
    forwarded = {
        "X_Forwarded_For": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;host=evil.example",
        "X_Forwarded_Host": "evil",
    }

    assert studio.post(ANN, **forwarded).status == 200


def test_other_paths_and_methods(studio: Client) -> None:
    """Where nothing is, is 404; another method is 405 and says which it takes."""
    missing, wrong = studio.post(ANN, "/nothing"), studio.get("/check")

    assert (missing.status, missing.json["error"]) == (404, "not_found")
    assert (wrong.status, wrong.json["error"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")


def test_roles_are_claimed_only_under_dev(studio: Client) -> None:
    """A role that the request claims counts under `bylaw dev`, and is ignored elsewhere."""
    claims = {"type": "user", "id": "cleo", "properties": {"roles": ["viewer"]}}
    body = {**ANN, "subject": claims, "resource": "booking:b1", "action": "booking.read"}
    strange = {**ANN, "subject": {**claims, "id": "stranger"}}

    with serve(studio_settings(dev=False)) as plain:
        assert studio.post(strange).json["decision"] is True
        assert plain.post(strange).json["decision"] is False
        assert plain.post(body).status == 200


class Broken:
    """Facts that fail in a way that nobody foresaw."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(f"secret of {name}")


def test_a_fault_of_ours_is_500_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is answered with a request id and no more, stands in the log, and the service goes on."""
    with serve(studio_settings()) as client:
        policies = client.service.policies
        whole = policies.loaded
        object.__setattr__(policies, "_loaded", type(whole)(whole.policy, Broken(), whole.reading))  # type: ignore[arg-type]  # that is the point

        answer = client.post(ANN, X_Request_ID="r-500")

        assert (answer.status, answer.json["error"], answer.json["requestId"]) == (500, "internal", "r-500")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert "r-500" in caplog.text
        assert "secret of" in caplog.text
        assert client.get("/health").status == 200
