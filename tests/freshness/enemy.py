"""`python -m tests.freshness.enemy --rounds 10000 [--postgres]`: look for the new enemy.

Two orders of writes that a decision must not turn round, each in every way in which a role can be lost:

    grant      mal loses what she holds on a folder; then something new is put there
    content    mal loses what she holds on a document; then something is written into it

Who asks with the token of the second write, of any sidecar, must never be told that mal may read. In the first order
nobody may, whenever he asks and with no token at all: there is no state in which what is new is hers. Two watchers ask
for the newest all the time, before it is there, while it is made and after; they hear nothing but denials.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from store import migrating
from store.changes import Write
from store.writes import assignments, groups, memberships, platform_groups, principals, resources
from tests.databases import Postgres, StoreUrls, quiet, run, sqlite_urls
from tests.freshness.services import Asker, Pen, Work, house, sidecar

MAL: Final = "user:mal"
#: In which ways a role is lost, each beside the stream that tells of it.
WAYS: Final = ("assignment", "group", "platform group", "membership", "status")
#: Between two questions of who watches: whoever never rests leaves nothing of a small machine to those who write.
WATCH_S: Final = 0.01
SHARED: Final = {"platform group", "status"}


@dataclass
class Report:
    """What was seen."""

    rounds: int = 0
    took_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        asked = ", ".join(f"{word} {n}" for word, n in sorted(self.asked.items()))
        lines = [f"{self.rounds} rounds in {self.took_s:.1f} s: {asked}", f"{len(self.violations)} violations"]
        return "\n".join([*lines, *self.violations[:20]])


class Enemy:
    """Writes the orders, and asks both sidecars."""

    def __init__(self, pen: Pen, ports: list[int]) -> None:
        self.pen = pen
        self.ports = ports
        self.report = Report()
        self.newest = "task:none"
        self._done = threading.Event()

    def run(self, rounds: int) -> Report:
        begun = time.monotonic()
        self._settle_in()
        with ThreadPoolExecutor(len(self.ports)) as pool, ExitStack() as stack:
            askers = [stack.enter_context(Asker(port)) for port in self.ports]
            watching = [pool.submit(self._watch, port) for port in self.ports]
            try:
                for number in range(rounds):
                    self._round(number, askers)
            finally:
                self._done.set()
            for each in watching:
                self.report.asked += each.result()
        self.report.took_s = time.monotonic() - begun
        return self.report

    def _settle_in(self) -> None:
        async def own(write: Write) -> None:
            await memberships.put(write, MAL)
            await groups.make(write, "readers")
            await self._give(0)(write)

        async def shared(write: Write) -> None:
            await principals.make(write, MAL)
            await platform_groups.make(write, "everybody")

        self.pen.write(shared, tenant=None)
        self.pen.write(own, shared=True)

    # --- a round: lose, then grant or write --------------------------------------------------------

    def _round(self, number: int, askers: list[Asker]) -> None:
        way, is_grant = WAYS[number % len(WAYS)], number // len(WAYS) % 2 == 0
        what = f"task:new{number}" if is_grant else f"project:f{number}"
        if is_grant:
            self.newest = what
        else:
            before = askers[number % 2].since(who=MAL, action="project.read", what=what)
            self._hear(before, f"{what} before", is_hers=True)
        self.pen.write(self._lose(number), shared=way in SHARED or way == "membership")
        token = self.pen.write(self._fill(number, is_grant=is_grant), self._give(number + 1), shared=True)
        action = "task.read" if is_grant else "project.read"
        for asker in askers:
            self._hear(asker.since(token, who=MAL, action=action, what=what), f"{what}, {way}", is_hers=False)
        self.report.rounds += 1

    def _hear(self, word: str, what: str, *, is_hers: bool) -> None:
        self.report.asked[word] += 1
        if (word == "allow") != is_hers and word != "503 stale":
            self.report.violations.append(f"{what}: {word}")

    def _lose(self, number: int) -> Work:
        """Take from mal what she holds on the folder of a round."""
        folder = f"project:f{number}"

        async def lose(write: Write) -> None:
            match WAYS[number % len(WAYS)]:
                case "assignment":
                    await assignments.take(write, MAL, "project.editor", folder)
                case "group":
                    await groups.remove_member(write, "readers", MAL)
                case "platform group":
                    await platform_groups.remove_member(write, "everybody", MAL)
                case "membership":
                    await memberships.put(write, MAL, "suspended")
                case "status":
                    await principals.set_status(write, MAL, "suspended")

        return lose

    def _fill(self, number: int, *, is_grant: bool) -> Work:
        """Put something new into the folder of a round, or write something into the folder itself."""
        folder = f"project:f{number}"
        if is_grant:
            return lambda write: resources.make(write, f"task:new{number}", parent=folder)
        return lambda write: resources.set_attributes(write, folder, {"label": "secret"})

    def _give(self, number: int) -> Work:
        """Make the folder of the next round, and let mal in again, there alone: what was hers before is not given
        back."""
        folder, before = f"project:f{number}", WAYS[(number - 1) % len(WAYS)] if number else ""

        async def give(write: Write) -> None:
            await resources.make(write, folder)
            if number:
                await _end_all(write, f"project:f{number - 1}")
            if before == "membership":
                await memberships.put(write, MAL)
            if before == "status":
                await principals.set_status(write, MAL, "active")
            match WAYS[number % len(WAYS)]:
                case "group":
                    await groups.add_member(write, "readers", MAL)
                    await assignments.give(write, "group:readers", "project.editor", folder)
                case "platform group":
                    await platform_groups.add_member(write, "everybody", MAL)
                    await assignments.give(write, "group:everybody", "project.editor", folder)
                case _:
                    await assignments.give(write, MAL, "project.editor", folder)

        return give

    # --- watching ----------------------------------------------------------------------------------

    def _watch(self, port: int) -> Counter[str]:
        """Ask for the newest all the time, with no token."""
        heard: Counter[str] = Counter()
        with Asker(port) as asker:
            while not self._done.wait(WATCH_S):
                what = self.newest
                word = asker.word(MAL, "task.read", what)
                heard[f"{word} (watching)"] += 1
                if word == "allow":
                    self.report.violations.append(f"{what}: allow, while watching")
        return heard


async def _end_all(write: Write, folder: str) -> None:
    """Leave nobody a role on a folder whose round is over."""
    for who in (MAL, "group:readers", "group:everybody"):
        await assignments.take(write, who, "project.editor", folder, missing_ok=True)


def hunt(urls: StoreUrls, rounds: int) -> Report:
    """Look for the enemy in a migrated store, through two sidecars."""
    with house(urls) as pen, sidecar(urls.sidecar, max_staleness_s=5) as one, sidecar(urls.sidecar) as other:
        return Enemy(pen, [one.port, other.port]).run(rounds)


@contextmanager
def _store(*, is_postgres: bool) -> Iterator[StoreUrls]:
    if is_postgres:
        server = Postgres()
        try:
            yield server.fresh()
        finally:
            server.close()
        return
    folder = tempfile.mkdtemp(prefix="bylaw-enemy-")
    urls = sqlite_urls(Path(folder) / "bylaw.db")
    run(migrating.up(urls.owner, report=quiet))
    try:
        yield urls
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Hunt, and tell; exit code 1 if the enemy was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.freshness.enemy")
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL; else on SQLite")
    given = parser.parse_args()
    with _store(is_postgres=given.postgres) as urls:
        report = hunt(urls, given.rounds)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
