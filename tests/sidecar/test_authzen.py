"""OpenID AuthZEN 1.0: the certification scenario for Basic, Batch and Discovery, with properties; and its manners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.sidecar.conftest import POLICIES, Client, serve, studio_settings

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
METADATA = "/.well-known/authzen-configuration"
#: Subject, action and resource with their properties, and the decision.
CASES: tuple[tuple[str, dict[str, Any], str, dict[str, Any], str, dict[str, Any], bool], ...] = (
    ("alice", {}, "read", {}, "record-1", {}, True),
    ("alice", {}, "write", {}, "record-1", {}, True),
    ("bob", {}, "read", {}, "record-1", {}, True),
    ("bob", {}, "write", {}, "record-1", {}, False),
    ("alice", {}, "write", {}, "record-1", {"status": "archived"}, False),
    ("bob", {"role": "admin"}, "write", {}, "record-2", {"status": "archived"}, True),
    ("alice", {}, "delete", {"soft": True}, "record-1", {}, True),
    ("alice", {}, "delete", {"soft": False}, "record-1", {}, False),
)


def question(case: tuple[Any, ...]) -> dict[str, Any]:
    who, who_has, action, action_has, what, what_has, _ = case
    asked: dict[str, Any] = {
        "subject": {"type": "user", "id": who},
        "action": {"name": action},
        "resource": {"type": "record", "id": what},
    }
    for name, properties in (("subject", who_has), ("action", action_has), ("resource", what_has)):
        if properties:
            asked[name]["properties"] = properties
    return asked


@pytest.fixture(scope="module")
def certified() -> Iterator[Client]:
    """A service over the fixture of the certification scenario."""
    folder = POLICIES / "certification"
    with serve(studio_settings(policies=folder, facts=folder / "facts.yaml", dev=False)) as client:
        yield client


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2]} {case[4]}")
@pytest.mark.parametrize("context", [{}, {"ip": "10.0.0.1", "deep": {"a": [1]}}])
def test_basic(case: tuple[Any, ...], context: dict[str, Any], certified: Client) -> None:
    """Each decision of the scenario, whatever the context, and the same again; what nobody knows is ignored."""
    asked = {**question(case), "context": context, "unheard_of": 1}

    answers = [certified.post(asked, EVALUATION) for _ in range(2)]

    assert [(answer.status, answer.json["decision"]) for answer in answers] == [(200, case[-1])] * 2


def test_batch(certified: Client) -> None:
    """Many questions are answered in order, without a decision of the whole."""
    said = certified.post({"evaluations": [question(case) for case in CASES]}, EVALUATIONS).json

    assert [each["decision"] for each in said["evaluations"]] == [case[-1] for case in CASES]
    assert "decision" not in said


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
def test_semantics(semantic: str, expected: list[bool], certified: Client) -> None:
    """A batch stops where its semantic says; what an item lacks it takes whole from the body."""
    base = question(CASES[0])
    items = [{}, {"action": {"name": "delete", "properties": {"soft": False}}}, {"action": {"name": "write"}}]

    said = certified.post(
        {**base, "evaluations": items, "options": {"evaluations_semantic": semantic, "other": 1}}, EVALUATIONS
    )

    assert [each["decision"] for each in said.json["evaluations"]] == expected


@pytest.mark.parametrize("evaluations", [None, []])
def test_a_batch_of_none(evaluations: list[Any] | None, certified: Client) -> None:
    """Without a list of questions the body is one, and so is the answer."""
    said = certified.post({**question(CASES[0]), "evaluations": evaluations}, EVALUATIONS).json

    assert said["decision"] is True


def test_an_item_that_lacks_something(certified: Client) -> None:
    """An item without a resource is denied by itself, with status 400 in its context; the others are answered."""
    broken = {name: value for name, value in question(CASES[0]).items() if name != "resource"}

    said = certified.post({"evaluations": [broken, question(CASES[0])]}, EVALUATIONS)

    first, second = said.json["evaluations"]
    assert (said.status, first["decision"], first["context"]["error"]["status"], second["decision"]) == (
        200,
        False,
        400,
        True,
    )


@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"type": "robot", "id": "r"}},
        {"subject": {"type": "a:b", "id": "r"}},
        {"resource": {"type": "planet", "id": "mars"}},
        {"action": {"name": "fly"}},
    ],
    ids=str,
)
def test_what_nobody_knows(change: dict[str, Any], path: str, certified: Client) -> None:
    """A type or action that the policy does not know is a deny that says so, alone and among others."""
    asked = {**question(CASES[0]), **change}
    code = "unknown_action" if "action" in change else "unknown_type"

    alone = certified.post(asked, path)
    among = certified.post({"evaluations": [asked]}, EVALUATIONS).json["evaluations"][0]

    assert (alone.status, alone.json["decision"], alone.json["context"]["code"]) == (200, False, code)
    assert (among["decision"], among["context"]["code"]) == (False, code)


def test_no_tenant(studio: Client) -> None:
    """A question of no tenant, where there are tenants, is a deny; `tenant` in the body names one."""
    asked = {
        "subject": {"type": "user", "id": "ann"},
        "action": {"name": "task.read"},
        "resource": {"type": "task", "id": "t1"},
    }

    nowhere, here = studio.post(asked, EVALUATION).json, studio.post({**asked, "tenant": "acme"}, EVALUATION).json

    assert (nowhere["decision"], nowhere["context"]["code"], here["decision"]) == (False, "tenant_required", True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {"subject": "user:alice", "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}},
        {**question(CASES[0]), "action": {"name": 7}},
        {**question(CASES[0]), "action": "read"},
        {**question(CASES[0]), "subject": {"type": "user"}},
        {"action": {"name": "read"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
def test_malformed(body: Any, path: str, certified: Client) -> None:
    """What is malformed is a 400, with the request's id; people's short forms are, here."""
    answer = certified.post(body, path, X_Request_ID="mine")

    assert (answer.status, answer.headers["x-request-id"]) == (400, "mine")


def test_another_content_type(certified: Client) -> None:
    """Any type but JSON is a 400."""
    assert certified.send("POST", EVALUATION, b"{}", {"Content-Type": "text/plain"}).status == 400


def test_discovery(certified: Client) -> None:
    """The metadata names the service as settings do, whatever a client calls it."""
    base = f"http://127.0.0.1:{certified.port}"

    said = certified.get(METADATA, Host=f"localhost:{certified.port}")

    assert said.json == {
        "policy_decision_point": base,
        "access_evaluation_endpoint": base + EVALUATION,
        "access_evaluations_endpoint": base + EVALUATIONS,
    }


def test_discovery_under_a_public_url() -> None:
    """A public URL counts where it is set."""
    with serve(studio_settings(public_url="https://pdp.example.com/")) as client:
        said = client.get(METADATA).json

    assert said["policy_decision_point"] == "https://pdp.example.com"
    assert said["access_evaluation_endpoint"] == "https://pdp.example.com/access/v1/evaluation"
