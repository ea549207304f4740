"""Histories that are lost: backups put in the place of what was there, failovers, stores that are named anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from bylaw.cli import main
from store.tokens import Line, Token
from tests.databases import Cluster, Postgres, StoreUrls, sqlite_urls
from tests.freshness.services import Pen, Sidecar, Work, furnish, grant, revoke, sidecar, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("deaf")]


@dataclass(frozen=True)
class History:
    """A furnished database that can be kept, and put back to what was kept, before any sidecar was there at first.

    Attributes:
        server: of PostgreSQL.
    """

    urls: StoreUrls
    keep: Callable[[], object]
    restore: Callable[[], object]
    server: Server | None = None

    def write(self, *works: Work) -> list[str]:
        """Write one after the other, over connections of their own; return the tokens."""
        with Pen(self.urls.admin) as pen:
            return [pen.write(work) for work in works]


class Server:
    """A PostgreSQL server with a furnished database, and backups of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        with Pen(cluster.urls().admin) as pen:
            furnish(pen)
        self.first = self.kept = cluster.keep()

    def keep(self) -> None:
        self.kept = self.cluster.keep()

    def restore(self) -> None:
        self.cluster.restore(self.kept)

    def fail_over(self) -> None:
        """Have what was kept take over: what was committed since is lost, and a new timeline begins."""
        self.restore()
        self.cluster.become_replica()
        self.cluster.promote()


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[Server]:
    """A PostgreSQL server of these tests alone."""
    with postgres.private() as cluster:
        yield Server(cluster)


@pytest.fixture
def of_postgres(server: Server) -> History:
    """A furnished database on PostgreSQL."""
    server.kept = server.first
    server.restore()
    return History(server.cluster.urls(), server.keep, server.restore, server)


