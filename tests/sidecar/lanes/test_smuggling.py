"""No request hides in another: what is read as a request begins where the one before it ended, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.callers import Caller
from sidecar.exchange import Call, Reply
from sidecar.fast_lane import MAX_FIELDS, MAX_HEADS, Heads
from tests.sidecar.conftest import ANN
from tests.sidecar.lanes.battery import CHECK, DECLINED, DENIED, MANY, ONE, request
from tests.sidecar.lanes.conftest import Asking
from tests.sidecar.lanes.laws import BASES, MORSELS, Edit, bytewise, read_alike, tampered

INNER: Final = request(DENIED, "X-Request-ID: inner")
BODIES: Final = {
    "the request alone": INNER,
    "after a question": json.dumps(ANN).encode() + b"\r\n\r\n" + INNER,
    "in a string": json.dumps({**ANN, "context": {"note": INNER.decode()}}).encode(),
    "after an empty chunk": b"0\r\n\r\n" + INNER,
}
BOTH_LANES: Final = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "slow"])


@contextmanager
def counted(asking: Asking) -> Iterator[list[int]]:
    """Count what is decided or refused until the block ends."""
    tellings = asking.lanes.lane.gate.tellings
    before = tellings.decisions.total() + tellings.refusals.total()
    found: list[int] = []
    yield found
    found.append(tellings.decisions.total() + tellings.refusals.total() - before)


@BOTH_LANES
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_request_in_a_body_is_never_executed(asking: Asking, body: bytes, is_fast: bool) -> None:
    """A body that holds the text of a request is a body: it has one answer, and one decision or refusal is counted."""
    outer = request(body, "X-Request-ID: outer")
    ask = asking.lanes.ask_fast if is_fast else asking.lanes.ask_slow
    inner_at = outer.index(INNER[:20], 30) if INNER[:20] in outer[30:] else len(outer) - 20

    with counted(asking) as found:
        ids = [
            [each.header("X-Request-ID") for each in asking.run(ask(*pieces)).answers]
            for pieces in ([outer], [outer[:inner_at], outer[inner_at:]], list(bytewise(outer)))
        ]

    assert (ids, found) == ([["outer"]] * 3, [3])


def test_what_a_length_leaves_over_is_no_body(asking: Asking) -> None:
    """A length of less than came cuts the body off, in both lanes at the same byte: the rest is the next request."""
    raw = request(INNER, length="Content-Length: 0")

    said = [asking.run(ask(raw)).alike() for ask in (asking.lanes.ask_fast, asking.lanes.ask_slow)]

    assert [each.header("X-Request-ID") for each in said[0].answers] == ["<made>", "inner"]
    assert said[0] == said[1]


@pytest.mark.property
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    base=st.sampled_from(BASES),
    edits=st.lists(
        st.builds(Edit, st.integers(0, 1 << 16), st.sampled_from((0, 0, 0, 1, 2, 5)), st.sampled_from(MORSELS)),
        min_size=1,
        max_size=3,
    ),
)
def test_lanes_read_alike(asking: Asking, base: bytes, edits: list[Edit]) -> None:
    """Whatever is done to a head: where the fast lane answers by itself, aiohttp's gives the same answer and takes the
    same bytes; where it does not, aiohttp reads it all."""
    assert asking.run(read_alike(asking.lanes, tampered(base, edits))) is None


def test_every_single_byte(asking: Asking) -> None:
    """So it is for each byte of a head in turn, gone or in another's place, or with another before it."""
    raw = request(ANN, "X-Request-ID: r-1", "Connection: keep-alive")
    head = raw.index(b"\r\n\r\n") + 4

    async def broken() -> list[str]:
        changed = {
            raw[:at] + come + raw[at + gone :]
            for at in range(head)
            for gone, come in ((1, b""), (1, b"\n"), (0, b"\r"), (0, b" "), (1, b"\x00"), (0, b"7"), (0, b":"))
        }
        return [found for each in sorted(changed) if (found := await read_alike(asking.lanes, each)) is not None]

    assert asking.run(broken()) == []


def test_nothing_is_smuggled_behind_a_declined_upgrade(asking: Asking) -> None:
    """What follows a request for an upgrade is read from its beginning, or not at all."""
    outer = request(INNER, "X-Request-ID: outer")
    begins = len(outer) - len(INNER)

    said = asking.run(asking.lanes.ask_fast(DECLINED + outer[:begins], outer[begins:]))

    assert "inner" not in [each.header("X-Request-ID") for each in said.answers]


# --- heads that are remembered ----------------------------------------------------------------------------------------


def never(call: Call, caller: Caller, body: bytes) -> Reply:
    """Stand for an endpoint."""
    raise NotImplementedError


@pytest.fixture
def heads() -> Heads:
    """A memory of heads with nothing in it."""
    return Heads({CHECK: never, ONE: never})


def head(*fields: str, path: str = CHECK) -> bytes:
    return request(b"", *fields, begin=f"POST {path} HTTP/1.1")


