"""`bylaw dev`: decisions and administration for trying things out, on a store that makes itself; on a facts file,
decisions alone.

An SQLite file belongs to whoever starts this, so its tables are made and brought up to date here, and facts put where
there were never any. A PostgreSQL server is shared: there nothing is done that nobody asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bylaw.commands.serve import settings_of
from bylaw.output import count
from engine.errors import BylawError
from engine.facts_file import digest_of, parse_document, read_file
from engine.policy import Policy

if TYPE_CHECKING:
    from sidecar.beside import Beside
    from sidecar.settings import Settings
    from store.database import Database

#: The file beside a policy that an empty store is filled from.
FACTS: Final = "facts.yaml"
#: The place of an administration that is not wanted.
NOWHERE: Final = "none"


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from sidecar.workers import serve

    settings = settings_of(args, facts=args.facts, dev=True)
    beside = _administration(settings, args.admin)
    if settings.facts is None:
        asyncio.run(_prepare(settings))
    return serve(settings, beside=beside)


def _administration(settings: Settings, named: str | None) -> Beside | None:
    """Make what runs beside decisions; None: nothing does.

    Raises:
        BylawError: it is wanted at a place where it cannot be.
    """
    from bylaw.commands.admin import place_to_listen
    from bylaw.embedded import Embedded
    from store.environment import environment

    if settings.facts is not None and named not in (None, NOWHERE):
        raise BylawError("bad_settings", "--admin: administration needs a store, and with --facts there is none")
    written = named or environment().get("BYLAW_ADMIN")
    if settings.facts is not None or written == NOWHERE:
        return None
    return Embedded(settings, place_to_listen(written), is_named=written is not None, report=_say)


async def _prepare(settings: Settings) -> None:
    """Make the tables and fill the store, as far as that is for this command to do.

    Raises:
        BylawError: the database cannot be used, or the policy or its facts are broken.
    """
    from store import migrating
    from store.database import Database
    from store.seed import is_empty

    database = Database(settings.database_url, pool_size=1)
    facts = settings.policies / FACTS
    try:
        if not database.is_sqlite:
            _say(f"{database.shown}: nothing is done there by itself: run `bylaw migrate up` and `bylaw seed {facts}`")
            return
        if done := await migrating.up(settings.database_url, report=lambda _: None):
            _say(f"{database.shown}: made the tables, or brought them up to date ({count(len(done), 'migration')})")
        if await is_empty(database):
            await _fill(database, settings.policies, facts)
    finally:
        await database.close()


async def _fill(database: Database, policies: Path, facts: Path) -> None:
    from store.seed import seed

    if not await asyncio.to_thread(facts.is_file):
        _say(f"{database.shown}: there are no facts; fill it with `bylaw seed FILE`")
        return
    text = read_file(facts)
    document = parse_document(text, str(facts))
    seeded = await seed(database, Policy.load(policies), document, name=str(facts), digest=digest_of(text))
    _say(f"{database.shown}: put the facts of {facts} there ({count(sum(seeded.added.values()), 'row')})")


def _say(text: str) -> None:
    print(f"bylaw: {text}", file=sys.stderr, flush=True)
