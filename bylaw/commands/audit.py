"""`bylaw audit verify|export`: are the audit logs whole, and a copy of them that shows it elsewhere.

It reads, by the login of who writes facts: nobody else sees the logs. Beside each log stands what was refused, a chain
of its own, and is looked at with it. What it says of a store rests on the heads that the store has, which whoever owns
the database may write anew with the rows. Against him helps what was kept elsewhere: exports, and heads, written
`STREAM=N:HASH` wherever they are printed or given.

Exit 0: all that was looked at is whole. 1: something is broken. 2: it could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from bylaw.log_chains import printable
from bylaw.output import GREEN, RED, count, paint, print_json
from engine.errors import BylawError

if TYPE_CHECKING:
    from store.audit import Verdict
    from store.database import Database
    from store.streams import Position

#: A line of an export is no longer; what is, is none.
MAX_LINE: Final = 64 * 1024 * 1024
_HEAD: Final = re.compile(r"(?s)(.+)=(0:|[1-9][0-9]{0,18}:[0-9a-f]{64})")


def run(args: argparse.Namespace) -> int:
    """Verify, or export."""
    return {"verify": _verify, "export": _export}[args.step](args)


# --- verify -----------------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> int:
    if args.file is None:
        if args.head:
            raise BylawError("bad_request", "--head is for a FILE: a store has heads of its own; export it first")
        found = asyncio.run(_verify_store(_url(args), args.tenant))
    else:
        if args.tenant or args.database_url:
            raise BylawError("bad_request", "a FILE says itself whose it is: leave out --tenant and --database-url")
        found = _verify_file(args.file, args.head or [])
    broken = [each for each in found if each.fault is not None]
    if args.json:
        print_json({"streams": [_as_json(each) for each in found], "broken": len(broken)})
    else:
        print(_told(found, broken))
    return 1 if broken else 0


async def _verify_store(url: str, tenants: list[str] | None) -> list[Verdict]:
    """Verify each stream in a snapshot of its own: of a tenant's rows only its own transactions see any. Of refusals
    there is nothing to tell where there were none."""
    from store.audit import refusals_of, verify_stream
    from store.streams import is_of_refusals, tenant_of

    async with _reading(url) as database:
        found = []
        streams = await _streams(database, tenants)
        for stream in (*streams, *refusals_of(streams)):
            async with database.reading(tenant_of(stream)) as connection:
                verdict = await verify_stream(connection, stream)
            if verdict.fault is not None or verdict.last.n or not is_of_refusals(stream):
                found.append(verdict)
        return found


def _verify_file(file: str, heads: list[str]) -> list[Verdict]:
    from store.audit import verify_lines

    known = dict(map(_parse_head, heads))
    with Path(file).open(encoding="utf-8", errors="replace", newline="\n") as stream:
        found = verify_lines(iter(lambda: stream.readline(MAX_LINE), ""), known)
    if not found:
        raise BylawError("no_rows", f"{file}: there is no row in it, so there is nothing to verify")
    return found


def _parse_head(written: str) -> tuple[str, Position]:
    from store.streams import Position

    match = _HEAD.fullmatch(written)
    if match is None:
        raise BylawError("bad_head", f"--head: `{printable(written)}` is none: write STREAM=N:HASH, as `export` does")
    n, _, digest = match[2].partition(":")
    return match[1], Position(int(n), digest)


# --- export -----------------------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> int:
    with _opened(args.output) as out:
        found = asyncio.run(_export_store(_url(args), args.tenant, out))
    told = sys.stdout if args.output is not None else sys.stderr
    if args.json:
        print(json.dumps({"file": args.output, "streams": found}, indent=2, ensure_ascii=False), file=told)
    else:
        print(_told_of_export(args.output, found), file=told)
    return 0


async def _export_store(url: str, tenant: str | None, out: TextIO) -> list[dict[str, Any]]:
    """Write the rows of a tenant, or of the streams that all share, each out of one snapshot with its head; behind them
    what was refused."""
    from store.audit import export_lines, head_of, refusals_of
    from store.streams import GLOBAL, POLICIES, is_of_refusals, tenant_of

    async with _reading(url) as database:
        found = []
        streams = await _streams(database, [tenant]) if tenant is not None else [GLOBAL, POLICIES]
        for stream in (*streams, *refusals_of(streams)):
            async with database.reading(tenant_of(stream)) as connection:
                rows, head = 0, await head_of(connection, stream)
                async for line in export_lines(connection, stream):
                    out.write(f"{line}\n")
                    rows += 1
            if rows or head is not None or not is_of_refusals(stream):
                shown = None if head is None else _write_head(stream, head)
                found.append({"stream": stream, "rows": rows, "head": shown})
        return found


@contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    """Open a new file that nobody else may read, or standard output. A file that was not finished is not left there."""
    if output is None:
        yield sys.stdout
        return
    with open(output, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        try:
            yield out
        except BaseException:
            Path(output).unlink()
            raise


# --- the store --------------------------------------------------------------------------------------------


def _url(args: argparse.Namespace) -> str:
    from store.environment import DEFAULT_DATABASE_URL, environment, unknown_variable

    environ = environment()
    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    return args.database_url or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL


@asynccontextmanager
async def _reading(url: str) -> AsyncIterator[Database]:
    """Open a database, and say what a login lacks that may not read the logs."""
    from store.database import Database
    from store.errors import UnfitError

    database = Database(url, pool_size=1)
    try:
        yield database
    except UnfitError as error:
        if error.code != "no_rights":
            raise
        cure = "GRANT bylaw_admin TO it, or take another login"
        raise UnfitError(error.code, f"{database.shown}: this login may not read the audit logs: {cure}") from error
    finally:
        await database.close()


async def _streams(database: Database, tenants: list[str] | None) -> list[str]:
    """List the streams of tenants, or all that there are."""
    from store.audit import all_streams
    from store.streams import stream_of

    async with database.reading() as connection:
        there = await all_streams(connection)
    for tenant in tenants or ():
        if stream_of(tenant) not in there:
            raise BylawError("unknown_tenant", f"there is no tenant `{printable(tenant)}`")
    return [stream_of(tenant) for tenant in dict.fromkeys(tenants)] if tenants else there


# --- what is told -----------------------------------------------------------------------------------------


def _write_head(stream: str, head: Position) -> str:
    return f"{stream}={head.n}:{head.head}"


def _as_json(found: Verdict) -> dict[str, Any]:
    return {
        "stream": found.stream,
        "rows": found.last.n,
        "proven": found.proven,
        "head": _write_head(found.stream, found.last),
        "fault": None if found.fault is None else {"n": found.fault.n, "why": found.fault.why},
    }


def _told(found: list[Verdict], broken: list[Verdict]) -> str:
    lines = [f"{printable(each.stream)}: row {each.fault.n}: {each.fault.why}" for each in broken if each.fault]
    read = f"{count(len(found), 'stream')}, {count(sum(each.last.n for each in found), 'row')}"
    lines.append(f"{read}: " + (paint(f"{len(broken)} broken", RED) if broken else paint("whole", GREEN)))
    lines += [_unproven(each) for each in found if each.fault is None and each.proven < each.last.n]
    return "\n".join(lines)


def _unproven(found: Verdict) -> str:
    stream = printable(found.stream)
    if not found.proven:
        return f"{stream}: nothing shows whether rows are missing at the end: give the --head that `export` printed"
    return (
        f"{stream}: the head vouches for rows up to {found.proven}; nothing shows whether more than these are missing"
    )


def _told_of_export(output: str | None, found: list[dict[str, Any]]) -> str:
    lines = []
    for each in found:
        where = "" if output is None else f" to {output}"
        lines.append(f"{count(each['rows'], 'row')} of {each['stream']}{where}")
        lines.append(f"--head {each['head']}" if each["head"] else f"{each['stream']} has no head: it is broken")
    return "\n".join([*lines, "keep heads apart from the rows: they show later that no row is missing"])
