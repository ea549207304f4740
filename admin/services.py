"""What endpoints work with: the store, the policy that runs, and the time.

The policy may be one that is published in the store. Then it is that of a revision of stream p, and no endpoint works
with an older one: `app` has it caught up before a request is looked at, and `writing` within each write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from admin.encryption import KeyRing
from engine import Policy
from engine.source import Source
from store.changes import Writer
from store.database import Connection, Database
from store.errors import UnavailableError
from store.published import position
from store.settling import Receipts


class Policies(Protocol):
    """The policy that runs here, as `sidecar.policies.Policies` keeps it."""

    @property
    def at(self) -> int:
        """The revision of stream p up to which it is the one that decides."""

    async def catch_up(self) -> None:
        """Take what is published by now; where that cannot be loaded, `at` stays behind."""

    async def judge(self, sources: tuple[Source, ...], lock: bytes | None) -> Policy:
        """Hold a policy to all that is asked of the one that decides next.

        Raises:
            BylawError: it must not follow.
        """


@dataclass(frozen=True, slots=True)
class Services:
    """What one process has.

    Args:
        policy: gives the policy that runs; read it once per request, the next may find another.
        policies: where it comes from.
        clock: nanoseconds since 1970.
        ring: encrypts what is known of persons; None: nothing is kept.
    """

    database: Database
    writer: Writer
    receipts: Receipts
    policy: Callable[[], Policy]
    policies: Policies
    clock: Callable[[], int] = time.time_ns
    ring: KeyRing | None = None

    async def catch_up(self) -> None:
        """Take what is published by now.

        Raises:
            UnavailableError: the store does not answer in time.
        """
        try:
            await self.policies.catch_up()
        except TimeoutError as error:
            raise UnavailableError("the policy that is published could not be read in time") from error

    async def is_current(self, connection: Connection) -> bool:
        """Say whether the policy that runs is the one that decides in a snapshot."""
        return await position(connection) == self.policies.at
