"""One run of the model: a fake database, some processes, and a list of moves, made up at random or played again.

A move is data. Between two moves everything runs until it waits for a gate or a timer, so the moves alone say in which
order things happen: the same moves make the same run, and with some of them left out mostly a similar one.

    gate NAME / lose NAME     a message arrives at the database, or its answer at the process; or is lost
    ask · hint · wait         a question, a reason to poll, time
    write · restore · prune   the database moves on, or back, or forgets old changes
    leave · swap · forget     a process evicts a tenant, or has another policy; or is given up, and must register anew
    down · up · replica       a process has no database, or a copy that lags behind
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from sidecar import keeper, views
from sidecar.answering import questions
from sidecar.errors import PublicError
from sidecar.freshness import StaleError
from store.errors import UnavailableError
from store.facts import NotLoadedError
from store.streams import POLICIES as STREAM
from tests.freshness.asking import Asking, Judged, Known
from tests.freshness.fake_store import REFUSED, Draft, FakeStore, Restored
from tests.freshness.loop import Gates, SteppedLoop
from tests.freshness.oracle import FOREVER, Chronicle, ViolationError, are_one, shown
from tests.freshness.process import Process
from tests.freshness.scene import ALL_QUESTIONS, TENANTS, Asked, policies
from tests.freshness.setting import Setting
from tests.freshness.writes import Write, perform

#: What is done, and what with.
Move = tuple[Any, ...]

SECOND: Final = 1_000_000_000
#: What the wall clock shows when the loop's shows nothing.
BASE: Final = 1_900_000_000 * SECOND
POLICIES: Final = policies()
#: So many tokens of late may be demanded.
TOKENS: Final = 40
#: So many lines of what happened are kept for people.
TRACED: Final = 400
#: In so many moves all that is on its way must have arrived at the end.
MOST_AT_THE_END: Final = 5000


@dataclass(frozen=True, slots=True)
class Commit:
    """Which of all states a write made, and which streams it moved."""

    index: int
    streams: frozenset[str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What somebody waits for: since when, up to where all must have come, and who was given up before."""

    since_s: float
    streams: Mapping[str, int]
    given_up: set[tuple[str, int]]


