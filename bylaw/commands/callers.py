"""`bylaw callers add|list|remove`: who may ask the decision service, by a key or by a client certificate.

It writes to the store, as `bylaw seed` does, by the login of who writes facts. A key is made here, printed once and
stored nowhere: what goes into the store is its digest.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any, Final

from bylaw.output import print_json, table
from engine.errors import BylawError
from engine.facts import NEVER
from engine.values import parse_time, show_time

if TYPE_CHECKING:
    from store.database import Database
    from store.tokens import Token
    from store.writes.callers import Caller

#: What a caller may do of whom nothing else is said.
DEFAULT_SCOPES: Final = ("check",)
_HEADINGS: Final = ("NAME", "KNOWN BY", "TENANTS", "SCOPES", "RATE", "UNTIL")

Outcome = tuple[dict[str, Any], str]  # for machines, and for people


def run(args: argparse.Namespace) -> int:
    """Do one of the three; exit 0 when it is done."""
    from store.environment import DEFAULT_DATABASE_URL, environment, unknown_variable

    environ = environment()
    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    url = args.database_url or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL
    found, told = asyncio.run(_on(url, args))
    print_json(found) if args.json else print(told)
    return 0


async def _on(url: str, args: argparse.Namespace) -> Outcome:
    from store.database import Database
    from store.seed import check_tables

    database = Database(url)
    try:
        await check_tables(database)
        return await {"add": _add, "list": _list, "remove": _remove}[args.step](database, args)
    finally:
        await database.close()


async def _add(database: Database, args: argparse.Namespace) -> Outcome:
    from sidecar.limits import parse_rates
    from store.changes import Writer
    from store.keys import PREFIX_LENGTH, digest_of, new_key
    from store.writes import callers

    if args.rate is not None:
        parse_rates(args.rate)  # refuses what is none
    key = new_key() if args.key else None
    async with Writer(database).write() as write:
        added = await callers.add(
            write,
            args.name,
            key_digest=digest_of(key) if key else None,
            certificate=args.certificate,
            prefix=key[:PREFIX_LENGTH] if key else "",
            tenants=args.tenant,
            scopes=args.scope or DEFAULT_SCOPES,
            rate=args.rate,
            expires=NEVER if args.expires is None else _time(args.expires),
        )
    secret = {"key": key} if key else {}
    shown = f"\nits key, shown this once and stored nowhere:\n{key}" if key else ""
    told = f"added {added.name}: {', '.join(added.scopes)} in {_tenants(added)}{shown}\n{_now_at(write.token)}"
    return {**_as_json(added), **secret, "revision": str(write.token)}, told


async def _list(database: Database, args: argparse.Namespace) -> Outcome:
    from store.writes.callers import read_all

    token, found = await read_all(database)
    told = table([_HEADINGS, *map(_row, found)]) if found else "nobody may ask: `bylaw callers add` lets somebody"
    said = {"callers": [_as_json(each) for each in found], "revision": str(token)}
    return said, f"{told}\n{_now_at(token)}"


async def _remove(database: Database, args: argparse.Namespace) -> Outcome:
    from store.changes import Writer
    from store.writes import callers

    async with Writer(database).write() as write:
        await callers.remove(write, args.name)
    return {"name": args.name, "revision": str(write.token)}, f"removed {args.name}\n{_now_at(write.token)}"


def _time(written: str) -> int:
    found = parse_time(written)
    if found is None:
        raise BylawError("bad_time", f"--expires: `{written}` is no time: write it as 2027-01-01T00:00:00Z")
    return found


# --- what is told ---------------------------------------------------------------------------------------


def _as_json(caller: Caller) -> dict[str, Any]:
    known = {"certificate": caller.certificate} if caller.certificate is not None else {"prefix": caller.prefix}
    return {
        "name": caller.name,
        **known,
        "tenants": None if caller.tenants is None else list(caller.tenants),
        "scopes": list(caller.scopes),
        "rate": caller.rate,
        "expires": None if caller.expires >= NEVER else show_time(caller.expires),
        "made": show_time(caller.made),
    }


def _row(caller: Caller) -> tuple[str, ...]:
    return (
        caller.name,
        caller.certificate if caller.certificate is not None else f"key {caller.prefix}…",
        _tenants(caller),
        ", ".join(caller.scopes),
        caller.rate or "",
        "" if caller.expires >= NEVER else show_time(caller.expires),
    )


def _tenants(caller: Caller) -> str:
    return "all tenants" if caller.tenants is None else ", ".join(caller.tenants)


def _now_at(token: Token | None) -> str:
    return f"the store is now at {token}"
