"""What there is to say: the types of one made-up policy, and the small pools that names and values come from.

What is compared is then often equal, and what is looked up is often there, gone, or in the other tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.reference.parts import Declaration, Part


@dataclass(frozen=True, slots=True)
class Field:
    """An attribute as it is declared."""

    name: str
    type: str
    optional: bool = False
    sent: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.type}{'?' if self.optional else ''}{' sent' if self.sent else ''}"


@dataclass(slots=True)
class Kind:
    """A type: `parents`, and what of them is always above it, or may be."""

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    external: bool = False
    actions: dict[str, bool] = field(default_factory=dict)  # and whether it may be asked of what is new
    action_fields: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)
    above: frozenset[str] = frozenset()
    always: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()


@dataclass(slots=True)
class RoleInfo:
    type: str
    name: str
    crossing: bool = False
    claimable: bool = False

    @property
    def full(self) -> str:
        return f"{self.type}.{self.name}"


@dataclass(slots=True)
class World:
    """What one policy declares."""

    tenant: str | None
    kinds: dict[str, Kind]
    context: dict[str, Field]
    roles: list[RoleInfo]
    custom: dict[str, tuple[str, ...]]
    defines: list[tuple[str, Scope]] = field(default_factory=list)

    @property
    def top(self) -> str:
        return self.tenant or "tenant"

    def inside(self, kind: str) -> list[str]:
        """The types whose things may lie in one of that type, itself too."""
        if kind == "system":
            return list(self.kinds)
        return [name for name, info in self.kinds.items() if name == kind or kind in info.above]

    def resources(self) -> list[str]:
        return [name for name, info in self.kinds.items() if info.kind == "resource"]

    def kept(self) -> list[str]:
        return [name for name in self.resources() if not self.kinds[name].external]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a condition stands: the types that it is asked of, who asks, and whether absence must be guarded there."""

    types: tuple[str, ...]
    actions: tuple[tuple[str, str], ...]
    askers: tuple[str, ...]
    guarded: bool
    one_asker_is_enough: bool


@dataclass(frozen=True, slots=True)
class Path:
    """Something that can be read, and what must be asked of it before."""

    text: str
    type: str
    guards: tuple[str, ...] = ()

    @property
    def is_literal(self) -> bool:
        return self.text.startswith('"')


