"""Receipts: once a write is settled, nobody answers from before it, however processes come, go and stand still."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from tests.databases import StoreUrls
from tests.freshness.services import Asker, Pen, deafness, grant, house, process, revoke, sidecar, until

pytestmark = pytest.mark.slow

BOUND_S = 1.0
SLACK_S = 0.5
#: Between two questions of who asks all the time.
WATCH_S = 0.01
DAY_NS = 86_400_000_000_000


class Watch:
    """Asks all the time from a thread, and remembers what was answered when."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[tuple[float, str]] = []
        self.done = threading.Event()

    def look(self) -> None:
        while not self.done.wait(WATCH_S):
            with Asker(self.port) as asker:  # each time to whichever worker takes the connection
                begun = time.monotonic()
                self.heard.append((begun, asker.word()))

    def old_since(self, moment: float, word: str) -> list[str]:
        """List the answers to what was asked since a moment that are not the one expected."""
        return [said for begun, said in self.heard if begun >= moment and said != word]


def test_receipts_are_true(store_urls: StoreUrls) -> None:
    """Of two sidecars and two workers, all under questions, none answers from before a write once it is settled."""
    with house(store_urls) as pen, ExitStack() as stack:
        ports = [stack.enter_context(sidecar(store_urls.sidecar, max_staleness_s=10)).port]
        with deafness():
            ports.append(stack.enter_context(sidecar(store_urls.sidecar, max_staleness_s=BOUND_S)).port)
        ports.append(stack.enter_context(process(store_urls.sidecar, max_staleness="10s", workers=2)).port)
        watches = [Watch(port) for port in ports]
        with ThreadPoolExecutor(len(watches)) as pool:
            looks = [pool.submit(watch.look) for watch in watches]

            old = []
            for work, word in ((revoke(), "default"), (grant(), "allow")) * 2:
                _, receipt = pen.receipt(work)
                settled = pen.settled(receipt)
                moment = time.monotonic()
                until(partial(_were_asked_since, watches, moment))
                old += [(settled.is_settled, watch.old_since(moment, word)) for watch in watches]
            for watch in watches:
                watch.done.set()

        assert old == [(True, [])] * len(old)
        assert [each.result() for each in looks] == [None] * 3


def _were_asked_since(watches: list[Watch], moment: float) -> bool:
    return all(watch.heard and watch.heard[-1][0] > moment for watch in watches)


def test_a_frozen_sidecar(store_urls: StoreUrls) -> None:
    """A sidecar that stands still lets a write be settled by the bound alone; thawed past its bound it answers nothing
    old: what came in meanwhile, and what comes after, is `stale` or the new truth."""
    with (
        house(store_urls) as pen,
        sidecar(store_urls.sidecar) as awake,
        process(store_urls.sidecar) as asked,
        Asker(asked.port) as early,
    ):
        before = awake.word(), asked.word(), early.word()

        asked.freeze()
        begun = time.monotonic()
        _, receipt = pen.receipt(revoke())
        early.send()
        soon = pen.settled(receipt, within_s=BOUND_S / 4)
        settled = pen.settled(receipt)
        took_s = time.monotonic() - begun
        of_awake = awake.word()
        asked.thaw()
        first = early.hear(), asked.word()

        assert before == ("allow", "allow", "allow")
        assert (soon.by, settled.by, settled.missing, of_awake) == (None, "bound", 1, "default")
        assert BOUND_S <= took_s < BOUND_S + SLACK_S
        assert set(first) <= {"stale", "default"}
        until(lambda: asked.word() == "default")


def test_a_sidecar_that_died(store_urls: StoreUrls) -> None:
    """One that was killed is waited for until the bound, as nobody can know; one that ended in good order is not."""
    with house(store_urls) as pen, process(store_urls.sidecar) as asked:
        with sidecar(store_urls.sidecar) as leaving:
            assert leaving.word() == "allow"
        _, first = pen.receipt(revoke())
        of_living = pen.settled(first)

        asked.kill()
        begun = time.monotonic()
        _, second = pen.receipt(grant())
        of_dead = pen.settled(second)
        took_s = time.monotonic() - begun

        assert of_living.by == "acks"
        assert (of_dead.by, of_dead.missing) == ("bound", 1)
        assert BOUND_S <= took_s < BOUND_S + SLACK_S


def test_a_sidecar_that_starts_in_between(store_urls: StoreUrls) -> None:
    """One that starts while somebody waits is waited for, too, or begins after the write: its first answer is never
    from before what was settled by then."""
    with house(store_urls) as pen, ThreadPoolExecutor(1) as pool:
        for _ in range(4):
            pen.write(grant())
            first = pool.submit(_start_and_ask, store_urls)
            _, receipt = pen.receipt(revoke())
            settled = pen.settled(receipt)
            moment = time.monotonic()
            asked_at, word = first.result()

            assert settled.is_settled
            assert word == "default" or asked_at < moment


def _start_and_ask(urls: StoreUrls) -> tuple[float, str]:
    with sidecar(urls.sidecar) as asked:
        return time.monotonic(), asked.word()


@pytest.mark.usefixtures("deaf")
def test_receipts_rest_on_no_wall_clock(store_urls: StoreUrls) -> None:
    """Where the clock of who writes is days ahead, sidecars that live are still waited for."""
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=10) as asked:
        assert asked.word() == "allow"

        with Pen(store_urls.admin, clock=lambda: time.time_ns() + 3 * DAY_NS) as ahead:
            _, receipt = ahead.receipt(revoke())
            settled = pen.settled(receipt, within_s=BOUND_S / 4)
            word = asked.word()

        assert word == "default" or not settled.is_settled
