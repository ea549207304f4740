"""Several processes on one port: `--workers N`.

A supervisor takes the address and starts N children, each a whole service of its own; it replaces those that die, and
decides nothing. The children share the address, and a directory in which they ask each other for metrics (`siblings`).

    supervisor ── settings, then nothing until it is gone ──▶ stdin    child  ◀── requests
               ◀── that it is ready, or why it cannot be ─── stdout

Settings may hold a password, which a command line would show to everybody on the machine: so they go through standard
input. That pipe stays open as the line of life. When it ends the supervisor is gone, however it went, and the child
stops as it would on SIGTERM.

Each child has a socket of its own, which the supervisor opens for it, so that the kernel spreads connections evenly and
gives none to a child that died. From one common socket whoever wakes first takes all that wait: of four children one
was seen with 55 of 64 connections that stayed open, another with none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from engine.errors import BylawError
from sidecar import addresses, doors
from sidecar.beside import Beside, with_beside
from sidecar.doors import Doors
from sidecar.logs import set_up, tell
from sidecar.settings import Settings
from sidecar.siblings import Siblings, forget

#: How long a child may take to end beside what it has in flight, before it is killed. The whole has 10 s.
END_S: Final = 1.5
#: Between the end of a child that died young and the start of the next: the first pause, and the longest.
PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
#: A child that lived so long did not die at once.
STEADY_S: Final = 10.0
#: Longest line that a child may say: the errors of a policy can be many.
MAX_LINE: Final = 1 << 24


def serve(settings: Settings, *, beside: Beside | None = None) -> int:
    """Serve with as many processes as the settings say, until told to stop; return the exit code.

    Args:
        beside: another service, in this process.
    """
    is_person = settings.dev or sys.stdout.isatty()  # trying it out, the text is wanted in a file too
    if settings.workers > 1:
        return asyncio.run(_supervise(settings, is_person=is_person, beside=beside))
    from sidecar.app import run  # a supervisor needs nothing of it

    return run(settings, is_person=is_person, beside=beside)


# --- the supervisor -----------------------------------------------------------------------------------


async def _supervise(settings: Settings, *, is_person: bool, beside: Beside | None) -> int:
    try:
        place = Doors.open(settings)
    except OSError as error:
        from sidecar.app import failure

        tell(failure(error, settings), settings.log_format)
        return 2
    if place.problem is not None:
        tell(f"bylaw: {place.problem}", settings.log_format, level=logging.WARNING)
    addresses.hold(place.all)
    paths = place.paths
    meeting = _make_meeting(settings.log_format)
    try:
        if beside is not None:
            await beside.start(None)
        return await Supervisor(settings, place, is_person=is_person, meeting=meeting, beside=beside).run()
    except BylawError as error:  # of what is beside: children tell their own
        from sidecar.app import failure

        tell(failure(error, settings), settings.log_format)
        return 2
    finally:
        if beside is not None:
            await beside.stop()
        doors.close(place.all)
        for path in paths:
            addresses.remove(path)
        if meeting is not None:
            shutil.rmtree(meeting, ignore_errors=True)


def _make_meeting(log_format: str) -> Path | None:
    """Make the directory where children ask each other: nobody else may enter. None: there is nowhere to make it, and
    then each tells of itself alone."""
    try:
        return Path(tempfile.mkdtemp(prefix="bylaw-"))
    except OSError as error:
        why = f"no directory can be made for them ({error.strerror or error})"
        tell(f"bylaw: /metrics tells of one worker at a time: {why}", log_format, level=logging.WARNING)
        return None


class Supervisor:
    """Keeps N children alive. `run`, once.

    Args:
        place: held sockets.
        meeting: the directory where children ask each other for metrics.
        beside: another service, in this process, which has its say in the greeting.
    """

    def __init__(
        self,
        settings: Settings,
        place: Doors,
        *,
        is_person: bool,
        meeting: Path | None = None,
        beside: Beside | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._greeting = partial(with_beside, beside=beside, as_json=settings.json)
        self._count = settings.workers
        self._log_format = settings.log_format
        self._has_stdout = settings.decision_log != "stdout"  # else that is the log's alone
        self._end_s = settings.drain_s + END_S
        self._meeting = meeting
        self._stdout = os.dup(1)  # a child's own leads to us
        counts = [len(place.http), len(place.envoy)]
        handed = [settings.to_json(), is_person, None if meeting is None else str(meeting), *counts]
        self._handed = json.dumps([*handed, self._stdout]).encode() + b"\n"
        self._sockets = place.all
        self._clock = clock
        self._stopping = asyncio.Event()
        self._children: set[Process] = set()
        self._ready: set[Process] = set()
        self._was_ready = False
        self._has_failed = False

    async def run(self) -> int:
        """Serve until told to stop, or until a child cannot start while none has ever served; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on_hangup)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one())
            group.create_task(self._end_when_told())
        return 2 if self._has_failed else 0

    async def _keep_one(self) -> None:
        """Run one child after the other until told to stop."""
        pause_s = 0.0
        while not self._stopping.is_set():
            began = self._clock()
            said = await self._run_one()
            if self._stopping.is_set():
                return
            pause_s = next_pause(pause_s, self._clock() - began)
            after = f" in {pause_s:g} s" if pause_s else ""
            tell(f"bylaw: {said}; another takes its place{after}", self._log_format, level=logging.WARNING)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _run_one(self) -> str:
        """Run a child to its end; say how it ended."""
        try:
            child = await self._start()
        except OSError as error:
            said = f"no worker could be started ({error.strerror})"
            if not self._was_ready:
                self._fail(f"bylaw: {said}")
            return said
        self._children.add(child)
        if self._stopping.is_set():  # nobody has told it
            _send(signal.SIGTERM, [child])
        try:
            await self._talk(child)
            code = await child.wait()
        finally:
            self._children.discard(child)
            self._ready.discard(child)
            if self._meeting is not None:
                forget(self._meeting, str(child.pid))
        if code > 0 and not self._was_ready:
            self._fail(f"bylaw: worker {child.pid} {ending(code)} before it was ready")
        return f"worker {child.pid} {ending(code)}"

    async def _start(self) -> Process:
        """Start a child, in a group of its own: Ctrl-C is for the supervisor to pass on."""
        sockets = [addresses.beside(each) for each in self._sockets]
        descriptors = [each.fileno() for each in sockets]
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "sidecar", "--worker", *map(str, descriptors)),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=[*descriptors, self._stdout],
                process_group=0,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # what was found here
                limit=MAX_LINE,
            )
        finally:
            doors.close(sockets)  # the child has them, and when it is gone they must be, too

    async def _talk(self, child: Process) -> None:
        """Hand the settings over, and listen to its end."""
        assert child.stdin is not None  # noqa: S101  # for the type: both are pipes
        assert child.stdout is not None  # noqa: S101
        with suppress(ConnectionError):  # it is dead already: how it ended says more
            child.stdin.write(self._handed)
            await child.stdin.drain()
        async for line in child.stdout:
            kind, text = json.loads(line)
            self._hear_ready(child, text) if kind == "ready" else self._hear_failed(text)

    def _hear_ready(self, child: Process, greeting: str) -> None:
        self._ready.add(child)
        if not self._was_ready and len(self._ready) == self._count:
            self._was_ready = True
            greeting = self._greeting(greeting)
            if self._has_stdout:
                print(greeting, flush=True)
            else:
                tell(greeting, self._log_format)

    def _hear_failed(self, why: str) -> None:
        """Take in why a child cannot start: the end of it all, unless others serve, who saw better times."""
        if self._was_ready:
            tell(why, self._log_format)
        else:
            self._fail(why)

    def _fail(self, why: str) -> None:
        """Stop, and say why, once: the others will say the same."""
        if not self._has_failed:
            self._has_failed = True
            tell(why, self._log_format)
        self._stopping.set()

    async def _end_when_told(self) -> None:
        await self._stopping.wait()
        doors.close(self._sockets)
        _send(signal.SIGTERM, self._children)
        asyncio.get_running_loop().call_later(self._end_s, _send, signal.SIGKILL, self._children)

    def _pass_on_hangup(self) -> None:
        """Have the disk looked at. Those that are starting do so anyway, and may not be able yet to hear of it."""
        _send(signal.SIGHUP, self._ready)


