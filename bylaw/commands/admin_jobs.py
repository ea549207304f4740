"""`bylaw admin retain` and `bylaw admin reencrypt`: what is to be done with the store now and then.

They work on the store itself, with the login of the service, and need none that runs: so they are for a cron entry, and
go on as long as it takes. The service does the same by `POST /admin/v1/retention/run` and `…/encryption/reencrypt`, as
long as somebody waits.

Exit 0: done. 1: of `reencrypt`, values are left that no key decrypts. 2: it could not run.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bylaw.output import print_json, table
from engine.errors import BylawError

if TYPE_CHECKING:
    import argparse

    from store.changes import Writer
    from store.database import Database
    from store.settling import Receipts

#: Longer than any process goes on without a poll.
WAIT_S: Final = 65.0


async def retain(environ: Mapping[str, str], args: argparse.Namespace) -> int:
    """Remove what is kept no longer."""
    from admin.retention.service import Job
    from store.settling import Receipts
    from store.writes import retention

    async with _writing(environ, args) as writer:
        async with writer.database.reading() as connection:
            periods = await retention.read_periods(connection)
        job = Job(writer, retention.cutoffs_of(periods, time.time_ns()))
        swept = await (job.count() if args.dry_run else job.run())
        if swept.processes and job.token is not None:
            await _wait(Receipts(writer.database), str(job.token))
    said = swept.model_dump()
    counts = {name: found for name, found in said.items() if type(found) is int and found}
    told = (
        _told("DUE", counts, "nothing is due") if args.dry_run else _told("GONE", counts, "nothing was to be removed")
    )
    print_json(said) if args.json else print(told)
    return 0


async def reencrypt(environ: Mapping[str, str], args: argparse.Namespace) -> int:
    """Encrypt anew what is under an old key."""
    from admin.reencryption.service import Job
    from bylaw.administration import KEYS, key_ring

    ring = key_ring(environ)
    if ring is None:
        raise BylawError("no_keys", f"there are no keys: set {KEYS} to the file that the service has")
    async with _writing(environ, args) as writer:
        renewed = await Job(writer, ring).run()
    left = sum(renewed.unreadable.values())
    if args.json:
        print_json(renewed.model_dump(exclude={"next"}))
        return 1 if left else 0
    counts = {name: count for name, count in renewed.renewed.items() if count}
    print(_told("ENCRYPTED ANEW", counts, "nothing was to be encrypted anew"))
    for key_id, count in (renewed.in_use or {}).items():
        role = ", the current one" if key_id == renewed.current else "" if count else ": may be removed"
        print(f"key {key_id}: {count} values{role}")
    if left:
        print(f"{left} values are under no key of these: put their key back, or they stay unread")
    return 1 if left else 0


@asynccontextmanager
async def _writing(environ: Mapping[str, str], args: argparse.Namespace) -> AsyncIterator[Writer]:
    """Open the store, as the service does."""
    from store.changes import Writer
    from store.database import Database
    from store.environment import DEFAULT_DATABASE_URL, unknown_variable
    from store.seed import check_tables

    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    database: Database = Database(args.database_url or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL)
    try:
        await check_tables(database)
        yield Writer(database)
    finally:
        await database.close()


async def _wait(receipts: Receipts, token: str) -> None:
    """Wait until processes that decide no more are removed."""
    receipt = await receipts.find(token)
    if receipt is not None:
        await receipts.settled(receipt, timeout_s=WAIT_S)


def _told(title: str, counts: Mapping[str, int], nothing: str) -> str:
    rows = [[name.replace("_", " "), str(count)] for name, count in counts.items()]
    return table([[title, ""], *rows]) if rows else nothing
