"""Attacks through a real Envoy: headers that claim an identity, paths with two readings, and a sidecar in distress.

Two invariants, each a test of this name or beginning with it: `envoy_cannot_be_forged`, `paths_mean_one_thing`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import pytest

from tests.sidecar.envoy.conftest import make_token
from tests.sidecar.envoy.front import VARIANTS, Application, Front, Got, Sidecar, front, got_of, open_up, sidecar

OURS = {b"x-bylaw-subject", b"x-bylaw-tenant", b"x-bylaw-decision-id"}
EVIL = b"user:root"
FORGED = {
    "as it is": [(b"x-bylaw-subject", EVIL), (b"x-bylaw-tenant", b"globex"), (b"x-bylaw-decision-id", b"1")],
    "capitals": [(b"X-Bylaw-Subject", EVIL), (b"X-BYLAW-TENANT", b"globex")],
    "underscores": [(b"x_bylaw_subject", EVIL), (b"X_Bylaw_Tenant", b"globex")],
    "one underscore": [(b"x-bylaw_subject", EVIL), (b"x_bylaw-subject", EVIL), (b"X-Bylaw-Decision_Id", b"1")],
    "twice": [(b"x-bylaw-subject", EVIL), (b"x-bylaw-subject", b"user:eve")],
    "empty": [(b"x-bylaw-subject", b""), (b"x-bylaw-tenant", b"")],
    "empty and not": [(b"x-bylaw-subject", b""), (b"x-bylaw-subject", EVIL)],
    "names that we do not have": [(b"x-bylaw-roles", b"admin"), (b"X-Bylaw-", b"1"), (b"x-bylaw-subject-id", EVIL)],
    "no text": [(b"x-bylaw-subject", b"user:\xff"), (b"x-bylaw-tenant", b"\x80")],
    "dropped by whoever comes next": [(b"Connection", b"x-bylaw-subject, x-bylaw-tenant"), (b"X-Bylaw-Subject", EVIL)],
    "told to be removed": [(b"x-envoy-auth-headers-to-remove", b"x-bylaw-subject"), (b"x-bylaw-subject", EVIL)],
    "many": [(b"X-Bylaw-Subject", EVIL)] * 50,
}
FORGERIES = pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)


def is_forged(got: Got) -> bool:
    """Say whether an application could take something for an identity that is not what was decided."""
    return not got.reserved() <= OURS or any(len(got.values(name)) > 1 for name in OURS) or EVIL in _all_values(got)


def _all_values(got: Got) -> list[bytes]:
    return [value for name in got.reserved() for value in got.values(name)]


@FORGERIES
def test_envoy_cannot_be_forged(closed: Front, forged: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client calls himself, in any spelling, the application learns who he is, or gets no request."""
    before = len(closed.application.got)

    closed.ask(b"/healthz", forged)
    closed.ask(b"/v1/projects/site", forged, token=make_token("ada"))
    closed.ask_over_http2(b"/v1/projects/site", [(name.lower(), value) for name, value in forged], make_token("ada"))

    for got in closed.application.got[before:]:
        assert not is_forged(got)
        is_anonymous = got.path == b"/healthz"
        assert got.values(b"x-bylaw-subject") == ([b"anonymous"] if is_anonymous else [b"user:ada"])
        assert got.values(b"x-bylaw-tenant") == ([] if is_anonymous else [b"acme"])


def test_what_is_forged_in_plain_spelling_stops_nobody(closed: Front) -> None:
    """A request with a plain forged header goes through without it: the tests above see requests that arrive."""
    answer = closed.ask(b"/v1/projects/site", FORGED["as it is"], token=make_token("ada"))

    assert got_of(answer.body).values(b"x-bylaw-subject") == [b"user:ada"]


@FORGERIES
@pytest.mark.parametrize("path", [b"/healthz", b"/v1/projects/site"])
def test_envoy_cannot_be_forged_by_what_it_lets_in(bare: Front, path: bytes, forged: list[tuple[bytes, bytes]]) -> None:
    """An Envoy that takes nothing off by itself is told what to take off: all that it shows, and every spelling of our
    own names, which it does not show over HTTP."""
    token = None if path == b"/healthz" else make_token("ada")

    answer = bare.ask(path, forged, token=token)

    assert answer.status == 200
    assert not is_forged(got_of(answer.body))


@FORGERIES
@pytest.mark.parametrize("mood", ["throws", "slow", "stale"])
def test_envoy_cannot_be_forged_with_a_sidecar_in_distress(
    opened: Front, well: Sidecar, mood: str, forged: list[tuple[bytes, bytes]]
) -> None:
    """What goes wrong in the sidecar is an answer and denies, though Envoy lets through what it takes for an error."""
    before = len(opened.application.got)
    with being(well, mood):
        answer = opened.ask(b"/healthz", forged)

    assert answer.status in (400, 403, 503)  # Envoy's own, of bad headers; those of the two variants
    assert len(opened.application.got) == before


@pytest.mark.parametrize(("mood", "code"), [("throws", "internal"), ("slow", "stale"), ("stale", "stale")])
def test_a_sidecar_in_distress(closed: Front, opened: Front, well: Sidecar, mood: str, code: str) -> None:
    """Clients are told a code and an id, and nothing of what went wrong; what follows is as before."""
    with being(well, mood):
        answers = [envoy.ask(b"/v1/projects/site", token=make_token("ada")) for envoy in (closed, opened)]

    assert [answer.json["error"] for answer in answers] == [code, code]
    assert all(set(answer.json) == {"error", "requestId", "because"} for answer in answers)
    assert closed.ask(b"/v1/projects/site", token=make_token("ada")).status == 200