def next_pause(before_s: float, lived_s: float) -> float:
    """Say how long to wait with the next child: no time if this one lived, and longer each time that one died young.

    >>> next_pause(0.0, 3600.0), next_pause(0.0, 1.0), next_pause(0.8, 1.0), next_pause(5.0, 1.0)
    (0.0, 0.1, 1.6, 5.0)
    """
    return 0.0 if lived_s >= STEADY_S else min(MAX_PAUSE_S, max(PAUSE_S, 2 * before_s))


def ending(code: int) -> str:
    """Say how a process ended.

    >>> ending(-9), ending(1)
    ('was killed by SIGKILL', 'ended with code 1')
    """
    if code >= 0:
        return f"ended with code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def _send(number: signal.Signals, children: set[Process] | list[Process]) -> None:
    for child in list(children):
        with suppress(ProcessLookupError):
            child.send_signal(number)


# --- a child ------------------------------------------------------------------------------------------


def work(descriptors: Sequence[int]) -> int:
    """Be one of several processes, on sockets that were inherited; return the exit code."""
    import uvloop

    supervisor = os.getppid()
    handed = sys.stdin.buffer.readline()
    if not handed:
        return 0  # who started it is gone
    text, is_person, meeting, of_http, of_envoy, stdout = json.loads(handed)
    settings, sockets = Settings.from_json(text), [socket.socket(fileno=each) for each in descriptors]
    of_both = of_http + of_envoy
    place = Doors(sockets[:of_http], sockets[of_http:of_both], sockets[of_both:])
    siblings = Siblings(Path(meeting), str(os.getpid())) if meeting is not None else None
    set_up(settings.log_format)
    try:
        return uvloop.run(_work(settings, place, is_person, siblings, stdout))
    finally:
        if siblings is not None and os.getppid() != supervisor:
            siblings.tidy()  # it would have


async def _work(settings: Settings, place: Doors, is_person: bool, siblings: Siblings | None, stdout: int) -> int:
    import sidecar.metrics  # noqa: F401  # who is asked by a sibling has no time for it
    from sidecar.app import Voice, live

    stopping = asyncio.Event()
    _stop_at_end_of_input(stopping)
    say = _line_to_supervisor()
    voice = Voice(
        ready=lambda text: say("ready", text),
        failed=lambda text: say("failed", text),
        report=lambda text: tell(f"bylaw[{os.getpid()}]: {text}", settings.log_format, level=logging.INFO),
        is_person=is_person,
    )
    return await live(settings, voice, stopping, place, siblings, stdout)


def _stop_at_end_of_input(stopping: asyncio.Event) -> None:
    loop, life = asyncio.get_running_loop(), sys.stdin.fileno()

    def end() -> None:  # nothing more is ever sent, so that it can be read means that it ended
        loop.remove_reader(life)
        stopping.set()

    loop.add_reader(life, end)


def _line_to_supervisor() -> Callable[[str, str], None]:
    """Keep standard output for the supervisor alone: what else is printed in this process goes to standard error."""
    line = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(kind: str, text: str) -> None:
        with suppress(BrokenPipeError):  # standard input ends then, too
            print(json.dumps([kind, text]), file=line, flush=True)

    return say
