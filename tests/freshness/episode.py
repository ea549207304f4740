"""One run of the model: a fake database, some processes, and a list of moves, made up at random or played again.

A move is data. Between two moves everything runs until it waits for a gate or a timer, so the moves alone say in which
order things happen: the same moves make the same run, and with some of them left out mostly a similar one.

    gate NAME / lose NAME     a message arrives at the database, or its answer at the process; or is lost
    ask · hint · wait         a question, a reason to poll, time
    write · restore · prune   the database moves on, or back, or forgets old changes
    leave · swap · forget     a process evicts a tenant, or has another policy; it is no longer registered
    down · up · replica       a process has no database, or a copy that lags behind
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from unittest.mock import patch

from sidecar import keeper, views
from sidecar.errors import PublicError
from sidecar.freshness import StaleError
from sidecar.handlers.check import answer, questions
from sidecar.readings import Loaded
from sidecar.source import NotLoadedError
from sidecar.wire import Batch
from store.errors import UnavailableError
from store.streams import stream_of
from store.tokens import Token
from tests.freshness.fake_store import Draft, FakeStore
from tests.freshness.loop import Gates, SteppedLoop
from tests.freshness.oracle import Chronicle, Demand, Heard, Span, ViolationError, are_one, shown
from tests.freshness.process import Process
from tests.freshness.scene import ALL_QUESTIONS, TENANTS, Asked, make_question, policies
from tests.freshness.writes import make_write, perform

Move = tuple[Any, ...]

SECOND: Final = 1_000_000_000
BASE: Final = 1_900_000_000 * SECOND
#: How far behind the writes that are demanded lie, at most.
DEMANDED: Final = 6
POLICIES: Final = policies()


@dataclass(frozen=True, slots=True)
class Setting:
    """What an episode is like: some are calm, some are wild, each in its own way."""

    processes: int
    max_staleness_s: float
    max_views: int
    max_tenants: int
    max_changed: int
    max_absent: int
    max_placed: int
    max_grants: int
    pace: int
    slow: str
    tenants: tuple[str, ...]
    questions: int
    weights: tuple[tuple[str, float], ...]


#: How often each move is made, beside the gates.
WEIGHTS: Final = {
    **{"ask": 15.0, "write": 9.0, "hint": 3.0, "wait": 5.0, "lose": 0.5, "leave": 0.4, "prune": 0.5, "restore": 0.2},
    **{"swap": 0.1, "late": 0.08, "forget": 0.5, "down": 0.08, "up": 1.2, "replica": 0.04},
}


#: Messages that may be the slow ones of an episode.
SLOW: Final = (
    "poll.request",
    "poll.answer",
    "poll.answer",
    "load.begin",
    "load.answer",
    "register.request",
    "ack.request",
)


def make_setting(rng: Random) -> Setting:
    """Make a setting up."""
    factors: dict[str, float] = {name: rng.choice((0, 0.3, 1, 1, 3, 8)) for name in WEIGHTS}
    factors |= {"ask": 1, "up": 1, "wait": rng.choice((0.3, 1, 2)), "write": rng.choice((0.3, 1, 1, 2.5))}
    factors["down"] = rng.choice((0, 0, 1, 3))
    factors["lose"] = rng.choice((0, 0.3, 1, 1, 2.5))
    return Setting(
        processes=rng.choice((1, 2, 2, 3)),
        max_staleness_s=rng.choice((0.8, 1.5, 4.0)),
        max_views=rng.choice((10_000, 10_000, 10_000, 40, 15, 6)),
        max_tenants=rng.choice((10_000, 10_000, 10_000, 2, 1)),
        max_changed=rng.choice((10_000, 10_000, 8, 3)),
        max_absent=rng.choice((10_000, 10_000, 3)),
        max_placed=rng.choice((10_000, 10_000, 3)),
        max_grants=rng.choice((1000, 2, 1)),
        pace=rng.randrange(3),
        slow=rng.choice(("", "", *SLOW)),
        tenants=rng.choice((TENANTS[:1], TENANTS[:2], TENANTS[:2], TENANTS)),
        questions=rng.choice((5, 10, 20, 60)),
        weights=tuple((name, weight * factors[name]) for name, weight in WEIGHTS.items()),
    )


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
        self.chronicle = Chronicle()
        self.tally: Counter[str] = Counter()
        self.step = 0
        self.moves: list[Move] = []
        self.trace: deque[str] | None = deque(maxlen=400) if is_traced else None
        self.max_grants = setting.max_grants
        self.broken: ViolationError | None = None
        self.pending: set[asyncio.Task[None]] = set()
        self.tokens: deque[tuple[str, bool]] = deque(maxlen=40)
        self.down: set[int] = set()
        self.processes: list[Process] = []
        self._receipts: dict[str, tuple[float, dict[str, int]]] = {}
        self.settled: dict[str, int] = {}
        self._lost_names: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self.commits: list[frozenset[str]] = []
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
                stack.enter_context(patch.object(policy, "clock", self._now))
            stack.enter_context(self.loop.running())
            for number in range(setting.processes):
                limits = {"max_staleness_s": setting.max_staleness_s, "max_views": setting.max_views}
                self.processes.append(Process(self, f"P{number}", POLICIES[0], **limits))  # type: ignore[arg-type]  # its int is one
            self._tasks = [asyncio.create_task(process.live()) for process in self.processes]
            self.loop.run_until_idle()
            yield

    def _now(self) -> int:
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

    def _write(self, write: Any, has_receipt: bool) -> None:
        draft = Draft(self.store.state)
        if not perform(draft, write):
            return
        self._numbers["r"] += has_receipt
        receipt = f"r{self._numbers['r']}" if has_receipt else None
        self.commits.append(frozenset(draft.touched))
        state = self.store.commit(draft, receipt)
        if receipt is not None:
            self._receipts[receipt] = self.loop.now, dict(state.waiting[receipt])
        self.chronicle.note(state, self.step, self.loop.now)
        arguments = write[1]
        tenant = arguments[0] if arguments and arguments[0] in TENANTS else TENANTS[self.step % 2]
        self.tokens.append((str(state.token(tenant)), True))
        self.tally["writes"] += 1
        self.say("  now", *(f"{stream}{at.n}" for stream, at in state.at.items()))

    def _restore(self, back: int, kind: Any) -> None:
        state = self.store.restore(back, kind)
        self.chronicle.note(state, self.step, self.loop.now, is_restore=True)
        for process in self.processes:
            process.release()
        self._receipts.clear()
        self.settled.clear()
        self._lost_names = {process.name for process in self.processes} - state.processes
        self.tally["restores"] += 1
        self.say("  back to", *(f"{stream}{at.n}" for stream, at in state.at.items()))

    def _prune(self, stream: str) -> None:
        self.store.prune(stream)

    def _leave(self, number: int, tenant: str) -> None:
        self.processes[number].keeper.cache.leave(tenant)

    def _swap(self, number: int, which: int) -> None:
        self.processes[number].swap(POLICIES[which])

    def _forget(self, number: int) -> None:
        """Remove a process from those that receipts are waited for from: one that was silent for long, and still is."""
        process = self.processes[number]
        is_polling = (f"{process.name}.poll.answer", 0) in self.gates.names()
        if not is_polling and not process.keeper.freshness.is_fresh():
            self.store.unregister(process.name)

    def _settle(self) -> bool:
        """Note which receipts are settled, as `store.settling` says it: from now on nobody answers from before. Return
        whether there is a new one."""
        state = self.store.state
        self._lost_names -= state.processes
        if self._lost_names:
            return False  # a restore lost their registrations, and they may not know yet: nobody can wait for them
        count = len(self._receipts)
        for receipt, (since, streams) in list(self._receipts.items()):
            missing = [name for name in state.processes if (receipt, name) not in state.acks]
            if not missing or self.loop.now - since > self.setting.max_staleness_s:
                del self._receipts[receipt]
                self.tally["settled"] += 1
                self.say(f"  {receipt} is settled:", *(f"{stream}{n}" for stream, n in streams.items()))
                for stream, n in streams.items():
                    self.settled[stream] = max(n, self.settled.get(stream, 0))
        return len(self._receipts) < count

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

    async def _hear(self, process: Process, asked: tuple[Asked, ...], tokens: Sequence[tuple[str, bool]]) -> None:
        """Ask, and judge the answer."""
        self._numbers["Q"] += 1
        name = f"Q{self._numbers['Q']}"
        self.say(
            f"  {name} asks {process.name}", *asked, *(["with", *(_shown(t) for t, _ in tokens)] if tokens else [])
        )
        self.tally["decisions"] += len(asked)
        process.recent.extend(asked)
        asking = Asking(self, process, asked, tokens)
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
        self.tally["real"] += len(asked)
        self.tally["asked with tokens"] += bool(tokens)
        found = asking.judge(name, said)
        for _, item, _ in found:
            self.tally["allowed"] += item["decision"]
            self.tokens.append((item["context"]["revision"], False))
        self._count_batch([(one, spans) for one, _, spans in found])

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
            asking = Asking(self, process, (asked,), ())
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

    def _count_batch(self, found: list[tuple[Asked, list[Span]]]) -> None:
        """Count batches over several tenants, and those whose answers never stood together: nobody promises that."""
        if len({one.tenant for one, _ in found}) > 1:
            self.tally["batches over tenants"] += 1
            self.tally["of several moments"] += not are_one(spans for _, spans in found)

    # --- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let everything come to an end, without faults.

        Raises:
            ViolationError: a question stays without an answer, or a receipt is not given.
        """
        self.make(("up",))
        for _ in range(2):
            for number in range(len(self.processes)):
                self.make(("hint", number))
            self._settle_down()
        if self.pending:
            raise ViolationError("every_question_is_answered", f"{len(self.pending)} have no answer")
        state = self.store.state
        due = {(receipt, name) for receipt in state.waiting for name in state.processes}
        if due - state.acks:
            raise ViolationError("every_receipt_is_given", f"{sorted(due - state.acks)}")

    def _settle_down(self) -> None:
        for _ in range(5000):
            names = self.gates.names()
            if not names:
                return
            self.make(("gate", *names[0]))


