"""A large world for the store: studios by the thousand, as rows of its tables.

In: how many tenants, users and assignments. Out: for each table its columns and a generator of its rows. All is counted
out, nothing drawn by chance, so what a user holds can be said again without asking the database (`World.grants`).

A tenant `t7` has users (`u700` …), 30 projects of 3 tasks each and 6 groups, `g7_1` to `g7_5` nested in one another
below `g7_0`. The first role of a user is on the organization, the others are on projects; each is in one of the
innermost groups. The tenant `big` has as many projects as its one user, `whale`, has roles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from store.changes import SYSTEM_ACTOR, chained
from store.writes.attributes import canonical

POLICY: Final = "policies/studio"
PROJECTS, TASKS, GROUPS = 30, 3, 6
#: More roles than these one user of the world cannot hold: one on the organization, three on each project.
MAX_ROLES: Final = 1 + 3 * PROJECTS
BIG, WHALE = "big", "whale"
AT: Final = "2026-11-21T00:00:00.000000000Z"

Row = tuple[object, ...]
Role = tuple[str, str, str]
"""A role, and the type and id of the place on which it is held."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of one table."""

    table: str
    columns: tuple[str, ...]
    count: int
    made: Callable[[], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Thing:
    """A resource of a tenant."""

    kind: str
    id: str
    attributes: dict[str, object]
    parent: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """How large it is.

    Args:
        users, roles, changes: in a tenant; of a user; that the log of changes still has of a tenant.
        whale: how many roles the whale holds; 0: there is none, and no big tenant.
    """

    tenants: int
    users: int
    roles: int
    whale: int
    changes: int

    @property
    def user_count(self) -> int:
        """Count the users beside the whale."""
        return self.tenants * self.users

    def save(self, folder: Path) -> None:
        """Write down how large it is, for those who measure."""
        (folder / "world.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> World:
        """Read what `save` wrote."""
        return cls(**json.loads((folder / "world.json").read_text(encoding="utf-8")))

    def tenant_of(self, user: int) -> int:
        """Tell in which tenant a user is."""
        return user // self.users

    def users_of(self, tenant: int) -> range:
        """List the users of a tenant."""
        return range(tenant * self.users, (tenant + 1) * self.users)

    def group_of(self, user: int) -> str:
        """Tell in which group a user is."""
        innermost = GROUPS - GROUPS // 2
        return f"g{self.tenant_of(user)}_{GROUPS // 2 + user % innermost}"

    def group_grants(self, tenant: int) -> Iterator[tuple[str, str]]:
        """List groups with the project on which each is `viewer`."""
        yield from ((f"g{tenant}_{number}", f"p{number * 5}") for number in range(GROUPS))

    def things(self, tenant: int) -> Iterator[Thing]:
        """List the projects of a tenant with their tasks: a third of the projects is locked."""
        for project in range(PROJECTS):
            name = f"p{project}"
            said = {"locked": project % 3 == 0, "owner": self._owner(tenant, project), "published": False}
            yield Thing("project", name, said)
            for task in range(TASKS):
                owner = self._owner(tenant, project * TASKS + task)
                yield Thing("task", f"{name}_{task}", {"owner": owner}, ("project", name))

    def grants(self, user: int) -> Iterator[Role]:
        """List the roles of a user."""
        place = user % self.users
        yield f"organization.{_ORGANIZATION[place % len(_ORGANIZATION)]}", "organization", f"t{self.tenant_of(user)}"
        for number in range(1, self.roles):
            role = _PROJECT[(place + number + number // PROJECTS) % 3]
            yield f"project.{role}", "project", f"p{(place * 7 + number * 11) % PROJECTS}"

    def rows(self) -> list[Rows]:
        """List the tables with their rows, in an order that foreign keys allow."""
        own, big = self.tenants, 1 if self.whale else 0
        people, things = self.user_count + big, own * PROJECTS * (1 + TASKS) + self.whale
        return [
            Rows("names", ("kind", "id"), own + big + people + own * GROUPS, self._names),
            Rows("tenants", ("id", "status"), own + big, lambda: ((name, "active") for name in self._tenants())),
            Rows("revisions", ("stream", "n", "head"), own + big, self._revisions),
            Rows("changes", _CHANGE, (own + big) * self.changes, self._log),
            Rows("audit_log", _AUDIT, (own + big) * self.changes, self._audit),
            Rows("tenant_profiles", ("tenant_id", "attributes"), own + big, self._profiles),
            Rows("principals", ("type", "id", "status", "attributes"), people, self._principals),
            Rows("presences", ("type", "id", "tenant_id"), people, self._presences),
            Rows("memberships", ("tenant_id", "type", "id", "status", "starts"), people, self._memberships),
            Rows("groups", ("tenant_id", "id", "attributes", "deleted"), own * GROUPS, self._groups),
            Rows("group_nestings", ("tenant_id", "inner_id", "outer_id"), own * (GROUPS - 1), self._nestings),
            Rows("group_members", ("tenant_id", "type", "id", "group_id", "starts"), self.user_count, self._members),
            Rows("resources", _RESOURCE, things, self._resources),
            Rows("assignments", _ASSIGNMENT, self.assignment_count, self._assignments),
        ]

    @property
    def assignment_count(self) -> int:
        """Count what users, groups and the whale hold."""
        return self.user_count * self.roles + self.tenants * GROUPS + self.whale

    # --- one table each ----------------------------------------------------------------------------

    def _tenants(self) -> Iterator[str]:
        yield from (f"t{number}" for number in range(self.tenants))
        if self.whale:
            yield BIG

    def _people(self) -> Iterator[tuple[str, str]]:
        """List users with their tenants, tenant by tenant."""
        yield from ((f"u{user}", f"t{self.tenant_of(user)}") for user in range(self.user_count))
        if self.whale:
            yield WHALE, BIG

    def _all_groups(self) -> Iterator[tuple[str, int, str]]:
        for tenant in range(self.tenants):
            yield from ((f"t{tenant}", number, f"g{tenant}_{number}") for number in range(GROUPS))

    def _names(self) -> Iterator[Row]:
        yield from (("tenant", name) for name in self._tenants())
        yield from (("user", name) for name, _ in self._people())
        yield from (("group", name) for _, _, name in self._all_groups())

    def _revisions(self) -> Iterator[Row]:
        for name in self._tenants():
            *_, (n, _, head) = history(f"t:{name}", self.changes)
            yield f"t:{name}", n, head

    def _log(self) -> Iterator[Row]:
        for name in self._tenants():
            for n, before, head in history(f"t:{name}", self.changes):
                yield f"t:{name}", n, before, head, f'["principal:user:u{n}"]', AT

    def _audit(self) -> Iterator[Row]:
        for name in self._tenants():
            for n, before, head in history(f"t:{name}", self.changes):
                yield name, n, AT, SYSTEM_ACTOR, "[]", before, head

    def _profiles(self) -> Iterator[Row]:
        yield from ((name, '{"plan":"pro"}') for name in self._tenants())

    def _principals(self) -> Iterator[Row]:
        yield from (("user", name, "active", '{"clearance":1,"department":"bookings"}') for name, _ in self._people())

    def _presences(self) -> Iterator[Row]:
        yield from (("user", name, tenant) for name, tenant in self._people())

    def _memberships(self) -> Iterator[Row]:
        yield from ((tenant, "user", name, "active", "") for name, tenant in self._people())

    def _groups(self) -> Iterator[Row]:
        yield from ((tenant, name, "{}", False) for tenant, _, name in self._all_groups())

    def _nestings(self) -> Iterator[Row]:
        yield from (
            (tenant, name, f"g{tenant[1:]}_{(number - 1) // 2}")
            for tenant, number, name in self._all_groups()
            if number
        )

    def _members(self) -> Iterator[Row]:
        yield from (
            (f"t{self.tenant_of(user)}", "user", f"u{user}", self.group_of(user), "") for user in range(self.user_count)
        )

    def _resources(self) -> Iterator[Row]:
        for tenant in range(self.tenants):
            for thing in self.things(tenant):
                parent = thing.parent or (None, None)
                yield f"t{tenant}", thing.kind, thing.id, *parent, canonical(thing.attributes), False
        said = canonical({"locked": False, "owner": f"user:{WHALE}", "published": False})
        yield from ((BIG, "project", f"b{number}", None, None, said, False) for number in range(self.whale))

    def _owner(self, tenant: int, number: int) -> str:
        return f"user:u{tenant * self.users + number * 13 % self.users}"

    def _assignments(self) -> Iterator[Row]:
        for tenant in range(self.tenants):
            name = f"t{tenant}"
            for user in self.users_of(tenant):
                yield from (
                    (name, "user", f"u{user}", kind, place, role, "") for role, kind, place in self.grants(user)
                )
            for group, project in self.group_grants(tenant):
                yield name, "group", group, "project", project, "project.viewer", ""
        for number in range(self.whale):
            yield BIG, "user", WHALE, "project", f"b{number}", "project.viewer", ""


_ORGANIZATION: Final = (
    "artist",
    "artist",
    "viewer",
    "artist",
    "artist",
    "artist",
    "viewer",
    "artist",
    "artist",
    "manager",
)
_PROJECT: Final = ("viewer", "editor", "owner")
_CHANGE: Final = ("stream", "n", "before", "head", "keys", "at")
_AUDIT: Final = ("tenant_id", "n", "at", "actor", "entries", "before", "hash")
_RESOURCE: Final = ("tenant_id", "type", "id", "parent_type", "parent_id", "attributes", "deleted")
_ASSIGNMENT: Final = ("tenant_id", "subject_type", "subject_id", "place_type", "place_id", "role", "starts")


def history(stream: str, count: int) -> Iterator[tuple[int, str, str]]:
    """List the first revisions of a stream, each with the head that it stands upon and its own, as writes make them."""
    head = ""
    for n in range(1, count + 1):
        before, head = head, chained(head, stream, n, AT, SYSTEM_ACTOR, "[]")
        yield n, before, head
