"""What writes do: the keys that they name, the rows that go with others, the hints, the retry."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engine.facts import NEVER
from store import changes, tables
from store.changes import Write, Writer
from store.times import write_time
from store.writes import (
    assignments,
    custom_roles,
    groups,
    links,
    memberships,
    platform_groups,
    principals,
    resources,
    tenants,
    tokens,
)
from store.writes.rows import add
from tests.databases import StoreUrls, run
from tests.store.worlds import (
    CASES,
    DAY,
    NOW,
    Case,
    Work,
    changed,
    functions,
    inhabited,
    opened,
    refusal,
    rows_of,
    touched,
)


def test_every_function_has_a_case() -> None:
    """A function that changes facts cannot be added without saying which keys it names."""
    said = {case.of for case in CASES}

    assert said == functions()


def test_keys_are_what_the_design_says(store_urls: StoreUrls) -> None:
    """Each function names in the change log exactly the views that it changed, in each stream that it moved."""

    async def scene() -> list[tuple[str, object]]:
        async with inhabited(store_urls) as writer:
            return [(case.of, await touched(writer, case)) for case in CASES]

    found = run(scene())

    assert found == [(case.of, case.keys) for case in CASES]


# --- what hangs on what is deleted ----------------------------------------------------------------------


def test_a_resource_takes_what_lies_in_it(store_urls: StoreUrls) -> None:
    """A deleted resource takes its subtree, the roles held there, links to there, and who is then nowhere else."""

    async def scene() -> tuple[object, object]:
        async with inhabited(store_urls) as writer:
            return await changed(
                store_urls,
                writer,
                lambda write: resources.delete(write, "project:p1"),
                tenant="acme",
                shared=True,
                others=["globex"],
            )

    gone, made = run(scene())

    assert gone == {
        "assignments": {
            ("acme", "user", "ann", "project", "p1", "project.editor", "", None),
            ("acme", "group", "a_team", "task", "t1", "task.viewer", "", None),
        },
        "links": {
            ("user", "eve", "globex", "acme", "folder", "f1", "folder.auditor", "", None, "active", "", None),
        },
        "resources": {
            ("acme", "project", "p1", None, None, "{}", False),
            ("acme", "folder", "f1", "project", "p1", "{}", False),
            ("acme", "task", "t1", "folder", "f1", "{}", False),
        },
    }
    assert made == {
        "resources": {
            ("acme", "project", "p1", None, None, "{}", True),
            ("acme", "folder", "f1", "project", "p1", "{}", True),
            ("acme", "task", "t1", "folder", "f1", "{}", True),
        }
    }


def test_a_group_takes_its_members_and_roles(store_urls: StoreUrls) -> None:
    """A deleted group is in nothing, has nobody in it, holds nothing, and nothing is held on it."""

    async def scene() -> tuple[object, object]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await assignments.give(write, "user:bob", "group.reader", "group:a_team")
                await groups.add_member(write, "a_team", "user:zed")
            return await changed(store_urls, writer, lambda write: groups.delete(write, "a_team"), tenant="acme")

    gone, made = run(scene())

    assert gone == {
        "groups": {("acme", "a_team", "{}", False)},
        "group_members": {
            ("acme", "user", "ann", "a_team", "", None),
            ("acme", "user", "zed", "a_team", "", None),
        },
        "group_nestings": {("acme", "a_team", "b_team")},
        "presences": {("user", "zed", "acme")},
        "assignments": {
            ("acme", "group", "a_team", "task", "t1", "task.viewer", "", None),
            ("acme", "user", "bob", "group", "a_team", "group.reader", "", None),
        },
    }
    assert made == {"groups": {("acme", "a_team", "{}", True)}}


def test_a_membership_takes_all_that_its_principal_has_here(store_urls: StoreUrls) -> None:
    """Who leaves a tenant holds nothing there, is in none of its groups, and nothing is held on him."""

    async def scene() -> tuple[object, object]:
        async with inhabited(store_urls) as writer:
            return await changed(store_urls, writer, lambda write: memberships.end(write, "user:ann"), tenant="acme")

    gone, made = run(scene())

    assert gone == {
        "memberships": {("acme", "user", "ann", "active", "", None)},
        "group_members": {("acme", "user", "ann", "a_team", "", None)},
        "assignments": {
            ("acme", "user", "ann", "project", "p1", "project.editor", "", None),
            ("acme", "service", "mail", "user", "ann", "user.reader", "", None),
        },
        "presences": {("user", "ann", "acme")},
    }
    assert made == {}


def test_a_custom_role_is_taken_from_all_who_hold_it(store_urls: StoreUrls) -> None:
    """A deleted role of a tenant is held by nobody."""

    async def scene() -> tuple[object, object]:
        async with inhabited(store_urls) as writer:
            return await changed(store_urls, writer, lambda write: custom_roles.delete(write, "helper"), tenant="acme")

    gone, made = run(scene())

    assert gone == {
        "assignments": {("acme", "user", "bob", "project", "p2", "custom.helper", "", None)},
        "custom_roles": {("acme", "helper", "project", '["task.read"]', False)},
    }
    assert made == {"custom_roles": {("acme", "helper", "project", '["task.read"]', True)}}


def test_a_principal_leaves_the_platform_and_then_everything(store_urls: StoreUrls) -> None:
    """A deleted principal keeps no group of the platform, link, system role or attribute, and then nothing anywhere."""

    async def scene() -> tuple[object, object, int, object]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="globex") as write:
                await memberships.put(write, "user:ann")
            first = await changed(store_urls, writer, lambda write: principals.delete(write, "user:ann"))
            left = await principals.leave_everything(writer, "user:ann")
            return *first, left, await rows_of(store_urls, "memberships", "group_members", "presences")

    gone, made, left, rows = run(scene())

    assert gone == {
        "platform_members": {("user", "ann", "crew", "", None)},
        "principals": {("user", "ann", "active", "{}")},
        "system_assignments": {("user", "ann", "system.root", "", None)},
    }
    assert made == {
        "principals": {("user", "ann", "deleted", "{}")},
        "departures": {("user", "ann", write_time(NOW), None, None)},
    }
    assert left == 2
    assert rows == {
        "memberships": {("acme", "user", "bob", "guest", "", None), ("globex", "user", "eve", "active", "", None)},
        "group_members": set(),
        "presences": {("user", "bob", "acme"), ("service", "mail", "acme"), ("user", "eve", "globex")},
    }


def test_a_platform_group_is_swept_out_of_tenants(store_urls: StoreUrls) -> None:
    """What a deleted group of the platform held is removed tenant by tenant, and only where there is something."""

    async def scene() -> tuple[int, int, bool]:
        async with inhabited(store_urls) as writer:
            async with writer.write() as write:
                await platform_groups.delete(write, "staff")
            swept = [await platform_groups.sweep_group(writer, "staff") for _ in range(2)]
            held = (await rows_of(store_urls, "assignments"))["assignments"]
            return swept[0], swept[1], any("staff" in row for row in held)

    assert run(scene()) == (1, 0, False)


def test_what_is_deleted_is_not_deleted_again(store_urls: StoreUrls) -> None:
    """A resource that was deleted before is none of those that its parent takes along."""
    case = Case(
        "",
        lambda write: resources.delete(write, "project:p1"),
        {"tenant": "acme", "shared": True, "others": ["globex"]},
    )

    async def scene() -> dict[str, set[str]]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await resources.delete(write, "task:t1")
            return await touched(writer, case)

    found = run(scene())

    assert found["t:acme"] == {"resource:project:p1", "resource:folder:f1", "principal:user:ann"}


def test_a_large_subtree_is_one_key(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """More changed keys than a change can name are named as everything."""
    monkeypatch.setattr(changes, "MAX_KEYS", 4)

    async def scene() -> object:
        async with inhabited(store_urls) as writer:
            write = await writer.run(lambda write: resources.delete(write, "project:p1"), tenant="acme")
            rows = (await rows_of(store_urls, "changes"))["changes"]
            assert write.token is not None
            return {row[4] for row in rows if row[:2] == ("t:acme", write.token.t)}

    assert run(scene()) == {'["*"]'}


# --- links and the membership at home ---------------------------------------------------------------------


def test_a_link_keeps_up_with_the_membership_at_home(store_urls: StoreUrls) -> None:
    """A link says what its holder's membership at home is, when it is made and when that changes; it ends with it."""

    async def scene() -> list[object]:
        async with inhabited(store_urls) as writer:
            seen: list[object] = [await _homes(store_urls)]
            await writer.run(lambda write: memberships.put(write, "user:eve", "guest", expires=NOW), tenant="globex")
            seen.append(await _homes(store_urls))
            await writer.run(lambda write: memberships.end(write, "user:eve"), tenant="globex")
            seen.append(await _homes(store_urls))
            return seen

    assert run(scene()) == [{("active", "", None)}, {("guest", "", write_time(NOW))}, set()]