def test_a_head_means_what_its_own_bytes_say(heads: Heads) -> None:
    """Other bytes, another peer or another certificate is another meaning, whatever was read before."""
    asked: list[tuple[bytes, str | None, tuple[str, ...]]] = [
        (head(), "127.0.0.1", ()),
        (head(), "127.0.0.2", ()),
        (head(), None, ()),
        (head(), "127.0.0.1", ("dns:a",)),
        (head(), "127.0.0.1", ("dns:b",)),
        (head(), "127.0.0.1", ()),
        (head("Authorization: Bearer a"), "127.0.0.1", ()),
        (head("Authorization: Bearer b"), "127.0.0.1", ()),
        (head("Authorization: Bearer a"), "127.0.0.2", ()),
        (head("X-Request-ID: a"), "127.0.0.1", ()),
        (head("X-Request-ID: b"), "127.0.0.1", ()),
        (head("Bylaw-At-Least: a"), "127.0.0.1", ()),
        (head(path=ONE), "127.0.0.1", ()),
        (request(b"", length="Content-Length: 5"), "127.0.0.1", ()),
    ]

    for _ in range(2):
        for written, peer, certificates in asked:
            found = heads.read(written, peer, certificates)

            assert found == Heads({CHECK: never, ONE: never}).read(written, peer, certificates)
            assert found is not None
            assert (found.call.peer, found.call.certificates) == (peer, certificates)
    assert len({heads.read(*each) for each in asked}) == len(asked) - 1  # one is there twice


def test_remembered_heads_are_bounded(heads: Heads) -> None:
    """However many there are, no more than the bound are remembered; those with what changes each time not at all."""
    for number in range(MAX_HEADS * 2):
        heads.read(head(f"Authorization: Bearer {number}"), "127.0.0.1", ())
        heads.read(head(f"X-Request-ID: {number}"), "127.0.0.1", ())
        heads.read(head(f"traceparent: {number}"), "127.0.0.1", ())
        heads.read(head(), "127.0.0.1", (f"dns:{number}",))
        heads.read(head(f"X_Odd: {number}"), "127.0.0.1", ())

    assert 0 < len(heads._known) <= MAX_HEADS
    assert all(b"authorization" in written.lower() for written, _ in heads._known)


VARIED: Final = st.lists(
    st.sampled_from(
        [
            "authorization: Bearer a", "authorization: Bearer b", "Authorization: Bearer c", "authorization:Bearer d",
            "authorization:  Bearer e", "authorization: Bearer  f", "authorization: Bearer\tg", "authorization: ",
            "x-request-id: 1", "x-request-id: 2", "X-Request-Id: 3", "x-forwarded-for: 10.0.0.1, 192.0.2.1",
            "x-forwarded-for: 192.0.2.9", "x-forwarded-for: ", "traceparent: 00-a-b-01", "tracestate: c=d",
            "accept: x-request-id: 4", "x-bylaw-subject: user:ann", "x_bylaw_subject: eve", "bylaw-caller-key: k",
            "expect: 100-continue", "content-length: 0", "connection: close",
        ]
    ),
    max_size=6,
)  # fmt: skip


@given(st.lists(st.tuples(VARIED, st.sampled_from(["/envoy/a", "/envoy/b?c"])), max_size=12))
def test_what_envoy_asks_means_what_its_own_bytes_say(asked: list[tuple[list[str], str]]) -> None:
    """Whatever was read before: a header that varies is read from the request that it came with, and a head that would
    not be recognised is not, since one like it was."""
    remembering = Heads({}, is_envoy=True, trusted_hops=1)

    for fields, path in asked * 2:
        written = "\r\n".join([f"GET {path} HTTP/1.1", "host: a", *fields, "", ""]).encode()

        found = remembering.read(written, "127.0.0.1", ())

        assert found == Heads({}, is_envoy=True, trusted_hops=1).read(written, "127.0.0.1", ())
        assert found is None or found.asked is not None


def test_what_envoy_asks_is_bounded() -> None:
    """However many are asked, no more than the bound are remembered, and no token of an end user at all."""
    asking = Heads({}, is_envoy=True)
    for number in range(MAX_HEADS + 10):
        written = f"GET /envoy/{number} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer tok-{number}\r\n\r\n".encode()
        assert asking.read(written, "127.0.0.1", ()) is not None

    assert 0 < len(asking._shapes) <= MAX_HEADS
    assert "tok-" not in repr(asking._shapes)


@pytest.mark.parametrize("count", [MAX_FIELDS, MAX_FIELDS + 1])
def test_headers_are_bounded(heads: Heads, count: int) -> None:
    """A head has as many headers as aiohttp takes, and no more."""
    found = heads.read(head(*(f"X-{number}: 1" for number in range(count - 3))), "127.0.0.1", ())

    assert (found is not None) == (count == MAX_FIELDS)


@pytest.mark.parametrize(
    "written", [b"POST /check HTTP/1.1\r\nHost: a\r\n", b"POST /access/v1/evaluations HTTP/1.1\r\n"]
)
def test_beginnings(written: bytes) -> None:
    """Every beginning of a good head may become one, and none with a byte in it that no good one has."""
    heads = Heads({CHECK: never, ONE: never, MANY: never})
    begins = [written[:at] for at in range(1, len(written) + 1)]

    assert all(heads.may_begin(each) for each in begins)
    assert not any(heads.may_begin(each + odd) for each in begins for odd in (b"\x00", b"\xff", b"\r\r", b" \n", b"\t"))
