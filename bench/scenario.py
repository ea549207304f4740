"""The scenario that every contestant decides: multi-tenant roles, an owner check, archived things that refuse writes.

In: a number of rules and a number of users. Out: a `World` (rules, users, things) and the questions asked of it, each
with its expected answer. Nothing here knows any engine: a contestant translates the world into its own terms. All is
counted out, nothing drawn by chance, so that two runs ask the same.

A *rule* is what one line of a policy says: a role that gives permissions, owners that may act, archived things that
refuse. The first five make the scenario; the others stand for the rest of a large policy: other types, other roles,
other conditions, ten rules a type. Each user also holds one of those other roles. The expected answers come from the
rules themselves (`expected`), so that the hand-written contestant is checked like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

ACTIONS = ("read", "comment", "share", "update", "delete")
KINDS = ("document", "task", "invoice", "project", "folder", "memo", "booking", "ticket", "asset", "message")
CONTENT = "content"
"""The area that the ten kinds of the scenario lie in; any other kind is an area by itself."""
RULES_PER_KIND = 10
USERS_PER_TENANT = 100

Meaning = Literal["role", "owner", "archived"]
QuestionKind = Literal["role", "conditional", "denied", "other"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: holders of the role `name` may, owners may, or (`archived`) nobody may, do `actions` in `area`."""

    meaning: Meaning
    name: str
    area: str
    actions: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Name the kinds that lie in the rule's area."""
        return KINDS if self.area == CONTENT else (self.area,)

    @property
    def codes(self) -> tuple[str, ...]:
        """List what the rule speaks of as `kind.action`."""
        return tuple(f"{kind}.{action}" for kind in self.kinds for action in self.actions)


@dataclass(frozen=True, slots=True)
class User:
    """A user, member of one tenant, with the roles held there."""

    id: str
    tenant: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """A resource: its kind and the area of that, its tenant, who owns it, and whether it is archived."""

    id: str
    kind: str
    area: str
    tenant: str
    owner: str
    archived: bool

    @property
    def key(self) -> str:
        """Name it with its kind: `document:r7`."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Question:
    """May `user` do `action` to `thing`, asked in the thing's tenant, and the answer that is right."""

    user: User
    action: str
    thing: Thing
    expected: bool


@dataclass(frozen=True)
class World:
    """All that is true in one cell of the benchmark: `rules`, `users` and `things`, by index."""

    rules: tuple[Rule, ...]
    users: tuple[User, ...]
    things: tuple[Thing, ...]
    tenants: int

    @cached_property
    def rules_of(self) -> dict[tuple[str, str], list[Rule]]:
        """Find the rules by (area, action)."""
        found: dict[tuple[str, str], list[Rule]] = {}
        for rule in self.rules:
            for action in rule.actions:
                found.setdefault((rule.area, action), []).append(rule)
        return found

    @cached_property
    def user_of(self) -> dict[str, User]:
        """Find a user by id."""
        return {user.id: user for user in self.users}


