"""What is asked of a large world, and what the answers are: worked out by the engine alone, from a facts document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.store_world import GROUPS, POLICY, PROJECTS, TASKS, World
from engine import Facts, Policy, Request

ROOT: Final = Path(__file__).parents[1]
ACTIONS: Final = ("project.read", "project.update", "task.update", "project.delete")


def policies() -> Path:
    """Tell where the policy of the world lies."""
    return ROOT / POLICY


def ask(world: World, user: int, chance: Random) -> Request:
    """Make a question of a user, about a thing of his tenant."""
    action = ACTIONS[chance.randrange(len(ACTIONS))]
    place = f"p{chance.randrange(PROJECTS)}"
    resource = f"task:{place}_{chance.randrange(TASKS)}" if action.startswith("task") else f"project:{place}"
    return Request(tenant=f"t{world.tenant_of(user)}", subject=f"user:u{user}", action=action, resource=resource)


def again(question: Request) -> Request:
    """Make the same question anew, as the next request of a client would be."""
    return Request(tenant=question.tenant, subject=question.subject, action=question.action, resource=question.resource)


def expected(world: World, tenant: int, questions: list[Request]) -> list[bool]:
    """Say what the answers are, by the engine, over the facts of one tenant in memory."""
    policy = Policy.load(policies())
    facts = Facts(_document(world, tenant), policy)
    return [policy.decide(again(question), facts).allowed for question in questions]


def _document(world: World, tenant: int) -> dict[str, Any]:
    """Write the facts of one tenant as a facts file has them, from the rows."""
    name = f"t{tenant}"
    return {
        "tenants": {name: {"status": "active", "attributes": {"plan": "pro"}}},
        "users": {
            f"u{user}": {"attributes": {"clearance": 1, "department": "bookings"}, "members": {name: "active"}}
            for user in world.users_of(tenant)
        },
        "groups": dict(_groups(world, tenant)),
        "resources": dict(_resources(world, tenant)),
        "assignments": list(_assignments(world, tenant)),
    }


def _groups(world: World, tenant: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(GROUPS):
        name = f"g{tenant}_{number}"
        members = [f"user:u{user}" for user in world.users_of(tenant) if world.group_of(user) == name]
        outer = [f"g{tenant}_{(number - 1) // 2}"] if number else []
        yield name, {"tenant": f"t{tenant}", "members": members, "in": outer}


def _resources(world: World, tenant: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for thing in world.things(tenant):
        parent = f"{thing.parent[0]}:{thing.parent[1]}" if thing.parent else f"organization:t{tenant}"
        yield f"{thing.kind}:{thing.id}", {"parent": parent, "attributes": thing.attributes}


def _assignments(world: World, tenant: int) -> Iterator[dict[str, str]]:
    for user in world.users_of(tenant):
        for role, kind, place in world.grants(user):
            yield {"subject": f"user:u{user}", "role": role.partition(".")[2], "on": f"{kind}:{place}"}
    for group, place in world.group_grants(tenant):
        yield {"subject": f"group:{group}", "role": "viewer", "on": f"project:{place}"}
