"""Makes up facts for a policy, with much that is gone, over, or elsewhere."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.reference.parts import Document
from tests.reference.world import (
    CUSTOM_ROLES,
    DEPTHS,
    EDGES,
    IDS,
    PLATFORM_GROUPS,
    SERVICES,
    TENANT_GROUPS,
    TENANTS,
    USERS,
    World,
    maybe,
    some,
    value_for,
)


class FactsMaker:
    """Makes a document for a policy, as a facts file would hold it."""

    def __init__(self, rng: Random, world: World) -> None:
        self.rng, self.world = rng, world
        self.tenants = TENANTS if world.tenant else ()
        self.groups = [*TENANT_GROUPS, *PLATFORM_GROUPS] if world.tenant else list(PLATFORM_GROUPS)
        self.users = some(rng, USERS[:-1], 5, 3)  # the last is never stored
        self.services = some(rng, SERVICES, 2)

    def make(self) -> Document:
        rng = self.rng
        document: Document = {
            "users": {name: self.principal("user") for name in self.users},
            "services": {name: self.principal("service") for name in self.services},
            "groups": {name: self.group(name) for name in self.groups},
            "resources": self.resources(),
            "assignments": [made for made in (self.assignment() for _ in range(rng.randint(4, 24))) if made],
            "custom_roles": self.custom_roles(),
        }
        if self.tenants:
            document["tenants"] = {name: self.tenant(name) for name in self.tenants}
            document["links"] = [made for made in (self.link() for _ in range(rng.randint(0, 10))) if made]
        return document

    def status(self, chance: float, *others: str) -> Document:
        return {"status": self.rng.choice(others)} if maybe(self.rng, chance) else {}

    def times(self, chance: float = 0.25) -> Document:
        rng = self.rng
        times = {}
        if maybe(rng, chance):
            times["starts"] = rng.choice(EDGES)
        if maybe(rng, chance):
            times["expires"] = rng.choice(EDGES)
        return times

    def tenant(self, name: str) -> Document:
        status = (
            {"status": self.rng.choice(("suspended", "deleted", "active"))}
            if name == "gone"
            else self.status(0.04, "suspended", "deleted")
        )
        return {**status, "attributes": self.attributes(self.world.top, name)}

    def principal(self, kind: str) -> Document:
        rng = self.rng
        members: Document = {}
        for tenant in self.tenants:
            if maybe(rng, {"acme": 0.85, "beta": 0.55, "gone": 0.2}[tenant]):
                status = rng.choice(("active", "active", "active", "active", "guest", "suspended"))
                times = self.times(0.15)
                members[tenant] = {"status": status, **times} if times else status
        home = self.rng.choice(self.tenants) if self.tenants else ""
        found: Document = {**self.status(0.06, "suspended", "deleted"), "attributes": self.attributes(kind, home)}
        return {**found, "members": members} if self.tenants else found

    def group(self, name: str) -> Document:
        rng = self.rng
        own = TENANT_GROUPS.get(name)
        outer = [other for other in self.groups[: self.groups.index(name)] if TENANT_GROUPS.get(other) == own]
        people = [f"user:{user}" for user in (USERS if own else self.users)] + [
            f"service:{service}" for service in self.services
        ]
        members: list[Any] = []
        for subject in some(rng, people, 4):
            times = self.times(0.15)
            members.append({"subject": subject, **times} if times else subject)
        found: Document = {
            "members": members,
            "in": some(rng, outer, 2),
            "attributes": self.attributes("group", own or "acme"),
        }
        return {**found, "tenant": own} if own else found

    def key(self, tenant: str, reference: str) -> str:
        return f"{tenant}/{reference}" if tenant else reference

    def resources(self) -> Document:
        found: Document = {}
        for tenant in [name for name in self.tenants if name != "gone"] or [""]:
            for kind in self.world.kept():
                for identity in some(self.rng, IDS, 4, 2):
                    found[self.key(tenant, f"{kind}:{identity}")] = self.resource(kind, tenant, identity)
                if kind in self.world.kinds[kind].parents and maybe(self.rng, 0.15):
                    found |= self.deep(kind, tenant)
        return found

    def deep(self, kind: str, tenant: str) -> Document:
        """A chain of things in one another, as long as a chain may be, and one more."""
        found: Document = {}
        for depth in DEPTHS:
            row = self.resource(kind, tenant, f"deep{depth}")
            row = {**row, "parent": f"{kind}:deep{depth - 1}"} if depth > 1 else row
            found[self.key(tenant, f"{kind}:deep{depth}")] = {name: row[name] for name in row if name != "status"}
        return found

    def resource(self, kind: str, tenant: str, own: str) -> Document:
        rng = self.rng
        row: Document = {**self.status(0.05, "deleted"), "attributes": self.attributes(kind, tenant, own)}
        if not maybe(rng, 0.06):
            parent = rng.choice(self.world.kinds[kind].parents)
            identity = (tenant if maybe(rng, 0.95) else "beta") if parent == self.world.top else rng.choice(IDS)
            row["parent"] = f"{parent}:{identity or 'tenant'}"
        return row

    def attributes(self, kind: str, tenant: str, own: str = "") -> Document:
        rng = self.rng
        found: Document = {}
        for f in self.world.kinds[kind].fields.values():
            if maybe(rng, 0.12 if not f.optional else 0.35):
                continue
            value = (
                value_for(rng, self.world, f.type, tenant)
                if maybe(rng, 0.96)
                else rng.choice((None, [], {"x": 1}, 1.5, "?"))
            )
            found[f.name] = f"{kind}:{own}" if f.type == kind and maybe(rng, 0.3) else value
        return found

    def a_place(self, tenant: str) -> tuple[str, str]:
        """Something that a role may be held on, and its type: a row, a missing one, what the application keeps."""
        rng = self.rng
        kind = rng.choice(
            [self.world.top, self.world.top, *self.world.resources(), *self.world.resources(), "user", "system"]
        )
        if kind == "system":
            return "system", kind
        if kind == self.world.top:
            return (f"{kind}:{tenant}" if tenant else "tenant"), kind
        identity = rng.choice(self.users) if kind == "user" else rng.choice((*IDS, "x0"))
        return self.key(tenant, f"{kind}:{identity}"), kind

    def a_role(self, kind: str) -> str:
        rng = self.rng
        fitting = [role for role in self.world.roles if role.type == kind]
        if maybe(rng, 0.2):
            return "custom." + rng.choice(CUSTOM_ROLES)
        if fitting and maybe(rng, 0.9):
            role = rng.choice(fitting)
            return role.name if maybe(rng, 0.7) else role.full
        return rng.choice([role.full for role in self.world.roles] + ["nothing"])

    def assignment(self) -> Document | None:
        rng = self.rng
        tenant = rng.choice((*self.tenants, "acme")) if self.tenants else ""
        on, kind = self.a_place(tenant)
        groups = [name for name in self.groups if TENANT_GROUPS.get(name) in (None, tenant)]
        subjects = [f"user:{name}" for name in self.users] + [f"service:{name}" for name in self.services]
        if kind != "system":
            subjects = [
                *subjects,
                *subjects,
                *(f"group:{name}" for name in groups),
                "anyone",
                "user:u5" if not maybe(rng, 0.8) else "anyone",
            ]
        return {"subject": rng.choice(subjects), "role": self.a_role(kind), "on": on, **self.times(0.12)}

    def link(self) -> Document | None:
        rng = self.rng
        tenant = rng.choice(("acme", "acme", "beta", "gone"))
        home = rng.choice(("beta", "beta", "acme", "gone"))
        crossing = [role for role in self.world.roles if role.crossing]
        on, kind = self.a_place(tenant)
        if kind == "system":
            return None
        if crossing and maybe(rng, 0.75):
            role = rng.choice(crossing)
            kind = role.type
            on = f"{kind}:{tenant}" if kind == self.world.top else self.key(tenant, f"{kind}:{rng.choice(IDS)}")
            name = role.name
        else:
            name = self.a_role(kind)
        subject = rng.choice(
            [f"user:{user}" for user in self.users] + [f"service:{service}" for service in self.services]
        )
        return {"subject": subject, "home": home, "role": name, "on": on, **self.times(0.12)}

    def custom_roles(self) -> list[Document]:
        rng = self.rng
        found = []
        for tenant in [name for name in self.tenants if name != "gone"] or [""]:
            for name in CUSTOM_ROLES:
                if maybe(rng, 0.6):
                    on = rng.choice([*self.world.custom, *self.world.custom, self.world.top])
                    entry: Document = {
                        "name": name,
                        "on": on,
                        "can": [self.custom_pattern(on) for _ in range(rng.randint(1, 3))],
                    }
                    found.append({**entry, "tenant": tenant} if tenant else entry)
        return found

    def custom_pattern(self, on: str) -> str:
        rng = self.rng
        kind = rng.choice(self.world.inside(on))
        action = rng.choice([*self.world.kinds[kind].actions, "read"])
        pattern = rng.choice((f"{kind}.{action}", f"{kind}.{action}", f"{kind}.*", f"*.{action}", "*", action, "box.*"))
        return pattern.replace(".", ":") if maybe(rng, 0.4) else pattern


def make_facts(rng: Random, world: World) -> Document:
    """Make up a document, as a facts file would hold it."""
    return FactsMaker(rng, world).make()
