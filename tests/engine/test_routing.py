"""Paths that are asked again: what is remembered of them answers as reading them anew does."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from engine import Decision, Facts, HttpRequest, Policy, RequestError
from engine.program import Program
from engine.routing import MAX_PATH, MAX_PATHS, Routed

GATEWAY = Path(__file__).parents[2] / "policies" / "gateway"
NOW = 1_800_000_000 * 10**9
SUBJECTS = ("anonymous", "user:ada", "user:vic", "user:gus", "user:eve", "user:nobody", "service:exporter")
TENANTS = (None, "acme", "globex", "none")
PATHS = (
    "/healthz",
    "/v1/me",
    "/v1/projects",
    "/v1/projects/site",
    "/v1/projects/lab",
    "/v1/projects/none",
    "/v1/projects/site/documents",
    "/v1/projects/site/documents/flyer",
    "/v1/projects/launch/documents/flyer",
    "/v1/projects/site/files/a/b",
    "/v1/invoices/i1",
    "/v1/settings/a",
    "/w/acme",
    "/w/globex/projects/lab",
    "/w/acme/projects/lab",
    "/w/acme/shared/flyer",
    "/w/acme/invoices/i1",
    "/v1/projects/si%74e",
    "/nowhere",
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(GATEWAY)


def test_what_is_remembered_answers_alike(policy: Policy) -> None:
    """Every question has the answer of one that is asked of nobody's memory, whatever was asked before it."""
    facts = Facts.load(GATEWAY / "facts.yaml", policy)
    claims: tuple[dict[str, object], ...] = ({}, {"roles": ["viewer"]}, {"tenant": "acme"})
    quick = 0

    for _, subject, path, method, tenant, token, claimed in product(
        range(2), SUBJECTS, PATHS, ("GET", "PATCH"), (None, "acme"), TENANTS, claims
    ):
        request = HttpRequest(method, path, subject, tenant, token, {"ip": "198.51.100.7"}, None, claimed)
        routed = policy.program.router.read(method, path)
        if isinstance(routed, str) or routed.open_to is not None:
            continue
        known = facts.questioner.decide_known(routed, request, NOW)
        anew: Decision | None = None
        with suppress(RequestError):
            anew = facts.questioner.decide(facts.questioner.routed(routed, request), NOW, routed.bindings)

        if known is not None:
            quick += 1
            assert anew is not None
            assert (known.allowed, known.code, known.reasons) == (anew.allowed, anew.code, anew.reasons)
    assert quick > 100


def test_paths_that_are_remembered_are_bounded(policy: Policy) -> None:
    """However many paths are asked, and however long they are."""
    router = Program(policy.model).router

    for number in range(MAX_PATHS + 10):
        router.read("GET", f"/v1/projects/{number}")
    router.read("GET", "/v1/projects/" + "a" * MAX_PATH)

    assert 0 < len(router._known) <= MAX_PATHS
    assert max(len(path) for _, path in router._known) <= MAX_PATH


def test_what_a_path_asks(policy: Policy) -> None:
    """A method and a path mean an action on a resource, and what else the path says of it."""
    router = Program(policy.model).router

    assert router.read("GET", "/v1/projects/site/documents/b%20c") == Routed(
        None, None, "document.read", "document:b c", {}, ("project:site",), True
    )
    assert router.read("GET", "/w/acme") == Routed(
        None, "acme", "workspace.read", "workspace:acme", {"tenant": "acme"}, (), True
    )
    assert router.read("GET", "/v1/projects") == Routed(None, None, "workspace.read", None, {}, (), False)
    assert router.read("POST", "/v1/projects/site/documents") == Routed(
        None, None, "document.create", "document:new", {"new": True, "parent": "project:site"}, ("project:site",), False
    )
    assert router.read("GET", "/v1/projects//site") == "bad_path"
    assert router.read("GET", "/none") == "no_route"
