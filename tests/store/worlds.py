"""A small world to write in, what a write named as changed, and what rows there are then.

acme     ann (member), bob (guest); groups a_team in b_team, c_team; project:p1 > folder:f1 > task:t1, project:p2
globex   eve (member), who holds links into acme
initech  nobody

In acme two are invited, by `token1` and `token2`, and two roles of bob wait for approval.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from sqlalchemy import Table, select

from engine.source import Source
from store import tables, writes
from store.changes import Write, Writer
from store.database import Database
from store.errors import RefusedError
from store.keys import digest_of, new_key
from store.writes import (
    api_keys,
    approvals,
    assignments,
    callers,
    ciphertexts,
    custom_roles,
    groups,
    idempotency,
    invitations,
    links,
    memberships,
    personal_data,
    platform_groups,
    policies,
    principals,
    resources,
    retention,
    tenant_security,
    tenants,
    tokens,
    traces,
)
from store.writes.rows import find
from tests.databases import StoreUrls

#: Modules whose functions are parts of what others do.
COMMON = {"rows", "attributes", "periods", "standing", "presence", "removal", "grouping", "circumstances", "departures"}
NOW = 1_000_000_000_000_000_000
DAY = 86_400_000_000_000

Work = Callable[[Write], Awaitable[object]]
Rows = dict[str, set[tuple[Any, ...]]]


@asynccontextmanager
async def opened(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store for writing, as the admin service does."""
    database = Database(urls.admin)
    try:
        yield Writer(database, clock=lambda: NOW)
    finally:
        await database.close()


