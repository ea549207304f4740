"""Whether the service can answer: `GET /ready`, for probes, in the form that the decision service has it.

    database   failed: it does not answer within a second, so that nothing can be asked
    policies   degraded: what is published, or lies on disk, cannot be loaded; end users may then be refused
    redis      degraded: it does not answer; processes that decide poll all the same

A policy that was published is taken where somebody asks something, and perhaps nobody did: so a probe takes it, too,
once. Nobody need be known to ask: what cannot be loaded is not tried again for whoever asks, and an answer says nothing
of what is stored, nor where a database or Redis is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from admin.services import Services
from store.errors import StoreError
from store.published import position

#: So long the database may take, and then what was published until it is loaded.
ANSWER_S: Final = 1.0
LOAD_S: Final = 0.5
_STATUSES: Final = ("ok", "degraded", "failed")
_OVERALL: Final = {"ok": "ready", "degraded": "degraded", "failed": "failed"}
_FAILED: Final = {
    "status": "failed",
    "error": "unavailable",
    "message": "the database does not answer; nothing can be read or written",
}
_BEHIND: Final = {
    "status": "degraded",
    "error": "no_policy",
    "message": "the policy that is published is not, or not yet, the one that runs here",
}

Check = dict[str, Any]


class Health(NamedTuple):
    """What a probe is answered."""

    is_up: bool
    said: Mapping[str, Any]


class Probe:
    """Looks at all that a service stands on."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tried: object = None

    async def look(self) -> Health:
        """Say how it is."""
        checks: dict[str, Check] = {"database": {"status": "ok"}}
        is_current = False
        try:
            is_current = await self._is_current()
        except (StoreError, TimeoutError):
            checks["database"] = _FAILED
        checks["policies"] = self._policies(is_current=is_current or checks["database"] is _FAILED)
        if self._services.redis is not None:
            checks["redis"] = {name: said for name, said in self._services.redis.status().items() if name != "url"}
        worst = max((check["status"] for check in checks.values()), key=_STATUSES.index)
        return Health(worst != "failed", {"status": _OVERALL[worst], "checks": checks})

    async def _is_current(self) -> bool:
        """Say whether the policy that runs is the one that decides; take it, if it was not tried before.

        Raises:
            StoreError, TimeoutError: the database does not answer.
        """
        services = self._services
        async with asyncio.timeout(ANSWER_S), services.database.reading() as connection:
            published, is_current = await position(connection), await services.is_current(connection)
        if is_current or published == self._tried:
            return is_current
        self._tried = published
        try:
            async with asyncio.timeout(LOAD_S):
                await services.catch_up()
        except (StoreError, TimeoutError):
            return False
        async with asyncio.timeout(ANSWER_S), services.database.reading() as connection:
            return await services.is_current(connection)

    def _policies(self, *, is_current: bool) -> Check:
        policies = self._services.policies
        held: Check = {"policy": self._services.policy().digest}
        if policies.origin is not None:
            held["published"] = policies.origin
        if policies.problem is not None:
            return {"status": "degraded", "error": policies.problem.code, "message": policies.problem.message, **held}
        return {**({"status": "ok"} if is_current else _BEHIND), **held}
