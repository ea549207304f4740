"""The scenario written for Bylaw: policy text, and a facts file as `contracts.md` has it.

Each rule of the scenario is one declaration: a role on the tenant, an `allow` with a condition, or a `deny` with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.scenario import ACTIONS, KINDS, Rule, World

ATTRIBUTES = "attributes { owner: user, archived: bool }"


def policy_text(rules: Iterable[Rule]) -> str:
    """Write the policy: the tenant `org`, a resource type for every kind spoken of, and one declaration a rule."""
    listed = list(rules)
    kinds = dict.fromkeys((*KINDS, *(kind for rule in listed for kind in rule.kinds)))
    types = (f"resource {kind} in org {{ actions {', '.join(ACTIONS)} {ATTRIBUTES} }}" for kind in kinds)
    return "\n".join(("tenant org {}", *types, *map(_declaration, listed), ""))


def _declaration(rule: Rule) -> str:
    codes = ", ".join(rule.codes)
    if rule.meaning == "role":
        return f"role {rule.name} on org {{ can {codes} }}"
    if rule.meaning == "owner":
        return f"allow {rule.name}: anyone to {codes} when resource.owner == principal"
    return f"deny {rule.name}: anyone to {codes} when resource.archived"


def facts_text(world: World) -> str:
    """Write the facts file: tenants, users with their memberships, resources, and the roles held on the tenants."""
    return "\n".join((*_tenants(world), *_users(world), *_things(world), *_assignments(world), ""))


def _tenants(world: World) -> Iterator[str]:
    yield "tenants:"
    yield from (f"  t{number}: {{ status: active }}" for number in range(world.tenants))


def _users(world: World) -> Iterator[str]:
    yield "users:"
    yield from (f"  {user.id}: {{ members: {{ {user.tenant}: active }} }}" for user in world.users)


def _things(world: World) -> Iterator[str]:
    yield "resources:"
    for thing in world.things:
        attributes = f"owner: user:{thing.owner}, archived: {str(thing.archived).lower()}"
        yield f"  {thing.key}: {{ parent: org:{thing.tenant}, attributes: {{ {attributes} }} }}"


def _assignments(world: World) -> Iterator[str]:
    yield "assignments:"
    for user in world.users:
        for role in user.roles:
            yield f"  - {{ subject: user:{user.id}, role: {role}, on: org:{user.tenant} }}"


def write(world: World, folder: Path) -> tuple[Path, Path]:
    """Write both below `folder`; return the policy's directory and the facts file."""
    policies, facts = folder / "policies", folder / "facts.yaml"
    policies.mkdir()
    (policies / "bench.bylaw").write_text(policy_text(world.rules), encoding="utf-8")
    facts.write_text(facts_text(world), encoding="utf-8")
    return policies, facts
