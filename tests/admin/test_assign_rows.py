"""Every row of the conformance suite `assign`, through HTTP: what an end user may hand out, and what not.

One service for each kind of database answers all rows; after each the tables are put back to how they were.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from sqlalchemy import Table, delete, insert, select

from engine import Policy
from engine.facts_file import read_file
from store.database import Connection, Database
from store.tables import meta
from tests.admin.service import NOBODY, Asking, Said, fill, served, token
from tests.databases import Postgres, StoreUrls, sqlite_urls

SUITE: Final = Path(__file__).parents[1] / "conformance" / "assign"
ROWS: Final[list[dict[str, Any]]] = json.loads((SUITE / "cases.json").read_text("utf-8"))
_SPAN: Final = re.compile(r"\+(\d+)([dhm])")
_UNITS: Final[dict[str, str]] = {"d": "days", "h": "hours", "m": "minutes"}


class Stage:
    """A service over the suite's facts, on which rows are played one after the other."""

    def __init__(self, urls: StoreUrls) -> None:
        self._runner = asyncio.Runner()
        self._rest = AsyncExitStack()
        self._asking = self._runner.run(self._open(urls))

    async def _open(self, urls: StoreUrls) -> Asking:
        policy = Policy.load(SUITE / "policy")
        key = await fill(policy, read_file(SUITE / "facts.yaml"), urls.admin)
        self._database = Database(urls.superuser, pool_size=1)
        self._rest.push_async_callback(self._database.close)
        async with self._database.reading() as connection:
            self._kept = {table: await _rows(connection, table) for table in meta.sorted_tables}
        return await self._rest.enter_async_context(served(policy, urls.admin, key))

    def play(self, row: dict[str, Any]) -> Said:
        """Play a row, and put everything back."""
        return self._runner.run(self._play(row))

    async def _play(self, row: dict[str, Any]) -> Said:
        self._asking.ahead[0] = 0
        try:
            return await _play(self._asking, row)
        finally:
            await self._restore()

    async def _restore(self) -> None:
        free = (
            "PRAGMA defer_foreign_keys = ON"
            if self._database.is_sqlite
            else "SET LOCAL session_replication_role = replica"
        )
        async with self._database.changing() as connection:
            await connection.exec_driver_sql(free)  # resources come in any order
            for table, kept in self._kept.items():
                if await _rows(connection, table) != kept:
                    await connection.execute(delete(table))
                    if kept:
                        await connection.execute(insert(table), kept)

    def close(self) -> None:
        self._runner.run(self._rest.aclose())
        self._runner.close()


async def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    found = await connection.execute(select(table).order_by(*table.primary_key.columns))
    return [dict(row._mapping) for row in found]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on each kind of database."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("assign") / "bylaw.db"
        made = Stage(sqlite_urls(shutil.copy(request.getfixturevalue("sqlite_template"), path)))
        yield made
        made.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    urls = postgres.fresh()
    made = Stage(urls)
    yield made
    made.close()
    postgres.drop(urls)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row(row: dict[str, Any], stage: Stage) -> None:
    """What the row says comes of it."""
    said = stage.play(row)

    found = "pending" if said.status == 202 else said.status < 300
    assert found == row["expect"], (row["why"], said.status, said.body)
    assert said.status < 500


async def _play(asking: Asking, row: dict[str, Any]) -> Said:
    for step in row.get("before", ()):
        before = await _do(asking, {"tenant": row["tenant"], **step})
        assert before.status < 300, before.body
    said = await _do(asking, row)
    if "approver" not in row or said.status != 202:
        return said
    asking.ahead[0] = int(_span(row.get("approved", "+0d")).total_seconds()) * 10**9
    path = f"/tenants/{row['tenant']}/approvals/{said.body['approval']}/approve"
    return await asking.ask("POST", path, who=_token(row["approver"], row))


async def _do(asking: Asking, step: dict[str, Any]) -> Said:
    base, who = f"/tenants/{step['tenant']}", _token(step["actor"], step)
    times: dict[str, Any] = {name: _time(step[name]) for name in ("starts", "expires") if name in step}
    subject, group = step.get("subject", ""), quote(step.get("group", ""), safe="")
    is_system = step.get("on", "").startswith("system")
    of_roles = "/assignments" if is_system else f"{base}/assignments"
    match step["do"]:
        case "assign":
            return await asking.ask("POST", of_roles, _pick(step, "subject", "role", "on") | times, who=who)
        case "revoke":
            listed = await asking.ask("GET", f"{of_roles}?limit=100")
            wanted = [each for each in listed.body["items"] if _is_meant(each, step)]
            assert len(wanted) == 1, listed.body
            return await asking.ask("DELETE", f"{of_roles}/{wanted[0]['id']}", who=who)
        case "link":
            body = _pick(step, "subject", "home", "role", "on") | times
            return await asking.ask("POST", f"{base}/links", body, who=who)
        case "unlink":
            listed = await asking.ask("GET", f"{base}/links?limit=100")
            wanted = [each for each in listed.body["items"] if _is_meant(each, step)]
            assert len(wanted) == 1, listed.body
            return await asking.ask("DELETE", f"{base}/links/{wanted[0]['id']}", who=who)
        case "member":
            return await asking.ask("POST", f"{base}/memberships", _pick(step, "subject", "status") | times, who=who)
        case "unmember":
            return await asking.ask("DELETE", f"{base}/memberships/{quote(subject)}", who=who)
        case "group":
            return await asking.ask("POST", f"{base}/groups", {"id": step["group"]}, who=who)
        case "put":
            path = await _group(asking, base, group)
            return await asking.ask("POST", f"{path}/members", {"subject": subject, **times}, who=who)
        case "take":
            path = await _group(asking, base, group)
            return await asking.ask("DELETE", f"{path}/members/{quote(subject)}", who=who)
        case "custom":
            path = f"{base}/custom-roles"
            if (await asking.ask("GET", f"{path}/{step['name']}")).status == 200:
                return await asking.ask("PATCH", f"{path}/{step['name']}", {"can": step["can"]}, who=who)
            return await asking.ask("POST", path, _pick(step, "name", "on", "can"), who=who)
        case _:
            raise AssertionError(step["do"])


async def _group(asking: Asking, base: str, name: str) -> str:
    """Find whose group it is."""
    own = await asking.ask("GET", f"{base}/groups/{name}")
    shared = await asking.ask("GET", f"/groups/{name}")
    return f"/groups/{name}" if own.status == 404 and shared.status == 200 else f"{base}/groups/{name}"


def _is_meant(each: dict[str, Any], step: dict[str, Any]) -> bool:
    role = step["role"]
    is_role = each["role"] == role or each["role"].rpartition(".")[2] == role
    return bool(is_role and each["subject"] == step["subject"] and each["on"] == step["on"])


def _pick(step: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: step[name] for name in names if name in step}


def _token(actor: str, step: dict[str, Any]) -> str:
    if actor == "anonymous":
        return NOBODY
    return token(actor, step["tenant"], step.get("claims", ()), **step.get("context", {}))


def _time(written: str) -> str:
    if not written.startswith("+"):
        return written
    return (datetime.now(UTC) + _span(written)).isoformat().replace("+00:00", "Z")


def _span(written: str) -> timedelta:
    found = _SPAN.fullmatch(written)
    assert found is not None, written
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
