"""`bylaw admin`: the administration service; `bylaw admin bootstrap` makes its first key.

The other steps, the verbs of `admin_verbs`, are for people who ask a service that runs.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final

from bylaw.output import print_json
from engine.errors import BylawError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.addresses import Address
    from store.database import Database

#: What may stand on the command line, as `serve.FLAGS` has it.
FLAGS: Final = (
    ("policies", "DIR", "directory of *.bylaw (policies)"),
    ("redis-url", "URL", "hints to the processes that decide"),
    ("jwks", "FILE|URL", "keys of end users' tokens"),
    ("issuer", "ISS", "who issues them"),
    ("audience", "AUD", "for whom they must be"),
    ("tenant-claim", "NAME", "the claim that names the tenant (tenant_id)"),
    ("roles-claim", "NAME", "the claim that lists claimable roles"),
    ("service-claim", "NAME", "the claim that makes a token a service's"),
    ("policy-key", "KEY", "public key by which policies must be signed"),
    ("log-format", "FORMAT", "of the service's own log: text or json (text)"),
)
DEFAULT: Final = "127.0.0.1:8190"
#: What the first key may: everything.
FIRST_SCOPES: Final = ("system",)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop, make the first key, do a job on the store, or ask a service that runs."""
    from store.environment import environment

    environ = environment()
    match args.step:
        case None:
            return _serve(environ, args)
        case "bootstrap":
            import asyncio  # the flags of this module are read for every command

            return asyncio.run(_bootstrap(environ, args))
        case "retain" | "reencrypt":
            import asyncio

            from bylaw.commands import admin_jobs

            job = admin_jobs.retain if args.step == "retain" else admin_jobs.reencrypt
            return asyncio.run(job(environ, args))
        case _:
            from bylaw.commands.admin_verbs import run_verb

            return run_verb(environ, args)


def place_to_listen(written: str | None) -> Address:
    """Read where administration is to listen; None: nobody said.

    Raises:
        BylawError: it is no place, or not one of this machine alone.
    """
    from sidecar.addresses import parse_address

    try:
        place = parse_address(written or DEFAULT)
    except ValueError as error:
        raise BylawError("bad_settings", f"--admin: {error}") from error
    if not place.is_loopback:
        raise BylawError(
            "bad_settings",
            f"{place} is not a loopback address: keys would go over the network in the clear; listen on 127.0.0.1 or "
            "unix:/path, behind what speaks TLS",
        )
    return place


async def make_key(database: Database, name: str) -> tuple[str, str]:
    """Make a key that may do everything; return it, and its id."""
    from store.changes import Writer
    from store.keys import new_key
    from store.writes import api_keys

    key = new_key()
    async with Writer(database).write() as write:
        made = await api_keys.make(write, key, name, scopes=FIRST_SCOPES)
    return key, made


def _serve(environ: Mapping[str, str], args: argparse.Namespace) -> int:
    import uvloop

    from bylaw.administration import serve
    from sidecar.logs import set_up
    from sidecar.settings import Settings

    flags = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name, _, _ in FLAGS}
    settings = Settings.read(environ, {**flags, "database_url": args.database_url}, json=args.json)
    set_up(settings.log_format)
    place = place_to_listen(args.admin or environ.get("BYLAW_ADMIN"))
    try:
        uvloop.run(serve(settings, place, report=lambda text: print(f"bylaw: {text}", flush=True)))
    except OSError as error:
        raise BylawError("no_address", f"cannot listen on {place}: {error.strerror or error}") from error
    return 0


async def _bootstrap(environ: Mapping[str, str], args: argparse.Namespace) -> int:
    from store.database import Database
    from store.environment import DEFAULT_DATABASE_URL, unknown_variable
    from store.seed import check_tables

    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    database = Database(args.database_url or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL)
    try:
        await check_tables(database)
        key, made = await make_key(database, args.name)
    finally:
        await database.close()
    said: dict[str, Any] = {"key": key, "id": made, "scopes": list(FIRST_SCOPES)}
    if args.json:
        print_json(said)
    else:
        print("bylaw: a key that may do everything; it is printed this once, and stored nowhere", file=sys.stderr)
        print(key)
    return 0
