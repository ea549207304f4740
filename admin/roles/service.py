"""What the policy says of its roles, for consoles that offer a choice. Nothing here commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from admin.repository import Found
from admin.roles.wire import CustomName, Place, Role, Roles
from engine import Policy
from engine.assign_rules import CUSTOM
from engine.model import SYSTEM, Model
from engine.model import Role as Declared


def roles_of(policy: Policy, custom: Iterable[Found]) -> Roles:
    """List the roles that may be held in a tenant; `custom` are its own. Those of the system are none of a tenant's."""
    model = policy.model
    own: dict[str, list[CustomName]] = defaultdict(list)
    for row in custom:
        own[row.place_type].append(CustomName(name=f"{CUSTOM}.{row.name}"))
    declared: dict[str, list[Role]] = defaultdict(list)
    for name in sorted(model.roles):
        declared[model.roles[name].type].append(_shown(model, model.roles[name]))
    types = sorted({*own, *declared} - {SYSTEM})
    places = [Place(type=each, roles=declared[each], custom=own[each]) for each in types]
    return Roles(policy=policy.digest, types=places, custom_assigns=_assigns(model, CUSTOM))


def _shown(model: Model, role: Declared) -> Role:
    always = {action for can, _ in role.gives if can.conditions is None for action in can.actions}
    at_times = {action for can, _ in role.gives for action in can.actions} - always
    return Role(
        name=role.name,
        crossing=role.crossing,
        claimable=role.claimable,
        can=sorted(always),
        conditional=sorted(at_times),
        at=role.span.at,
        assigns=_assigns(model, role.name),
    )


def _assigns(model: Model, what: str) -> list[str]:
    return [each.span.at for each in model.assigns if what in each.what]
