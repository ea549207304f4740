"""How many SQL statements a list takes: as many for a page of a hundred as for a page of one, and few.

All lists of the API are asked, found by what they answer, by every word that orders or shapes them. One thing of each
kind is made, through the API where that is short, and its row is copied until no page is the whole list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import event, insert, select, true

from admin.endpoint import Endpoint
from admin.endpoints import ENDPOINTS
from admin.paging import MAX_LIMIT, Page
from engine import Policy
from store.database import Connection, Database
from store.tables import meta
from tests.admin.service import Asking, Said, fill, served, token
from tests.admin.walk import FACTS, POLICY
from tests.databases import StoreUrls, run

#: What a list may take: who asks, the policy's revision, the tenant, its rows, and what hangs on them.
MOST: Final = 10
#: The name of what is made here.
ONE: Final = "one"
AT: Final = "2026-11-22T00:00:00.000000000Z"
ENDS: Final = "2027-01-01T00:00:00Z"
#: Of which tables rows are copied, and which of their columns tell a copy from the others.
COPIED: Final[dict[str, tuple[str, ...]]] = {
    "principals": ("id",),
    "tenants": ("id",),
    "memberships": ("id",),
    "groups": ("id",),
    "group_members": ("id",),
    "platform_groups": ("id",),
    "platform_members": ("id",),
    "assignments": ("subject_id",),
    "system_assignments": ("id",),
    "approvals": ("id",),
    "invitations": ("id", "digest"),
    "links": ("id",),
    "custom_roles": ("name",),
    "resources": ("id",),
    "api_keys": ("id", "digest"),
    "erasures": ("id", "pseudonym"),
    "blocked_tokens": ("jti",),
    "policies": ("id",),
    "publications": ("n",),
    "audit_log": ("n",),
    "platform_audit_log": ("n",),
    "refusals": ("n",),
    "platform_refusals": ("n",),
}
#: Those that look into each tenant by itself, since nothing shows two.
THROUGH_THE_WALL: Final = {"/users/{id}/memberships", "/services/{id}/memberships"}
LISTS: Final = [
    each
    for each in ENDPOINTS
    if each.answer is not None and issubclass(each.answer, Page) and each.path not in THROUGH_THE_WALL
]


def _asked() -> Iterator[tuple[str, str]]:
    """Each list's path, with each value of each word by which it is ordered or shaped."""
    for endpoint in LISTS:
        path = endpoint.path.replace("{tenant}", "acme")
        name = "crew" if path.startswith("/groups") else "staff"
        yield from ((endpoint.path, path.replace("{name}", name) + words) for words in _words(endpoint))


def _words(endpoint: Endpoint) -> Iterator[str]:
    yield "?"
    assert endpoint.query is not None
    for name, said in endpoint.query.model_json_schema()["properties"].items():
        values = [*said.get("enum", ()), *(value for each in said.get("anyOf", ()) for value in each.get("enum", ()))]
        if name in ("sort", "view", "outcome", "log"):
            yield from (f"?{name}={value}&" for value in values if value != said.get("default"))


def test_statements_of_lists(store_urls: StoreUrls) -> None:
    """Every list takes as many statements for a page of a hundred as for a page of one, and few."""
    counted = run(_count(store_urls))

    for asked, ((one, few), (hundred, many)) in counted.items():
        assert (one.status, hundred.status) == (200, 200), (asked, one.body, hundred.body)
        assert (len(one.body["items"]), len(hundred.body["items"])) == (1, MAX_LIMIT), asked
        assert few == many, asked
        assert len(many) <= MOST, (asked, many)
    assert {path for path, _ in _asked()} == {each.path for each in LISTS}
    assert len(LISTS) > 15


Asked = tuple[Said, list[str]]


async def _count(urls: StoreUrls) -> dict[str, list[Asked]]:
    async with _filled(urls) as asking:
        noted: list[str] = []
        event.listen(
            asking.database.engine.sync_engine, "before_cursor_execute", lambda *told: noted.append(str(told[2]))
        )

        async def ask(path: str) -> Asked:
            noted.clear()
            said = await asking.ask("GET", path)
            return said, [_shape(each) for each in noted]

        return {asked: [await ask(f"{asked}limit={limit}") for limit in (1, MAX_LIMIT)] for _, asked in _asked()}