TENANTS = ("acme", "beta", "gone")
USERS = ("u0", "u1", "u2", "u3", "u4", "u5")
SERVICES = ("s0", "s1")
IDS = ("r0", "r1", "r2", "r3")
DEPTHS = range(
    1, 32
)  # where things nest in themselves, `deep1` to `deep31` do: as many as a chain has links, and one more
TENANT_GROUPS = {"ga": "acme", "gb": "acme", "gc": "beta"}
PLATFORM_GROUPS = ("pa", "pb", "pc")
INTS = (-1, 0, 1, 2, 3, 5, 2**63 - 1, -(2**63))
STRINGS = ("a", "b", "ab", "Ab", "r0", "u0", "red", "10.0.0.0/8", "no network", "+02:00", "no/zone")
WORDS = ("a", "b", "red")
EDGES = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T12:00:00Z", "2026-06-30T22:00:00Z")
TIMES = (*EDGES, "2026-02-01T01:00:00+01:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
DURATIONS = ("0s", "1h", "30d", "31d", "60m", "3650000d")
ADDRESSES = ("10.0.0.1", "::ffff:10.0.0.1", "10.1.2.3", "2001:db8::1", "192.168.0.9")
NETWORKS = ("10.0.0.0/8", "10.0.0.1", "::ffff:10.0.0.0/104", "2001:db8::/32", "10.1.2.3/16", "0.0.0.0/0")
LIKES = ("*", "a*", "*b", "*a*", "r*0", "ab", "", "**")
ZONES = ("UTC", "Europe/Berlin", "+02:00", "-11:30", "Asia/Kathmandu")
CUSTOM_ROLES = ("c0", "c1", "c2")
ENUMERATION = '"a" | "b"'
#: Values that a policy writes as strings.
QUOTED = {"string": STRINGS, "time": TIMES, "ip": ADDRESSES}


def maybe(rng: Random, chance: float) -> bool:
    return rng.random() < chance


def some(rng: Random, pool: Sequence[Any], most: int, least: int = 0) -> list[Any]:
    return rng.sample(list(pool), min(len(pool), rng.randint(least, most)))


def value_for(rng: Random, world: World, kind: str, tenant: str) -> Any:
    """A value of a type, as JSON has it; references name what is there, what is not, and what is elsewhere."""
    if kind.startswith("set<"):
        return [value_for(rng, world, kind[4:-1], tenant) for _ in range(rng.randint(0, 3))]
    if kind == ENUMERATION:
        return rng.choice(("a", "b", "a", "b", "red")) if maybe(rng, 0.2) else rng.choice(("a", "b"))
    match kind:
        case "int":
            return rng.choice(INTS)
        case "string":
            return rng.choice(STRINGS)
        case "bool":
            return maybe(rng, 0.5)
        case "time":
            return rng.choice(TIMES)
        case "duration":
            return rng.choice(DURATIONS)
        case "ip":
            return rng.choice(ADDRESSES)
        case "user":
            return f"{rng.choice(('user', 'user', *world.kinds['user'].aliases))}:{rng.choice(USERS)}"
        case "service":
            return f"service:{rng.choice(SERVICES)}"
        case "group":
            return f"group:{rng.choice((*TENANT_GROUPS, *PLATFORM_GROUPS, 'nowhere'))}"
        case _ if kind == world.top:
            return f"{kind}:{rng.choice((tenant or 'tenant', tenant or 'tenant', 'beta'))}"
        case _:
            return f"{kind}:{rng.choice((*IDS, 'x0'))}"


def make_world(rng: Random) -> World:
    tenant = "org" if maybe(rng, 0.85) else None
    top = tenant or "tenant"
    kinds: dict[str, Kind] = {top: Kind(top, "tenant")}
    names = some(rng, ("area", "file", "note", "box.page", "box.leaf", "item"), 4, 1)
    for name in names:
        kept = [kind.name for kind in kinds.values() if not kind.external]
        parents = some(rng, kept, 2, 1)
        external = maybe(rng, 0.15)
        if not external and maybe(rng, 0.4):
            parents.append(name)
        kinds[name] = Kind(name, "resource", tuple(parents), external)
    kinds["user"] = Kind("user", "principal", (top,), aliases=("person",) if maybe(rng, 0.3) else ())
    kinds["service"] = Kind("service", "principal", (top,))
    kinds["group"] = Kind("group", "principal", (top,))
    kinds["system"] = Kind("system", "system")
    for kind in kinds.values():
        place(kind, kinds)
    pool = field_pool(rng, top, names)
    for kind in kinds.values():
        declare(rng, kind, pool)
    context = {
        f.name: f
        for f in (replace(f, sent=False, optional=maybe(rng, 0.5)) for f in some(rng, context_pool(rng, names), 6))
    }
    return World(tenant, kinds, context, [], {})


def place(kind: Kind, kinds: dict[str, Kind]) -> None:
    """Work out what is above a type: what may be, and what must."""
    others = [kinds[parent] for parent in kind.parents if parent != kind.name]
    kind.above = (
        frozenset(kind.parents).union(*(parent.above for parent in others)) if others else frozenset(kind.parents)
    )
    if others:
        kind.always = frozenset.intersection(*(parent.always | {parent.name} for parent in others))


def field_pool(rng: Random, top: str, names: list[str]) -> list[Field]:
    """The attributes that types of this policy share: one type for each name."""
    own = rng.choice(names)
    plain = "n: int, m: int, s: string, z: string, flag: bool, at: time, span: duration, host: ip"
    sets = "tags: set<string>, nums: set<int>, hosts: set<ip>, teams: set<group>, people: set<user>"
    references = f"owner: user, bot: service, team: group, up: {own}, home: {top}, peer: {rng.choice(names)}"
    return fields_in(f"{plain}, {sets}, {references}, ups: set<{own}>, state: {ENUMERATION}")


def context_pool(rng: Random, names: list[str]) -> list[Field]:
    """What conditions may read of the request."""
    plain = "mfa: bool, ip: ip, count: int, when: time, wait: duration, zone: string, words: set<string>"
    return fields_in(f"{plain}, target: user, thing: {rng.choice(names)}, crew: set<group>, mood: {ENUMERATION}")


def fields_in(text: str) -> list[Field]:
    """Read `name: type, …`."""
    pairs = (entry.split(": ") for entry in text.split(", "))
    return [Field(name, kind) for name, kind in pairs]


def declare(rng: Random, kind: Kind, pool: list[Field]) -> None:
    """Give a type its actions and attributes."""
    if kind.kind == "principal":
        if maybe(rng, 0.3 if kind.name == "group" else 0.8):
            kind.fields = fields_of(rng, kind, pool, 5)
        if maybe(rng, 0.3):
            kind.actions = dict.fromkeys(some(rng, ("greet", "read", "edit"), 2, 1), False)
        return
    if kind.kind == "tenant" and kind.name == "tenant":
        return  # the implicit one
    if kind.kind == "system":
        kind.actions = dict.fromkeys(some(rng, ("boot", "read"), 2), False)
        return
    kind.actions = dict.fromkeys(some(rng, ("read", "edit", "drop", "list"), 3, 1), False)
    kind.fields = fields_of(rng, kind, pool, 7)
    if kind.kind == "resource" and maybe(rng, 0.6):
        kind.actions |= dict.fromkeys(some(rng, ("make", "read", "put"), 2, 1), True)
    for action in kind.actions:
        if maybe(rng, 0.25):
            kind.action_fields[action] = (
                Field("soft", "bool", maybe(rng, 0.5)),
                Field("level", "int", maybe(rng, 0.5)),
            )


def fields_of(rng: Random, kind: Kind, pool: list[Field], most: int) -> dict[str, Field]:
    may_be_sent = kind.kind != "tenant" and kind.name != "group"
    chosen = some(rng, pool, most)
    return {f.name: replace(f, optional=maybe(rng, 0.4), sent=may_be_sent and maybe(rng, 0.3)) for f in chosen}


def type_parts(rng: Random, world: World) -> Iterable[Part]:
    for kind in world.kinds.values():
        marks = " external" if kind.external else ""
        if kind.kind == "tenant" and world.tenant is None:
            continue
        if kind.kind == "principal" and not (kind.fields or kind.actions or kind.aliases):
            continue
        if kind.kind == "system" and not kind.actions:
            continue
        if kind.kind == "resource":
            parents = [("tenant" if parent == world.top and maybe(rng, 0.2) else parent) for parent in kind.parents]
            omitted = kind.parents == (world.top,) and maybe(rng, 0.3)
            head = f"resource {kind.name}" + ("" if omitted else f" in {' | '.join(parents)}") + marks
        else:
            head = {"tenant": f"tenant {kind.name}", "principal": f"principal {kind.name}", "system": "system"}[
                kind.kind
            ]
        if kind.aliases:
            head += f" as {', '.join(kind.aliases)}"
        actions = []
        for action, is_new in kind.actions.items():
            braces = kind.action_fields.get(action)
            actions.append(
                action + (" new" if is_new else "") + (f" {{ {', '.join(map(str, braces))} }}" if braces else "")
            )
        yield Declaration(head, (("actions", tuple(actions)), ("attributes", tuple(map(str, kind.fields.values())))))
    if world.context:
        yield Declaration("context", (("", tuple(map(str, world.context.values()))),))
