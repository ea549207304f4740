"""`bylaw migrate up|down|status`: the tables of a database, made, brought up to date or taken back."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from bylaw.output import count, print_json
from engine.errors import BylawError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.migrating import Report


def run(args: argparse.Namespace) -> int:
    """Do one of the three; exit 0 when it is done."""
    from store.environment import environment, unknown_variable

    environ = environment()
    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    url = _url(args.database_url, environ)
    done, told = asyncio.run({"up": _up, "down": _down, "status": _status}[args.step](url, args))
    if args.json:
        print_json(done)
    elif told:
        print(told)
    return 0


def _url(flag: str | None, environ: Mapping[str, str]) -> str:
    from store.environment import DEFAULT_DATABASE_URL

    return flag or environ.get("BYLAW_MIGRATE_URL") or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL


Outcome = tuple[dict[str, Any], str]  # for machines, and for people


async def _up(url: str, args: argparse.Namespace) -> Outcome:
    from store import migrating

    done = await migrating.up(url, report=_reporter(args))
    found: dict[str, Any] = {"applied": list(done), "current": migrating.head()}
    told = f"{count(len(done), 'step')} done" if done else "nothing to do: the tables are up to date"
    if args.restored:
        found["store"] = await migrating.renew_identity(url)
        told += "; the history has a new name, and revisions of the one before count no more"
    return found, told


async def _down(url: str, args: argparse.Namespace) -> Outcome:
    from store import migrating

    undone = await migrating.down(url, lose_facts=args.lose_facts, report=_reporter(args))
    current = (await migrating.status(url)).current
    return {"undone": undone, "current": current}, "" if undone else "nothing to take back: there are no tables"


async def _status(url: str, args: argparse.Namespace) -> Outcome:
    from store import migrating

    found = await migrating.status(url)
    waiting = "".join(f"\n  {name}" for name in found.pending)
    told = f"at {found.current or 'no migration'}" + (f", to do:{waiting}" if waiting else ", up to date")
    return {"current": found.current, "head": found.head, "pending": list(found.pending)}, told


def _reporter(args: argparse.Namespace) -> Report:
    return (lambda _: None) if args.json else print
