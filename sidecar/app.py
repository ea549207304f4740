"""The service put together, and its life: load, listen, serve, drain.

`create_app` is the only place where the parts meet. `Service` is one running server; `run` makes one of a process, with
its signals: SIGTERM and SIGINT stop it, SIGHUP has the disk looked at now.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

from engine import BylawError
from engine.authorizer import Questioner
from sidecar import addresses
from sidecar.callers import ALL_SCOPES, PLAIN_SCOPES, LoopbackCallers
from sidecar.decider import Decider, FileDecider, StoreDecider
from sidecar.decision_id import DecisionIds
from sidecar.greeting import example_answer, greet
from sidecar.handlers import health
from sidecar.handlers.check import check
from sidecar.handlers.explain import explain
from sidecar.handlers.metrics import metrics
from sidecar.keys import DECIDER, IDS, KEEPER, POLICIES, SETTINGS, TRAFFIC
from sidecar.logs import server_log, set_up
from sidecar.middleware import make_guard, nothing_there
from sidecar.policies import Policies, accept_any, describe
from sidecar.settings import Settings
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
    settings: Settings,
    policies: Policies,
    callers: LoopbackCallers,
    traffic: Traffic,
    decider: Decider,
    keeper: Keeper | None,
) -> web.Application:
    """Wire the application."""
    app = web.Application()
    app[SETTINGS] = settings
    app[POLICIES] = policies
    app[DECIDER] = decider
    app[KEEPER] = keeper
    app[TRAFFIC] = traffic
    app[IDS] = DecisionIds()
    guard = make_guard(callers, traffic)
    app.router.add_post("/check", guard(check))
    app.router.add_post("/explain", guard(explain))
    app.router.add_get("/health", guard(health.health))
    app.router.add_get("/ready", guard(health.ready))
    app.router.add_get("/metrics", guard(metrics))
    app.router.add_route("*", "/{path:.*}", guard(nothing_there))
    return app


class Service:
    """One running server. `start`, then `stop`; each once."""

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
        self._watching: asyncio.Task[None] | None = None

    def _make_keeper(self) -> Keeper | None:
        if self.settings.facts is not None:
            return None

        from sidecar.keeper import Keeper  # it brings the database along

        def questioner() -> Questioner | None:
            return self.policies.loaded.facts.questioner if self.policies.is_loaded else None

        return Keeper(self.settings.database_url, max_staleness_s=self.settings.max_staleness_s, questioner=questioner)

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
        try:
            if self.keeper is not None:
                await self.keeper.start()
            await self.policies.start()
        except BaseException:
            for each in sockets:
                each.close()
            if self.keeper is not None:
                await self.keeper.stop()
            raise
        self.address = addresses.shown(sockets)
        hosts = addresses.own_names(sockets) | ({self.settings.public_host} if self.settings.public_host else set())
        callers = LoopbackCallers(hosts, ALL_SCOPES if self.settings.dev else PLAIN_SCOPES)
        app = create_app(self.settings, self.policies, callers, self.traffic, self.decider, self.keeper)
        self._runner = _runner(app)
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each, backlog=1024).start()
        self._watching = asyncio.create_task(self.policies.watch(self.wake))

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight, close."""
        self.traffic.stop()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            # A request may be on the wire of an open connection, sent before its client could know.
            await asyncio.sleep(GRACE_S)
            await self.traffic.drained(self.settings.drain_s)
            await self._runner.cleanup()
        if self.keeper is not None:
            await self.keeper.stop()
        if self.address.path is not None:
            addresses.remove(self.address.path)


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


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    set_up()
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    service = Service(settings, report=_report)
    loop.add_signal_handler(signal.SIGHUP, service.wake.set)
    try:
        await service.start()
    except StoreError as error:
        return _fail(error.message)
    except BylawError as error:
        return _fail(f"nothing to decide by in {settings.policies}:\n{describe(error)}")
    except OSError as error:
        return _fail(f"cannot listen on {settings.http}: {error.strerror or error}")
    await _greet(service, settings)
    await stopping.wait()
    await service.stop()
    return 0


async def _greet(service: Service, settings: Settings) -> None:
    is_person = settings.dev or sys.stdout.isatty()  # trying it out, the text is wanted in a file too
    loaded = service.policies.loaded
    answer = await example_answer(service.decider) if is_person and not settings.json else None
    print(greet(service.address, loaded, answer, is_person=is_person, as_json=settings.json), flush=True)


def _report(text: str) -> None:
    print(f"bylaw: {text}", file=sys.stderr, flush=True)


def _fail(text: str) -> int:
    _report(text)
    return 2
