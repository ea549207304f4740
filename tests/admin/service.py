"""The administration API over a store of its own, asked as a client does."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp.test_utils import TestClient, TestServer

from admin.actors import EndUser
from admin.app import create_app
from admin.encryption import KeyRing
from admin.endpoints import ENDPOINTS
from admin.services import Services
from engine import Facts, Policy
from engine.facts_file import parse_document, read_file
from sidecar.policies import Policies
from sidecar.readings import Loaded
from store import migrating
from store.changes import Writer
from store.database import Database
from store.keys import new_key
from store.published import Published
from store.seed import seed
from store.settling import Receipts
from store.writes import api_keys

NOBODY: Final = "nobody"


def token(subject: str, tenant: str | None = None, claims: Iterable[str] = (), **said: object) -> str:
    """Write a token of these tests: it says who bears it, and nobody signed it."""
    written = json.dumps([subject, tenant, list(claims), said])
    return base64.urlsafe_b64encode(written.encode()).decode().rstrip("=")


class Said(NamedTuple):
    """An answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Tokens:
    """Reads the tokens of these tests."""

    async def verify(self, token: str) -> EndUser | None:
        if token == NOBODY:
            return None
        subject, tenant, claims, said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return EndUser(subject, tenant, tuple(claims), said)


def following(policy: Policy, database: Database) -> Policies:
    """Begin with a policy, until one is published."""
    return _Following(policy, database)


class _Following(Policies):
    def __init__(self, policy: Policy, database: Database) -> None:
        super().__init__(Path("no directory"), None, report=lambda _: None, published=Published(database))
        self._loaded = Loaded(policy, Facts({}, policy), "the beginning")


@dataclass(frozen=True)
class World:
    """A store that was filled once, to be copied for each test."""

    policy: Policy
    path: Path
    key: str

    @asynccontextmanager
    async def asked(self, folder: Path, *, ring: KeyRing | None = None) -> AsyncIterator[Asking]:
        """Serve a copy."""
        copy = folder / "copy.db"
        shutil.copyfile(self.path, copy)
        async with served(self.policy, f"sqlite+aiosqlite:///{copy}", self.key, ring=ring) as asking:
            yield asking


@asynccontextmanager
async def served(policy: Policy, url: str, key: str, *, ring: KeyRing | None = None) -> AsyncIterator[Asking]:
    """Serve a store that is filled, of either kind of database.

    Args:
        key: which `fill` made.
    """
    database = Database(url, pool_size=4)
    try:
        ahead = [0]

        def clock() -> int:
            return time.time_ns() + ahead[0]

        writer, receipts = Writer(database, clock=clock), Receipts(database)
        policies = following(policy, database)
        services = Services(database, writer, receipts, lambda: policies.loaded.policy, policies, clock, ring)
        app = create_app(services, ENDPOINTS, version="test", verifier=Tokens())
        async with TestClient(TestServer(app)) as client:
            yield Asking(client, key, database, ahead, policies)
    finally:
        await database.close()


@dataclass(frozen=True)
class Asking:
    """Asks one service."""

    client: TestClient[Any, Any]
    key: str
    database: Database
    #: Nanoseconds by which the service's clock is ahead.
    ahead: list[int]
    policies: Policies

    async def ask(self, method: str, path: str, body: object = None, *, who: str | None = None, **headers: str) -> Said:
        """Ask with a token or a key; None: with the key that may do everything."""
        sent = {"Authorization": f"Bearer {who or self.key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        data = None if body is None else json.dumps(body)
        if data is not None:
            sent["Content-Type"] = "application/json"
        where = path if path.startswith("/openapi") or path.startswith("/settled") else f"/admin/v1{path}"
        async with self.client.request(method, where, data=data, headers=sent) as response:
            text = await response.text()
            return Said(response.status, json.loads(text) if text else None, response.headers)


def make_world(policies: Path, facts: Path, folder: Path) -> World:
    """Make the tables, fill them, and make a key."""
    path = folder / "world.db"
    policy = Policy.load(policies)
    key = asyncio.run(_fill(policy, facts, path))
    return World(policy, path, key)


async def _fill(policy: Policy, facts: Path, path: Path) -> str:
    url = f"sqlite+aiosqlite:///{path}"
    await migrating.up(url, report=lambda _: None)
    key = await fill(policy, read_file(facts), url)
    database = Database(url, pool_size=1)
    try:
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return key
    finally:
        await database.close()


async def fill(policy: Policy, facts: bytes, url: str) -> str:
    """Fill a store that is migrated with what a facts file says, and make a key that may do everything."""
    database = Database(url, pool_size=1)
    try:
        await seed(database, policy, parse_document(facts, "facts"), name="facts", digest="d")
        key = new_key()
        async with Writer(database).write() as write:
            await api_keys.make(write, key, "tests", scopes=["system"])
        return key
    finally:
        await database.close()
