"""The rows of `tests/conformance/` once more, their facts in a store: what is decided cannot depend on where facts are
kept.

Each row is asked twice: the first time most of what it needs is loaded, the second time nothing may be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from engine import RequestError
from engine.authorizer import Questioner
from sidecar.decider import StoreDecider
from sidecar.keeper import Keeper
from sidecar.readings import Loaded
from store.database import Database
from store.seed import seed
from tests.databases import StoreUrls, run
from tests.test_conformance import ROWS, SUITES, Row, Suite, question, suite

#: Reading a chain, and then what its attributes name.
MAX_STATEMENTS = 4


class Kept:
    """A suite's facts in a store, and one process's keeper of them."""

    def __init__(self, url: str, here: Suite) -> None:
        self.loaded: Loaded | None = None
        self.keeper = Keeper(url, max_staleness_s=60, questioner=self._questioner)
        self.loaded = Loaded(here.policy, self.keeper.bind(here.policy), "")
        parts = (self.keeper.cache, self.keeper.freshness, self.keeper.loader, self.keeper.reader)
        self.decider = StoreDecider(self._loaded, *parts)
        self.statements = 0

    def _questioner(self) -> Questioner | None:
        return self.loaded.facts.questioner if self.loaded is not None else None

    def _loaded(self) -> Loaded:
        assert self.loaded is not None
        return self.loaded

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the statements that the database is sent, those that begin and end transactions apart."""
        engine = self.keeper.database.engine.sync_engine

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            self.statements += not statement.startswith("BEGIN")

        event.listen(engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", count)

    async def answer(self, row: Row) -> Row:
        """Ask a row, and tell of the answer what the row speaks of."""
        now = datetime.fromisoformat(row["at"]) if "at" in row else None
        asked = question(row, now)

        def attempt(loaded: Loaded) -> str:
            decision = loaded.policy.decide(asked, loaded.facts)
            by = decision.by and decision.by.split(" on ")[0]
            return json.dumps({"expect": decision.allowed, "code": decision.code, "by": by})

        try:
            told = json.loads(await self.decider.answer(attempt, (asked,), None))
        except RequestError:
            return {"error": row.get("error")}
        return {key: told[key] for key in told if key in row}


async def asked(urls: StoreUrls, name: str) -> list[str]:
    """Seed a suite, ask all its rows, and list what came out otherwise than they say."""
    here = suite(name)
    database = Database(urls.admin)
    await seed(database, here.policy, here.facts.source)
    await database.close()
    kept = Kept(urls.sidecar, here)
    # One poll, and none beside: where a poll crosses a load, the load is made again.
    await kept.keeper.reader.register(60_000)
    await kept.keeper.freshness.poll()
    try:
        with kept.counting():
            return [fault for row in decisions(name) for fault in await faults(kept, row)]
    finally:
        await kept.keeper.stop()


def decisions(name: str) -> list[Row]:
    return [row for suite_name, row in ROWS if suite_name == name and "search" not in row]


async def faults(kept: Kept, row: Row) -> list[str]:
    expected: dict[str, Any] = {key: row[key] for key in ("expect", "code", "by", "error") if key in row}
    found = []
    for most in (MAX_STATEMENTS, 0):
        kept.statements = 0
        answer = await kept.answer(row)
        if answer != expected:
            found.append(f"{row['id']}: {answer}, not {expected}")
        if kept.statements > most:
            found.append(f"{row['id']}: {kept.statements} statements, not {most}")
    return found


@pytest.mark.parametrize("name", SUITES)
def test_rows_from_a_store(store_urls: StoreUrls, name: str) -> None:
    """Facts in a database decide as facts in memory do; a cold check takes few statements, a warm one none."""
    found = run(asked(store_urls, name))

    assert found == []


def test_suites_are_there() -> None:
    """The suites are those that the Python API is asked, too."""
    assert len(SUITES) >= 13
    assert (Path(__file__).parent / "conformance").is_dir()
