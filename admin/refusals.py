"""What was refused, taken down: who wished to write what he may not, and how often nobody known asked.

    a write refused ──▶ note ──▶ a row of its own ──▶ the chain of refusals (`store.refusals`)
                          └──▶ past the bound: counted ──▶ `left_out` of the next row there, or of a row a minute later
    nobody known ──▶ note_stranger ──▶ counted ──▶ one row a minute

A row says by which method and path as the description has it, with which code and by which line of the policy, and in
which request; not what stood in the path or the body, which may be a secret or a person. It is written after the
refusal, in a transaction of its own. What goes wrong there is logged and counted, and the refusal stays what it is; it
does not wait for long either.

Whoever is refused makes rows, so there are only so many a minute: of one actor, and of all together. Beyond that it is
counted, and told how much. Counts are this process's; those of the last minute are lost where it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from admin.errors import PublicError
from engine.values import SECOND
from store.changes import SYSTEM_ACTOR
from store.database import Database
from store.refusals import Refused, append

#: So many rows a minute are written of one actor, and of all.
ROWS_OF_ONE: Final = 10
ROWS: Final = 120
#: In so many chains what is left out is counted; beyond that it is the platform's.
MAX_CHAINS: Final = 30
MAX_ADDRESSES: Final = 1000
#: So long a refusal waits for its row, and the end of the service for the last ones.
WAIT_S: Final = 1.0
#: How often it is looked whether there are sums to be told.
TICK_S: Final = 15.0
MINUTE: Final = 60 * SECOND
#: What is surely neither a word nor a name: ids as this service, tracing and ULIDs have them.
_PLAIN_ID: Final = re.compile(r"[0-9a-fA-F-]{8,64}|[0-9A-HJKMNP-TV-Z]{26}")
_log = logging.getLogger("bylaw.admin")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that was refused.

    Args:
        actor: who wished it. tenant: that the path names.
        path: as the description has it, `/tenants/{tenant}/links`.
        at: the line of the policy that refused, if one did.
    """

    actor: str
    tenant: str | None
    method: str
    path: str
    code: str
    at: str | None
    request_id: str


@dataclass(slots=True)
class _Sums:
    """What is counted in a minute, and not yet told."""

    minute: int
    left_out: Counter[str | None] = field(default_factory=Counter)
    strangers: int = 0
    limited: int = 0
    addresses: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        return not self.left_out and not self.strangers


def is_refusal(error: Exception) -> bool:
    """Say whether an error is that somebody may not do what he wished."""
    return isinstance(error, PublicError) and (error.status == 403 or error.code == "last_holder")


def plain_id(request_id: str) -> str | None:
    """Return the id of a request if an audit log may tell it; None: whoever chose it may have named somebody by it."""
    return request_id if _PLAIN_ID.fullmatch(request_id) else None


class Refusals:
    """Takes down what was refused.

    Args:
        clock: nanoseconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._minute = 0
        self._rows: Counter[str] = Counter()
        self._sums = _Sums(0)
        self._tasks: set[asyncio.Task[bool]] = set()

    async def note(self, refusal: Refusal) -> None:
        """Take down a refusal. Nothing is raised, and it takes a moment at most."""
        await self.tell()
        now = self._turn()
        if self._rows[refusal.actor] >= ROWS_OF_ONE or self._rows.total() >= ROWS:
            self._leave_out(refusal.tenant, 1)
            return
        self._rows[refusal.actor] += 1
        left_out = self._sums.left_out.pop(refusal.tenant, 0)
        said = Refused("request.refused", _details(refusal, left_out))
        await self._soon(self._write(refusal.tenant, said, now, 1 + left_out, actor=refusal.actor))

    def note_stranger(self, address: str, *, is_limited: bool) -> None:
        """Count an attempt of nobody known.

        Args:
            is_limited: he was told to wait.
        """
        self._turn()
        sums = self._sums
        sums.strangers += 1
        sums.limited += is_limited
        if len(sums.addresses) < MAX_ADDRESSES:
            sums.addresses.add(address)

    async def tell(self, *, is_last: bool = False) -> None:
        """Write down what was counted in a minute that is over.

        Args:
            is_last: nothing more will come: this minute's, too.
        """
        now, sums = self._clock(), self._sums
        if sums.is_empty or (now // MINUTE == sums.minute and not is_last):
            return
        self._sums = _Sums(now // MINUTE)
        await self._soon(self._tell(sums, now))

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Tell sums in time, and at the end what is left."""
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            await self.tell(is_last=True)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=WAIT_S)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.tell()

    def _turn(self) -> int:
        """Begin a minute anew, if it is another; return the time."""
        now = self._clock()
        if now // MINUTE != self._minute:
            self._minute = now // MINUTE
            self._rows.clear()
        if self._sums.is_empty:
            self._sums.minute = self._minute
        return now

    def _leave_out(self, tenant: str | None, times: int) -> None:
        left_out = self._sums.left_out
        left_out[tenant if tenant in left_out or len(left_out) < MAX_CHAINS else None] += times

    async def _soon(self, work: Coroutine[Any, Any, bool]) -> None:
        """Wait a moment for something; it goes on if that is not enough."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=WAIT_S)

    async def _tell(self, sums: _Sums, now: int) -> bool:
        for tenant, times in sums.left_out.items():
            await self._write(tenant, Refused("request.left_out", {"left_out": times}), now, times)
        if not sums.strangers:
            return True
        counted = {"count": sums.strangers, "limited": sums.limited, "addresses": len(sums.addresses)}
        return await self._write(None, Refused("authentication.failed", counted), now, 0)

    async def _write(
        self, tenant: str | None, said: Refused, now: int, lost: int, *, actor: str = SYSTEM_ACTOR
    ) -> bool:
        """Write a row; where that cannot be, count what it was about."""
        try:
            await append(self._database, tenant, [said], now=now, actor=actor)
        except Exception as error:  # whatever it is: a refusal stays one
            _log.warning("what was refused could not be written down: %s", type(error).__name__)
            if lost:
                self._leave_out(tenant, lost)
            return False
        return True


def _details(refusal: Refusal, left_out: int) -> dict[str, Any]:
    said: dict[str, Any] = {"method": refusal.method, "path": refusal.path, "code": refusal.code}
    if refusal.at is not None:
        said["at"] = refusal.at
    if (request := plain_id(refusal.request_id)) is not None:
        said["request"] = request
    return said | ({"left_out": left_out} if left_out else {})
