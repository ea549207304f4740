"""The service put together: parts made of settings, started, wired to each other, and stopped in order.

`Service` is one running server of one process. What it answers stands in `create_app` and `FastLane`; both lanes, and
Envoy's two ways, come to the same `Gate` and the same `Decider`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from engine.authorizer import Questioner
from sidecar import addresses, doors
from sidecar.addresses import Address
from sidecar.api import Api, Endpoint
from sidecar.callers import ALL_SCOPES, PLAIN_SCOPES, Callers, LoopbackCallers
from sidecar.decider import Decider, FileDecider, StoreDecider
from sidecar.decision_id import DecisionIds
from sidecar.doors import Doors
from sidecar.envoy import EnvoyCheck
from sidecar.errors import PublicError
from sidecar.fast_lane import FastLane
from sidecar.gate import Gate
from sidecar.handlers import authzen, envoy_http, health
from sidecar.handlers.explain import explain
from sidecar.handlers.metrics import metrics, own_metrics
from sidecar.handlers.openapi import openapi
from sidecar.keys import (
    BASE_URL,
    CHECKS,
    DECIDER,
    ISSUER_KEYS,
    KEEPER,
    POLICIES,
    SETTINGS,
    SIBLINGS,
    TELLINGS,
    TRAFFIC,
    Checks,
)
from sidecar.middleware import make_guard, nothing_there, serve
from sidecar.policies import Policies, Swap, accept_any, accept_over
from sidecar.settings import Settings
from sidecar.siblings import Siblings
from sidecar.slow_lane import SlowLane
from sidecar.tellings import Tellings
from sidecar.tracing import Tracing
from sidecar.tracing import set_up as set_up_tracing
from sidecar.traffic import Traffic

if TYPE_CHECKING:
    from sidecar.decision_log import DecisionLog
    from sidecar.grpc_lane import Head
    from sidecar.http2 import Server
    from sidecar.jwks import Keys
    from sidecar.keeper import Keeper
    from sidecar.stored_callers import Kind
    from sidecar.tls import Renewing
    from store.published import Published
    from store.streams import Position

#: After SIGTERM, for requests that are already on the wire of an open connection.
GRACE_S = 0.25
#: How often certificates are looked at.
RENEW_S = 5.0
#: How long a client may take to agree on a key, and to say goodbye.
HANDSHAKE_S = 10.0
GOODBYE_S = 1.0
#: Of connections that wait to be accepted.
BACKLOG = 1024


class Service:
    """One running server. `start`, then `stop`; each once.

    Args:
        report: is told what happens while it runs.
        given: where to listen, opened by somebody else, who also removes the file of a Unix socket; None: it opens
            those of the settings.
        siblings: the other processes on the port, which tell each other their metrics.
        stdout: the descriptor that is standard output to whoever started the service.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        report: Callable[[str], None],
        given: Doors | None = None,
        siblings: Siblings | None = None,
        stdout: int = 1,
    ) -> None:
        self.settings = settings
        self.siblings = siblings
        self.tracing: Tracing | None = None
        self.traffic = Traffic()
        self.wake = asyncio.Event()
        self.keeper = self._make_keeper()
        self.policies = Policies(
            settings.policies,
            settings.facts,
            report=report,
            bind=self.keeper.bind if self.keeper else None,
            accept=accept_over(self.keeper.reader.has_tenants) if self.keeper else accept_any,
            settle_s=settings.watch_s,
            policy_key=settings.policy_key,
            published=self._make_published(),
            follow=self.keeper.freshness.poll if self.keeper else None,
        )
        self.decider = self._make_decider()
        self.keys = self._make_keys()
        self.log = self._make_log(stdout)
        self.tellings = Tellings(self.log)
        self.address = settings.http
        self.grpc_address: Address | None = None
        self._report = report
        self._given = given
        self._doors = Doors([], [])
        self._grpc: Server[Head] | None = None
        self._tls: Renewing | None = None
        self._lanes: list[FastLane] = []
        self._slow: list[SlowLane] = []
        self._servers: list[asyncio.Server] = []
        self._behind: list[tuple[socket.socket, FastLane, ssl.SSLContext | None]] = []
        self._rest = AsyncExitStack()
        self._watching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    # --- parts -------------------------------------------------------------------------------------

    def _make_keeper(self) -> Keeper | None:
        if self.settings.facts is not None:
            return None

        from sidecar.keeper import Keeper  # it brings the database along

        def questioner() -> Questioner | None:
            return self.policies.loaded.facts.questioner if self.policies.is_loaded else None

        async def prepare(at: Position) -> Swap | None:
            return await self.policies.prepare(at)  # the keeper is made first

        settings = self.settings
        return Keeper(
            settings.database_url,
            max_staleness_s=settings.max_staleness_s,
            questioner=questioner,
            on_policies=prepare,
            redis_url=settings.redis_url,
            cache_key=settings.cache_key,
        )

    def _make_published(self) -> Published | None:
        if self.keeper is None:
            return None
        from store.published import Published  # the same

        return Published(self.keeper.database)

    def _make_decider(self) -> Decider:
        keeper = self.keeper
        if keeper is None:
            return FileDecider(lambda: self.policies.loaded)
        return StoreDecider(lambda: self.policies.loaded, keeper.cache, keeper.freshness, keeper.loader, keeper.reader)

    def _make_keys(self) -> Keys | None:
        if self.settings.jwks is None:
            return None
        from sidecar.jwks import Keys  # not every process has any

        return Keys(self.settings.jwks, clock=time.monotonic)

    def _make_log(self, stdout: int) -> DecisionLog | None:
        settings = self.settings
        if settings.decision_log is None:
            return None
        from sidecar.decision_log import DecisionLog  # the same
        from sidecar.log_options import LogOptions

        options = LogOptions.parse(
            settings.decision_log,
            masks=settings.decision_log_mask,
            salt=settings.decision_log_salt,
            sample=settings.decision_log_sample,
        )
        return DecisionLog(options, process=_own_name(), stdout=stdout)

    def _make_callers(self) -> Callers:
        settings, keeper = self.settings, self.keeper
        hosts = addresses.own_names(self._doors.http) | ({settings.public_host} if settings.public_host else set())
        if settings.callers == "loopback" or keeper is None:
            return LoopbackCallers(hosts, ALL_SCOPES if settings.dev else PLAIN_SCOPES)
        from sidecar.stored_callers import StoredCallers  # the same

        kind: Kind = "mtls" if settings.callers == "mtls" else "token"
        own = hosts if settings.http.is_loopback else None
        return StoredCallers(keeper.cache, keeper.loader.load, time.time_ns, kind, hosts=own)

    def _make_gate(self, callers: Callers) -> Gate:
        settings = self.settings
        has_limits = settings.rate_limit is not None or settings.callers != "loopback"
        redis = self.keeper.redis if self.keeper is not None else None
        limits = None
        if has_limits:
            from sidecar.limits import Limiter  # the same

            limits = Limiter(settings.rate_limit, redis)
        return Gate(callers, self.traffic, self.tellings, limits)

    def _make_envoy(self, api: Api, gate: Gate) -> EnvoyCheck:
        verifier = None
        if self.keys is not None:
            from sidecar.identity import TokenRules  # the same
            from sidecar.tokens import Verifier

            settings = self.settings
            rules = TokenRules(
                settings.issuer or "",
                settings.audience or "",
                tenant_claim=settings.tenant_claim,
                roles_claim=settings.roles_claim,
                service_claim=settings.service_claim,
            )
            verifier = Verifier(rules, self.keys, clock=time.time)
        return EnvoyCheck(gate, api.decider, api.policies, api.ids, verifier, tracing=self.tracing)

    # --- the life of it ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Load, then listen.

        Raises:
            OSError: an address cannot be had.
            BylawError: the policy or the facts are broken, or something that is demanded is not there.
        """
        async with AsyncExitStack() as rest:
            self._open_doors(rest)
            if self.keeper is not None:
                rest.push_async_callback(self.keeper.stop)
                await self.keeper.start()
            if self.keys is not None:
                rest.push_async_callback(self.keys.stop)
                await self.keys.start()
            if self.log is not None:
                await self.log.start()
                rest.push_async_callback(self.log.stop)
            self.tracing = set_up_tracing()
            if self.tracing is not None:
                rest.push_async_callback(self.tracing.close)
                if self.keeper is not None:
                    self.keeper.loader.span = self.tracing.span
            if self.siblings is not None:
                rest.push_async_callback(self.siblings.close)
            await self.policies.start()
            rest.push_async_callback(self._end_lanes)
            await self._listen(await self._known_callers())
            self._rest = rest.pop_all()
        self._watching = asyncio.create_task(self.policies.watch(self.wake))
        if self._tls is not None:
            self._renewing = asyncio.create_task(self._renew(self._tls))

    async def _renew(self, tls: Renewing) -> None:
        """Look for new certificates from time to time."""
        while True:
            await asyncio.sleep(RENEW_S)
            await asyncio.to_thread(tls.poll)

    def _open_doors(self, rest: AsyncExitStack) -> None:
        if self._given is not None:
            self._doors = self._given
        else:
            self._doors = Doors.open(self.settings)
            for path in self._doors.paths:
                rest.callback(addresses.remove, path)
            if self._doors.problem is not None:
                self._report(self._doors.problem)
        rest.callback(doors.close, self._doors.all)
        self.address = addresses.shown(self._doors.http)

    async def _known_callers(self) -> Callers:
        """Make out who may ask, so that the first who does need not wait."""
        callers = self._make_callers()
        with suppress(PublicError):  # then who asks waits
            await callers.known()
        return callers

    async def _listen(self, callers: Callers) -> None:
        settings = self.settings
        api = Api(self.decider, self.policies, DecisionIds(), self.tellings, self.tracing)
        gate = self._make_gate(callers)
        envoy = self._make_envoy(api, gate)
        own = None if self._doors.envoy else envoy
        tls = self._make_tls()
        app = create_app(settings, self.policies, api, gate, self.keeper, self._base_url(), self.checks)
        if self.keys is not None:
            app[ISSUER_KEYS] = self.keys
        if self.siblings is not None:
            app[SIBLINGS] = self.siblings
            await self.siblings.open(lambda: own_metrics(app))
        if self._doors.envoy:
            await self._open(self._doors.envoy, envoy_app(envoy, settings), {}, gate, envoy, None)
        else:
            app.router.add_route("*", envoy_http.PATH, envoy_http.make_handler(envoy, settings.trusted_hops))
        app.router.add_route("*", r"/{path:[\s\S]*}", make_guard(gate)(nothing_there))  # a `.` is no line end
        await self._open(self._doors.http, app, api.endpoints, gate, own, tls)
        if self._doors.grpc:
            await self._start_grpc(envoy)

    async def _open(
        self,
        doors: list[socket.socket],
        app: web.Application,
        endpoints: dict[str, Endpoint],
        gate: Gate,
        envoy: EnvoyCheck | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Listen at some doors, with both lanes behind them."""
        slow = SlowLane(app)
        await slow.start()
        self._slow.append(slow)
        settings = self.settings
        lane = FastLane(endpoints, gate, slow.handler, settings.body_timeout_s, envoy, settings.trusted_hops)
        self._lanes.append(lane)
        loop = asyncio.get_running_loop()
        for each in doors:
            self._servers.append(await loop.create_server(lane.connection, sock=each, backlog=BACKLOG, **_over(tls)))
            self._behind.append((each, lane, tls))

    def _make_tls(self) -> ssl.SSLContext | None:
        settings = self.settings
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        from sidecar.tls import Renewing  # not every process speaks it

        self._tls = Renewing(settings.tls_certificate, settings.tls_key, settings.tls_client_ca, report=self._report)
        return self._tls.context

    async def _start_grpc(self, envoy: EnvoyCheck) -> None:
        from sidecar.handlers.envoy_grpc import make_server  # messages of protobuf, which not every process needs

        self._grpc = make_server(envoy)
        try:
            await self._grpc.listen(self._doors.grpc)
        except OSError as error:  # somebody was faster since
            self._grpc.end()
            self._report(doors.missed(self.settings, error))
        else:
            self.grpc_address = addresses.shown(self._doors.grpc)

    def checks(self) -> dict[str, dict[str, Any]]:
        """Tell of what the service stands on, beside its policy, for `/ready`."""
        found = self.keeper.checks() if self.keeper is not None else {}
        if self.keys is not None:
            found["keys"] = self.keys.status()
        if self._tls is not None:
            problem = self._tls.problem
            degraded = {"status": "degraded", "error": "certificate", "message": problem}
            found["tls"] = {"status": "ok"} if problem is None else degraded
        return found

    def _base_url(self) -> str | None:
        if self.settings.public_url is not None:
            return self.settings.public_url.rstrip("/")
        scheme = "https" if self.settings.tls_certificate is not None else "http"
        return None if self.address.path is not None else f"{scheme}://{self.address}"

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight, close."""
        self.traffic.stop()
        for task in filter(None, (self._watching, self._renewing)):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._shut_the_doors()
        draining = asyncio.create_task(self._grpc.stop(self.settings.drain_s)) if self._grpc is not None else None
        # A request may be on the wire of an open connection, sent before its client could know.
        await asyncio.sleep(GRACE_S)
        await self.traffic.drained(self.settings.drain_s)
        if draining is not None:
            await draining
        await self._rest.aclose()

    async def _shut_the_doors(self) -> None:
        """Listen no more, and let in whoever knocked before: their requests are on the wire, and would be lost."""
        loop = asyncio.get_running_loop()
        waiting = [(each, lane, tls) for door, lane, tls in self._behind for each in addresses.end_listening(door)]
        for server in self._servers:
            server.close()
        for each, lane, tls in waiting:
            with suppress(OSError):  # it is gone again
                await loop.connect_accepted_socket(lane.connection, each, **_over(tls))

    async def _end_lanes(self) -> None:
        """End all connections, after those that are idle."""
        for lane in self._lanes:
            lane.close()
        for slow in self._slow:
            await slow.stop()
        for lane in self._lanes:
            lane.end()
        if self._grpc is not None:
            self._grpc.end()


def _own_name() -> str:
    """Name this process among those of all machines."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", f"{platform.node()}-{os.getpid()}")


def _over(tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Say how connections speak."""
    if tls is None:
        return {}
    return {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}


def create_app(
    settings: Settings,
    policies: Policies,
    api: Api,
    gate: Gate,
    keeper: Keeper | None,
    base_url: str | None,
    checks: Checks,
) -> web.Application:
    """Wire the application of the decision API, but for what answers when nothing else does."""
    app = web.Application()
    app[CHECKS] = checks
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
    return app


def envoy_app(envoy: EnvoyCheck, settings: Settings) -> web.Application:
    """Wire an application that answers Envoy's HTTP variant, and nothing else."""
    app = web.Application()
    app.router.add_route("*", envoy_http.PATH, envoy_http.make_handler(envoy, settings.trusted_hops))
    return app
