"""The administration service put together: the API of `admin/`, the policy that runs, end users' tokens, a port.

`admin/` knows nothing of the decision service, and needs three things that are that one's: how a policy is loaded and
replaced, who bears a token, and sockets. Here both houses are at hand, so here they meet.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from admin.actors import EndUser
from admin.app import SERVER, create_app
from admin.encryption import KeyRing, read_key_ring
from admin.endpoints import ENDPOINTS
from admin.errors import PublicError
from admin.manners import Manners, parse_origins
from admin.services import Services
from bylaw import __version__
from engine import BylawError
from sidecar import addresses
from sidecar.bearer import Identity, is_revoked
from sidecar.callers import Caller
from sidecar.errors import PublicError as Refused
from sidecar.jwks import Keys
from sidecar.limits import Limiter
from sidecar.policies import Policies, accept_over
from sidecar.settings import Settings
from sidecar.tokens import Verifier
from store.changes import Writer
from store.database import Database
from store.environment import environment
from store.published import Published
from store.reading import Reader
from store.redis_port import Redis
from store.seed import check_tables
from store.seen import seen
from store.settling import Receipts

#: How long what is under way may take when the service stops.
DRAIN_S = 8.0
#: The file of keys, as `admin.encryption` has it.
KEYS = "BYLAW_ENCRYPTION_KEYS"
#: Origins of pages that may read answers, and how much an actor may ask, `N/TIME,…`.
ORIGINS = "BYLAW_ADMIN_ORIGINS"
RATE_LIMIT = "BYLAW_ADMIN_RATE_LIMIT"
#: The log of requests, as `admin.watching` has it.
REQUESTS = "bylaw.admin.requests"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bearers:
    """Says who bears an end user's token, if it was not taken back."""

    verifier: Verifier
    database: Database
    policies: Policies

    async def verify(self, token: str) -> EndUser | None:
        found = await self.verifier.verify(token)
        if not isinstance(found, Identity):
            return None
        async with self.database.reading() as connection:
            policy = self.policies.loaded.policy
            revoked = await seen(connection, "", policy, lambda facts: facts.revoked(found.subject))
        if is_revoked(found, *revoked):
            return None
        return EndUser(found.subject, found.tenant, found.roles, found.claims)


class Limits:
    """Counts what actors ask, as the decision service counts its callers, in this process alone.

    Args:
        rates: `10/1s,300/1m`.
        clock: seconds since the epoch.
    """

    def __init__(self, rates: str, *, clock: Callable[[], float] = time.time) -> None:
        self._limiter = Limiter(rates, clock=clock)

    async def take(self, actor: str, times: int = 1) -> None:
        try:
            await self._limiter.wait(Caller(frozenset(), name=actor), times)
        except Refused as error:
            details, headers = error.details, error.headers
            many = "" if times == 1 else f", and these are {times}: send fewer items at once, or later"
            message = f"{error.message}{many}"
            raise PublicError(error.status, error.code, message, details=details, headers=headers) from error


class Administration:
    """One running service.

    Args:
        report: takes what happens while it runs.
    """

    def __init__(self, settings: Settings, place: addresses.Address, *, report: Callable[[str], None]) -> None:
        self.settings = settings
        self.place = place
        self.address = str(place)
        self._report = report
        self._rest = AsyncExitStack()

    async def start(self, policies: Policies | None = None) -> None:
        """Load, then listen.

        Args:
            policies: what another service of the process has loaded and watches; None: it is loaded here.

        Raises:
            OSError: the address cannot be had.
            BylawError: the policy is broken, or the store is not to be used.
        """
        async with AsyncExitStack() as rest:
            sockets = addresses.bind(self.place)
            for each in sockets:
                rest.callback(each.close)
            database = Database(self.settings.database_url)
            rest.push_async_callback(database.close)
            await check_tables(database)
            if policies is None:
                policies = await self._load(database, rest)
            app = create_app(
                self._services(database, policies, rest),
                ENDPOINTS,
                version=__version__,
                verifier=await self._bearers(database, policies, rest),
                manners=manners_of(environment()),
            )
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_S, handle_signals=False, **SERVER)
            rest.push_async_callback(runner.cleanup)
            await runner.setup()
            for each in sockets:
                await web.SockSite(runner, each).start()
            self.address = _shown(sockets[0], self.place)
            self._rest = rest.pop_all()

    async def _load(self, database: Database, rest: AsyncExitStack) -> Policies:
        policies = Policies(
            self.settings.policies,
            None,
            report=self._report,
            policy_key=self.settings.policy_key,
            accept=accept_over(Reader(database, "administration").has_tenants),
            published=Published(database),
        )
        await policies.catch_up()
        await policies.start()
        watching = asyncio.create_task(policies.watch(asyncio.Event()))
        rest.push_async_callback(_ended, watching)
        return policies

    def _services(self, database: Database, policies: Policies, rest: AsyncExitStack) -> Services:
        redis = Redis(self.settings.redis_url) if self.settings.redis_url is not None else None
        if redis is not None:
            rest.push_async_callback(redis.close)
        writer = Writer(database, hint=redis.publish if redis is not None else None)
        ring = key_ring(environment())
        receipts = Receipts(database)
        return Services(database, writer, receipts, lambda: policies.loaded.policy, policies, ring=ring, redis=redis)

    async def _bearers(self, database: Database, policies: Policies, rest: AsyncExitStack) -> Bearers | None:
        settings = self.settings
        if settings.jwks is None:
            return None
        from sidecar.identity import TokenRules

        keys = Keys(settings.jwks, clock=time.monotonic)
        rest.push_async_callback(keys.stop)
        await keys.start()
        rules = TokenRules(
            settings.issuer or "",
            settings.audience or "",
            tenant_claim=settings.tenant_claim,
            roles_claim=settings.roles_claim,
            service_claim=settings.service_claim,
        )
        return Bearers(Verifier(rules, keys, clock=time.time), database, policies)

    async def stop(self) -> None:
        """Answer what is under way, and close."""
        await self._rest.aclose()


async def serve(settings: Settings, place: addresses.Address, *, report: Callable[[str], None]) -> None:
    """Serve until told to stop by SIGTERM or SIGINT. It logs a line for each request."""
    logging.getLogger(REQUESTS).setLevel(logging.INFO)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    service = Administration(settings, place, report=report)
    await service.start()
    report(f"administration listens on {service.address}")
    await stopping.wait()
    await service.stop()


def key_ring(environ: Mapping[str, str]) -> KeyRing | None:
    """Read the keys by which what is known of persons is encrypted; None: none are set, and nothing is kept.

    Raises:
        BylawError: the file cannot be read, or is none.
    """
    path = environ.get(KEYS)
    return None if not path else read_key_ring(Path(path), place=KEYS)


def manners_of(environ: Mapping[str, str]) -> Manners:
    """Read how the service is to behave.

    Raises:
        BylawError: a variable is not as it must be.
    """
    origins, rates = environ.get(ORIGINS), environ.get(RATE_LIMIT)
    return Manners(
        _read(ORIGINS, parse_origins, origins) if origins else frozenset(),
        _read(RATE_LIMIT, Limits, rates) if rates else None,
    )


def _read(name: str, reader: Callable[[str], T], text: str) -> T:
    """Read a variable; what is wrong with it is said with its name."""
    try:
        return reader(text)
    except BylawError as error:
        raise BylawError(error.code, f"{name}: {error.message}") from error


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _shown(opened: object, place: addresses.Address) -> str:
    name = getattr(opened, "getsockname", lambda: None)()
    if isinstance(name, tuple):
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}"
    return str(place)