async def _homes(urls: StoreUrls) -> set[object]:
    return {row[-3:] for row in (await rows_of(urls, "links"))["links"]}


def test_a_write_is_begun_again_where_it_must_be_shared(store_urls: StoreUrls) -> None:
    """What changes a link is refused unless all tenants' rows are locked; `run` then locks them, and the other side."""

    async def scene() -> tuple[object, ...]:
        async with inhabited(store_urls) as writer:
            refused = await refusal(writer, lambda write: memberships.put(write, "user:eve"), tenant="globex")
            write = await writer.run(lambda write: memberships.put(write, "user:eve"), tenant="globex")
            plain = await writer.run(lambda write: memberships.put(write, "user:ann"), tenant="acme")
            return refused, write.streams, plain.streams

    assert run(scene()) == ("needs_shared", ["g", "t:acme", "t:globex"], ["t:acme"])


def test_both_tenants_of_a_link_have_it_in_their_logs(store_urls: StoreUrls) -> None:
    """A link is in the audit log of the platform, of its home and of its target."""

    async def scene() -> set[object]:
        async with inhabited(store_urls):
            rows = await rows_of(store_urls, "audit_log", "platform_audit_log")
            return {row[0] for found in rows.values() for row in found if '"link.made"' in row[4]}

    assert run(scene()) == {"g", "globex", "acme"}


