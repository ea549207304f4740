"""What the model found in the product, played again move by move."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.freshness.check import quiet
from tests.freshness.episode import Move
from tests.freshness.scene import Asked
from tests.freshness.setting import Setting
from tests.freshness.shrink import replay

CALM: Final = Setting(
    processes=1,
    max_staleness_s=1.0,
    max_views=10_000,
    max_tenants=10_000,
    max_changed=10_000,
    max_absent=10_000,
    max_placed=10_000,
    max_grants=1000,
    pace=0,
    slow="",
    tenants=("acme",),
    questions=1,
    weights=(),
)


def gates(*parts: str) -> list[Move]:
    """Let messages of the one process arrive, or their answers."""
    return [("gate", f"P0.{part}", 0) for part in parts]


def change(owner: str, *, has_receipt: bool = False) -> Move:
    """Change a resource."""
    return "write", ("change", ("acme", "project:p1", f'{{"owner":"{owner}","locked":false}}')), has_receipt


def ask(tenant: str | None, subject: str, action: str, resource: str) -> Move:
    return "ask", 0, (Asked(tenant, subject, action, resource),), ()


POLL: Final = ("poll.request", "poll.answer")
REGISTERED: Final = gates(*POLL, "register.request", "register.answer")


def test_one_poll_at_a_time() -> None:
    """Of two polls that were on their way at once, the earlier one came later and took the process back to before what
    was applied: one had begun between the end of a poll and the beginning of the one that was queued behind it."""
    another_line: list[Move] = [("write", ("department", ("user:cyd", "law")), False), ("restore", 1, "timeline")]
    moves = [
        *REGISTERED,
        *gates("poll.request"),
        *another_line,
        *gates("poll.answer"),
        ask(None, "user:bob", "audit", "system:system"),
        *gates("load.begin", "load.answer"),
        ask("acme", "user:nobody", "close", "task:t4"),
        ("write", ("platform", ("user:bob", "staff", True)), False),
        *gates("poll.request", "load.begin", "poll.answer", "poll.request", "load.answer", "poll.answer"),
        *gates("poll.request"),
        change("user:bob"),
        *gates("poll.request"),
        ("gate", "P0.poll.answer", 1),
        ("gate", "P0.poll.answer", 0),
    ]

    with quiet():
        world = replay(CALM, moves, is_finished=True, is_traced=True)

    assert world.broken is None, world.trace
    assert world.tally["applied"] > 4


def test_who_was_removed_answers_no_more() -> None:
    """A process that was given up though it lived, and removed once it was stale, answered from a snapshot that it had
    read before a write whose receipt, which was not asked of it, was settled."""
    setting = replace(CALM, max_views=1)  # three loads in vain: each displaces what the one before brought in
    load = gates("load.begin", "load.answer", "load.answer")
    moves: list[Move] = [
        *REGISTERED,
        *gates(*POLL),
        ("forget", 0),
        change("user:bob", has_receipt=True),
        *[("wait", 0.19)] * 5,
        ask("acme", "user:ann", "read", "task:t1"),
        *load,
        *load,
        *gates("load.begin"),
        ("wait", 0.06),
        *gates("load.answer", "load.answer", "load.begin"),
        change("user:ann", has_receipt=True),
        *gates("load.answer", "load.answer"),
    ]

    with quiet():
        world = replay(setting, moves, is_finished=True, is_traced=True)

    assert world.broken is None, world.trace
    assert (world.tally["removed"], world.tally["settled"]) == (1, 2)


def test_what_was_reached_may_be_lost() -> None:
    """A check waited for a load, after it had found that what it demanded was applied here. Meanwhile that was undone
    by a restore, and it was answered from before."""
    touch = "write", ("touch_all", ())
    asked = Asked("corp", "user:cyd", "update", "project:p2")
    moves: list[Move] = [
        (*touch, True),
        *gates(*POLL, "register.request", "register.answer", *POLL, "ack.request"),
        ("restore", 3, "silent"),
        *gates("ack.answer", *POLL),
        ("ask", 0, (asked,), ()),
        *gates("register.request", "load.begin", "load.answer", "poll.request"),
        (*touch, False),
        ("ask", 0, (asked,), (1,)),
        *gates("poll.answer"),
    ]

    with quiet():
        world = replay(CALM, moves, is_finished=True, is_traced=True)

    assert world.broken is None, world.trace
    assert world.tally["stale with tokens"] == 1
