"""Makes up questions, at the instants at which something begins or ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from tests.reference.parts import Asked, Document
from tests.reference.world import (
    DEPTHS,
    EDGES,
    ENUMERATION,
    IDS,
    INTS,
    PLATFORM_GROUPS,
    SERVICES,
    TENANT_GROUPS,
    TENANTS,
    USERS,
    Kind,
    World,
    maybe,
    some,
    value_for,
)


def instants() -> list[datetime]:
    """The instants at which something begins or ends, and those just before."""
    found = []
    for edge in EDGES:
        moment = datetime.fromisoformat(edge.replace("Z", "+00:00"))
        found += [moment - timedelta(microseconds=1), moment]
    return [*found, datetime(2026, 1, 15, 9, 30, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC)]


INSTANTS = tuple(instants())


class Asker:
    """Makes questions for a policy and its facts."""

    def __init__(self, rng: Random, world: World, facts: Document) -> None:
        self.rng, self.world, self.facts = rng, world, facts
        self.targets = [(name, action) for name, kind in world.kinds.items() for action in kind.actions]

    def make(self) -> Asked:
        rng, world = self.rng, self.world
        tenant = rng.choice(("acme",) * 12 + ("beta",) * 6 + ("gone",)) if world.tenant else None
        kind_name, action = rng.choice(self.targets)
        subject, identity = self.subject(), None
        if maybe(rng, 0.4):
            subject, tenant, kind_name, action, identity = self.holder(subject, tenant, kind_name, action)
        kind = world.kinds[kind_name]
        asked: Asked = {"tenant": tenant, "subject": subject, "now": rng.choice(INSTANTS)}
        asked["action"] = (
            action
            if maybe(rng, 0.8)
            else rng.choice((f"{kind_name}.{action}", f"{kind_name}:{action}".replace(".", ":")))
        )
        usual, properties = self.resource(kind, action, tenant or "")
        asked["resource"] = f"{rng.choice((kind_name, kind_name, *kind.aliases))}:{identity or usual}"
        subject_properties = self.sent(world.kinds.get(subject.partition(":")[0], kind), 0.25, tenant or "")
        if maybe(rng, 0.25):
            claimed = [role for role in world.roles if role.claimable or maybe(rng, 0.1)]
            subject_properties["roles"] = [rng.choice((role.name, role.full)) for role in some(rng, claimed, 2)]
        if world.context and maybe(rng, 0.75):
            asked["context"] = {
                f.name: rng.choice("ab") if f.type == ENUMERATION else value_for(rng, world, f.type, tenant or "")
                for f in world.context.values()
                if maybe(rng, 0.7)
            }
        if kind.action_fields.get(action) and maybe(rng, 0.6):
            asked["action_properties"] = {"soft": maybe(rng, 0.5), "level": rng.choice(INTS)}
        self.name_tenant(asked, subject_properties, properties)
        if maybe(rng, 0.02):
            self.spoil(asked, kind)
        if subject_properties:
            asked["subject_properties"] = subject_properties
        if properties:
            asked["resource_properties"] = properties
        return {name: value for name, value in asked.items() if value is not None}

    def holder(
        self, subject: str, tenant: str | None, kind: str, action: str
    ) -> tuple[str, str | None, str, str, str | None]:
        """Ask for somebody who holds something, on what it is held on or inside."""
        rng, world = self.rng, self.world
        held = [*self.facts["assignments"], *self.facts.get("links", ()), *self.facts.get("links", ())]
        if not held:
            return subject, tenant, kind, action, None
        entry = rng.choice(held)
        home, slash, place = entry["on"].rpartition("/")
        on, _, identity = place.partition(":")
        if slash or on == world.tenant:
            tenant = home or identity
        if entry["subject"].partition(":")[0] in ("user", "service"):
            subject = entry["subject"]
        inside = [
            target for target in self.targets if target[0] in world.inside(on if on in world.kinds else world.top)
        ]
        if inside:
            kind, action = (
                rng.choice([target for target in inside if target[0] == on] or inside)
                if maybe(rng, 0.5)
                else rng.choice(inside)
            )
        return subject, tenant, kind, action, identity if kind == on and world.kinds[kind].kind == "resource" else None

    def subject(self) -> str:
        rng = self.rng
        if maybe(rng, 0.08):
            return rng.choice(("anonymous", "anonymous:anonymous"))
        stored = [f"user:{name}" for name in self.facts["users"]] + [
            f"service:{name}" for name in self.facts["services"]
        ]
        if maybe(rng, 0.12):
            return rng.choice(
                ("user:u5", "user:zed", "service:s9", *(f"{alias}:u0" for alias in self.world.kinds["user"].aliases))
            )
        return rng.choice(stored)

    def resource(self, kind: Kind, action: str, tenant: str) -> tuple[str, Document]:
        """The id of what is asked of, and what is sent of it."""
        rng = self.rng
        if kind.kind == "system":
            return "system", {}
        if kind.kind == "tenant":
            return (tenant or "tenant" if maybe(rng, 0.95) else "beta"), self.sent(kind, 0.1, tenant)
        if kind.kind == "principal":
            groups = (*TENANT_GROUPS, *PLATFORM_GROUPS)
            return rng.choice({"user": USERS, "service": SERVICES}.get(kind.name, groups)), self.sent(kind, 0.2, tenant)
        is_new = kind.actions[action]
        comes_alone = is_new or kind.external
        identity = rng.choice(("x0", "x1", "x1", *IDS)) if comes_alone else self.row_of(kind.name)
        properties = self.sent(kind, 0.8 if comes_alone else 0.3, tenant)
        if is_new and maybe(rng, 0.35):
            properties["new"] = rng.choice((True, True, False))
        elif maybe(rng, 0.03):
            properties["new"] = True
        if maybe(rng, 0.85 if comes_alone else 0.1):
            properties["parent"] = self.parent_for(kind, tenant)
        return identity, properties

    def row_of(self, kind: str) -> str:
        """The id of something that is most likely there; where things nest deep, the deepest that may be, and more."""
        deepest = [f"deep{depth}" for depth in DEPTHS][-4:]
        is_deep = any(key.endswith(f"{kind}:{deepest[-1]}") for key in self.facts["resources"])
        pool = [*IDS, *IDS, "x0", *(deepest if is_deep else ())]
        chosen: str = self.rng.choice(pool)
        return chosen

    def parent_for(self, kind: Kind, tenant: str) -> str:
        rng = self.rng
        parent = rng.choice(kind.parents) if maybe(rng, 0.95) else rng.choice(list(self.world.kinds))
        if parent == self.world.top:
            return f"{rng.choice((parent,) * 9 + ('tenant',))}:{tenant or 'tenant'}"
        return f"{parent}:{self.row_of(parent)}"

    def sent(self, kind: Kind, chance: float, tenant: str) -> Document:
        rng = self.rng
        found: Document = {}
        for f in kind.fields.values():
            if maybe(rng, chance):
                value = value_for(rng, self.world, f.type, tenant)
                found[f.name] = value if value != "red" or f.type != ENUMERATION else None
        return found

    def name_tenant(self, asked: Asked, subject_properties: Document, properties: Document) -> None:
        """Let others than the request itself name the tenant, too or instead, and not always the same."""
        rng, tenant = self.rng, asked["tenant"]
        if tenant is None or maybe(rng, 0.8):
            return
        other = tenant if maybe(rng, 0.6) else rng.choice(TENANTS)
        where = rng.randrange(4)
        if where == 0:
            subject_properties["tenant"] = other
        elif where == 1:
            properties["tenant"] = other
        else:
            asked["token_tenant"] = other
        if maybe(rng, 0.25):
            asked["tenant"] = None

    def spoil(self, asked: Asked, kind: Kind) -> None:
        """Make a malformed question: one fault alone, since which of two is named is nobody's promise."""
        rng = self.rng
        fault = rng.randrange(6)
        if fault == 0:
            asked["resource"] = rng.choice((f"{kind.name}:", "thing:r0", "r0"))
        elif fault == 1:
            asked["action"] = rng.choice(("fly", "read.x", "org.fly", f"{kind.name}.fly"))
        elif fault == 2:
            asked["subject"] = rng.choice(("user:", "robot:r", "group:pa", "ann"))
        elif fault == 3 and self.world.context:
            asked["context"] = {rng.choice(list(self.world.context)): rng.choice(({}, 1.5))}
        elif fault == 4 and self.world.tenant:
            asked["tenant"] = rng.choice(("nowhere", None))


def make_questions(rng: Random, world: World, facts: Document, count: int) -> tuple[Asked, ...]:
    """Make up so many questions, if there is anything to ask of."""
    asker = Asker(rng, world, facts)
    return tuple(asker.make() for _ in range(count)) if asker.targets else ()