@pytest.fixture(params=("poured", "replaced", "postgres"))
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """Each way in which a backup comes back: SQLite's own into the live file, another file under the name, a data
    directory."""
    if request.param == "postgres":
        found: History = request.getfixturevalue("of_postgres")
        return found
    path, kept = tmp_path / "bylaw.db", tmp_path / "kept.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)

    def put() -> None:
        shutil.copy(kept, tmp_path / "next.db")
        for name in ("-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
        os.replace(tmp_path / "next.db", path)

    made = History(
        sqlite_urls(path),
        lambda: _pour(path, kept),
        put if request.param == "replaced" else lambda: _pour(kept, path),
    )
    with Pen(made.urls.admin) as pen:
        furnish(pen)
    made.keep()
    return made


def _pour(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def words(asked: Sidecar) -> tuple[str, str]:
    """Say what ann and cat may do."""
    return asked.word("user:ann"), asked.word("user:cat")


QUESTION = ("project.read", "project:p1")
NEUTRAL = grant("user:bob", "project.editor", "project:p2")


def test_restore_and_failover(history: History) -> None:
    """After a restore the decisions follow the history that is there, wherever its numbers are when the sidecar looks:
    below those of the lost one, at them, or past them."""
    with sidecar(history.urls.sidecar, max_staleness_s=60) as asked:
        history.keep()
        for extra in (2, 3) if history.urls.is_postgres else (0, 1, 2, 3):
            history.write(revoke("user:ann"), grant("user:cat"))
            asked.poll()
            lost = words(asked)

            history.restore()
            history.write(*[NEUTRAL] * extra)
            asked.poll()

            assert lost == ("default", "allow")
            assert words(asked) == ("allow", "default")
            assert asked.word("user:bob", what="project:p2") == ("allow" if extra else "default")


def test_restore_that_forgot_the_sidecar(history: History) -> None:
    """A sidecar of which a backup knows nothing, since it started later, makes itself known again and follows; what a
    token of the lost commits names cannot be had: a 503 while the new history has not come so far."""
    with sidecar(history.urls.sidecar, max_staleness_s=60) as asked:
        *_, lost = history.write(revoke("user:ann"), grant("user:cat"))
        asked.poll()

        history.restore()
        (token,) = history.write(NEUTRAL)
        asked.poll()

        assert words(asked) == ("allow", "default")
        assert asked.since(token) == "allow"
        assert asked.word("user:ann", *QUESTION, lost) == "503 stale"


def test_a_restored_store_is_named_anew(history: History) -> None:
    """Once `bylaw migrate up --restored` has named the history anew, a token of the one before is satisfied by a fresh
    poll, wherever its numbers are, and one of a store that this never was is a 503."""
    with sidecar(history.urls.sidecar, max_staleness_s=60) as asked:
        *_, lost = history.write(revoke("user:ann"), grant("user:cat"))
        asked.poll()
        known = Token.parse(lost)
        foreign = str(replace(known, line=Line(uuid4().hex, known.line.timeline)))

        history.restore()
        assert main(["migrate", "up", "--restored", "--database-url", history.urls.owner]) == 0
        (new,) = history.write(NEUTRAL)
        asked.poll()
        epoch = asked.keeper.freshness.epoch
        said = asked.since(lost)

        assert (said, asked.keeper.freshness.epoch > epoch) == ("allow", True)
        assert asked.word("user:ann", *QUESTION, foreign) == "503 stale"
        assert asked.since(new, who="user:bob", what="project:p2") == "allow"


# --- failover -----------------------------------------------------------------------------------------


def test_a_replica_is_not_answered_from(of_postgres: History) -> None:
    """Connected to a replica a sidecar is not ready, and all is `stale`; once that is promoted, it goes on, and a token
    from before is satisfied by one fresh poll."""
    assert of_postgres.server is not None
    cluster = of_postgres.server.cluster
    with sidecar(of_postgres.urls.sidecar, max_staleness_s=60) as asked:
        (before,) = of_postgres.write(revoke("user:ann"))
        assert asked.since(before) == "default"

        cluster.become_replica()
        until(lambda: _nudged(asked).ready()[0] == 503)
        as_replica = asked.word("user:ann"), asked.word("user:cat"), asked.word("user:ann", *QUESTION, before)
        cluster.promote()
        asked.poll()
        after = asked.since(before)
        (token,) = of_postgres.write(grant("user:ann"))

        assert as_replica == ("stale", "stale", "503 stale")
        assert (after, asked.since(token), asked.ready()) == ("default", "allow", (200, "ready"))


def _nudged(asked: Sidecar) -> Sidecar:
    asked.nudge()
    return asked


def test_a_failover_that_lost_commits(of_postgres: History) -> None:
    """Where the server that takes over had not got the last commits, decisions follow it; a token of what was lost is
    satisfied by one fresh poll."""
    assert of_postgres.server is not None
    with sidecar(of_postgres.urls.sidecar, max_staleness_s=60) as asked:
        of_postgres.keep()
        *_, lost = of_postgres.write(revoke("user:ann"), grant("user:cat"))
        asked.poll()
        before = words(asked)

        of_postgres.server.fail_over()
        (new,) = of_postgres.write(NEUTRAL)
        asked.poll()

        assert (before, words(asked)) == (("default", "allow"), ("allow", "default"))
        assert (asked.since(lost), asked.since(new)) == ("allow", "allow")
        assert asked.ask().token.line != Token.parse(lost).line


def test_a_failover_that_forgot_the_sidecar(of_postgres: History) -> None:
    """A token of the new timeline is never answered from the old one, also where the server that takes over had not
    heard of the sidecar yet, so that the first poll is not applied."""
    assert of_postgres.server is not None
    with sidecar(of_postgres.urls.sidecar, max_staleness_s=60) as asked:
        assert words(asked) == ("allow", "default")

        of_postgres.server.fail_over()
        (token,) = of_postgres.write(revoke("user:ann"))
        heard = [asked.word("user:ann", *QUESTION, token) for _ in range(5)]
        asked.poll()

        assert set(heard) <= {"default", "503 stale"}
        assert asked.since(token) == "default"


def test_a_token_of_a_timeline_that_is_not_followed(of_postgres: History) -> None:
    """A sidecar that is left with the old primary, while another has taken over, does not take the new one's tokens for
    those of its own past: what they name cannot be had from there."""
    server = of_postgres.server
    assert server is not None
    with sidecar(of_postgres.urls.sidecar, max_staleness_s=60) as asked:
        assert asked.word("user:ann") == "allow"

        with Cluster(server.cluster.binaries, server.first) as other:
            other.become_replica()
            other.promote()
            with Pen(other.urls().admin) as pen:
                token = pen.write(revoke("user:ann"))

        assert asked.word("user:ann", *QUESTION, token) == "503 stale"