def make_world(rule_count: int, user_count: int) -> World:
    """Make the world of one cell.

    Args:
        rule_count: how many rules the policy has, at least 1.
        user_count: how many users there are, at least 100; a tenant has 100 of them, but there are two at least.
    """
    rules = tuple(islice(_all_rules(), rule_count))
    tenants = max(2, user_count // USERS_PER_TENANT)
    users = tuple(_users(rules, user_count, tenants))
    return World(rules, users, (*_things(users, tenants), *_other_things(rules, users)), tenants)


def _all_rules() -> Iterator[Rule]:
    yield Rule("role", "viewer", CONTENT, ("read", "comment"))
    yield Rule("owner", "own", CONTENT, ("update", "delete"))
    yield Rule("archived", "archived", CONTENT, ("update", "delete"))
    yield Rule("role", "editor", CONTENT, ("read", "comment", "share"))
    yield Rule("role", "admin", CONTENT, ACTIONS)
    number = 0
    while True:
        yield _other_rule(number)
        number += 1


def _other_rule(number: int) -> Rule:
    """Make rule `number` of the rest: of ten on a kind, six are roles, three for owners, one for what is archived."""
    kind, place = f"extra_{number // RULES_PER_KIND}", number % RULES_PER_KIND
    if place < 6:
        return Rule("role", f"crew_{number}", kind, ("read", ACTIONS[1 + place % 4]))
    if place < 9:
        return Rule("owner", f"own_{number}", kind, (ACTIONS[place - 4],))
    return Rule("archived", f"archived_{number}", kind, ("update", "delete"))


def _users(rules: Sequence[Rule], count: int, tenants: int) -> Iterator[User]:
    """Give each user in turn one of the scenario's roles, or none, and in a policy that has more one of the others."""
    own = [rule.name for rule in rules if rule.meaning == "role" and rule.area == CONTENT]
    others = [rule.name for rule in rules if rule.meaning == "role" and rule.area != CONTENT]
    for number in range(count):
        place = (number // tenants) % (len(own) + 1)
        held = [own[place]] if place < len(own) else []
        if others:
            held.append(others[number * 7 % len(others)])
        yield User(f"u{number}", f"t{number % tenants}", tuple(held))


def _things(users: Sequence[User], tenants: int) -> Iterator[Thing]:
    """Make things, at least 2,000 and ten a tenant, a quarter of them archived, none owned by an admin."""
    owners: list[list[User]] = [[] for _ in range(tenants)]
    for number, user in enumerate(users):
        if "admin" not in user.roles:
            owners[number % tenants].append(user)
    for number in range(max(2_000, 10 * tenants)):
        tenant, round_ = number % tenants, number // tenants
        candidates = owners[tenant]
        owner = candidates[round_ * 7 % len(candidates)]
        archived = (round_ + tenant) % 4 == 0
        yield Thing(f"r{number}", KINDS[round_ % len(KINDS)], CONTENT, f"t{tenant}", owner.id, archived)


def _other_things(rules: Sequence[Rule], users: Sequence[User]) -> Iterator[Thing]:
    """Make a thing of another kind for each of the first 20 users who hold a role there; they own it."""
    areas = {rule.name: rule.area for rule in rules if rule.meaning == "role"}
    holders = (user for user in users if user.roles and areas[user.roles[-1]] != CONTENT)
    for number, user in enumerate(islice(holders, 20)):
        area = areas[user.roles[-1]]
        yield Thing(f"x{number}", area, area, user.tenant, user.id, number % 4 == 0)


def expected(world: World, user: User, action: str, thing: Thing) -> bool:
    """Say by the rules themselves, without index or haste, whether it is allowed."""
    if user.tenant != thing.tenant:
        return False
    rules = world.rules_of.get((thing.area, action), [])
    if thing.archived and any(rule.meaning == "archived" for rule in rules):
        return False
    return any(_gives(rule, user, thing.owner == user.id) for rule in rules)


def _gives(rule: Rule, user: User, owns: bool) -> bool:
    if rule.meaning == "role":
        return rule.name in user.roles
    return rule.meaning == "owner" and owns


def questions(world: World, kind: QuestionKind, limit: int = 1_000) -> list[Question]:
    """Make up to `limit` questions of one kind, of distinct (user, thing) pairs.

    `role`: a role allows, and no condition and no deny is in the way. `conditional`: a deny is checked and does not
    apply, no role helps, the owner's rule allows. `denied`: by turns an archived thing, somebody else's thing, no role,
    another tenant. `other`: about the large rest of the rules, to see that it is alive. A policy may be too small for a
    kind; then the list is empty.
    """
    makers = {"role": _role_pairs, "conditional": _owner_pairs, "denied": _denied_pairs, "other": _other_pairs}
    asked = islice(makers[kind](world), limit)
    return [Question(user, action, thing, expected(world, user, action, thing)) for user, action, thing in asked]


Asked = tuple[User, str, Thing]


def _neighbours(world: World, per_thing: int = 1) -> Iterator[tuple[User, Thing]]:
    """Pair things of the scenario with users of the same tenant, evenly over both."""
    size = len(world.users) // world.tenants
    for step in range(per_thing):
        for number, thing in enumerate(_content(world)):
            user_number = number % world.tenants + world.tenants * ((number // world.tenants * 3 + step * 11) % size)
            yield world.users[user_number], thing


def _content(world: World) -> Iterator[Thing]:
    return (thing for thing in world.things if thing.area == CONTENT)


def _role_pairs(world: World) -> Iterator[Asked]:
    for number, (user, thing) in enumerate(_neighbours(world, per_thing=3)):
        if _has_own_role(user):
            yield user, ACTIONS[number % 2], thing


def _has_own_role(user: User) -> bool:
    return bool(user.roles) and user.roles[0] in ("viewer", "editor", "admin")


def _owner_pairs(world: World) -> Iterator[Asked]:
    if not any(rule.meaning == "archived" for rule in world.rules):
        return
    for thing in _content(world):
        if not thing.archived:
            yield world.user_of[thing.owner], "update", thing


def _denied_pairs(world: World) -> Iterator[Asked]:
    archived = ((world.user_of[thing.owner], "update", thing) for thing in _content(world) if thing.archived)
    foreign = (
        (user, "update", thing)
        for user, thing in _neighbours(world)
        if user.id != thing.owner and "admin" not in user.roles
    )
    roleless = ((user, "read", thing) for user, thing in _neighbours(world, per_thing=3) if not _has_own_role(user))
    outside = (
        (world.users[(number + 1) % len(world.users)], "read", thing)
        for number, (_, thing) in enumerate(_neighbours(world))
        if world.users[(number + 1) % len(world.users)].tenant != thing.tenant
    )
    for group in zip(archived, foreign, roleless, outside, strict=False):
        yield from group


def _other_pairs(world: World) -> Iterator[Asked]:
    for thing in world.things:
        if thing.area != CONTENT:
            owner = world.user_of[thing.owner]
            stranger = next(user for user in world.users if user.tenant == thing.tenant and user.id != thing.owner)
            yield from ((user, action, thing) for user in (owner, stranger) for action in ("read", "update", "share"))
