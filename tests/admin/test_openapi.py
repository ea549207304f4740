"""The OpenAPI document of the administration API: it is one, it says everything, and what is answered fits it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema_rs import validator_for

from admin.endpoint import PREFIX
from admin.endpoints import ENDPOINTS
from admin.openapi import describe
from tests.admin.openapi_siege import STUDIO, besiege
from tests.admin.service import World, make_world

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(describe(ENDPOINTS, "test")))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("openapi"))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, said in DOCUMENT["paths"].items():
        for method, operation in said.items():
            yield method, path, operation


def test_every_endpoint_is_there() -> None:
    """Each endpoint is described once, under an id of its own."""
    named = [operation["operationId"] for _, path, operation in operations() if path.startswith(PREFIX)]

    assert len(named) == len(set(named)) == len(ENDPOINTS)


def test_every_reference_leads_somewhere() -> None:
    """Nothing in the document refers to what is not in it."""
    text = json.dumps(DOCUMENT)

    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_statuses_are_complete() -> None:
    """Who reads a body says that it may be too large or too slow; a POST, that its key may be another's; each write,
    that it may contradict what is stored."""
    for endpoint in ENDPOINTS:
        operation = DOCUMENT["paths"][PREFIX + endpoint.path][endpoint.method.lower()]
        statuses = set(operation["responses"])
        assert {"400", "401", "403", "404", "429", "503"} <= statuses
        assert ({"408", "413"} <= statuses) == ("requestBody" in operation)
        assert ({"202", "409"} <= statuses) == endpoint.is_write
        assert ("422" in statuses) == endpoint.takes_key


def test_a_query_has_no_null() -> None:
    """A parameter is there or it is not: no schema of one says that it may be null."""
    for _, path, operation in operations():
        for parameter in operation.get("parameters", ()):
            assert '"null"' not in json.dumps(parameter), path


def test_answers_of_writes_are_open() -> None:
    """What a write answers may have what `?await=settled` adds, though it is what was asked, too."""
    for endpoint in (each for each in ENDPOINTS if each.is_write and each.answer is not None):
        operation = DOCUMENT["paths"][PREFIX + endpoint.path][endpoint.method.lower()]
        said = operation["responses"][str(endpoint.status)]["content"]["application/json"]["schema"]
        for part in said.get("allOf", [said]):
            named = DOCUMENT["components"]["schemas"].get(part.get("$ref", "").rpartition("/")[2], {})
            assert "additionalProperties" not in named, endpoint.path


@pytest.mark.parametrize(
    ("method", "path", "template", "body"),
    [
        ("GET", "/users/ann", "/users/{id}", None),
        ("GET", "/users", "/users", None),
        ("GET", "/users/nobody", "/users/{id}", None),
        ("POST", "/users", "/users", {}),
        ("POST", "/users?await=settled", "/users", {}),
        ("PATCH", "/users/ann?await=settled", "/users/{id}", {"status": "active"}),
        ("DELETE", "/users/ann", "/users/{id}", None),
        ("DELETE", "/users/ann?await=settled", "/users/{id}", None),
        ("POST", "/users", "/users", {"id": 5}),
    ],
)
def test_answers_fit(world: World, tmp_path: Path, method: str, path: str, template: str, body: object) -> None:
    """An answer has a status that the document names, and is what the document says of that."""

    async def work() -> None:
        async with world.asked(tmp_path) as asking:
            said = await asking.ask(method, path, body)

        described = DOCUMENT["paths"][PREFIX + template][method.lower()]["responses"][str(said.status)]
        if said.body is None:
            assert "content" not in described
            return
        schema = described["content"]["application/json"]["schema"]
        validator_for({**schema, "components": DOCUMENT["components"]}).validate(said.body)

    asyncio.run(work())


@pytest.mark.parametrize("subject", ["user:\0", "us\0er:ann", "user:ann\n"])
def test_no_reference_has_what_no_database_takes(world: World, tmp_path: Path, subject: str) -> None:
    """A reference that PostgreSQL could not even look for is refused as what it is: it was an error of ours there."""

    async def work() -> int:
        async with world.asked(tmp_path) as asking:
            body = {"items": [{"op": "delete", "subject": subject}]}
            return (await asking.ask("POST", "/tenants/acme/memberships/bulk", body)).status

    assert asyncio.run(work()) == 400


@pytest.mark.slow
def test_made_up_requests() -> None:
    """Whatever is sent, good or bad by the document, the answer is one that it names: never a 500."""
    for siege in besiege(examples=2, seed=1, only="/users"):
        assert siege.is_clean, siege.said
        assert siege.requests > 100, siege.said