def _shape(statement: str) -> str:
    """Write a statement in few words, whatever its values."""
    return " ".join(statement.split())[:60]


@asynccontextmanager
async def _filled(urls: StoreUrls) -> AsyncIterator[Asking]:
    policy = Policy.parse(POLICY)
    key = await fill(policy, FACTS.encode(), urls.admin)
    async with served(policy, urls.admin, key) as asking:
        await _make_one_each(asking)
        database = Database(urls.superuser, pool_size=1)
        try:
            async with database.changing() as connection:
                await _publish(connection)
                for table, columns in COPIED.items():
                    await _copy(connection, table, columns)
        finally:
            await database.close()
        yield asking


async def _make_one_each(asking: Asking) -> None:
    acme = "/tenants/acme"
    await asking.ask("POST", "/users/ruth/erasure")
    for path, body, who in (
        ("/users", {"id": "one"}, None),
        ("/services", {"id": "one"}, None),
        (f"{acme}/memberships", {"subject": "user:one", "expires": ENDS}, None),
        ("/tenants/globex/memberships", {"subject": "user:one"}, None),
        (f"{acme}/groups/staff/members", {"subject": "user:one"}, None),
        ("/groups/crew/members", {"subject": "user:one"}, None),
        (f"{acme}/assignments", {"subject": "user:one", "role": "viewer", "on": "org:acme", "expires": ENDS}, None),
        ("/assignments", {"subject": "user:one", "role": "operator", "on": "system"}, None),
        (f"{acme}/assignments", {"subject": "user:one", "role": "owner", "on": "org:acme"}, token("user:olga")),
        (f"{acme}/invitations", {}, None),
        (f"{acme}/links", {"subject": "user:one", "home": "globex", "role": "partner", "on": "org:acme",
                           "expires": ENDS}, None),
        (f"{acme}/custom-roles", {"name": "helper", "on": "org", "can": ["folder.read"]}, None),
        (f"{acme}/resources", {"id": "folder:one"}, None),
        ("/keys", {"name": "one", "scopes": ["audit"]}, None),
        ("/tokens/blocked", {"subject": "user:one", "jti": "one", "expires": ENDS}, None),
        ("/policies", {"files": {"one.bylaw": POLICY}}, None),
    ):  # fmt: skip
        said = await asking.ask("POST", path, body, who=who)
        assert said.status < 300, (path, said)
    refused = [
        await asking.ask("POST", path, {"id": "two"}, who=token("user:emma")) for path in (f"{acme}/groups", "/groups")
    ]
    assert {each.status for each in refused} == {403}


async def _publish(connection: Connection) -> None:
    """Make a publication that changes nothing."""
    await connection.execute(insert(meta.tables["publications"]).values(n=1, policy_id=None, at=AT, by="key:one"))


async def _copy(connection: Connection, name: str, columns: tuple[str, ...]) -> None:
    """Copy what was made here, or else a table's last row, until no page holds all; in `acme` where rows are a
    tenant's."""
    table = meta.tables[name]
    own = table.c.tenant_id == "acme" if "tenant_id" in table.c else true()
    last = (table.c[each].desc() for each in columns)
    rows = [dict(row._mapping) for row in await connection.execute(select(table).where(own).order_by(*last))]
    newest = list({row.get("stream"): row for row in reversed(rows)}.values())  # of each log, where there are several
    made = [row for row in rows if row[columns[0]] == ONE] or newest
    assert made, f"nothing made a row of {name}"
    copies = [row | {each: _other(row[each], n) for each in columns} for row in made for n in range(MAX_LIMIT + 1)]
    await connection.execute(insert(table), copies)


def _other(value: Any, number: int) -> Any:
    """Tell copies apart, behind the one that is copied."""
    return value + 1 + number if isinstance(value, int) else f"{value}{number:03}"
