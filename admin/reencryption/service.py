"""The job that encrypts anew what is stored under another key than the current one.

    read a page ──▶ decrypt, encrypt under the current key ──▶ one write, each value only where it still stands as read

It can be cut off anywhere and is run again: what is under the current key is not looked at. Two may run at once, and
writers meanwhile. A value that no key decrypts is counted and left as it is. JSON that was written before there were
keys is encrypted, too. The index of addresses has a key of its own, which no rotation changes, and stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from admin.encryption import MAX_LONG_BYTES, DecryptionError, KeyRing, Place, head_of, is_sealed
from admin.reencryption.wire import Renewed
from store.changes import SYSTEM_ACTOR, Writer
from store.tables import circumstances
from store.tokens import Token
from store.writes import ciphertexts, platform_groups
from store.writes.ciphertexts import ALL, Cell, Cells

#: So many values a write replaces.
LIMIT: Final = 200


class _OverError(Exception):
    """The time is over."""


class Job:
    """One run.

    Args:
        actor: who runs it.
        is_over: says whether to stop, asked between two steps.
        limit: so many values a write replaces.
    """

    def __init__(
        self,
        writer: Writer,
        ring: KeyRing,
        *,
        actor: str = SYSTEM_ACTOR,
        is_over: Callable[[], bool] = lambda: False,
        limit: int = LIMIT,
    ) -> None:
        self._writer = writer
        self._database = writer.database
        self._ring = ring
        self._actor = actor
        self._is_over = is_over
        self._limit = limit
        self._renewed = {cells.table.name: 0 for cells in ALL}
        self._unreadable = dict(self._renewed)
        self._next: str | None = None
        self.token: Token | None = None

    async def run(self, after: str = "") -> Renewed:
        """Encrypt anew until all is, or the time is over.

        Args:
            after: the last tenant that a run before this one looked through.
        """
        in_use = None
        try:
            await self._renew_all(after)
            in_use = await self._count()
        except _OverError:
            pass
        async with self._writer.write(actor=self._actor) as write:
            write.record("encryption.run", key=self._ring.current, **self._renewed)
        self.token = write.token
        return Renewed(
            complete=in_use is not None,
            next=self._next,
            current=self._ring.current,
            renewed=self._renewed,
            unreadable=self._unreadable,
            in_use=in_use,
        )

    async def _renew_all(self, after: str) -> None:
        self._next = after or None
        for cells in ALL:
            if not cells.is_owned:
                await self._renew(cells, None)
        async for tenant in platform_groups.all_tenants(self._database, after):
            for cells in ALL:
                if cells.is_owned:
                    await self._renew(cells, tenant)
            self._next = tenant
        self._next = None

    async def _renew(self, cells: Cells, tenant: str | None) -> None:
        """Encrypt a column anew, page by page."""
        last: tuple[str, ...] = ()
        while True:
            if self._is_over():
                raise _OverError
            async with self._database.reading(tenant) as connection:
                head = head_of(self._ring.current)
                page = await ciphertexts.read_page(connection, cells, tenant, head, after=last, limit=self._limit)
            await self._replace(cells, tenant, page)
            if len(page) < self._limit:
                return
            last = page[-1].key

    async def _replace(self, cells: Cells, tenant: str | None, page: list[Cell]) -> None:
        anew = [(cell, sealed) for cell in page if (sealed := self._sealed(cells, tenant, cell)) is not None]
        self._unreadable[cells.table.name] += len(page) - len(anew)
        if not anew:
            return
        async with self._writer.write(tenant=tenant, actor=self._actor) as write:
            done = [await ciphertexts.replace(write, cells, cell, sealed) for cell, sealed in anew]
            write.record("encryption.renewed", table=cells.table.name, values=sum(done))
        self._renewed[cells.table.name] += sum(done)

    def _sealed(self, cells: Cells, tenant: str | None, cell: Cell) -> str | None:
        """Encrypt a value anew; None: no key decrypts it."""
        place = Place(tenant or "", cells.table.name, cells.column, cell.key)
        try:
            is_plain = cells.table is circumstances and not is_sealed(cell.stored)
            text = cell.stored if is_plain else self._ring.decrypt(cell.stored, place)
        except DecryptionError:
            return None
        return self._ring.encrypt(text, place, max_bytes=MAX_LONG_BYTES)

    async def _count(self) -> dict[str, int]:
        """Count the values under each key."""
        ids = self._ring.key_ids
        heads = [head_of(key_id) for key_id in ids]
        found: Counter[str] = Counter(dict.fromkeys(ids, 0))
        async with self._database.reading() as connection:
            for cells in (each for each in ALL if not each.is_owned):
                found.update(dict(zip(ids, await ciphertexts.count(connection, cells, None, heads), strict=True)))
        async for tenant in platform_groups.all_tenants(self._database):
            if self._is_over():
                raise _OverError
            async with self._database.reading(tenant) as connection:
                for cells in (each for each in ALL if each.is_owned):
                    found.update(dict(zip(ids, await ciphertexts.count(connection, cells, tenant, heads), strict=True)))
        return dict(found)
