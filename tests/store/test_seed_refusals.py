"""What a file must not say: what is deleted, taken or malformed. It is told with its place, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import FactsError
from store.changes import Write
from store.writes import (
    custom_roles,
    groups,
    platform_groups,
    principals,
    resources,
    tenants,
)
from tests.databases import StoreUrls
from tests.store.seeds import (
    WORLD,
    all_rows,
    refused,
    sow,
    write,
)

# --- what is deleted stays deleted ----------------------------------------------------------------------

Work = Callable[[Write], Any]
#: What is deleted, how its write is opened, and the line that refuses it.
DELETIONS: list[tuple[Work, dict[str, Any], str]] = [
    (
        lambda w: tenants.set_status(w, "deleted"),
        {"tenant": "acme", "shared": True},
        "tenants.acme: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "users.ann: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: platform_groups.delete(w, "crew"),
        {"shared": True},
        "groups.crew: it was deleted, for ever: take it out of the file, or choose another name",
    ),
    (
        lambda w: groups.delete(w, "house"),
        {"tenant": "acme"},
        "groups.house: it was deleted, for ever: take it out of the file, or choose another name",
    ),
    (
        lambda w: resources.delete(w, "task:t1"),
        {"tenant": "acme"},
        "resources.acme/task:t2: it was deleted, for ever: take it out of the file, or say `status: deleted`",
    ),
    (
        lambda w: custom_roles.delete(w, "helper"),
        {"tenant": "acme"},
        "custom_roles.helper: it was deleted, for ever: take it out of the file, or choose another name",
    ),
]


@pytest.mark.parametrize(("work", "how", "line"), DELETIONS, ids=[line.partition(":")[0] for *_, line in DELETIONS])
def test_nothing_comes_back_to_life(work: Work, how: dict[str, Any], line: str, store_urls: StoreUrls) -> None:
    """A file that names what was deleted is refused, with the row and the cure, and nothing is written."""
    sow(store_urls, WORLD)
    write(store_urls, work, **how)

    error = refused(store_urls, WORLD.replace("level: 3", "level: 4"))

    assert error.code == "deleted"
    assert line in error.message.splitlines()


#: What is named without having a row in the file.
REFERENCES: list[tuple[Work, dict[str, Any], str, str]] = [
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "assignments: [{ subject: user:ann, role: reader, on: org:acme }]",
        "assignments.org.reader of user:ann on org:acme: `user:ann` was deleted, for ever: take out what names it",
    ),
    (
        lambda w: principals.delete(w, "user:ann"),
        {"shared": True},
        "groups: { fresh: { tenant: acme, members: [user:ann] } }",
        "groups.fresh.members.user:ann: `user:ann` was deleted, for ever: take out what names it",
    ),
    (
        lambda w: resources.delete(w, "project:p1"),
        {"tenant": "acme"},
        "assignments: [{ subject: user:bob, role: editor, on: project:p1 }]",
        "assignments.project.editor of user:bob on project:p1: `project:p1` was deleted,"
        " for ever: take out what names it",
    ),
    (
        lambda w: custom_roles.delete(w, "helper"),
        {"tenant": "acme"},
        "assignments: [{ subject: user:bob, role: custom.helper, on: org:acme }]",
        "assignments.custom.helper of user:bob on org:acme: `helper` was deleted, for ever: take out what names it",
    ),
]


@pytest.mark.parametrize(("work", "how", "section", "line"), REFERENCES)
def test_nothing_is_given_to_the_dead(
    work: Work, how: dict[str, Any], section: str, line: str, store_urls: StoreUrls
) -> None:
    """A file that has no row of what was deleted, but refers to it, is refused, too."""
    sow(store_urls, WORLD)
    write(store_urls, work, **how)

    error = refused(store_urls, f"tenants: {{ acme: {{ attributes: {{ plan: pro }} }} }}\n{section}")

    assert error.message.splitlines() == [line]


def test_a_link_to_what_was_deleted(store_urls: StoreUrls) -> None:
    """A link to a resource that was deleted is refused, though the other tenant's rows are not its home's to see."""
    sow(store_urls, WORLD)
    write(store_urls, lambda w: resources.delete(w, "project:p1"), tenant="acme")

    error = refused(
        store_urls,
        "tenants: { acme: { attributes: { plan: pro } }, globex: {} }\nusers: { eve: {} }\n"
        "links: [{ subject: user:eve, home: globex, role: editor, on: acme/project:p1 }]",
    )

    assert error.message.startswith("links.project.editor of user:eve on project:p1: `project:p1` was deleted")


def test_a_file_may_say_itself_that_something_is_deleted(store_urls: StoreUrls) -> None:
    """Where the file, too, says deleted, its row is left as it is: attributes of the dead do not come back."""
    sow(store_urls, WORLD)
    write(store_urls, lambda w: principals.delete(w, "user:ann"), shared=True)
    write(store_urls, lambda w: resources.delete(w, "task:t2"), tenant="acme")
    said = """
