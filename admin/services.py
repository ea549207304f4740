"""What endpoints work with: the store, the policy that runs, and the time.

The policy may be one that is published in the store. Then it is that of a revision of stream p, and no endpoint works
with an older one: `app` has it caught up before a request is looked at, and `writing` within each write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from admin.encryption import KeyRing
from engine import BylawError, Policy
from engine.source import Source
from store.changes import Writer
from store.database import Connection, Database
from store.errors import UnavailableError
from store.published import position
from store.settling import Receipts
from store.streams import Position


class Policies(Protocol):
    """The policy that runs here, as `sidecar.policies.Policies` keeps it."""

    @property
    def at(self) -> Position:
        """The revision of stream p up to which it is the one that decides."""

    @property
    def problem(self) -> BylawError | None:
        """Why what is published, or lies on disk, is not what runs."""

    @property
    def origin(self) -> str | None:
        """The id of the published policy that runs; None: it is the disk's."""

    async def catch_up(self) -> None:
        """Take what is published by now; where that cannot be loaded, `at` stays behind."""

    async def judge(self, sources: tuple[Source, ...], lock: bytes | None) -> Policy:
        """Hold a policy to all that is asked of the one that decides next.

        Raises:
            BylawError: it must not follow.
        """

    async def judge_directory(self) -> Policy:
        """Hold what lies on disk here to the same.

        Raises:
            BylawError: it must not follow.
        """


class Redis(Protocol):
    """What carries hints, as `store.redis_port.Redis` does."""

    def status(self) -> Mapping[str, str]:
        """Tell how it is: `status` is `ok` or `degraded`."""


@dataclass(frozen=True, slots=True)
class Services:
    """What one process has.

    Args:
        policy: gives the policy that runs; read it once per request, the next may find another.
        policies: where it comes from.
        clock: nanoseconds since 1970.
        ring: encrypts what is known of persons; None: nothing is kept.
        redis: None: there is none.
    """

    database: Database
    writer: Writer
    receipts: Receipts
    policy: Callable[[], Policy]
    policies: Policies
    clock: Callable[[], int] = time.time_ns
    ring: KeyRing | None = None
    redis: Redis | None = None

    def for_request(self, request: str | None) -> Services:
        """Give those of one request, whose writes tell its id in the audit log; None: it is not to be told."""
        return replace(self, writer=self.writer.for_request(request))

    async def catch_up(self) -> None:
        """Take what is published by now.

        Raises:
            UnavailableError: the store does not answer in time.
        """
        try:
            await self.policies.catch_up()
        except TimeoutError as error:
            raise UnavailableError("the policy that is published could not be read in time") from error

    async def is_current(self, connection: Connection, *, is_held: bool = False) -> bool:
        """Say whether the policy that runs is the one that decides in a snapshot.

        Args:
            is_held: no other is published until the transaction ends.
        """
        return await position(connection, is_held=is_held) == self.policies.at
