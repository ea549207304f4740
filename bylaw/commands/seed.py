"""`bylaw seed FILE`: a facts file into the store."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from bylaw.output import count, print_json
from engine.errors import BylawError
from engine.facts_file import digest_of, parse_document, read_file
from engine.policy import Policy

if TYPE_CHECKING:
    from engine.facts_builder import Document
    from store.seed import Seeded

DEFAULT_POLICIES: Final = "policies"
#: More names than these are only counted.
MAX_NAMED: Final = 20
_NOUNS: Final = {"group_members": "group member", "memberships": "membership", "custom_roles": "custom role"}


def run(args: argparse.Namespace) -> int:
    """Seed; exit 0 when all of the file is in the store."""
    from store.environment import DEFAULT_DATABASE_URL, environment, unknown_variable

    environ = environment()
    fault = unknown_variable(environ)
    if fault is not None:
        raise BylawError("bad_settings", fault)
    url = args.database_url or environ.get("BYLAW_DATABASE_URL") or DEFAULT_DATABASE_URL
    policy = Policy.load(args.policies or environ.get("BYLAW_POLICIES") or DEFAULT_POLICIES)
    text = read_file(args.file)
    found = asyncio.run(_seed(url, policy, parse_document(text, args.file), args.file, digest_of(text)))
    print_json(_as_json(found)) if args.json else print(_told(found))
    return 0


async def _seed(url: str, policy: Policy, document: Document, name: str, digest: str) -> Seeded:
    from store.database import Database
    from store.seed import seed

    database = Database(url)
    try:
        with Progress(sys.stderr) as progress:
            return await seed(database, policy, document, report=progress, name=name, digest=digest)
    finally:
        await database.close()


# --- what is told ---------------------------------------------------------------------------------------


def _as_json(found: Seeded) -> dict[str, Any]:
    return {
        "revision": str(found.token),
        "revisions": found.revisions,
        "added": dict(found.added),
        "changed": dict(found.changed),
        "unchanged": found.unchanged,
        "members": [{"user": user, "tenant": tenant} for user, tenant in found.members],
    }


def _told(found: Seeded) -> str:
    lines = [
        f"{word}: {_counts(counts)}" for word, counts in (("added", found.added), ("changed", found.changed)) if counts
    ]
    if not lines:
        lines = [f"nothing to do: the store has all of it ({count(found.unchanged, 'row')} compared)"]
    elif found.unchanged:
        lines.append(f"already there: {found.unchanged}")
    if found.members:
        named = [f"{user} of {tenant}" for user, tenant in found.members[:MAX_NAMED]]
        more = [f"and {len(found.members) - MAX_NAMED} more"] if len(found.members) > MAX_NAMED else []
        lines.append(f"made a member, since the file gives a role there: {', '.join([*named, *more])}")
    lines.append(f"{count(found.revisions, 'transaction')}; the store is now at {found.token}")
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(count(number, _NOUNS.get(word, word.removesuffix("s"))) for word, number in counts.items())


# --- while it goes on -----------------------------------------------------------------------------------


class Progress:
    """A bar on a terminal; nothing elsewhere. Called with how many rows are done, and of how many."""

    WIDTH: Final = 30

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._since = clock()
        self._is_shown = stream.isatty()
        self._is_begun = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line to what is said next."""
        if self._is_begun:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, done: int, total: int) -> None:
        if not self._is_shown or not total:
            return
        self._is_begun = True
        filled = self.WIDTH * done // total
        rate = done / max(self._clock() - self._since, 1e-3)
        bar = "█" * filled + "░" * (self.WIDTH - filled)
        self._stream.write(f"\r\x1b[K{bar} {done:,} of {total:,} rows, {rate:,.0f} a second")
        self._stream.flush()
