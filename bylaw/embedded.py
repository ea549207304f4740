"""Administration in the process of `bylaw dev`, beside the decision service and over the same store.

A place that nobody named may be taken, by another `bylaw dev`, and a login on PostgreSQL may be one that only decides:
then it goes on without, as it does where Envoy's port is taken. Into an SQLite store that never had a key one is made,
once there is a service to use it with: the file belongs to whoever started this, so nobody gets what was not theirs. On
a server that is shared nothing is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bylaw.commands.admin import DEFAULT, make_key
from engine.errors import BylawError

if TYPE_CHECKING:
    from bylaw.administration import Administration
    from sidecar.addresses import Address
    from sidecar.policies import Policies
    from sidecar.settings import Settings


class Embedded:
    """Administration beside decisions: see `sidecar.beside`.

    Args:
        is_named: whether somebody wants it at just this place.
        report: takes why it is not there.
    """

    def __init__(self, settings: Settings, place: Address, *, is_named: bool, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._place = place
        self._is_named = is_named
        self._report = report
        self._running: Administration | None = None
        self._key: str | None = None

    async def start(self, policies: Policies | None) -> None:
        """Listen, and make the first key where there never was one.

        Raises:
            BylawError: somebody named the place, and it cannot be had; or the store cannot be used.
        """
        from bylaw.administration import Administration
        from store.errors import UnfitError

        running = Administration(self._settings, self._place, report=self._report)
        try:
            await running.start(policies)
        except OSError as error:
            reason = f"administration cannot listen on {self._place}: {error.strerror or error}"
            self._go_without(f"{reason}: `--admin HOST:PORT` names another place", error)
            return
        except UnfitError as error:  # a login that decides and writes nothing is a good one for decisions
            self._go_without(f"no administration: {error.message}", error)
            return
        self._running = running
        try:
            self._key = await self._first_key()
        except BaseException:
            await self.stop()
            raise

    def _go_without(self, reason: str, error: Exception) -> None:
        if self._is_named:
            raise BylawError("bad_settings", reason) from error
        self._report(f"{reason}; it goes on without")

    async def _first_key(self) -> str | None:
        from store.database import Database
        from store.writes import api_keys

        database = Database(self._settings.database_url, pool_size=1)
        try:
            if not database.is_sqlite:
                return None
            async with database.reading() as connection:
                known = await api_keys.read_page(connection, limit=1)
            return None if known else (await make_key(database, "dev"))[0]
        finally:
            await database.close()

    async def stop(self) -> None:
        """Answer what is under way, and close."""
        if self._running is not None:
            await self._running.stop()
            self._running = None

    @property
    def members(self) -> Mapping[str, str]:
        """What it adds to a greeting for machines."""
        if self._running is None:
            return {}
        return {"administration": self._running.address} | ({"key": self._key} if self._key is not None else {})

    @property
    def text(self) -> str:
        """What it adds to a greeting for people."""
        if self._running is None:
            return ""
        where = self._running.address
        lines = [f"Administration listens on {where}."]
        if self._key is not None:
            named = [f"  export BYLAW_ADMIN={where.removeprefix('http://')}"] if not where.endswith(DEFAULT) else []
            lines += [
                "Its first key may do everything, and is shown this once; in another terminal:",
                *named,
                f"  export BYLAW_ADMIN_KEY={self._key}",
                "  bylaw admin create-tenant trial",
            ]
        return "\n".join([*lines, ""])
