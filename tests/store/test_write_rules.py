"""What writes refuse, whatever a policy says: each refusal by its code, names that never come back, bounds."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest

from engine.facts import ALWAYS, NEVER
from store import tables
from store.changes import Write
from store.writes import (
    assignments,
    custom_roles,
    grouping,
    groups,
    links,
    memberships,
    platform_groups,
    principals,
    resources,
    tenants,
)
from store.writes.attributes import canonical
from tests.databases import StoreUrls, run
from tests.store.worlds import NOW, Work, inhabited, refusal, rows_of

# --- refusals ---------------------------------------------------------------------------------------------

G, T = {"shared": True}, {"tenant": "acme"}
OVER = {"tenant": "globex", "shared": True, "others": ["acme"]}

#: What is refused in the small world: the code, how the write is opened, what it does.
REFUSED: list[tuple[str, dict[str, Any], Work]] = [
    ("unknown_tenant", {"tenant": "nowhere"}, lambda w: memberships.put(w, "user:ann")),
    # what is there is not made again
    ("taken", {"tenant": "acme", "making": True}, tenants.make),
    ("taken", G, lambda w: principals.make(w, "user:ann")),
    ("taken", T, lambda w: groups.make(w, "a_team")),
    ("taken", T, lambda w: groups.make(w, "staff")),
    ("taken", G, lambda w: platform_groups.make(w, "a_team")),
    ("taken", {"tenant": "globex"}, lambda w: groups.make(w, "a_team")),
    ("taken", T, lambda w: groups.nest(w, "a_team", "b_team")),
    ("taken", T, lambda w: resources.make(w, "project:p1")),
    ("taken", T, lambda w: custom_roles.make(w, "helper", "task", [])),
    ("taken", OVER, lambda w: links.make(w, "user:eve", "folder.auditor", "folder:f1", target="acme")),
    # what is not there is not changed, nor taken away
    ("not_there", G, lambda w: principals.set_status(w, "user:zoe", "active")),
    ("not_there", G, lambda w: principals.set_attributes(w, "user:zoe", {})),
    ("not_there", G, lambda w: principals.delete(w, "user:zoe")),
    ("not_there", T, lambda w: memberships.end(w, "user:eve")),
    ("not_there", T, lambda w: groups.set_attributes(w, "staff", {})),
    ("not_there", T, lambda w: groups.delete(w, "staff")),
    ("not_there", T, lambda w: groups.nest(w, "a_team", "staff")),
    ("not_there", T, lambda w: groups.unnest(w, "b_team", "a_team")),
    ("not_there", T, lambda w: groups.add_member(w, "staff", "user:ann")),
    ("not_there", T, lambda w: groups.remove_member(w, "b_team", "user:ann")),
    ("not_there", T, lambda w: groups.remove_member(w, "a_team", "user:ann", starts=NOW)),
    ("not_there", G, lambda w: platform_groups.delete(w, "a_team")),
    ("not_there", T, lambda w: assignments.take(w, "user:ann", "project.editor", "project:p2")),
    ("not_there", T, lambda w: assignments.take(w, "group:nobody", "project.editor", "project:p1")),
    ("not_there", G, lambda w: assignments.take_system(w, "user:bob", "system.root")),
    ("not_there", T, lambda w: resources.set_attributes(w, "task:t9", {})),
    ("not_there", T, lambda w: resources.move(w, "task:t9", None)),
    ("not_there", T, lambda w: resources.delete(w, "task:t9")),
    ("not_there", T, lambda w: custom_roles.change(w, "closer", [])),
    ("not_there", T, lambda w: custom_roles.delete(w, "closer")),
    (
        "not_there",
        {"tenant": "initech", "shared": True, "others": ["acme", "globex"]},
        lambda w: links.end(w, "user:eve", "folder.auditor", "folder:f1", home="globex", target="acme"),
    ),
    # what is referred to must be there
    ("unknown", G, lambda w: platform_groups.add_member(w, "crew", "user:zoe")),
    ("unknown", G, lambda w: assignments.give_system(w, "user:zoe", "system.root")),
    ("unknown", OVER, lambda w: links.make(w, "user:zoe", "task.auditor", "task:t1", target="acme")),
    ("unknown", T, lambda w: assignments.give(w, "group:nobody", "project.editor", "project:p1")),
    ("unknown", {"tenant": "globex"}, lambda w: assignments.give(w, "group:a_team", "project.editor", "project:p1")),
    ("unknown", T, lambda w: assignments.give(w, "user:ann", "custom.closer", "project:p1")),
    ("unknown", T, lambda w: resources.make(w, "task:t9", parent="project:p9")),
    ("unknown", T, lambda w: resources.move(w, "task:t1", "project:p9")),
    # shapes
    ("cycle", T, lambda w: groups.nest(w, "b_team", "a_team")),
    ("cycle", T, lambda w: groups.nest(w, "a_team", "a_team")),
    ("cycle", G, lambda w: platform_groups.nest(w, "staff", "crew")),
    ("cycle", T, lambda w: resources.move(w, "project:p1", "task:t1")),
    ("cycle", T, lambda w: resources.move(w, "project:p1", "project:p1")),
    # values
    ("bad_id", T, lambda w: groups.make(w, "anyone")),
    ("bad_id", T, lambda w: groups.make(w, "a team")),
    ("bad_id", T, lambda w: memberships.put(w, "group:a_team")),
    ("bad_id", T, lambda w: memberships.put(w, "ann")),
    ("bad_id", T, lambda w: resources.make(w, "task")),
    ("bad_id", T, lambda w: assignments.give(w, "user:ann", "", "project:p1")),
    ("bad_id", T, lambda w: assignments.take(w, "task:t1", "project.editor", "project:p1")),
    ("bad_status", T, lambda w: memberships.put(w, "user:ann", "deleted")),
    ("bad_status", G, lambda w: principals.set_status(w, "user:ann", "deleted")),
    ("bad_status", {"tenant": "acme", "shared": True}, lambda w: tenants.set_status(w, "gone")),
    ("bad_times", T, lambda w: memberships.put(w, "user:ann", starts=NOW, expires=NOW)),
    ("bad_times", T, lambda w: memberships.put(w, "user:ann", starts=NEVER)),
    ("bad_times", T, lambda w: memberships.put(w, "user:ann", expires=ALWAYS)),
    ("bad_attributes", T, lambda w: resources.set_attributes(w, "task:t1", {"a": "\0"})),
    ("bad_attributes", T, lambda w: resources.set_attributes(w, "task:t1", {"a": ["\udc00"]})),
    ("bad_attributes", T, lambda w: resources.set_attributes(w, "task:t1", {"a": float("nan")})),
    ("bad_attributes", T, lambda w: resources.set_attributes(w, "task:t1", {"a": {1: 2}})),
    ("bad_attributes", T, lambda w: resources.set_attributes(w, "task:t1", {"a": object()})),
    ("bad_pattern", T, lambda w: custom_roles.make(w, "closer", "project", ["task.re*"])),
    ("bad_place", T, lambda w: assignments.give(w, "user:ann", "system.root", "system:system")),
    ("bad_place", T, lambda w: assignments.give(w, "user:ann", "custom.helper", "task:t1")),
    ("bad_place", OVER, lambda w: links.make(w, "user:eve", "task.auditor", "task:t1", target="globex")),
    ("bad_role", OVER, lambda w: links.make(w, "user:eve", "custom.helper", "task:t1", target="acme")),
    # what all tenants share must be locked where it changes
    ("needs_shared", T, lambda w: resources.delete(w, "project:p1")),
    ("needs_shared", T, lambda w: groups.delete(w, "c_team")),
    ("needs_shared", {"tenant": "globex"}, lambda w: memberships.end(w, "user:eve")),
]


def test_what_is_refused_changes_nothing(store_urls: StoreUrls) -> None:
    """Each refusal has its code, and leaves no row, no revision and no trace in a log."""
    everything = sorted(tables.meta.tables)

    async def scene() -> tuple[list[str], bool]:
        async with inhabited(store_urls) as writer:
            before = await rows_of(store_urls, *everything)
            codes = [await refusal(writer, work, **how) for _, how, work in REFUSED]
            return codes, await rows_of(store_urls, *everything) == before

    codes, is_untouched = run(scene())

    assert codes == [code for code, _, _ in REFUSED]
    assert is_untouched


#: What is let pass with `missing_ok`.
MISSING: list[tuple[dict[str, Any], Work]] = [
    (T, lambda w: memberships.end(w, "user:eve", missing_ok=True)),
    (T, lambda w: groups.unnest(w, "b_team", "a_team", missing_ok=True)),
    (T, lambda w: groups.remove_member(w, "b_team", "user:ann", missing_ok=True)),
    (G, lambda w: platform_groups.unnest(w, "guild", "crew", missing_ok=True)),
    (G, lambda w: platform_groups.remove_member(w, "guild", "user:ann", missing_ok=True)),
    (T, lambda w: assignments.take(w, "user:ann", "project.editor", "project:p2", missing_ok=True)),
    (G, lambda w: assignments.take_system(w, "user:bob", "system.root", missing_ok=True)),
    (OVER, lambda w: links.end(w, "user:eve", "x.y", "task:t1", home="globex", target="acme", missing_ok=True)),
]


def test_what_may_be_missing_is_let_pass(store_urls: StoreUrls) -> None:
    """To take away what is not there is no fault for who says so."""

    async def scene() -> list[str]:
        async with inhabited(store_urls) as writer:
            return [await refusal(writer, work, **how) for how, work in MISSING]

    assert run(scene()) == ["done"] * len(MISSING)


# --- nothing comes back -----------------------------------------------------------------------------------

#: Deletes, and then what would bring the same name back to life, or hang something on it.
ENDS: list[tuple[dict[str, Any], Work, list[tuple[str, dict[str, Any], Work]]]] = [
    (
        {"tenant": "initech", "shared": True},
        lambda w: tenants.set_status(w, "deleted"),
        [
            ("deleted", {"tenant": "initech", "shared": True}, lambda w: tenants.set_status(w, "active")),
            ("taken", {"tenant": "initech", "making": True}, tenants.make),
        ],
    ),
    (
        G,
        lambda w: principals.delete(w, "user:bob"),
        [
            ("taken", G, lambda w: principals.make(w, "user:bob")),
            ("deleted", G, lambda w: principals.set_status(w, "user:bob", "active")),
            ("deleted", G, lambda w: principals.set_attributes(w, "user:bob", {})),
            ("deleted", G, lambda w: principals.delete(w, "user:bob")),
            ("deleted", G, lambda w: platform_groups.add_member(w, "crew", "user:bob")),
            ("deleted", G, lambda w: assignments.give_system(w, "user:bob", "system.root")),
            ("deleted", T, lambda w: memberships.put(w, "user:bob")),
            ("deleted", T, lambda w: groups.add_member(w, "a_team", "user:bob")),
            ("deleted", T, lambda w: assignments.give(w, "user:bob", "project.editor", "project:p2")),
            ("deleted", OVER, lambda w: links.make(w, "user:bob", "task.auditor", "task:t1", target="acme")),
        ],
    ),
    (
        T,
        lambda w: groups.delete(w, "a_team"),
        [
            ("taken", T, lambda w: groups.make(w, "a_team")),
            ("taken", G, lambda w: platform_groups.make(w, "a_team")),
            ("not_there", T, lambda w: groups.delete(w, "a_team")),
            ("not_there", T, lambda w: groups.nest(w, "a_team", "b_team")),
            ("not_there", T, lambda w: groups.add_member(w, "a_team", "user:ann")),
            ("unknown", T, lambda w: assignments.give(w, "group:a_team", "project.editor", "project:p2")),
            ("deleted", T, lambda w: assignments.give(w, "user:ann", "group.reader", "group:a_team")),
        ],
    ),
    (
        G,
        lambda w: platform_groups.delete(w, "staff"),
        [
            ("taken", G, lambda w: platform_groups.make(w, "staff")),
            ("taken", T, lambda w: groups.make(w, "staff")),
            ("not_there", G, lambda w: platform_groups.nest(w, "crew", "staff")),
            ("unknown", T, lambda w: assignments.give(w, "group:staff", "project.editor", "project:p2")),
        ],
    ),
    (
        {"tenant": "acme", "shared": True, "others": ["globex"]},
        lambda w: resources.delete(w, "project:p1"),
        [
            ("taken", T, lambda w: resources.make(w, "project:p1")),
            ("taken", T, lambda w: resources.make(w, "task:t1", parent="project:p2")),
            ("not_there", T, lambda w: resources.move(w, "task:t1", "project:p2")),
            ("not_there", T, lambda w: resources.delete(w, "folder:f1")),
            ("not_there", T, lambda w: resources.set_attributes(w, "project:p1", {})),
            ("deleted", T, lambda w: resources.make(w, "task:t9", parent="folder:f1")),
            ("deleted", T, lambda w: resources.move(w, "project:p2", "project:p1")),
            ("deleted", T, lambda w: assignments.give(w, "user:ann", "task.editor", "task:t1")),
        ],
    ),
    (
        T,
        lambda w: custom_roles.delete(w, "helper"),
        [
            ("taken", T, lambda w: custom_roles.make(w, "helper", "project", [])),
            ("not_there", T, lambda w: custom_roles.change(w, "helper", [])),
            ("unknown", T, lambda w: assignments.give(w, "user:ann", "custom.helper", "project:p2")),
        ],
    ),
]


def test_nothing_comes_back(store_urls: StoreUrls) -> None:
    """A name that was deleted is never given again, and nothing can be hung on it."""

    async def scene() -> list[list[str]]:
        found = []
        async with inhabited(store_urls) as writer:
            for how, delete, attempts in ENDS:
                async with writer.write(**how) as write:
                    await delete(write)
                found.append([await refusal(writer, work, **options) for _, options, work in attempts])
        return found

    assert run(scene()) == [[code for code, _, _ in attempts] for _, _, attempts in ENDS]


def test_who_comes_back_begins_anew(store_urls: StoreUrls) -> None:
    """A member who left and is put again holds nothing of what he held, links into other tenants neither."""

    async def scene() -> object:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await memberships.end(write, "user:ann")
                await memberships.put(write, "user:ann")
            async with writer.write(tenant="globex", shared=True, others=["acme"]) as write:
                await memberships.end(write, "user:eve")
                await memberships.put(write, "user:eve")
            held = await rows_of(store_urls, "assignments", "group_members")
            links = await rows_of(store_urls, "links")
            return [row for found in held.values() for row in found if "ann" in row] + list(links["links"])

    assert run(scene()) == []


# --- bounds -----------------------------------------------------------------------------------------------


def test_resources_lie_thirty_deep(store_urls: StoreUrls) -> None:
    """A chain of 30 resources, which tenant and system make one of 32, is full; moving counts what is moved along."""

    async def scene() -> list[str]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                await _chain(write, "deep", 30)
                await _chain(write, "low", 2)
            attempts: list[Work] = [
                lambda w: resources.make(w, "x:y", parent="deep:30"),
                lambda w: resources.make(w, "x:y", parent="deep:29"),
                lambda w: resources.move(w, "low:1", "deep:29"),
                lambda w: resources.move(w, "low:1", "deep:28"),
            ]
            return [await refusal(writer, work, tenant="acme") for work in attempts]

    assert run(scene()) == ["too_deep", "done", "too_deep", "done"]


async def _chain(write: Write, kind: str, length: int) -> None:
    for number in range(1, length + 1):
        await resources.make(write, f"{kind}:{number}", parent=f"{kind}:{number - 1}" if number > 1 else None)


def test_groups_nest_thirty_two_deep(store_urls: StoreUrls) -> None:
    """The thirty-third group in a row is refused, on whichever end it is put, and in the middle too."""

    async def scene() -> list[str]:
        async with inhabited(store_urls) as writer:
            async with writer.write(tenant="acme") as write:
                for number in range(34):
                    await groups.make(write, f"n{number}")
                for number in itertools.chain(range(15), range(16, 31)):
                    await groups.nest(write, f"n{number}", f"n{number + 1}")
            attempts = [(15, 16), (31, 32), (33, 0), (0, 33)]
            works = [partial(groups.nest, inner=f"n{inner}", outer=f"n{outer}") for inner, outer in attempts]
            return [await refusal(writer, work, tenant="acme") for work in works]

    assert run(scene()) == ["done", "too_deep", "too_deep", "done"]


def test_counts_are_bounded(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A principal is in so many groups, those around them counted, and a tenant has so many roles of its own."""
    monkeypatch.setattr(grouping, "MAX_GROUPS", 3)
    monkeypatch.setattr(custom_roles, "MAX_ROLES", 2)
    attempts: list[tuple[str, Work]] = [
        ("done", lambda w: groups.add_member(w, "c_team", "user:ann")),
        ("done", lambda w: groups.make(w, "d_team")),
        ("too_many", lambda w: groups.add_member(w, "d_team", "user:ann")),
        ("too_many", lambda w: groups.nest(w, "c_team", "d_team")),
        ("too_many", lambda w: groups.nest(w, "b_team", "d_team")),
        ("done", lambda w: groups.nest(w, "d_team", "b_team")),
        ("done", lambda w: groups.add_member(w, "d_team", "user:bob")),
        ("done", lambda w: custom_roles.make(w, "second", "task", [])),
        ("too_many", lambda w: custom_roles.make(w, "third", "task", [])),
        ("done", lambda w: custom_roles.delete(w, "second")),
        ("done", lambda w: custom_roles.make(w, "third", "task", [])),
    ]

    async def scene() -> list[str]:
        async with inhabited(store_urls) as writer:
            return [await refusal(writer, work, tenant="acme") for _, work in attempts]

    assert run(scene()) == [code for code, _ in attempts]


def test_attributes_are_canonical() -> None:
    """Equal attributes are equal texts, whatever order they came in."""
    assert canonical({"b": [1, None], "a": {"z": "é", "y": True}}) == '{"a":{"y":true,"z":"é"},"b":[1,null]}'
    assert canonical(None) == canonical({}) == "{}"