def test_a_link_needs_both_streams(store_urls: StoreUrls) -> None:
    """A link cannot be made behind its target's back."""

    async def scene() -> None:
        async with inhabited(store_urls) as writer, writer.write(tenant="globex", shared=True) as write:
            await links.make(write, "user:eve", "project.auditor", "project:p1", target="acme")

    with pytest.raises(RuntimeError, match="stream t:acme was not locked"):
        run(scene())


# --- times ------------------------------------------------------------------------------------------------


def test_to_give_again_replaces_the_times(store_urls: StoreUrls) -> None:
    """The last word on a role counts alone, unless a period is put beside another; taking takes all or one."""

    async def scene() -> list[object]:
        async with inhabited(store_urls) as writer:
            what = ("user:bob", "project.viewer", "project:p1")
            steps: list[Work] = [
                lambda write: assignments.give(write, *what),
                lambda write: assignments.give(write, *what, starts=NOW, expires=NOW + DAY),
                lambda write: assignments.give(write, *what, starts=NOW + DAY, beside=True),
                lambda write: assignments.take(write, *what, starts=NOW),
                lambda write: assignments.take(write, *what),
            ]
            seen: list[object] = []
            for step in steps:
                async with writer.write(tenant="acme") as write:
                    await step(write)
                rows = (await rows_of(store_urls, "assignments"))["assignments"]
                seen.append({row[-2:] for row in rows if row[2] == "bob" and row[4] == "p1"})
            return seen

    now, then = write_time(NOW), write_time(NOW + DAY)
    assert run(scene()) == [{("", None)}, {(now, then)}, {(now, then), (then, None)}, {(then, None)}, set()]


def test_a_membership_has_one_state(store_urls: StoreUrls) -> None:
    """To put a membership again replaces its status and its times."""

    async def scene() -> object:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await memberships.put(write, "user:bob", "suspended", starts=NOW, expires=NEVER)
            return {row for row in (await rows_of(store_urls, "memberships"))["memberships"] if row[2] == "bob"}

    assert run(scene()) == {("acme", "user", "bob", "suspended", write_time(NOW), None)}


