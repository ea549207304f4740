"""Seeded mistakes: each takes one check out of the product, and the checker must find it.

A mistake is text in one function and what stands there instead, as in `tests.mutants`, or a function in place of
another; it is made in memory, for as long as it is tried. Where two checks stand behind each other, both are taken out.

Not among them, since nothing finds it, is the lack of a check that says no only where another one does:

- a receipt is only given for what is applied (`Freshness._has_applied`): a poll shows a receipt and the revisions that
  it is for in one snapshot, so whoever applies the poll has them
- a tenant is adopted only beside the shared facts that its load saw (`Loader._take_into_use`): a load that saw others
  began before a poll that was applied since, which is asked, too
- a snapshot that is read for one answer is not too old (`StoreDecider._may_answer`): a time limit ends it before

That facts are no younger than the load of a tenant that a poll did not ask for, or that a load took into use, is hardly
ever seen in random runs: `tests.sidecar.test_freshness` looks at it. It looks, too, at what is told of the policy that
decides where a restore brought other publications, of which one cannot be had.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from unittest.mock import patch

from sidecar.freshness import Freshness
from store.streams import GLOBAL, POLICIES
from tests.freshness import fake_store
from tests.freshness.process import FakeReader, SeenPolled

#: `module:function` or `module:Class.function`; its text, or None for all of it; and what is there instead.
Edit = tuple[str, str | None, str | Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A seeded mistake.

    Args:
        seed: of a run that finds it soon.
    """

    name: str
    seed: int
    edits: tuple[Edit, ...]


def _one(name: str, seed: int, place: str, text: str, instead: str) -> Mistake:
    return Mistake(name, seed, ((place, text, instead),))


async def _polls_twice(reader: FakeReader, known: str) -> SeenPolled:
    """Read what all tenants share, and then what each owns."""
    call = reader.call("poll")
    await call.arrives("request")
    first = fake_store.poll(reader.state(), known, reader.name)
    step = reader.stage.step
    await call.arrives("answer")
    then = fake_store.poll(reader.state(), known, reader.name)
    at, changes = dict(then.at), dict(then.changes)
    for stream in (GLOBAL, POLICIES):
        at[stream], changes[stream] = first.at[stream], first.changes.get(stream, [])
    return SeenPolled(first.moment, at, changes, first.waiting, first.is_registered, step)


async def _polls_at_once(freshness: Freshness) -> None:
    await freshness._poll_once()


async def _joins_the_poll_under_way(freshness: Freshness) -> None:
    running = freshness._running
    if running is None or running.done():
        running = freshness._running = asyncio.create_task(freshness._poll_once())
        running.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.shield(running)


_COUNTS: Final = "sidecar.freshness:Freshness._counts"
_TOKEN: Final = "sidecar.freshness:Freshness.token"
_ADVANCE: Final = "sidecar.freshness:Freshness._advance"
_APPLY: Final = "sidecar.freshness:Freshness.apply"
_BOUNDED: Final = "sidecar.views:StreamViews.forget_changes"
_CURRENT: Final = "sidecar.views:StreamViews.is_current"
_FALLBACK: Final = "sidecar.decider:StoreDecider._answer_from_snapshots"
_FOLLOWS: Final = "sidecar.freshness:_follows"
_FRESH: Final = "sidecar.freshness:Freshness.is_fresh"
_MAY: Final = "sidecar.decider:StoreDecider._may_answer"
_NOTE: Final = "sidecar.views:StreamViews.note"
_PASSED: Final = "sidecar.loader:_has_passed"
_POLL: Final = "sidecar.freshness:Freshness.poll"
_REACHED: Final = "sidecar.freshness:Freshness._has_reached"
_SENT: Final = "sidecar.freshness:Freshness._poll_once"
_TAKE: Final = "sidecar.loader:Loader._take_into_use"
_UNASKED: Final = "sidecar.freshness:Freshness._judge_unasked"
_REMEMBER: Final = "sidecar.freshness:Freshness._remember"
_MAY_SHOW: Final = "sidecar.freshness:Freshness.may_show"
_SHOWN: Final = "sidecar.freshness:Freshness._shown"
_WHOLE: Final = "sidecar.freshness:_is_whole"