@contextmanager
def being(well: Sidecar, mood: str) -> Iterator[None]:
    well.be(mood)
    try:
        yield
    finally:
        well.be("well")


def as_deployed(_: object) -> None:
    """Change nothing."""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_envoy_cannot_be_forged_without_a_sidecar(
    end: signal.Signals, keys: Path, upstream: Application, tmp_path: Path
) -> None:
    """With nobody to ask, nobody gets through; where the operator wants it otherwise, nobody gets through as somebody:
    what clients call themselves was taken off before."""
    (tmp_path / "decisions").touch()
    with ExitStack() as stack:
        asked = stack.enter_context(sidecar(keys, tmp_path / "decisions"))
        fronts = {}
        for variant, change in product(VARIANTS, (as_deployed, open_up)):
            folder = tmp_path / f"{variant}-{change.__name__}"
            folder.mkdir()
            fronts[variant, change] = stack.enter_context(front(variant, asked.ports, upstream, folder, change))
        assert [envoy.ask(b"/healthz").status for envoy in fronts.values()] == [200] * len(fronts)
        asked.process.send_signal(end)

        for (_, change), envoy in fronts.items():
            is_open = change is open_up
            before = len(upstream.got)
            for name in ("as it is", "twice", "no text"):
                envoy.ask(b"/v1/projects/site", FORGED[name], token=make_token("ada"))
            arrived = upstream.got[before:]

            assert bool(arrived) is is_open
            assert not any(got.reserved() for got in arrived)
            assert envoy.ask(b"/healthz").status == (200 if is_open else 503)


# --- paths ------------------------------------------------------------------------------------------------------------

#: Each means one thing, and gets through.
PLAIN = [
    b"/docs/a", b"/docs/a?b=/../c", b"/docs/a?//", b"/docs/a?%2e%2e;", b"/docs/a?", b"/docs/%20", b"/docs/%C3%A9",
    b"/docs/a:b@c", b"/docs/a?b!c", b"/docs/a'(b)*", b"/docs/a=b&c", b"/docs/~a.b-c_d", b"/docs/...",
    b"/docs/a%0d%0aX-Bylaw-Subject:%20user:root",
    b"/docs/" + b"a" * 256, b"/docs/" + b"%C3%A9" * 128, b"/docs/" + b"a/" * 500 + b"a",
]  # fmt: skip
#: Each may mean one thing here and another there.
ODD = [
    b"/docs//a", b"//docs/a", b"/docs/a/", b"/docs/./a", b"/docs/../v1/me", b"/docs/a/..", b"/docs/%2e%2e/v1/me",
    b"/docs/%2E/a", b"/docs/a%2fb", b"/docs/a%2Fb", b"/docs/a%5cb", b"/docs/a\\b", b"/docs\\a", b"/docs/a;b=c",
    b"/docs;v=1/a", b"/docs/a#b", b"/docs/a%00", b"/docs/%", b"/docs/%2", b"/docs/%zz", b"/docs/%61",
    b"/docs/%25", b"/docs/%2d", b"/docs/%ff", b"/docs/%c0%ae", b"/docs/%C3", b"/docs/caf\xc3\xa9", b"/docs/a\xffb",
    b"/docs/a\tb", b"/docs/a b", b"/docs/a\x00b", b"/docs/a\x7fb", b"/docs/a\x01", b"*", b"docs/a", b"",
    b"/docs/" + b"a" * 257, b"/docs/" + b"%C3%A9" * 129, b"/envoy/../docs/a", b"/docs/..%2fa", b"/%2e%2e/docs/a",
    b"/docs/a\xfe",
]  # fmt: skip
#: What Envoy writes for a byte that is no UTF-8. Over gRPC it can be told to send the path as it came.
MARK = b"/docs/a!b"
#: Another way to write the whole: Envoy makes a path and a host of it.
ABSOLUTE = b"http://other.example/docs/a?b"


@pytest.mark.parametrize("path", [*PLAIN, *ODD, ABSOLUTE, MARK])
def test_paths_mean_one_thing(closed: Front, well: Sidecar, path: bytes) -> None:
    """What reaches the application was decided on, byte for byte; what has two readings reaches nobody."""
    before = len(closed.application.got)

    answer = closed.ask(path)
    closed.ask_over_http2(path)

    arrived = closed.application.got[before:]
    for got in arrived:
        (decision_id,) = got.values(b"x-bylaw-decision-id")
        method, decided = well.decided(decision_id.decode())
        assert (method.encode(), decided.encode("latin-1")) == (got.method, got.path)
    if path in ODD or (path == MARK and closed.variant == "http"):
        assert not arrived
        assert 400 <= answer.status < 404
    else:
        assert {got.path for got in arrived} == {path.removeprefix(b"http://other.example")}


def test_paths_mean_one_thing_for_headers_too(closed: Front) -> None:
    """Headers by which frameworks read another method or path do not arrive."""
    others = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Original-URL", b"X-Rewrite-URL"]

    answer = closed.ask(b"/docs/a", [(name, b"/v1/settings") for name in others])

    assert answer.status == 200
    assert not any(name.lower() in dict(got_of(answer.body).headers) for name in others)
