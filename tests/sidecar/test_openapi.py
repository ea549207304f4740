"""The OpenAPI document: it is one, and what the service does is what it says."""

from __future__ import annotations

import json

import pytest
from jsonschema_rs import validator_for

from sidecar.api import CHECK, EVALUATION, EVALUATIONS
from tests.sidecar.conftest import ANN, Client
from tests.sidecar.openapi_siege import besiege


def test_every_path_is_there(studio: Client) -> None:
    """Each documented path answers, and each endpoint is documented."""
    document = studio.get("/openapi.json").json

    assert document["openapi"] == "3.1.0"
    assert {CHECK, EVALUATION, EVALUATIONS, "/explain"} <= set(document["paths"])
    for path, operations in document["paths"].items():
        for method in operations:
            assert studio.send(method.upper(), path).status != 404, path


def test_every_reference_leads_somewhere(studio: Client) -> None:
    """Nothing in the document refers to what is not in it."""
    text = studio.get("/openapi.json").text
    document = json.loads(text)

    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


@pytest.mark.parametrize("body", [ANN, {**ANN, "evaluations": [{}, {"action": "task.update"}, 5]}])
def test_answers_fit(studio: Client, body: object) -> None:
    """The answer to a check is what the document says."""
    document = studio.get("/openapi.json").json
    schema = {"$ref": "#/components/schemas/Answer", "components": document["components"]}

    answered = studio.post(body)

    assert answered.status == 200
    validator_for(schema).validate(answered.json)


@pytest.mark.slow
def test_made_up_requests() -> None:
    """Whatever is sent, good or bad by the document, the answer is one that it names: never a 500."""
    for siege in besiege(examples=30, seed=1):
        assert siege.is_clean, siege.said
        assert siege.requests > 200, siege.said
