"""The service put together, and its life: load, listen, serve, drain.

`create_app` is the only place where the parts meet. `Service` is one running server; `live` makes one of a process,
with its signals: SIGTERM and SIGINT stop it, SIGHUP has the disk looked at now. What a process says of itself goes
through a `Voice`: one of several (`workers`) speaks to their supervisor, and not to who started them.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

from engine import BylawError, diagnostics
from engine.authorizer import Questioner
from sidecar import addresses
from sidecar.api import Api
from sidecar.callers import ALL_SCOPES, PLAIN_SCOPES, LoopbackCallers
from sidecar.decider import Decider, FileDecider, StoreDecider
from sidecar.decision_id import DecisionIds
from sidecar.fast_lane import FastLane
from sidecar.garbage import keep_short
from sidecar.gate import Gate
from sidecar.greeting import example_answer, greet
from sidecar.handlers import authzen, health
from sidecar.handlers.explain import explain
from sidecar.handlers.metrics import metrics
from sidecar.handlers.openapi import openapi
from sidecar.keys import BASE_URL, DECIDER, KEEPER, POLICIES, SETTINGS, TELLINGS, TRAFFIC
from sidecar.logs import server_log, set_up
from sidecar.middleware import make_guard, nothing_there, serve
from sidecar.policies import Policies, accept_any, describe
from sidecar.settings import Settings
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic
from store.errors import StoreError

if TYPE_CHECKING:
    from sidecar.keeper import Keeper

#: A connection that says nothing is kept for so long; also one that never ends its headers.
KEEPALIVE_S = 75.0
#: Rest of a body that is read after an answer, so that the answer is not lost in a reset.
LINGER_S = 1.0
#: After SIGTERM, for requests that are already on the wire of an open connection.
GRACE_S = 0.25
#: For answers that are being written while connections are closed.
CLOSE_S = 0.5


def create_app(
    settings: Settings, policies: Policies, api: Api, gate: Gate, keeper: Keeper | None, base_url: str | None
) -> web.Application:
    """Wire the application."""
    app = web.Application()
    app[SETTINGS] = settings
    app[POLICIES] = policies
    app[DECIDER] = api.decider
    app[KEEPER] = keeper
    app[TRAFFIC] = gate.traffic
    app[TELLINGS] = gate.tellings
    app[BASE_URL] = base_url
    guard = make_guard(gate)
    for path, endpoint in api.endpoints.items():
        app.router.add_post(path, guard(serve(endpoint)))
    app.router.add_post("/explain", guard(explain))
    app.router.add_get(authzen.METADATA, guard(authzen.metadata))
    app.router.add_get("/openapi.json", guard(openapi))
    app.router.add_get("/health", guard(health.health, is_probe=True))
    app.router.add_get("/ready", guard(health.ready, is_probe=True))
    app.router.add_get("/metrics", guard(metrics, is_probe=True))
    app.router.add_route("*", "/{path:.*}", guard(nothing_there))
    return app


class Service:
    """One running server. `start`, then `stop`; each once.

    Args:
        report: is told what happens while it runs.
        sockets: where to listen, opened by somebody else, who also removes the file of a Unix socket; None: it opens
            those of the settings.
    """

    def __init__(
        self, settings: Settings, *, report: Callable[[str], None], sockets: list[socket.socket] | None = None
    ) -> None:
        self.settings = settings
        self.sockets = sockets
        self.traffic = Traffic()
        self.wake = asyncio.Event()
        self.keeper = self._make_keeper()
        self.policies = Policies(
            settings.policies,
            settings.facts,
            report=report,
            bind=self.keeper.bind if self.keeper else None,
            accept=self.keeper.accept if self.keeper else accept_any,
            settle_s=settings.watch_s,
        )
        self.decider = self._make_decider()
        self.address = settings.http
        self._runner: web.AppRunner | None = None
        self._lane: FastLane | None = None
        self._servers: list[asyncio.Server] = []
        self._doors: list[socket.socket] = []
        self._watching: asyncio.Task[None] | None = None

    def _make_keeper(self) -> Keeper | None:
        if self.settings.facts is not None:
            return None

        from sidecar.keeper import Keeper  # it brings the database along

        def questioner() -> Questioner | None:
            return self.policies.loaded.facts.questioner if self.policies.is_loaded else None

        settings = self.settings
        return Keeper(
            settings.database_url,
            max_staleness_s=settings.max_staleness_s,
            questioner=questioner,
            redis_url=settings.redis_url,
            cache_key=settings.cache_key,
        )

    def _make_decider(self) -> Decider:
        keeper = self.keeper
        if keeper is None:
            return FileDecider(lambda: self.policies.loaded)
        return StoreDecider(lambda: self.policies.loaded, keeper.cache, keeper.freshness, keeper.loader, keeper.reader)

    async def start(self) -> None:
        """Load, then listen.

        Raises:
            OSError: the address cannot be had.
            BylawError: the policy or the facts are broken.
        """
        sockets = self.sockets or addresses.bind(self.settings.http)
        self.address = addresses.shown(sockets)
        try:
            if self.keeper is not None:
                await self.keeper.start()
            await self.policies.start()
        except BaseException:
            for each in sockets:
                each.close()
            self._remove_file()
            if self.keeper is not None:
                await self.keeper.stop()
            raise
        hosts = addresses.own_names(sockets) | ({self.settings.public_host} if self.settings.public_host else set())
        callers = LoopbackCallers(hosts, ALL_SCOPES if self.settings.dev else PLAIN_SCOPES)
        tellings = Tellings()
        api = Api(self.decider, self.policies, DecisionIds(), tellings)
        gate = Gate(callers, self.traffic, tellings)
        self._runner = _runner(create_app(self.settings, self.policies, api, gate, self.keeper, self._base_url()))
        await self._runner.setup()
        self._lane = FastLane(api, gate, _protocol_of(self._runner), self.settings.body_timeout_s)
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._servers.append(await loop.create_server(self._lane.connection, sock=each, backlog=1024))
        self._doors = sockets
        self._watching = asyncio.create_task(self.policies.watch(self.wake))

    def _base_url(self) -> str | None:
        if self.settings.public_url is not None:
            return self.settings.public_url.rstrip("/")
        return None if self.address.path is not None else f"http://{self.address}"

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight, close."""
        self.traffic.stop()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._runner is not None and self._lane is not None:
            await self._shut_the_doors(self._lane)
            # A request may be on the wire of an open connection, sent before its client could know.
            await asyncio.sleep(GRACE_S)
            await self.traffic.drained(self.settings.drain_s)
            self._lane.close()
            await self._runner.cleanup()
            self._lane.end()
        if self.keeper is not None:
            await self.keeper.stop()
        self._remove_file()

    async def _shut_the_doors(self, lane: FastLane) -> None:
        """Listen no more, and let in whoever knocked before: their requests are on the wire, and would be lost."""
        waiting = [each for door in self._doors for each in addresses.end_listening(door)]
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        for each in waiting:
            with suppress(OSError):  # it is gone again
                await loop.connect_accepted_socket(lane.connection, each)

    def _remove_file(self) -> None:
        """Remove the file of a Unix socket that was made here."""
        if self.address.path is not None and self.sockets is None:
            addresses.remove(self.address.path)