@asynccontextmanager
async def inhabited(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store with the small world in it."""
    async with opened(urls) as writer:
        await _make_shared(writer)
        await _make_acme(writer)
        await _make_links(writer)
        await _make_pending(writer)
        yield writer


async def _make_shared(writer: Writer) -> None:
    for tenant in ("acme", "globex", "initech"):
        async with writer.write(tenant=tenant, making=True) as write:
            await tenants.make(write, attributes={"plan": "pro"})
    async with writer.write() as write:
        for ref in ("user:ann", "user:bob", "user:eve", "service:mail"):
            await principals.make(write, ref)
        for name in ("crew", "staff", "guild"):
            await platform_groups.make(write, name)
        await platform_groups.nest(write, "crew", "staff")
        await platform_groups.add_member(write, "crew", "user:ann")
        await assignments.give_system(write, "user:ann", "system.root")
        await tokens.block(write, "user:eve", "j1", until=NOW - DAY)
        await callers.add(write, "mail", certificate="dns:mail", tenants=None, scopes=["check"])
        await api_keys.make(write, new_key(), "ops", scopes=["system"])
        await personal_data.put(write, "user:ann", "email", "v1.sealed", blind_index="1" * 64)


async def _make_acme(writer: Writer) -> None:
    async with writer.write(tenant="acme") as write:
        await memberships.put(write, "user:ann")
        await memberships.put(write, "user:bob", "guest")
        for name in ("a_team", "b_team", "c_team"):
            await groups.make(write, name)
        await groups.nest(write, "a_team", "b_team")
        await groups.add_member(write, "a_team", "user:ann")
        await resources.make(write, "project:p1")
        await resources.make(write, "folder:f1", parent="project:p1")
        await resources.make(write, "task:t1", parent="folder:f1")
        await resources.make(write, "project:p2")
        await custom_roles.make(write, "helper", "project", ["task.read"])
        await assignments.give(write, "user:ann", "project.editor", "project:p1")
        await assignments.give(write, "group:a_team", "task.viewer", "task:t1")
        await assignments.give(write, "group:staff", "project.viewer", "project:p2")
        await assignments.give(write, "anyone", "organization.viewer", "organization:acme")
        await assignments.give(write, "user:bob", "custom.helper", "project:p2")
        await assignments.give(write, "service:mail", "group.reader", "group:b_team")
        await assignments.give(write, "service:mail", "user.reader", "user:ann")


async def _make_links(writer: Writer) -> None:
    async with writer.write(tenant="globex", shared=True, others=["acme"]) as write:
        await memberships.put(write, "user:eve")
        await links.make(write, "user:eve", "folder.auditor", "folder:f1", target="acme")
        await links.make(write, "user:eve", "group.auditor", "group:c_team", target="acme")


async def _make_pending(writer: Writer) -> None:
    async with writer.write(tenant="acme", actor="user:ann") as write:
        for token in ("token1", "token2"):
            await invitations.make(write, token_digest=digest_of(token), email="v1.sealed", email_index=token)
        for role in ("project.owner", "project.editor"):
            await approvals.ask(write, {}, subject="user:bob", role=role, place="project:p1")


# --- every function ------------------------------------------------------------------------------------


def functions() -> set[str]:
    """List the functions that change facts, `"groups.make"`, from the modules themselves."""
    found: set[str] = set()
    for info in pkgutil.iter_modules(writes.__path__):
        if info.name not in COMMON:
            module = importlib.import_module(f"store.writes.{info.name}")
            found |= {
                f"{info.name}.{name}" for name, value in vars(module).items() if _takes_write(module, name, value)
            }
    return found


def _takes_write(module: ModuleType, name: str, value: object) -> bool:
    if not inspect.iscoroutinefunction(value) or value.__module__ != module.__name__ or name.startswith("_"):
        return False
    return next(iter(inspect.signature(value).parameters)) == "write"


@dataclass(frozen=True)
class Case:
    """One call of a function: `how` its write is opened, and the keys that it must name, by stream."""

    of: str
    call: Work
    how: dict[str, Any]
    keys: dict[str, set[str]] = field(default_factory=dict)


def _case(function: Callable[..., Awaitable[object]], *args: Any, how: dict[str, Any], **rest: Any) -> Case:
    module = function.__module__.rpartition(".")[2]
    kwargs = {name: value for name, value in rest.items() if not name.startswith("keys_")}
    keys = {"g": rest.get("keys_g"), "t:acme": rest.get("keys_t"), "t:globex": rest.get("keys_globex")}
    return Case(
        f"{module}.{function.__name__}",
        lambda write: function(write, *args, **kwargs),
        how,
        {stream: set(named.split()) for stream, named in keys.items() if named is not None},
    )


def _found(function: Callable[..., Awaitable[object]], table: Table, *, how: dict[str, Any], **rest: Any) -> Case:
    """Make a case of what is called by an id that nobody chose: the row is found by columns, as far as it is seen."""
    columns = {name: rest.pop(name) for name in list(rest) if name in table.c}

    async def call(write: Write, **kwargs: Any) -> None:
        row = await find(write, table, **columns)
        await function(write, "nobody's" if row is None else row.id, **kwargs)

    return replace(_case(call, how=how, **rest), of=f"{function.__module__.rpartition('.')[2]}.{function.__name__}")


async def _begin_and_finish(write: Write) -> None:
    await idempotency.begin(write, "k2", "0" * 64)
    await idempotency.finish(write, "k2", idempotency.Answer(201, "{}", {}))


async def _request_and_finish(write: Write) -> None:
    await personal_data.finish_erasure(write, await personal_data.request_erasure(write, "user:eve"))


async def _upload(write: Write) -> str:
    return await policies.upload(write, [Source("a.bylaw", "")], None, digest="sha256:0")


async def _upload_and_publish(write: Write) -> None:
    await policies.publish(write, await _upload(write), after=0)


async def _replace(write: Write) -> None:
    row = await find(write, tables.invitations, digest=digest_of("token1"))
    cells = next(each for each in ciphertexts.ALL if each.table is tables.invitations)
    cell = ciphertexts.Cell(("nobody's" if row is None else row.id,), "v1.sealed")
    await ciphertexts.replace(write, cells, cell, "v1.anew")


_ACME = {"tenant": "acme"}
_SHARED: dict[str, Any] = {"shared": True}
_PUBLISHING: dict[str, Any] = {"publishing": True}
_BOTH = {"tenant": "acme", "shared": True}
_OVER = {"tenant": "globex", "shared": True, "others": ["acme"]}
_INTO = {"tenant": "acme", "shared": True, "others": ["globex"]}
_BETWEEN: dict[str, Any] = {"shared": True, "others": ["acme", "globex"]}
#: A year later.
_AFTER = retention.cutoffs_of(retention.DEFAULTS, NOW + 400 * DAY)

CASES = [
    Case(
        "tenants.make",
        lambda write: tenants.make(write, attributes={"plan": "free"}),
        {"tenant": "umbrella", "making": True},
        {"g": {"tenant:umbrella"}, "t:umbrella": {"tenant"}},
    ),
    _case(tenants.set_status, "suspended", how=_BOTH, keys_g="tenant:acme", keys_t=""),
    _case(tenants.set_attributes, {"plan": "free"}, how=_ACME, keys_t="tenant"),
    _case(tenant_security.put, {"invitation_days": 1}, how=_ACME, keys_t=""),
    _case(principals.make, "user:zoe", how=_SHARED, keys_g="principal:user:zoe"),
    _case(principals.set_status, "user:ann", "suspended", how=_SHARED, keys_g="principal:user:ann"),
    _case(principals.set_attributes, "user:ann", {"a": 1}, how=_SHARED, keys_g="principal:user:ann"),
    _case(principals.delete, "user:eve", how=_BETWEEN, keys_g="principal:user:eve", keys_t="", keys_globex=""),
    _case(memberships.put, "user:ann", "guest", how=_ACME, keys_t="principal:user:ann"),
    Case(
        "memberships.put",
        lambda write: memberships.put(write, "user:eve", "guest"),
        _OVER,
        {"g": {"principal:user:eve"}, "t:globex": {"principal:user:eve"}, "t:acme": set()},
    ),
    _case(memberships.end, "user:ann", how=_ACME, keys_t="principal:user:ann principal:service:mail"),
    Case(
        "memberships.end",
        lambda write: memberships.end(write, "user:eve"),
        _OVER,
        {"g": {"principal:user:eve"}, "t:globex": {"principal:user:eve"}, "t:acme": set()},
    ),
    _case(groups.make, "d_team", how=_ACME, keys_t="group:d_team"),
    _case(groups.set_attributes, "a_team", {"a": 1}, how=_ACME, keys_t="group:a_team"),
    _case(groups.delete, "a_team", how=_ACME, keys_t="group:a_team principal:user:ann"),
    _case(groups.delete, "b_team", how=_ACME, keys_t="group:b_team group:a_team principal:service:mail"),
    _case(groups.delete, "c_team", how=_INTO, keys_t="group:c_team", keys_g="principal:user:eve", keys_globex=""),
    _case(groups.nest, "b_team", "c_team", how=_ACME, keys_t="group:b_team"),
    _case(groups.unnest, "a_team", "b_team", how=_ACME, keys_t="group:a_team"),
    _case(groups.add_member, "b_team", "user:bob", how=_ACME, keys_t="principal:user:bob"),
    _case(groups.remove_member, "a_team", "user:ann", how=_ACME, keys_t="principal:user:ann"),
    _case(assignments.give, "user:bob", "project.viewer", "project:p1", how=_ACME, keys_t="principal:user:bob"),
    _case(assignments.give, "group:staff", "project.viewer", "project:p1", how=_ACME, keys_t="group:staff"),
    _case(assignments.give, "anyone", "project.viewer", "project:p1", how=_ACME, keys_t="group:anyone"),
    _case(assignments.take, "user:ann", "project.editor", "project:p1", how=_ACME, keys_t="principal:user:ann"),
    _case(assignments.take, "anyone", "organization.viewer", "organization:acme", how=_ACME, keys_t="group:anyone"),
    _case(resources.make, "task:t2", parent="project:p1", how=_ACME, keys_t="resource:task:t2"),
    _case(resources.set_attributes, "task:t1", {"a": 1}, how=_ACME, keys_t="resource:task:t1"),
    _case(resources.move, "task:t1", "project:p2", how=_ACME, keys_t="resource:task:t1"),
    _case(resources.delete, "task:t1", how=_ACME, keys_t="resource:task:t1 group:a_team"),
    _case(
        resources.delete,
        "project:p1",
        how=_INTO,
        keys_t="resource:project:p1 resource:folder:f1 resource:task:t1 principal:user:ann group:a_team",
        keys_g="principal:user:eve",
        keys_globex="",
    ),
    _case(
        links.make,
        "user:eve",
        "project.auditor",
        "project:p1",
        target="acme",
        how=_OVER,
        keys_g="principal:user:eve",
        keys_t="",
        keys_globex="",
    ),
    _case(
        links.end,
        "user:eve",
        "folder.auditor",
        "folder:f1",
        home="globex",
        target="acme",
        how=_INTO,
        keys_g="principal:user:eve",
        keys_t="",
        keys_globex="",
    ),
    _case(custom_roles.make, "closer", "project", ["task.*"], how=_ACME, keys_t="*"),
    _case(custom_roles.change, "helper", ["task.*"], how=_ACME, keys_t="*"),
    _case(custom_roles.delete, "helper", how=_ACME, keys_t="*"),
    _case(assignments.give_system, "user:bob", "system.root", how=_SHARED, keys_g="principal:user:bob"),
    _case(assignments.take_system, "user:ann", "system.root", how=_SHARED, keys_g="principal:user:ann"),
    _case(platform_groups.make, "herd", how=_SHARED, keys_g="group:herd"),
    _case(platform_groups.set_attributes, "crew", {"a": 1}, how=_SHARED, keys_g="group:crew"),
    _case(platform_groups.nest, "staff", "guild", how=_SHARED, keys_g="group:staff"),
    _case(platform_groups.unnest, "crew", "staff", how=_SHARED, keys_g="group:crew"),
    _case(platform_groups.add_member, "crew", "user:bob", how=_SHARED, keys_g="principal:user:bob"),
    _case(platform_groups.remove_member, "crew", "user:ann", how=_SHARED, keys_g="principal:user:ann"),
    _case(platform_groups.delete, "crew", how=_SHARED, keys_g="group:crew principal:user:ann"),
    _case(platform_groups.delete, "staff", how=_SHARED, keys_g="group:staff group:crew"),
    _case(tokens.block, "user:ann", "j2", until=NOW + DAY, how=_SHARED, keys_g="principal:user:ann"),
    _case(tokens.set_valid_after, "user:ann", NOW, how=_SHARED, keys_g="principal:user:ann"),
    _case(tokens.forget, "user:eve", how=_SHARED, keys_g="principal:user:eve"),
    _case(callers.add, "shop", certificate="dns:s", tenants=["acme"], scopes=["check"], how=_SHARED, keys_g="callers"),
    _case(callers.remove, "mail", how=_SHARED, keys_g="callers"),
    _case(api_keys.make, new_key(), "shop", scopes=["facts", "tenant:acme"], how=_SHARED, keys_g=""),
    _found(api_keys.revoke, tables.api_keys, how=_SHARED, keys_g=""),
    _case(invitations.make, token_digest=digest_of("t"), email="v1.s", email_index="i", how=_ACME, keys_t=""),
    Case("policies.upload", _upload, _PUBLISHING, {"p": set()}),
    Case("policies.publish", _upload_and_publish, _PUBLISHING, {"p": {"*"}}),
    Case("ciphertexts.replace", _replace, _ACME, {"t:acme": set()}),
    _case(invitations.accept, digest_of("token1"), "user:zoe", how=_ACME, keys_t=""),
    _found(invitations.withdraw, tables.invitations, digest=digest_of("token2"), how=_ACME, keys_t=""),
    _case(approvals.ask, {}, subject="user:bob", role="task.editor", place="task:t1", how=_ACME, keys_t=""),
    _found(approvals.decide, tables.approvals, role="project.owner", how=_ACME, is_approved=True, keys_t=""),
    _found(approvals.withdraw, tables.approvals, role="project.editor", how=_ACME, keys_t=""),
    _case(idempotency.begin, "k1", "0" * 64, how=_SHARED, keys_g=""),
    Case("idempotency.finish", _begin_and_finish, _SHARED, {"g": set()}),
    _case(idempotency.prune, how=_SHARED, keys_g=""),
    _case(personal_data.put, "user:bob", "email", "v1.sealed", how=_SHARED, keys_g=""),
    _case(personal_data.remove_all, "user:ann", how=_SHARED, keys_g=""),
    _case(personal_data.request_erasure, "user:ann", how=_SHARED, keys_g=""),
    Case("personal_data.finish_erasure", _request_and_finish, _SHARED, {"g": set()}),
    _case(personal_data.forget, "user:ann", how=_SHARED, keys_g=""),
    _case(idempotency.forget_actor, "user:ann", how=_SHARED, keys_g=""),
    _case(traces.veil, "user:ann", how=_ACME, keys_t="principal:service:mail"),
    _case(retention.put_periods, {"expired": 7}, how=_SHARED, keys_g=""),
    _case(retention.sweep, retention.OF_TENANT, _AFTER, how=_ACME, keys_t=""),
    _case(retention.sweep, retention.SHARED, _AFTER, how=_SHARED, keys_g="principal:user:eve"),
    _case(retention.sweep_links, "globex", "acme", _AFTER, how=_BETWEEN, keys_g="", keys_t="", keys_globex=""),
]


# --- what is there -------------------------------------------------------------------------------------


class UndoneError(Exception):
    """Takes a write back at its end."""


async def touched(writer: Writer, case: Case) -> dict[str, set[str]]:
    """Do what a case says, return the keys that went into the change log, and take it back."""
    found: dict[str, set[str]] = {}
    try:
        async with writer.write(**case.how) as write:
            await case.call(write)
            await write.finish()
            for stream in write.streams:
                newest = select(tables.changes.c["keys"]).where(tables.changes.c.stream == stream)
                rows = await write.connection.execute(newest.order_by(tables.changes.c.n.desc()).limit(1))
                found[stream] = set(json.loads(rows.scalar_one()))
            raise UndoneError
    except UndoneError:
        return found


async def rows_of(urls: StoreUrls, *named: str) -> Rows:
    """Read all rows of tables, whoever owns them."""
    database = Database(urls.superuser)
    try:
        async with database.reading() as connection:
            return {
                name: {tuple(row) for row in (await connection.execute(select(tables.meta.tables[name]))).all()}
                for name in named
            }
    finally:
        await database.close()


FACTS = sorted(
    {*tables.meta.tables} - {"changes", "revisions", "audit_log", "platform_audit_log", "pseudonyms", "store"}
)


async def changed(urls: StoreUrls, writer: Writer, work: Work, **how: Any) -> tuple[Rows, Rows]:
    """Do work in a write; return the rows that are gone, and those that are new."""
    before = await rows_of(urls, *FACTS)
    async with writer.write(**how) as write:
        await work(write)
    after = await rows_of(urls, *FACTS)
    gone = {name: before[name] - after[name] for name in FACTS if before[name] - after[name]}
    made = {name: after[name] - before[name] for name in FACTS if after[name] - before[name]}
    return gone, made


async def refusal(writer: Writer, work: Work, **how: Any) -> str:
    """Do work that is refused; return the code."""
    try:
        async with writer.write(**how) as write:
            await work(write)
    except RefusedError as error:
        return error.code
    return "done"