class World:
    """One episode under way.

    Attributes:
        step: how many moves were made.
        moves: all of them, to be played again.
        trace: what happened, for people; None: nobody wants to know.
    """

    def __init__(self, setting: Setting, *, is_traced: bool = False) -> None:
        self.setting = setting
        self.loop = SteppedLoop()
        self.gates = Gates(self.loop)
        self.store = FakeStore()
        self.chronicle = Chronicle(POLICIES)
        self.tally: Counter[str] = Counter()
        self.step = 0
        self.moves: list[Move] = []
        self.trace: deque[str] | None = deque(maxlen=TRACED) if is_traced else None
        self.max_grants = setting.max_grants
        self.policies = POLICIES
        self.broken: ViolationError | None = None
        self.pending: set[asyncio.Task[None]] = set()
        self.tokens: deque[Known] = deque(maxlen=TOKENS)
        self.down: set[int] = set()
        self.processes: list[Process] = []
        self._receipts: dict[str, Receipt] = {}
        self.settled: dict[str, int] = {}
        self._lost_names: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self.commits: list[Commit] = []
        self.chronicle.note(self.store.state, 0, self.loop.now)

    def say(self, *words: object) -> None:
        """Note what happens."""
        if self.trace is not None:
            self.trace.append(f"{self.step:5} {self.loop.now - 1000:8.3f} {' '.join(map(str, words))}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be there: the loop, the processes, and bounds of caches as the setting says."""
        setting = self.setting
        with ExitStack() as stack:
            for name in ("tenants", "changed", "absent", "placed"):
                stack.enter_context(patch.object(views, f"MAX_{name.upper()}", getattr(setting, f"max_{name}")))
            stack.enter_context(patch.object(keeper, "clock", self.loop.time))
            for policy in POLICIES:
                stack.enter_context(patch.object(policy, "clock", self.now))
            stack.enter_context(self.loop.running())
            for number in range(setting.processes):
                process = Process(self, f"P{number}", POLICIES[0], max_staleness_s=setting.max_staleness_s)
                process.keeper.cache.max_views = setting.max_views
                self.processes.append(process)
            self._tasks = [asyncio.create_task(process.live()) for process in self.processes]
            self.loop.run_until_idle()
            yield

    def now(self) -> int:
        """Return the wall clock."""
        return BASE + round(self.loop.now * SECOND)

    # --- moves -------------------------------------------------------------------------------------

    def make(self, move: Move) -> None:
        """Make a move, and let everything run.

        Raises:
            ViolationError: a law was broken on the way.
        """
        self.step += 1
        self.moves.append(move)
        name, *arguments = move
        self.say(*move)
        try:
            _MOVES[name](self, *arguments)
        except ViolationError as error:
            self.broken = self.broken or error
        self.loop.run_until_idle()
        if self._receipts and self._settle():
            self._probe_all()
        if self.loop.faults and self.broken is None:
            self.broken = ViolationError("every_question_is_answered", self.loop.faults[0])
        if self.broken is not None:
            raise self.broken

    def _gate(self, kind: str, rank: int) -> None:
        owner = int(kind[1 : kind.index(".")])
        self.gates.let_pass(kind, rank, UnavailableError("it is down") if owner in self.down else None)
        if kind.endswith(("poll.answer", "load.answer")):
            self.loop.run_until_idle()
            self.processes[owner].check_held()
            self._probe(self.processes[owner])

    def _lose(self, kind: str, rank: int) -> None:
        self.gates.let_pass(kind, rank, UnavailableError("it does not answer"))

    def _hint(self, number: int) -> None:
        self.processes[number].keeper.freshness.wake.set()

    def _wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        self._probe_all()

    def _write(self, write: Write, has_receipt: bool) -> None:
        draft = Draft(self.store.state)
        if not perform(draft, write):
            return
        self._numbers["r"] += has_receipt
        receipt = f"r{self._numbers['r']}" if has_receipt else None
        self.commits.append(Commit(len(self.store.past), frozenset(draft.touched)))
        state = self.store.commit(draft, receipt)
        if receipt is not None:
            given_up = {(name, state.processes[name]) for name in state.given_up}
            self._receipts[receipt] = Receipt(self.loop.now, state.waiting[receipt], given_up)
        self.chronicle.note(state, self.step, self.loop.now)
        arguments = write[1]
        tenant = arguments[0] if arguments and arguments[0] in TENANTS else TENANTS[self.step % 2]
        self.tokens.append(Known(str(state.token(tenant)), True))
        self.tally["writes"] += 1
        self.say("  now", *(f"{stream}{at.n}" for stream, at in state.at.items()))

    def _restore(self, back: int, kind: Restored) -> None:
        state = self.store.restore(back, kind)
        self.chronicle.note(state, self.step, self.loop.now, is_restore=True)
        for process in self.processes:
            process.release()
        self._receipts.clear()
        self.settled.clear()
        self._lost_names = {process.name for process in self.processes} - state.processes.keys()
        self.tally["restores"] += 1
        self.say("  back to", *(f"{stream}{at.n}" for stream, at in state.at.items()))

    def _prune(self, stream: str) -> None:
        self.store.prune(stream)

    def _leave(self, number: int, tenant: str) -> None:
        self.processes[number].keeper.cache.leave(tenant)

    def _swap(self, number: int, which: int) -> None:
        self.processes[number].swap(POLICIES[which])

    def _forget(self, number: int) -> None:
        self.store.give_up(self.processes[number].name)

    def _settle(self) -> bool:
        """Note which receipts are settled, as `store.settling` says it: from now on nobody answers from before. Return
        whether there is a new one."""
        self._lost_names -= self.store.state.processes.keys()
        if self._lost_names:
            return False  # a restore lost their registrations, and they may not know yet: nobody can wait for them
        settled = [name for name, receipt in self._receipts.items() if self._is_settled(name, receipt)]
        for name in settled:
            receipt = self._receipts.pop(name)
            self.tally["settled"] += 1
            self.say(f"  {name} is settled:", *(f"{stream}{n}" for stream, n in receipt.streams.items()))
            for stream, n in receipt.streams.items():
                self.settled[stream] = max(n, self.settled.get(stream, 0))
        return bool(settled)

    def _is_settled(self, name: str, receipt: Receipt) -> bool:
        """Say whether all have given a receipt, or whoever has not would be stale. Who waited for one that was given up
        all the time removes it then."""
        state = self.store.state
        missing = {(each, serial) for each, serial in state.processes.items() if (name, each) not in state.acks}
        if not missing:
            return True
        if self.loop.now - receipt.since_s <= self.setting.max_staleness_s:
            return False
        given_up = {(each, serial) for each, serial in missing & receipt.given_up if each in state.given_up}
        if STREAM in receipt.streams and given_up != missing:
            return False  # who refuses what is published goes on with what decided before
        gone = {each for each, _ in given_up}
        if gone:
            self.store.unregister(gone)
            self.tally["removed"] += len(gone)
            self.say("  removed:", *sorted(gone))
        self.tally["settled by the bound"] += 1
        return True

    def _down(self, number: int) -> None:
        self.down.add(number)

    def _up(self) -> None:
        self.down.clear()
        for process in self.processes:
            process.reader.replica = None

    def _replica(self, number: int, back: int) -> None:
        past = self.store.past
        self.processes[number].reader.replica = past[max(0, len(past) - 1 - back)]

    def _ask(self, number: int, asked: tuple[Asked, ...], demanded: tuple[int, ...]) -> None:
        known = len(self.tokens)
        tokens = tuple(self.tokens[-1 - back] for back in demanded if back < known)
        task = asyncio.create_task(self._hear(self.processes[number], asked, tokens))
        self.pending.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.pending.discard(task)
        if task.cancelled() or self.broken is not None:
            return
        error = task.exception()
        if isinstance(error, ViolationError):
            self.broken = error
        elif error is not None:
            self.broken = ViolationError("every_question_is_answered", f"raised {error!r}")

    # --- questions ---------------------------------------------------------------------------------

    async def _hear(self, process: Process, asked: tuple[Asked, ...], tokens: Sequence[Known]) -> None:
        """Ask, and judge the answer."""
        self._numbers["Q"] += 1
        name = f"Q{self._numbers['Q']}"
        asking = Asking(self, process, asked, tokens)
        demanded = ["with", *(shown(each.token) for each in asking.demands)] if tokens else []
        self.say(f"  {name} asks {process.name}", *asked, *demanded)
        self.tally["decisions"] += len(asked)
        is_ahead = asking.is_ahead()
        process.recent.extend(asked)
        try:
            said = await process.decider.answer(asking.attempt, questions(asking.question), asking.at_least)
        except StaleError:
            self._count_stale(name, "stale", len(asked))
            return
        except PublicError as error:
            if error.code != "stale":
                raise
            self._count_stale(name, "stale with tokens", len(asked))
            return
        self._count_real(asking.judge(name, said))
        self.tally["caught up for tokens"] += is_ahead

    def _probe_all(self) -> None:
        for process in self.processes:
            self._probe(process)

    def _probe(self, process: Process) -> None:
        """Ask again what was asked before, as far as it is answered at once: what is wrong in memory shows at once."""
        if self.broken is not None or not process.keeper.freshness.is_fresh():
            return
        listed = tuple(dict.fromkeys(process.recent))
        restored = self.chronicle.restored
        if process.swept < restored < process.promises.seen:
            process.swept, listed = restored, listed + ALL_QUESTIONS[restored % 3 :: 3]
        for asked in listed:
            asking = Asking(self, process, (asked,))
            with suppress(NotLoadedError):
                said = asking.attempt(process.loaded)
                self.tally["probes"] += 1
                try:
                    asking.judge("probe", said)
                except ViolationError as error:
                    self.broken = error
                    return

    def _count_stale(self, name: str, why: str, number: int) -> None:
        self.say(f"  {name} is {why}")
        self.tally[why] += number

    def _count_real(self, found: list[Judged]) -> None:
        """Count answers, by what makes them hard to give."""
        tally, restored = self.tally, self.chronicle.restored
        tally["real"] += len(found)
        for heard, token, spans in found:
            tally["allowed"] += heard.said["decision"]
            tally["of the past"] += all(span.until < FOREVER for span in spans)
            tally["after an expiry"] += self.chronicle.is_of_time(heard, spans)
            tally["by what is published"] += all(span.published not in (None, REFUSED) for span in spans)
            tally["behind what is published"] += all(token.p < span.p for span in spans)
            tally["after restores"] += -1 < restored < heard.promises.seen
            tally["bound by receipts"] += bool(heard.settled or heard.promises.receipts)
            for demand in heard.demands:
                tally["to tokens of writes" if demand.is_of_write else "to tokens of answers"] += 1
            self.tokens.append(Known(str(token), False))
        self._count_batch(found)

    def _count_batch(self, found: list[Judged]) -> None:
        """Count batches over several tenants, and those whose answers never stood together: nobody promises that."""
        if len({each.heard.asked.tenant for each in found}) > 1:
            self.tally["batches over tenants"] += 1
            self.tally["of several moments"] += not are_one(each.spans for each in found)

    # --- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let everything come to an end, without faults.

        Raises:
            ViolationError: a question stays without an answer, or a receipt is not given.
        """
        self.make(("up",))
        if self.store.state.published == REFUSED:
            self.make(("write", ("publish", (0,)), False))
        for _ in range(2):
            self.make(("wait", keeper.RETRY_S))
            for number in range(len(self.processes)):
                self.make(("hint", number))
            self._settle_down()
        if self.pending:
            raise ViolationError("every_question_is_answered", f"{len(self.pending)} have no answer")
        state = self.store.state
        due = {(receipt, name) for receipt in state.waiting for name in state.processes}
        self.tally["receipts due"] += len(due)
        if due - state.acks:
            raise ViolationError("every_receipt_is_given", f"{sorted(due - state.acks)}")

    def _settle_down(self) -> None:
        for _ in range(MOST_AT_THE_END):
            names = self.gates.names()
            if not names:
                return
            self.make(("gate", *names[0]))


_MOVES: Final[dict[str, Callable[..., None]]] = {
    "gate": World._gate,
    "lose": World._lose,
    "hint": World._hint,
    "wait": World._wait,
    "write": World._write,
    "restore": World._restore,
    "prune": World._prune,
    "leave": World._leave,
    "swap": World._swap,
    "forget": World._forget,
    "down": World._down,
    "up": World._up,
    "replica": World._replica,
    "ask": World._ask,
}
