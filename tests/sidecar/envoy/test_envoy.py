"""Envoy before an application, as it is deployed: who gets through, who does not, and what each is told."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar.envoy.conftest import make_token
from tests.sidecar.envoy.front import DEPLOYED, ENVOY, VARIANTS, Answer, Application, Front, Got, Sidecar, front, got_of

SUBJECT, TENANT, DECISION_ID = b"x-bylaw-subject", b"x-bylaw-tenant", b"x-bylaw-decision-id"


def identity_in(got: Got) -> list[list[bytes]]:
    return [got.values(SUBJECT), got.values(TENANT)]


def refused(answer: Answer, status: int, code: str) -> bool:
    """Say whether a client was refused like this, and told no more than he may be."""
    assert set(answer.json) == {"error", "requestId", "because"}
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers.get("www-authenticate") == "Bearer") is (status == 401)
    return (answer.status, answer.json["error"]) == (status, code)


@pytest.mark.parametrize("variant", VARIANTS)
def test_configurations(variant: str) -> None:
    """Envoy takes the configurations that we give away, as they are."""
    command = [str(ENVOY), "--mode", "validate", "--log-level", "error", "-c", str(DEPLOYED / f"{variant}.yaml")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# --- through ----------------------------------------------------------------------------------------------------------


def test_one_who_may(closed: Front, well: Sidecar) -> None:
    """Who may gets through; the application is told who it is, in which tenant, and by which decision."""
    answer = closed.ask(b"/v1/projects/site?fields=name", token=make_token("ada"))

    got = got_of(answer.body)
    assert answer.status == 200
    assert identity_in(got) == [[b"user:ada"], [b"acme"]]
    assert [well.decided(each.decode()) for each in got.values(DECISION_ID)] == [
        ("GET", "/v1/projects/site?fields=name")
    ]


def test_nobody_in_particular(closed: Front) -> None:
    """Without a token one is anonymous, and what is public is open; it is of no tenant."""
    answer = closed.ask(b"/healthz")

    assert answer.status == 200
    assert identity_in(got_of(answer.body)) == [[b"anonymous"], []]


def test_anonymous_in_a_tenant(closed: Front) -> None:
    """A public rule lets anonymous in where the path names the tenant, and the application is told which."""
    answer = closed.ask(b"/w/acme/shared/flyer")

    assert answer.status == 200
    assert identity_in(got_of(answer.body)) == [[b"anonymous"], [b"acme"]]


def test_claimed_roles(closed: Front) -> None:
    """A role that the verified token claims counts, for one who is not stored; without the claim he is outside."""
    claiming = closed.ask(b"/v1/projects/site", token=make_token("tom", roles=["viewer"]))
    silent = closed.ask(b"/v1/projects/site", token=make_token("tom"))

    assert claiming.status == 200
    assert refused(silent, 403, "boundary")


def test_a_service(closed: Front) -> None:
    """A token with the service claim is a service's."""
    answer = closed.ask(b"/v1/projects/site", token=make_token("exporter", client="c-1"))

    assert identity_in(got_of(answer.body)) == [[b"service:exporter"], [b"acme"]]


def test_ids_beyond_ascii(closed: Front) -> None:
    """An id is told in printable ASCII, and reads back as it was, percent signs too."""
    answer = closed.ask(b"/v1/me", token=make_token("zoë%41,ann"))

    assert got_of(answer.body).values(SUBJECT) == [b"user:zo%C3%AB%2541%2Cann"]


def test_other_methods(closed: Front, well: Sidecar) -> None:
    """Methods are asked about as they are, whatever they are."""
    answer = closed.ask(b"/v1/projects/site", method=b"PATCH", token=make_token("ada"))
    head = closed.ask(b"/v1/projects/site", method=b"HEAD", token=make_token("ada"))
    options = closed.ask(b"/v1/projects/site", method=b"OPTIONS", token=make_token("ada"))

    (decision_id,) = got_of(answer.body).values(DECISION_ID)
    assert well.decided(decision_id.decode())[0] == "PATCH"
    assert head.status == 403  # the policy has no route for it, and it is not GET
    assert refused(options, 403, "no_route")


def test_a_body_passes(closed: Front) -> None:
    """What a request brings along reaches the application, and is nothing to the check."""
    body = b"x" * 100_000
    fields = [(b"Content-Length", b"%d" % len(body)), (b"Content-Type", b"text/plain")]
    head = b"".join(b"%b: %b\r\n" % pair for pair in [(b"Host", b"h"), *fields, (b"Connection", b"close")])

    answer = closed.send(b"GET /healthz HTTP/1.1\r\n%b\r\n%b" % (head, body))

    assert answer.status == 200


