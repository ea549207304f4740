"""`POST /explain` over HTTP."""

from __future__ import annotations

from tests.sidecar.conftest import ANN, Client, serve, studio_settings

LOCKED = {"tenant": "acme", "subject": "user:max", "action": "update", "resource": "project:p2"}


def test_the_reasoning_agrees_with_the_decision(studio: Client) -> None:
    """An explanation holds what the check would have answered, and why."""
    for body in (ANN, LOCKED):
        decision, explained = studio.post(body).json, studio.post(body, "/explain").json

        assert explained["decision"] is decision["decision"]
        assert explained["code"] == decision["context"]["code"]
        assert explained["by"] == decision["context"]["by"]


def test_errors_are_those_of_a_check(studio: Client) -> None:
    """What is no question cannot be explained."""
    assert studio.post({**ANN, "action": "fly"}, "/explain").json["error"] == "unknown_action"
    assert studio.post(b"{", "/explain").status == 400


def test_one_question_at_a_time(studio: Client) -> None:
    """A batch is not explained."""
    assert studio.post({**ANN, "evaluations": [{}]}, "/explain").status == 400


def test_explanations_need_their_scope() -> None:
    """Outside `bylaw dev` nobody on the machine may see the reasoning."""
    with serve(studio_settings(dev=False)) as client:
        answer = client.post(ANN, "/explain")

    assert (answer.status, answer.json["error"]) == (403, "forbidden")