class Asking:
    """One asking of one process."""

    def __init__(
        self, world: World, process: Process, asked: tuple[Asked, ...], tokens: Sequence[tuple[str, bool]]
    ) -> None:
        requests = tuple(each.request() for each in asked)
        self.question = requests[0] if len(requests) == 1 else Batch(requests, "execute_all")
        self.at_least = ",".join(token for token, _ in tokens) or None
        self._world = world
        self._process = process
        self._asked = asked
        self._demands = tuple(Demand(Token.parse(token), is_of_write) for token, is_of_write in tokens)
        self._since = world.step
        self._policy = process.loaded.policy
        self._now = 0

    def attempt(self, loaded: Loaded) -> str:
        """Decide, and remember by what and when."""
        self._policy, self._now = loaded.policy, loaded.policy.clock()
        return answer(self.question, loaded, self._process.ids)

    def judge(self, name: str, said: str) -> list[tuple[Asked, Any, list[Span]]]:
        """Judge each answer; return what it may stand on.

        Raises:
            ViolationError: it breaks a law.
        """
        told = json.loads(said)
        answers = [told] if len(self._asked) == 1 else told["evaluations"]
        return [(one, item, self._judge_one(name, one, item)) for one, item in zip(self._asked, answers, strict=True)]

    def _judge_one(self, name: str, asked: Asked, item: Any) -> list[Span]:
        world = self._world
        context = item["context"]
        if name != "probe":
            world.say(f"  {name} is told", item["decision"], context["code"], _shown(context["revision"]))
        heard = Heard(
            asked,
            item,
            self._policy,
            self._now,
            world.loop.now,
            self._since,
            self._demands,
            self._process.promises,
            world.settled,
            world.setting.max_staleness_s,
        )
        try:
            return world.chronicle.judge(heard)
        except ViolationError:
            world.say("  broken by", name, "of", self._process.name, *asked)
            raise


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


