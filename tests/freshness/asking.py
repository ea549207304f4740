"""One asking of one process: the question as the product gets it, and its answer as the oracle judges it.

An asking notes by which policy and at which instant the product decided, since both may change while it waits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.answering import answer
from sidecar.readings import Loaded
from sidecar.wire import Batch
from store.tokens import Token
from tests.freshness.oracle import Demand, Heard, Span, ViolationError, is_below, shown
from tests.freshness.process import Process
from tests.freshness.scene import Asked

if TYPE_CHECKING:
    from tests.freshness.episode import World


class Known(NamedTuple):
    """A token that somebody was given, and whether it was for a write."""

    token: str
    is_of_write: bool


class Judged(NamedTuple):
    """An answer that breaks no law, and the times whose facts it may stand on."""

    heard: Heard
    token: Token
    spans: list[Span]


class Asking:
    """One asking of one process.

    Args:
        tokens: of states that the answers must have reached.
    """

    def __init__(self, world: World, process: Process, asked: tuple[Asked, ...], tokens: Sequence[Known] = ()) -> None:
        requests = tuple(each.request() for each in asked)
        self.question = requests[0] if len(requests) == 1 else Batch(requests, "execute_all")
        self.at_least = ",".join(known.token for known in tokens) or None
        self.demands = tuple(Demand(Token.parse(known.token), known.is_of_write) for known in tokens)
        self._world = world
        self._process = process
        self._asked = asked
        self._since = world.step
        self._policy = process.loaded.policy
        self._now = 0

    def is_ahead(self) -> bool:
        """Say whether what is demanded is more than the process has applied."""
        freshness = self._process.keeper.freshness
        for tenant in {asked.tenant or "": None for asked in self._asked}:
            text = freshness.token(tenant)
            if not text:
                return bool(self.demands)
            token = Token.parse(text)
            if any(each.token.line != token.line or is_below(token, each.token, tenant) for each in self.demands):
                return True
        return False

    def attempt(self, loaded: Loaded) -> str:
        """Decide, and remember by what and when."""
        self._policy, self._now = loaded.policy, loaded.policy.clock()
        return answer(self.question, loaded, self._process.ids).text

    def judge(self, name: str, said: str) -> list[Judged]:
        """Judge each answer.

        Args:
            name: of the asking, in the trace.

        Raises:
            ViolationError: one breaks a law.
        """
        told = json.loads(said)
        items = [told] if len(self._asked) == 1 else told["evaluations"]
        return [self._judge_one(name, asked, item) for asked, item in zip(self._asked, items, strict=True)]

    def _judge_one(self, name: str, asked: Asked, item: dict[str, Any]) -> Judged:
        world = self._world
        token = Token.parse(item["context"]["revision"])
        if name != "probe":
            world.say(f"  {name} is told", item["decision"], item["context"]["code"], shown(token))
        heard = Heard(
            asked,
            item,
            self._policy,
            self._now,
            world.loop.now,
            self._since,
            self.demands,
            self._process.promises,
            world.settled,
            world.setting.max_staleness_s,
        )
        try:
            judged = Judged(heard, token, world.chronicle.judge(heard))
        except ViolationError:
            world.say("  broken by", name, "of", self._process.name, *asked)
            raise
        self._process.shows(token, asked.tenant or "", min(span.since for span in judged.spans))
        return judged
