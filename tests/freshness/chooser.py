"""Moves made up at random, from what could happen next: the setting says how often, the seed says which."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from sidecar.keeper import RETRY_S
from store.streams import stream_of
from tests.freshness.episode import SECOND, Move, World
from tests.freshness.fake_store import Draft
from tests.freshness.scene import TENANTS, Asked, make_question
from tests.freshness.writes import Write, make_write, perform

#: How far behind the writes that are demanded lie, at most.
DEMANDED: Final = 6


class Chooser:
    """Makes moves up."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self._names = [name for name, _ in world.setting.weights]
        self._weights = [weight for _, weight in world.setting.weights]
        self._staleness_s = world.setting.max_staleness_s
        self._ahead: deque[Move] = deque()
        self._pool = [make_question(rng, world.setting.tenants) for _ in range(world.setting.questions)]

    def choose(self) -> Move:
        """Make the next move up."""
        rng, world = self._rng, self._world
        if self._ahead and rng.random() < 0.9:
            return self._ahead.popleft()
        names = world.gates.names()
        if world.setting.slow and rng.random() < 0.8:
            names = [(kind, rank) for kind, rank in names if not kind.endswith(world.setting.slow)]
        if names and rng.random() < min(0.93, 0.5 + 0.05 * len(names)):
            return "gate", *rng.choice(names)
        name = rng.choices(self._names, self._weights)[0]
        number = rng.randrange(len(world.processes))
        match name:
            case "ask":
                return self._ask(number)
            case "hint" | "down":
                return name, number
            case "forget":
                return self._forget(number)
            case "wait":
                return name, self._seconds()
            case "write":
                return name, self._write(), rng.random() < 0.2
            case "lose" if names:
                return name, *rng.choice(names)
            case "leave":
                return name, number, rng.choice(TENANTS)
            case "prune":
                return name, rng.choice(("g", *map(stream_of, TENANTS)))
            case "restore":
                return self._restore(number)
            case "swap":
                return name, number, rng.randrange(2)
            case "late":
                return self._late(number)
            case "replica":
                return name, number, rng.randrange(12)
            case _:
                return ("up",)

    def _ask(self, number: int) -> Move:
        """Mostly ask a process that has an answer; where none has, have them try again."""
        fresh = [at for at, each in enumerate(self._world.processes) if each.keeper.freshness.is_fresh()]
        if self._rng.random() < 0.9:
            if not fresh:
                return "wait", RETRY_S
            number = self._rng.choice(fresh)
        return "ask", number, self._questions(), self._demands()

    def _forget(self, number: int) -> Move:
        """Give a process up, and maybe remove it: by waiting for a receipt until it is stale. Have it poll then, and
        ask for a receipt that it is not asked for."""
        pauses = [("wait", self._staleness_s + 0.1), ("wait", RETRY_S)]
        gates = [("gate", f"P{number}.poll.{what}", 0) for what in ("request", "answer")]
        if self._rng.random() < 0.8:
            self._ahead.extend([("write", self._write(), True), *pauses, *gates, ("write", self._write(), True)])
        return "forget", number

    def _late(self, number: int) -> Move:
        """Have the answer to a poll come as late as it may, and then no other for a while."""
        request, late = (("gate", f"P{number}.poll.{what}", 0) for what in ("request", "answer"))
        pause, written = ("wait", self._staleness_s * 0.45), ("write", self._write(), False)
        self._ahead.extend((request, written, pause, late, pause, ("wait", self._staleness_s * 0.15)))
        return "hint", number

    def _restore(self, number: int) -> Move:
        """Undo some writes, and maybe go on from there to the very numbers that there were, or past them."""
        rng, commits, past = self._rng, self._world.commits, self._world.store.past
        undone = commits[-rng.choice((1, 1, 2, 3, 5, 8)) :]
        back = len(past) - undone[0].index if undone else 0
        again = [each.streams for each in undone]
        again = [*again[: rng.choice((0, 0, 1))], *again][:4] if rng.random() < 0.8 else []
        self._ahead.extend(("write", self._like(streams), False) for streams in again)
        if rng.random() < 0.5:
            self._ahead.extend(self._ask_for_the_lost(number, len(again) + 1 + rng.randrange(2)))
        return "restore", back, rng.choice(("silent", "silent", "timeline", "renewed"))

    def _ask_for_the_lost(self, number: int, token: int) -> list[Move]:
        """Have a process follow, and answer; then ask it with a token of what was lost, while a poll that does not know
        of the last write is on its way."""
        parts = ("poll.request", "poll.answer", "ack.request", "ack.answer", "load.begin", "load.answer")
        request, late, *acknowledged, begin, load = (("gate", f"P{number}.{part}", 0) for part in parts)
        questions, written = self._questions(), ("write", self._write(), False)
        follow: list[Move] = [("hint", number), request, late, *acknowledged]
        answer: list[Move] = [("ask", number, questions, ()), begin, load, load, load]
        return [*follow, *answer, ("hint", number), request, written, ("ask", number, questions, (token,)), late]

    def _write(self) -> Write:
        return make_write(self._rng, self._world.setting.tenants, self._world.now(), SECOND)

    def _like(self, streams: frozenset[str]) -> Write:
        """Make a write up that moves just these streams, if that is easy."""
        write = self._write()
        for _ in range(40):
            draft = Draft(self._world.store.state)
            if perform(draft, write) and draft.touched.keys() == streams:
                break
            write = self._write()
        return write

    def _seconds(self) -> float:
        spans = (0.001, 0.004, 0.01, 0.05, 0.3, 0.9, self._staleness_s * 0.6, self._staleness_s + 0.1)
        paces = ((40, 30, 20, 10, 1, 0.5, 0.3, 0.1), (40, 30, 20, 10, 4, 2, 1, 0.3), (20, 20, 20, 20, 10, 10, 4, 1))
        return self._rng.choices(spans, paces[self._world.setting.pace])[0]

    def _questions(self) -> tuple[Asked, ...]:
        count = self._rng.choices((1, 2, 4), (80, 12, 8))[0]
        return tuple(self._rng.choice(self._pool) for _ in range(count))

    def _demands(self) -> tuple[int, ...]:
        if self._rng.random() < 0.65:
            return ()
        return tuple(min(int(self._rng.expovariate(0.5)), DEMANDED) for _ in range(self._rng.choice((1, 1, 2))))