def test_blocks_only_grow(store_urls: StoreUrls) -> None:
    """A token's block is never shortened, nor is the moment moved back before which no token counts."""

    async def scene() -> object:
        async with inhabited(store_urls) as writer:
            for moment in (NOW + DAY, NOW):
                async with writer.write() as write:
                    await tokens.block(write, "user:ann", "j1", until=moment)
                    await tokens.set_valid_after(write, "user:ann", moment)
            async with writer.write() as write:
                await tokens.forget(write, "user:eve")
            return await rows_of(store_urls, "blocked_tokens", "token_horizons")

    latest = write_time(NOW + DAY)
    assert run(scene()) == {
        "blocked_tokens": {("user", "ann", "j1", latest)},
        "token_horizons": {("user", "ann", latest)},
    }


# --- the writer -------------------------------------------------------------------------------------------


def test_a_hint_is_sent_after_the_commit(store_urls: StoreUrls) -> None:
    """The hint names the streams that moved, and what it tells of is there to be read by then."""
    told: list[tuple[list[str], int]] = []

    async def hint(streams: list[str]) -> None:
        told.append((streams, len((await rows_of(store_urls, "principals"))["principals"])))

    async def scene() -> Write:
        async with opened(store_urls) as plain:
            async with Writer(plain.database, hint=hint).write() as write:
                await principals.make(write, "user:ann")
            return write

    write = run(scene())

    assert told == [(["g"], 1)]
    assert write.token is not None
    assert write.token.g == 1


def test_no_hint_fails_or_keeps_a_write(
    store_urls: StoreUrls, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that raises is logged and forgotten, and so is one that never ends."""
    monkeypatch.setattr(changes, "HINT_TIMEOUT_S", 0.01)

    async def broken(_: list[str]) -> None:
        raise OSError("no way through")

    async def endless(_: list[str]) -> None:
        await asyncio.Event().wait()

    async def scene() -> list[str]:
        async with opened(store_urls) as plain:
            for number, hint in enumerate((broken, endless)):
                writer = Writer(plain.database, hint=hint)
                async with writer.write() as write:
                    await principals.make(write, f"user:u{number}")
        return sorted(row[1] for row in (await rows_of(store_urls, "principals"))["principals"])

    with caplog.at_level(logging.WARNING, "bylaw.store"):
        found = run(scene())

    assert found == ["u0", "u1"]
    assert [record.getMessage() for record in caplog.records] == [
        "the hint of a write could not be sent",
        "the hint of a write takes too long, and is given up",
    ]


def test_what_a_constraint_refuses_is_a_refusal(store_urls: StoreUrls, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the database about a row never leaves the store as what the driver raised."""

    async def twice(write: Write) -> None:
        for _ in range(2):
            await add(write, tables.principals, type="user", id="ann", status="active", attributes="{}")

    async def scene() -> str:
        async with opened(store_urls) as writer:
            return await refusal(writer, twice)

    assert run(scene()) == "conflict"
    assert "checks let through" in caplog.text


def test_a_tenant_is_made_in_one_write(store_urls: StoreUrls) -> None:
    """A tenant's first revision is the write that made it; of one that was taken back there is nothing."""

    async def scene() -> object:
        async with opened(store_urls) as writer:
            assert await refusal(writer, lambda write: tenants.make(write, status="x"), tenant="acme", making=True)
            async with writer.write(tenant="acme", making=True) as write:
                await tenants.make(write, attributes={"b": 1, "a": "ü"})
            rows = await rows_of(store_urls, "revisions", "tenant_profiles", "tenants")
            return {name: {row[:2] for row in found} for name, found in rows.items()}

    assert run(scene()) == {
        "revisions": {("g", 1), ("p", 0), ("t:acme", 1)},
        "tenant_profiles": {("acme", '{"a":"ü","b":1}')},
        "tenants": {("acme", "active")},
    }