def _protocol_of(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("it was never set up")
    return runner.server


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # a small body must not become a large one
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGER_S,
        logger=server_log(),
        shutdown_timeout=CLOSE_S,
    )


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


def run(settings: Settings, *, is_person: bool = False) -> int:
    """Serve in this process until told to stop; return the exit code."""
    set_up()
    return uvloop.run(live(settings, Voice(_print, complain, report, is_person), asyncio.Event()))


async def live(
    settings: Settings, voice: Voice, stopping: asyncio.Event, sockets: list[socket.socket] | None = None
) -> int:
    """Start, tell, and serve until told to stop, by a signal or by the event; return the exit code."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        service = Service(settings, report=voice.report, sockets=sockets)
        loop.add_signal_handler(signal.SIGHUP, service.wake.set)
        if not await _started(service, stopping):
            return 0
    except (BylawError, OSError) as error:
        voice.failed(failure(error, settings))
        return 2
    keep_short()
    voice.ready(await _greeting(service, settings, is_person=voice.is_person))
    await stopping.wait()
    await service.stop()
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


async def _greeting(service: Service, settings: Settings, *, is_person: bool) -> str:
    answer = await example_answer(service.decider) if is_person and not settings.json else None
    return greet(service.address, service.policies.loaded, answer, is_person=is_person, as_json=settings.json)


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
            return f"cannot listen on {settings.http}: {error.strerror or error}"


def _print(text: str) -> None:
    print(text, flush=True)


def complain(text: str) -> None:
    """Write to standard error, where it is read at once."""
    print(text, file=sys.stderr, flush=True)


def report(text: str) -> None:
    """Tell what happens."""
    complain(f"bylaw: {text}")