tenants: { acme: { attributes: { plan: pro } } }
users: { ann: { status: deleted, attributes: { level: 9 } } }
resources:
  project:p1: { parent: org:acme, attributes: { sealed: true } }
  task:t2: { parent: project:p1, status: deleted }
"""

    done = sow(store_urls, said)

    assert ("user", "ann", "deleted", "{}") in all_rows(store_urls)["principals"]
    assert (done.added, done.changed, done.unchanged) == ({}, {}, 5)


def test_a_file_may_delete(store_urls: StoreUrls) -> None:
    """A status of the file counts: whom it calls deleted is, from then on, for ever."""
    sow(store_urls, WORLD)

    sow(store_urls, WORLD.replace("ann: { attributes", "ann: { status: deleted, attributes"))

    assert refused(store_urls, WORLD).code == "deleted"


TAKEN = [
    ("groups: { staff: { tenant: globex } }", "groups.staff"),
    ("groups: { staff: {} }", "groups.staff"),
    ("groups: { crew: { tenant: globex } }", "groups.crew"),
]


@pytest.mark.parametrize(("section", "place"), TAKEN)
def test_a_name_is_given_once(section: str, place: str, store_urls: StoreUrls) -> None:
    """A group that has its name from another tenant, or from the platform, is refused."""
    sow(store_urls, WORLD)

    error = refused(store_urls, f"tenants: {{ globex: {{}} }}\n{section}")

    assert error.code == "taken"
    assert error.message == f"{place}: this group id is given elsewhere, or was once: choose another"


# --- files that are wrong -------------------------------------------------------------------------------

HUGE = "x" * 257
WRONG = [
    ("users: { ann: { atributes: {} } }", "users.ann: unknown key `atributes`; did you mean `attributes`?"),
    (
        f"users: {{ {HUGE}: {{}} }}",
        f"users.{HUGE[:54]}…{HUGE[:60]}: `{HUGE[:60]}…{HUGE[:60]}` is longer than 256 bytes in UTF-8:"
        " choose a shorter one",
    ),
    (
        'users: { "an n": {} }',
        "users.an n: `an n` has a space, U+0020 SPACE, at character 3: leave it out",
    ),
    (
        'users: { "a\\0b": {} }',
        "users.a\\x00b: `a\\x00b` has a control character, U+0000, at character 2: leave it out",
    ),
    (
        'tenants: { acme: { attributes: { plan: "a\\0b" } } }',
        "tenants.acme: an attribute has a NUL or half a character in it: leave it out",
    ),
    (
        "tenants: { acme: {} }\nassignments: [{ subject: 'user:a\u200bb', role: boss, on: org:acme }]",
        "users.a\\u200bb.members.acme: `a\\u200bb` has a character that does not show, U+200B ZERO WIDTH SPACE,"
        " at character 2: leave it out",
    ),
    (
        "tenants: { acme: {} }\nresources: { acme/task:t1: { parent: project:p1 } }",
        "resources.acme/task:t1: its parent `project:p1` is not in the file",
    ),
    (
        "tenants: { acme: {}, globex: {} }\nresources: { acme/project:p1: { parent: org:globex } }",
        "resources.acme/project:p1: its parent `org:globex` is not in the file",
    ),
    (
        "tenants: { acme: {} }\nresources: { acme/task:t1: { parent: task:t2 }, acme/task:t2: { parent: task:t1 } }",
        "resources.acme/task:t1: the resource lies in itself",
    ),
]


@pytest.mark.parametrize(("wrong", "line"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_writes_nothing(wrong: str, line: str, store_urls: StoreUrls) -> None:
    """What cannot be stored is told with its place, and nothing of the file is written."""
    error = refused(store_urls, wrong)

    assert isinstance(error, FactsError)
    assert f"facts: {line}" in error.message.splitlines()


def test_ids_at_their_longest(store_urls: StoreUrls) -> None:
    """The longest ids that are accepted are stored, in every place that has one."""
    name = "é" * 128
    text_ = f"""