MISTAKES: Final = (
    Mistake(
        "no catch-up",
        1,
        (
            ("sidecar.loader:Loader._is_applied", "found.at(POLICIES).n <= self._freshness.policies.n", "True"),
            (_PASSED, "return ", "return at.n > stream.at.n or "),
            (_CURRENT, "<= self.at.n", "< float('inf')"),
        ),
    ),
    Mistake("split poll", 1, (("tests.freshness.process:FakeReader.poll", None, _polls_twice),)),
    Mistake("polls side by side", 1, ((_POLL, None, _polls_at_once),)),
    Mistake("a poll under way will do", 6, ((_POLL, None, _joins_the_poll_under_way),)),
    _one("cached chain", 1, _ADVANCE, "self._on_change(tenants if", "self._on_change([] if"),
    _one("memos of an evicted tenant", 5, "sidecar.views:Cache.leave", "self.on_turn(tenant)", "pass"),
    _one("late store", 1, _CURRENT, "self.changed.get(key, 0)", "0"),
    _one("floor ignored", 1, _CURRENT, "self.floor <= ", "0 <= "),
    _one("forgotten changes", 1, _BOUNDED, "self.floor = self.at.n", "pass"),
    _one("absence outlives a change", 1, _NOTE, "self.absent.pop(key, None)", "pass"),
    _one("roles by place outlive a change", 3, _NOTE, "self.placed.clear()", "pass"),
    _one("stamp at the answer", 7, _SENT, "asked, sent, ", "asked, self.clock(), "),
    _one("adopted apart", 1, _TAKE, "is_apart or ", ""),
    _one("adopted from the past", 1, _SHOWN, 'self.cache.shown(tenant or "")', "-1"),
    _one("adopted from a lost history", 1, _MAY_SHOW, "since.history == self._histories and ", ""),
    _one("unasked tenants stay", 7, _UNASKED, "is_moved or before is not None", "False"),
    _one("acknowledged for whoever comes", 7, _REMEMBER, "self.cache.show(tenant, n)", "pass"),
    _one("heads ignored", 1, _FOLLOWS, " or (at.n == before.n and at.head != before.head)", ""),
    _one("heads before ignored", 4, _FOLLOWS, " or changes[0].before == before.head", " or True"),
    _one("heads of loads ignored", 7, _PASSED, "stream.head_at(at.n) == at.head", "at.n <= stream.at.n"),
    _one("gap ignored", 5, _WHOLE, "return [", "return True or ["),
    _one("snapshot not compared", 6, _MAY, "freshness.may_show(private.at, since)", "True"),
    _one("a snapshot that was undone", 2, _FALLBACK, "may_be_undone or ", ""),
    _one("snapshots of two states", 8, _MAY, "private.is_one and", ""),
    _one("receipt without registration", 1, _APPLY, "if not self.is_registered:", "if False:"),
    _one("a replica believed", 6, _APPLY, "if self.is_replica:", "if False:"),
    _one("a token's tenant ignored", 3, _REACHED, "return all(", "return True or all("),
    _one("another line's token ignored", 3, _REACHED, "return is_polled and ", "return True or "),
    _one("age ignored", 1, _FRESH, "return ", "return True or "),
    _one(
        "a policy counts before it is had",
        1,
        _APPLY,
        "    self.decided_by = self.policies.n",
        "self.decided_by = self.policies.n",
    ),
    _one("receipts for what is not had", 7, _COUNTS, "self.decided_by if stream == POLICIES else ", ""),
    _one("a token of what is not had", 1, _TOKEN, "self.decided_by, g, tenant", "self.policies.n, g, tenant"),
    _one("demanded of what is not had", 1, _REACHED, "token.p > self.decided_by", "token.p > self.policies.n"),
    _one("the policy before comes back", 7, _APPLY, "not self.is_fresh()", "False"),
    _one("a policy that a snapshot is ahead of", 8, _MAY, " and private.at.get(POLICIES) == freshness.policies", ""),
    Mistake(
        "a standing kept past its time",
        1,
        (
            ("engine.space:Space.standing", "known.since <= now < known.until", "True"),
            ("engine.policy:Policy.decide", "s.since <= now < s.until", "True"),
        ),
    ),
)


@contextmanager
def seeded(mistake: Mistake) -> Iterator[None]:
    """Have the product make a mistake.

    Raises:
        LookupError: the text does not stand in its function just once.
    """
    with ExitStack() as stack:
        for edit in mistake.edits:
            owner, name, made = _edited(*edit)
            stack.enter_context(patch.object(owner, name, made))
        yield


def _edited(place: str, text: str | None, instead: str | Callable[..., Any]) -> tuple[Any, str, Any]:
    """Make a function anew; return where it stands."""
    module, _, path = place.partition(":")
    *classes, name = path.split(".")
    owner: Any = import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    if text is None or not isinstance(instead, str):
        return owner, name, instead
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(text) != 1:
        raise LookupError(f"{place}: {source.count(text)} × {text!r}")
    made: dict[str, Any] = {}
    exec(compile(source.replace(text, instead), place, "exec"), function.__globals__, made)  # noqa: S102  # it is ours
    return owner, name, made[name]