def _shown(token: str) -> str:
    return shown(Token.parse(token))


# --- moves made up ------------------------------------------------------------------------------------


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
                return name, self._ready(number), self._questions(), self._demands()
            case "hint" | "down":
                return name, number
            case "forget":
                return self._forget()
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
                return self._restore()
            case "swap":
                return name, number, rng.randrange(2)
            case "late":
                return self._late(number)
            case "replica":
                return name, number, rng.randrange(12)
            case _:
                return ("up",)

    def _ready(self, number: int) -> int:
        """Mostly prefer a process that has an answer: the others have but one."""
        fresh = [at for at, each in enumerate(self._world.processes) if each.keeper.freshness.is_fresh()]
        return self._rng.choice(fresh) if fresh and self._rng.random() < 0.9 else number

    def _forget(self) -> Move:
        """Forget a process that was silent for long, have it poll, and ask for a receipt that it is not asked for."""
        late = [at for at, each in enumerate(self._world.processes) if not each.keeper.freshness.is_fresh()]
        if not late:
            return ("up",)
        number = self._rng.choice(late)
        gates = (("gate", f"P{number}.poll.{what}", 0) for what in ("request", "answer"))
        self._ahead.extend((("hint", number), *gates, ("write", self._write(), True)))
        return "forget", number

    def _late(self, number: int) -> Move:
        """Have the answer to a poll come late, and then no other for a while."""
        poll, pause = f"P{number}.poll", ("wait", self._staleness_s * 0.6)
        written: Move = ("write", self._write(), False)
        self._ahead.extend((("gate", f"{poll}.request", 0), written, pause, ("gate", f"{poll}.answer", 0), pause))
        return "hint", number

    def _restore(self) -> Move:
        """Go back, and maybe on from there to the very numbers that there were, or past them."""
        rng, commits = self._rng, self._world.commits
        back = min(rng.choice((1, 1, 2, 3, 5, 8, 13)), len(commits))
        if rng.random() < 0.8:
            again = commits[len(commits) - back :]
            again = [*again[: rng.choice((0, 0, 1))], *again][:4]
            self._ahead.extend(("write", self._like(streams), False) for streams in again)
        return "restore", back, rng.choice(("silent", "silent", "timeline", "renewed"))

    def _write(self) -> Any:
        return make_write(self._rng, self._world.setting.tenants, self._world._now(), SECOND)

    def _like(self, streams: frozenset[str]) -> Any:
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