tenants: {{ {name}: {{}} }}
users: {{ {name}: {{ members: {{ {name}: active }} }} }}
groups: {{ {name}: {{ tenant: {name}, members: ["user:{name}"] }} }}
resources: {{ "project:{name}": {{ parent: "org:{name}" }} }}
assignments: [{{ subject: "group:{name}", role: custom.{name}, on: "org:{name}" }}]
custom_roles: [{{ tenant: {name}, name: {name}, on: org, can: [project.read] }}]
"""

    error = refused(store_urls, text_)
    assert error.message.count("longer than 256 bytes") == 1  # the role has its `custom.` before it

    sow(store_urls, text_.replace(f"custom.{name}", "boss"))


def test_resources_lie_at_most_so_deep(store_urls: StoreUrls) -> None:
    """A tree of the bound's depth goes in, and a deeper one does not."""

    def tree(depth: int) -> str:
        rows = [f"task:t{n}: {{ parent: task:t{n - 1} }}" for n in range(2, depth)]
        return (
            "tenants: { acme: {} }\nresources:\n  project:p: { parent: org:acme }\n  task:t1: { parent: project:p }\n"
            + ("\n".join(f"  {row}" for row in rows))
        )

    error = refused(store_urls, tree(31))

    assert "resources.acme/task:t30: resources lie at most 30 deep in each other" in error.message
    sow(store_urls, tree(30))


# --- bounds that hold of file and store together --------------------------------------------------------


def test_groups_that_lie_in_each_other(store_urls: StoreUrls) -> None:
    """A nesting that closes a circle with one that is stored is refused."""
    sow(store_urls, "tenants: { acme: {} }\ngroups: { a: { tenant: acme, in: [b] }, b: { tenant: acme } }")

    error = refused(store_urls, "tenants: { acme: {} }\ngroups: { a: { tenant: acme }, b: { tenant: acme, in: [a] } }")

    assert (error.code, error.message) == (
        "cycle",
        "groups.a: the group lies in itself, by what is nested in the store already",
    )


def test_groups_nest_at_most_so_deep(store_urls: StoreUrls) -> None:
    """Nestings of the file that go too deep with those that are stored are refused."""

    def chain(first: int, last: int) -> str:
        rows = [f"g{n}: {{ in: [{f'g{n + 1}' if n < last else ''}] }}" for n in range(first, last + 1)]
        return f"groups: {{ {', '.join(rows)} }}"

    sow(store_urls, chain(1, 32))

    error = refused(store_urls, chain(32, 33))

    assert (error.code, error.message) == ("too_deep", "groups.g33: groups nest at most 32 deep")


def test_a_principal_is_in_a_bounded_number_of_groups(store_urls: StoreUrls) -> None:
    """Groups that are stored count with those of the file, and those around both."""

    def joined(first: int, last: int) -> str:
        rows = [f"g{n}: {{ members: [user:ann] }}" for n in range(first, last)]
        return f"users: {{ ann: {{}} }}\ngroups: {{ {', '.join(rows)} }}"

    sow(store_urls, joined(0, 999))

    error = refused(store_urls, joined(999, 1001))

    assert error.message == "users.ann: would be in more than 1000 groups, those around counted"
    sow(store_urls, joined(999, 1000))


def test_a_tenant_has_a_bounded_number_of_roles(store_urls: StoreUrls) -> None:
    """Roles of a tenant that are stored count with those of the file."""

    def roles(first: int, last: int) -> str:
        rows = [f"{{ tenant: acme, name: r{n}, on: org, can: [project.read] }}" for n in range(first, last)]
        return f"tenants: {{ acme: {{}} }}\ncustom_roles: [{', '.join(rows)}]"

    sow(store_urls, roles(0, 1000))

    error = refused(store_urls, roles(999, 1001))

    assert error.message == "custom_roles: `acme` would have more than 1000 roles of its own"