def test_the_address(closed: Front) -> None:
    """The end user's address is that of the connection, whatever a header says: here it is not the office's."""
    forged = [(b"X-Forwarded-For", b"198.51.100.7"), (b"X-Real-IP", b"198.51.100.7")]

    answer = closed.ask(b"/v1/settings/sso", forged, method=b"PUT", token=make_token("ada"))

    assert refused(answer, 403, "rule")
    assert answer.json["because"] == "settings are changed from the office"


def test_the_address_behind_a_load_balancer(well: Sidecar, upstream: Application, tmp_path: Path) -> None:
    """Over HTTP, an Envoy that is told of one balancer before it says what that one saw, and not what a client says."""

    def behind_one(filters: dict[str, Any]) -> None:
        filters["xff_num_trusted_hops"] = 1

    def status(forwarded: bytes) -> int:
        fields = [(b"X-Forwarded-For", forwarded)]
        return envoy.ask(b"/v1/settings/sso", fields, method=b"PUT", token=make_token("ada")).status

    with front("http", well.ports, upstream, tmp_path, behind_one) as envoy:
        assert status(b"203.0.113.9, 198.51.100.7") == 200
        assert status(b"198.51.100.7, 203.0.113.9") == 403


# --- refused ----------------------------------------------------------------------------------------------------------


def test_one_who_may_not(closed: Front) -> None:
    """Who may not is told 403, the code, the rule's own words, and under which id the log has it."""
    before = len(closed.application.got)

    answer = closed.ask(b"/v1/projects/launch", method=b"PATCH", token=make_token("ada"))

    assert refused(answer, 403, "rule")
    assert answer.json["because"] == "the project is archived"
    assert answer.json["requestId"]
    assert len(closed.application.got) == before


def test_another_tenant(closed: Front) -> None:
    """A token of one tenant opens nothing in another."""
    answer = closed.ask(b"/w/globex/projects/lab", token=make_token("ada"))

    assert refused(answer, 403, "boundary")


def test_anonymous_is_asked_for_a_token(closed: Front) -> None:
    """Anonymous is denied with 401, also where no tenant is known because there is no token."""
    assert refused(closed.ask(b"/v1/me"), 401, "default")
    assert refused(closed.ask(b"/w/acme/projects/site"), 401, "boundary")
    assert refused(closed.ask(b"/v1/projects/site"), 401, "tenant_required")
    assert refused(closed.ask(b"/nowhere"), 401, "no_route")


BAD = {
    "expired": make_token("ada", ttl_s=-100),
    "for others": make_token("ada", aud="other"),
    "by others": make_token("ada", iss="https://other.example"),
    "without an end": make_token("ada", exp=None),
    "no token": "abc",
    "changed": make_token("ada")[:-4] + "AAAA",
}


@pytest.mark.parametrize("path", [b"/v1/projects/site", b"/healthz"])
@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
def test_bad_tokens(closed: Front, token: str, path: bytes) -> None:
    """A bad token is refused on every route, also on public ones, and nobody is told what is wrong with it."""
    answer = closed.ask(path, token=token)

    assert refused(answer, 401, "unauthenticated")
    assert answer.json["because"] is None


GOOD = b"Bearer " + make_token("ada").encode()
TWICE = {
    "twice the same": [GOOD, GOOD],
    "two different": [GOOD, b"Bearer a.b.c"],
    "two in one": [GOOD + b", " + GOOD],
    "another scheme": [b"Basic YWRhOng="],
    "no scheme": [GOOD[7:]],
    "empty": [b""],
    "no bytes of a token": [b"Bearer \xff\xfe"],
}


@pytest.mark.parametrize("values", TWICE.values(), ids=TWICE)
def test_authorizations_with_two_readings(closed: Front, values: list[bytes]) -> None:
    """Anything but one bearer token is refused on public routes too, and never taken for none."""
    answer = closed.ask(b"/healthz", [(b"Authorization", value) for value in values])

    assert refused(answer, 401, "unauthenticated")


def test_request_ids(closed: Front) -> None:
    """The request id that a client is told is the one that Envoy gave the request."""
    answer = closed.ask(b"/v1/me", [(b"X-Request-ID", b"mine")])

    assert len(answer.json["requestId"]) == 36
    assert answer.json["requestId"] != "mine"


def test_statistics(closed: Front) -> None:
    """Envoy counts what passed and what was refused where operators look for it."""
    before = [closed.count(f"http.front.ext_authz.{name}") for name in ("ok", "denied", "error")]

    closed.ask(b"/healthz")
    closed.ask(b"/nowhere")

    after = [closed.count(f"http.front.ext_authz.{name}") for name in ("ok", "denied", "error")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 0]
