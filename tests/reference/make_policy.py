"""Makes up policies: types, roles, rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from tests.reference.make_conditions import Conditions
from tests.reference.parts import Clause, Declaration, Define, Part, PolicyText, RoleText, RuleText
from tests.reference.world import PLATFORM_GROUPS, RoleInfo, Scope, World, make_world, maybe, some, type_parts


def patterns_for(
    rng: Random, world: World, types: Sequence[str], own: str | None = None
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Some patterns over these types, and the actions that they reach."""
    having = [name for name in types if world.kinds[name].actions]
    patterns: list[str] = []
    reached: set[tuple[str, str]] = set()
    for _ in range(rng.randint(1, 2)):
        if not having:
            break
        kind = rng.choice(having)
        action = rng.choice(list(world.kinds[kind].actions))
        shape = rng.random()
        if shape < 0.55:
            patterns.append(f"{kind}.{action}")
            reached.add((kind, action))
        elif own is not None and kind == own and shape < 0.7:
            patterns.append(action)
            reached.add((kind, action))
        elif shape < 0.8:
            patterns.append(f"{kind}.*")
            reached |= {(kind, other) for other in world.kinds[kind].actions}
        elif shape < 0.92:
            patterns.append(f"*.{action}")
            reached |= {(other, action) for other in having if action in world.kinds[other].actions}
        elif shape < 0.96 and kind.startswith("box."):
            patterns.append("box.*")
            reached |= {
                (other, each) for other in having if other.startswith("box.") for each in world.kinds[other].actions
            }
        else:
            patterns.append("*")
            reached |= {(other, each) for other in having for each in world.kinds[other].actions}
    return tuple(dict.fromkeys(patterns)), sorted(reached)


def clause_for(
    rng: Random,
    world: World,
    types: Sequence[str],
    *,
    askers: Sequence[str],
    effect: str,
    own: str | None = None,
    chance: float = 0.75,
) -> Clause | None:
    patterns, reached = patterns_for(rng, world, types, own)
    if not reached:
        return None
    scope = Scope(
        types=tuple(sorted({kind for kind, _ in reached})),
        actions=tuple(reached),
        askers=tuple(askers),
        guarded=effect != "deny",
        one_asker_is_enough=effect != "allow",
    )
    maker = Conditions(rng, world, scope)
    when = maker.condition() if maybe(rng, chance) else None
    unless = maker.condition() if maybe(rng, chance / 4) else None
    return Clause(patterns, when, unless)


def role_parts(rng: Random, world: World) -> list[RoleText]:
    places = [world.top, *world.resources(), *(name for name in ("user",) if world.kinds[name].actions), "system"]
    chosen = [rng.choice(places) for _ in range(rng.randint(2, 7))]
    for kind in chosen:
        own = [role.name for role in world.roles if role.type == kind]
        name = next(name for name in ("viewer", "editor", "boss", "aide", "lead", "head", "prime") if name not in own)
        role = RoleInfo(kind, name)
        role.crossing = kind not in ("system", "user") and world.tenant is not None and maybe(rng, 0.5)
        role.claimable = kind == world.top and maybe(rng, 0.5)
        world.roles.append(role)
    parts = []
    for index, role in enumerate(world.roles):
        inside = world.inside(role.type)
        earlier = [
            other
            for other in world.roles[:index]
            if other.type in inside and (role.type != "system" or other.type != "user")
        ]
        supers = [other.full for other in some(rng, earlier, 2)] if maybe(rng, 0.5) else []
        cans = [
            clause_for(rng, world, inside, askers=("user", "service"), effect="can", own=role.type, chance=0.5)
            for _ in range(rng.randint(0, 3))
        ]
        marks = (["crossing"] if role.crossing else []) + (["claimable"] if role.claimable else [])
        parts.append(
            RoleText(f"role {role.name} on {role.type}", tuple(supers), tuple(marks), tuple(can for can in cans if can))
        )
    return parts


WHO = ("anyone", "anyone", "public", "public", "user", "service", "role", "role", "group")


def rule_parts(rng: Random, world: World) -> Iterable[RuleText]:
    for index in range(rng.randint(2, 8)):
        effect = "deny" if maybe(rng, 0.4) else "allow"
        who: list[str] = []
        askers: set[str] = set()
        for _ in range(rng.choice((1, 1, 2))):
            choice = rng.choice(WHO)
            if choice == "role" and world.roles:
                who.append(rng.choice(world.roles).full)
            elif choice == "group":
                who.append(f'group "{rng.choice((*PLATFORM_GROUPS, "ga", "nowhere"))}"')
            else:
                who.append("anyone" if choice == "role" else choice)
            askers |= {who[-1]} if who[-1] in ("user", "service") else {"user", "service"}
        clause = clause_for(rng, world, list(world.kinds), askers=sorted(askers), effect=effect)
        if clause is not None:
            obligations = (
                [f'{name}: "x{index}"' for name in some(rng, ("note", "step_up"), 2)] if maybe(rng, 0.3) else []
            )
            yield RuleText(
                effect, f"{rng.choice('abcxyz')}{index}", tuple(dict.fromkeys(who)), clause, tuple(obligations)
            )


def make_policy(rng: Random) -> tuple[World, PolicyText]:
    """Make up a policy. Most are well typed; the checker refuses the rest."""
    world = make_world(rng)
    parts: list[Part] = list(type_parts(rng, world))
    for index in range(rng.randint(0, 2)):
        scope = Scope(tuple(some(rng, world.resources(), 2, 1)), (), ("user", "service"), True, False)
        cond = Conditions(rng, world, scope).condition()
        if cond is not None:
            parts.append(Define(f"d{index}", cond))
            world.defines.append((f"d{index}", scope))
    parts += role_parts(rng, world)
    for kind in some(rng, [world.top, *world.resources()], 2):
        patterns, _ = patterns_for(rng, world, world.inside(kind), kind)
        if patterns:
            world.custom[kind] = patterns
            parts.append(Declaration(f"custom on {kind}", (("can", patterns),)))
    parts += rule_parts(rng, world)
    return world, PolicyText(tuple(parts))
