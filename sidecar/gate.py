"""What every request passes, in both lanes: overload, who asks, how much he may; and the one place where errors become
replies.

Overload is told by the *turn* of the event loop: what came in while the loop was at work waits, unseen, in the kernel,
and a turn answers it all. A turn that has answered for `TURN_S` is full: who comes later in it is told at once to come
again. So a request waits at most about two turns, however many are sent, and a refusal costs a fraction of an answer.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Final, Protocol
from uuid import uuid4

from sidecar.callers import Caller, Callers
from sidecar.errors import PublicError, overloaded, to_public
from sidecar.exchange import Call, Reply, refusal
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic

#: How long one turn of the loop may answer requests, and how many it answers however long that takes: a turn is also
#: long where a thread takes the interpreter, or the machine another process, while few wait.
TURN_S: Final = 0.01
TURN_COUNT: Final = 32
#: Most requests that may wait for facts, or for the rest of their body, at once.
MAX_IN_FLIGHT: Final = 1000

_log = logging.getLogger("bylaw.sidecar")


class Turn:
    """How long the loop has been answering without looking at what else there is."""

    def __init__(self, most_s: float = TURN_S, count: int = TURN_COUNT) -> None:
        self.most_s = most_s
        self.count = count
        self._began: float | None = None
        self._answered = 0

    def is_full(self) -> bool:
        """Say whether this turn has answered for long enough."""
        now = perf_counter()
        if self._began is None:
            self._began, self._answered = now, 1
            asyncio.get_running_loop().call_soon(self._end)
            return False
        if now - self._began > self.most_s and self._answered >= self.count:
            return True
        self._answered += 1
        return False

    def _end(self) -> None:
        self._began = None


class Limits(Protocol):
    """How much a caller may ask."""

    def take(self, caller: Caller) -> bool:
        """Count one request; False: it is not known at once whether it is too many (`wait` finds out).

        Raises:
            PublicError: it is one too many.
        """
        ...

    async def wait(self, caller: Caller) -> None:
        """Count one request.

        Raises:
            PublicError: it is one too many.
        """
        ...


class Gate:
    """Lets requests in. `admit` does so at once where it can; what it gives None for, `admitted` waits for."""

    def __init__(
        self,
        callers: Callers,
        traffic: Traffic,
        tellings: Tellings,
        limits: Limits | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.callers = callers
        self.traffic = traffic
        self.tellings = tellings
        self.limits = limits
        self.turn = turn or Turn()

    def admit(self, call: Call) -> Caller | None:
        """Let a request in.

        Raises:
            PublicError: it may not come in, or not now.
        """
        if self.turn.is_full() or self.traffic.count > MAX_IN_FLIGHT:
            raise overloaded()
        caller = self.callers.admit(call)
        if caller is None or self.limits is None:
            return caller
        return caller if self.limits.take(caller) else None

    def probing(self, call: Call) -> Caller:
        """Let in who watches the service: under the rules of the loopback address alone, or anybody."""
        return self.callers.probing(call)

    async def admitted(self, call: Call) -> Caller:
        """Let a request in that `admit` could not judge at once."""
        caller = self.callers.admit(call)
        if caller is None:
            await self.callers.known()
            caller = self.callers.admit(call)
            if caller is None:
                raise PublicError(503, "stale", "it is not known who may ask", headers={"Retry-After": "1"})
        if self.limits is not None:
            await self.limits.wait(caller)
        return caller

    def refuse(self, error: Exception, request_id: str | None) -> Reply:
        """Answer an error; what nobody expected is logged."""
        public = to_public(error)
        if public is not error and public.status >= 500:
            request_id = request_id or uuid4().hex
            _log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
        self.tellings.refuse(public)
        return refusal(public, request_id)
