"""The life of a process that serves: load, listen, serve, drain.

`live` makes a `Service` of a process, with its signals: SIGTERM and SIGINT stop it, SIGHUP has the disk looked at now.
What a process says of itself goes through a `Voice`: one of several (`workers`) speaks to their supervisor, and not to
who started them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from engine import BylawError, diagnostics
from sidecar.beside import Beside, with_beside
from sidecar.doors import Doors
from sidecar.garbage import keep_short
from sidecar.greeting import example_answer, greet
from sidecar.logs import set_up, tell
from sidecar.policies import describe
from sidecar.server import Service
from sidecar.settings import Settings
from sidecar.siblings import Siblings
from store.errors import StoreError


@dataclass(frozen=True, slots=True)
class Voice:
    """How a process tells of itself.

    Args:
        ready: takes the greeting, once it listens.
        failed: takes why it cannot start.
        report: takes what happens while it runs.
        is_person: whether the greeting is for somebody who wants to try things out.
    """

    ready: Callable[[str], None]
    failed: Callable[[str], None]
    report: Callable[[str], None]
    is_person: bool


def run(settings: Settings, *, is_person: bool = False, beside: Beside | None = None) -> int:
    """Serve in this process until told to stop; return the exit code."""
    set_up(settings.log_format)
    voice = Voice(
        ready=_print if settings.decision_log != "stdout" else lambda text: tell(text, settings.log_format),
        failed=lambda text: tell(text, settings.log_format),
        report=lambda text: tell(f"bylaw: {text}", settings.log_format, level=logging.INFO),
        is_person=is_person,
    )
    return uvloop.run(live(settings, voice, asyncio.Event(), beside=beside))


async def live(
    settings: Settings,
    voice: Voice,
    stopping: asyncio.Event,
    given: Doors | None = None,
    siblings: Siblings | None = None,
    stdout: int = 1,
    *,
    beside: Beside | None = None,
) -> int:
    """Start, tell, and serve until told to stop, by a signal or by the event; return the exit code."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        service = Service(settings, report=voice.report, given=given, siblings=siblings, stdout=stdout)
        loop.add_signal_handler(signal.SIGHUP, service.wake.set)
        if not await _started(service, stopping):
            return 0
        if beside is not None:
            await _start_beside(beside, service)
    except (BylawError, OSError) as error:
        voice.failed(failure(error, settings))
        return 2
    keep_short()
    greeting = await _greeting(service, settings, is_person=voice.is_person)
    voice.ready(with_beside(greeting, beside, as_json=settings.json))
    await stopping.wait()
    await asyncio.gather(service.stop(), *([beside.stop()] if beside is not None else []))
    return 0


async def _started(service: Service, stopping: asyncio.Event) -> bool:
    """Start; give it up if told to stop before: a database may take long to say no."""
    starting, told = asyncio.create_task(service.start()), asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.wait({starting})
    return False


async def _start_beside(beside: Beside, service: Service) -> None:
    """Start what runs beside; this one stops where that cannot."""
    try:
        await beside.start(service.policies)
    except BaseException:
        await service.stop()
        raise


async def _greeting(service: Service, settings: Settings, *, is_person: bool) -> str:
    answer = await example_answer(service.decider) if is_person and not settings.json else None
    scheme = "http" if settings.tls_certificate is None else "https"
    loaded = service.policies.loaded
    return greet(service.address, loaded, answer, is_person=is_person, as_json=settings.json, scheme=scheme)


def failure(error: BylawError | OSError, settings: Settings) -> str:
    """Say why there is no service: to a person, or to a machine."""
    found = [] if isinstance(error, OSError) else diagnostics.errors(error.diagnostics)
    if not settings.json:
        return f"bylaw: {_sentence(error, settings)}"
    code, message = (
        ("no_address", _sentence(error, settings)) if isinstance(error, OSError) else (error.code, error.message)
    )
    return json.dumps({"error": code, "message": message, "diagnostics": [each.as_json() for each in found]})


def _sentence(error: BylawError | OSError, settings: Settings) -> str:
    match error:
        case StoreError() | BylawError(code="bad_settings"):
            return error.message
        case BylawError():
            return f"nothing to decide by in {settings.policies}:\n{describe(error)}"
        case OSError():
            reason = str(error.strerror or error)
            return f"cannot listen: {reason}" if "BYLAW_" in reason else f"cannot listen on {settings.http}: {reason}"


def _print(text: str) -> None:
    print(text, flush=True)
