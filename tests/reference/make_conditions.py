"""Makes conditions that are mostly well typed, for where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.reference.parts import Cond, conjunction
from tests.reference.world import (
    DURATIONS,
    ENUMERATION,
    INTS,
    LIKES,
    NETWORKS,
    QUOTED,
    WORDS,
    ZONES,
    Field,
    Path,
    Scope,
    World,
    some,
)


def truth(text: str, guards: tuple[str, ...]) -> Path:
    return Path(text, "bool", guards)


class Conditions:
    """Makes conditions for one scope."""

    def __init__(self, rng: Random, world: World, scope: Scope) -> None:
        self.rng, self.world, self.scope = rng, world, scope
        self.paths = self.readable()
        self.by_type: dict[str, list[Path]] = {}
        for path in self.paths:
            self.by_type.setdefault(path.type, []).append(path)

    def fields(self, types: Iterable[str]) -> list[tuple[Field, bool]]:
        """The attributes that all of these types have, and whether one of them may lack it."""
        infos = [self.world.kinds[name] for name in types]
        found: dict[str, list[Field]] = {}
        for info in infos:
            for f in info.fields.values():
                found.setdefault(f.name, []).append(f)
        return [
            (fs[0], any(f.optional for f in fs))
            for fs in found.values()
            if len({f.type for f in fs}) == 1 and len(fs) == len(infos)
        ]

    def of_entity(self, text: str, types: Iterable[str], guards: tuple[str, ...]) -> Iterable[Path]:
        for f, optional in self.fields(types):
            yield Path(f"{text}.{f.name}", f.type, (*guards, f"{text} has {f.name}") if optional else guards)

    def readable(self) -> list[Path]:
        scope, kinds = self.scope, self.world.kinds
        found: list[Path] = []
        declared = [name for name in scope.askers if kinds[name].fields or kinds[name].actions or kinds[name].aliases]
        if scope.one_asker_is_enough and declared and self.rng.random() < 0.6:
            declared = [self.rng.choice(declared)]
        found += self.of_entity("principal", declared, ())
        found.append(Path("principal.id", "string"))
        if "system" not in scope.types:
            found += self.of_entity("resource", scope.types, ())
            found.append(Path("resource.id", "string"))
            found += self.of_entity("tenant", [self.world.top], ())
            if all(kinds[name].kind == "resource" for name in scope.types):
                parents = {parent for name in scope.types for parent in kinds[name].parents}
                found += self.of_entity("resource.parent", parents, ())
            for other in self.world.resources():
                text = self.ancestor(other)
                if text:
                    found += self.of_entity(text, [other], self.guards_of(other))
        for f in self.world.context.values():
            found.append(Path(f"context.{f.name}", f.type, (f"context has {f.name}",) if f.optional else ()))
        own = [kinds[name].action_fields.get(action) for name, action in scope.actions]
        if own and all(own):
            for f in own[0] or ():
                optional = any(other.optional for fields in own for other in fields or () if other.name == f.name)
                found.append(Path(f"action.{f.name}", f.type, (f"action has {f.name}",) if optional else ()))
        for path in list(found):
            if path.type in kinds and path.text.count(".") < 3 and self.rng.random() < 0.6:
                found += self.of_entity(path.text, [path.type], path.guards)
                if self.rng.random() < 0.3:
                    found.append(Path(f"{path.text}.id", "string", path.guards))
        return found

    def ancestor(self, other: str) -> str | None:
        """How an ancestor of that type is written, if each of the types may have one."""
        may = all(name == other or other in self.world.kinds[name].above for name in self.scope.types)
        return (f"resource.{other}" if self.rng.random() < 0.7 else other) if may else None

    def guards_of(self, other: str) -> tuple[str, ...]:
        must = all(name == other or other in self.world.kinds[name].always for name in self.scope.types)
        return () if must else (f"resource has {other}",)

    def pick(self, kind: str) -> Path | None:
        paths = self.by_type.get(kind)
        return self.rng.choice(paths) if paths else None

    def value(self, kind: str, depth: int = 0) -> Path:
        """A term of a plain type."""
        rng = self.rng
        path = self.pick(kind)
        if path and rng.random() < 0.65:
            return path
        if depth < 2 and rng.random() < 0.35:
            made = self.made(kind, depth + 1)
            if made:
                return made
        literals: dict[str, list[str]] = {
            "int": [str(number) for number in INTS if number > -(2**63)],
            "bool": ["true", "false"],
            "duration": list(DURATIONS),
            **{quoted: [f'"{text}"' for text in texts] for quoted, texts in QUOTED.items()},
        }
        return Path(rng.choice(literals[kind]), kind)

    def made(self, kind: str, depth: int) -> Path | None:
        """A term that is worked out of others."""
        rng = self.rng
        if kind == "int" and rng.random() < 0.5:
            sets = [path for path in self.paths if path.type.startswith("set<")]
            if sets and rng.random() < 0.5:
                path = rng.choice(sets)
                return Path(f"size({path.text})", "int", path.guards)
            moment = self.value("time", depth)
            if moment.is_literal:
                return None
            name, zone = rng.choice(("hour", "weekday")), self.value("string", depth)
            if zone.is_literal or rng.random() < 0.7:
                zone = Path(f'"{rng.choice(ZONES)}"', "string")
            return Path(f"{name}({moment.text}, {zone.text})", "int", moment.guards + zone.guards)
        if kind in ("int", "duration"):
            first, second = self.value(kind, depth), self.value(kind, depth)
            if kind == "duration" and rng.random() < 0.4:
                earlier, later = self.value("time", depth), self.value("time", depth)
                if not earlier.is_literal and not later.is_literal:
                    return Path(f"({later.text} - {earlier.text})", "duration", later.guards + earlier.guards)
            return Path(f"({first.text} {rng.choice('+-')} {second.text})", kind, first.guards + second.guards)
        if kind == "time":
            if rng.random() < 0.4:
                return Path("now()", "time")
            moment, span = self.pick("time") or Path("now()", "time"), self.value("duration", depth)
            return Path(f"({moment.text} {rng.choice('+-')} {span.text})", "time", moment.guards + span.guards)
        if kind == "string":
            inner = self.value("string", depth)
            return Path(f"lower({inner.text})", "string", inner.guards)
        return None

    def comparison(self) -> Path | None:
        """A comparison with the guards that it needs; None where there is nothing to compare."""
        rng = self.rng
        several = (self.ordered, self.equal, self.references, self.holds) * 2
        once = (self.sets, self.elements, self.groups, self.network, self.like, self.boolean, self.has, self.listed)
        makers = (*several, *once, self.enumeration)
        return rng.choice(makers)()

    def ordered(self) -> Path | None:
        kind = self.rng.choice(("int", "int", "time", "duration"))
        left, right = self.value(kind), self.value(kind)
        if kind == "time" and left.is_literal and right.is_literal:
            return None
        return truth(f"{left.text} {self.rng.choice(('<', '<=', '>', '>='))} {right.text}", left.guards + right.guards)

    def equal(self) -> Path | None:
        kind = self.rng.choice(("int", "string", "bool", "time", "duration", "ip"))
        left, right = self.pick(kind), self.value(kind)
        if left is None:
            return None
        return truth(f"{left.text} {self.rng.choice(('==', '!='))} {right.text}", left.guards + right.guards)

    def enumeration(self) -> Path | None:
        path = self.pick(ENUMERATION)
        if path is None:
            return None
        test = self.rng.choice(('== "a"', '!= "b"', 'in ["a", "b"]', 'in ["b"]'))
        return truth(f"{path.text} {test}", path.guards)

    def reference(self) -> Path | None:
        """Something that names a principal or a resource."""
        kinds = self.world.kinds
        paths = [path for path in self.paths if path.type in kinds]
        if "system" not in self.scope.types:
            paths += [
                Path(text, other, self.guards_of(other))
                for other in self.world.resources()
                if (text := self.ancestor(other))
            ]
            paths.append(Path("tenant", self.world.top))
        if len(self.scope.types) == 1 and "system" not in self.scope.types:
            paths += [Path("resource", self.scope.types[0])] * 3
            parents = kinds[self.scope.types[0]].parents
            if len(parents) == 1 and parents[0] != "system":
                paths.append(Path("resource.parent", parents[0]))
        if "user" in self.scope.askers:
            paths += [Path("principal", "user")] * 4
        return self.rng.choice(paths) if paths else None

    def references(self) -> Path | None:
        left = self.reference()
        if left is None:
            return None
        same = [path for path in [self.reference() for _ in range(8)] if path and path.type == left.type]
        if not same:
            return None
        right = same[0]
        return truth(f"{left.text} {self.rng.choice(('==', '==', '!='))} {right.text}", left.guards + right.guards)

    def sets(self) -> Path | None:
        sets = [path for path in self.paths if path.type.startswith("set<")]
        if not sets:
            return None
        left = self.rng.choice(sets)
        right = self.rng.choice(self.by_type[left.type])
        if left.type == "set<string>" and self.rng.random() < 0.5:
            right = Path("[" + ", ".join(f'"{word}"' for word in some(self.rng, WORDS, 3)) + "]", left.type)
        operator = self.rng.choice(("==", "!=", "overlaps", "within", "overlaps"))
        return truth(f"{left.text} {operator} {right.text}", left.guards + right.guards)

    def elements(self) -> Path | None:
        sets = [path for path in self.paths if path.type.startswith("set<") and path.type != "set<group>"]
        if not sets:
            return None
        whole = self.rng.choice(sets)
        kind = whole.type[4:-1]
        item = self.value(kind) if kind in ("int", "string", "ip") else self.of_type(kind)
        if item is None:
            return None
        if self.rng.random() < 0.3:
            return truth(f"{whole.text} contains {item.text}", whole.guards + item.guards)
        return truth(f"{item.text} {self.rng.choice(('in', 'not in'))} {whole.text}", item.guards + whole.guards)

    def of_type(self, kind: str) -> Path | None:
        found = [path for path in [self.reference() for _ in range(8)] if path and path.type == kind]
        return found[0] if found else None

    def listed(self) -> Path | None:
        """An element of a list that stands in the policy, references too."""
        item = self.reference()
        if item is None:
            return None
        items = [path for path in [item, *(self.reference() for _ in range(6))] if path and path.type == item.type][:3]
        guards = tuple(guard for path in items for guard in path.guards)
        others = ", ".join(path.text for path in items[1:])
        if not others or item.type == "group":
            return None
        return truth(f"{item.text} {self.rng.choice(('in', 'not in'))} [{others}]", guards)

    def groups(self) -> Path | None:
        whole = self.pick(self.rng.choice(("group", "set<group>")))
        item = (
            Path("principal", "user")
            if self.rng.random() < 0.7
            else self.of_type(self.rng.choice(("user", "group", "service")))
        )
        if whole is None or item is None:
            return None
        if self.rng.random() < 0.2:
            return truth(f"{whole.text} contains {item.text}", whole.guards + item.guards)
        return truth(f"{item.text} {self.rng.choice(('in', 'in', 'not in'))} {whole.text}", item.guards + whole.guards)

    def network(self) -> Path | None:
        address = self.pick("ip")
        if address is None:
            return None
        written = [f'cidr("{self.rng.choice(NETWORKS)}")' for _ in range(2)]
        text = self.pick("string")
        guards = address.guards
        if text and self.rng.random() < 0.3:
            written[0], guards = f"cidr({text.text})", guards + text.guards
        whole = written[0] if self.rng.random() < 0.7 else f"[{', '.join(written)}]"
        return truth(f"{address.text} {self.rng.choice(('in', 'not in'))} {whole}", guards)

    def like(self) -> Path | None:
        text = self.value("string")
        return truth(f'{text.text} like "{self.rng.choice(LIKES)}"', text.guards)

    def boolean(self) -> Path | None:
        return self.pick("bool")

    def has(self) -> Path | None:
        guards = [guard for path in self.paths for guard in path.guards]
        return Path(self.rng.choice(guards), "bool") if guards else None

    def holds(self) -> Path | None:
        kinds = self.world.kinds
        if not self.world.roles or "system" in self.scope.types:
            return None
        places = [
            path for path in self.paths if path.type.removeprefix("set<").removesuffix(">") in self.world.resources()
        ]
        places += [
            Path(text, other, self.guards_of(other))
            for other in self.world.resources()
            if (text := self.ancestor(other))
        ]
        places += (
            [Path("resource", "resource")] * 2
            if all(kinds[name].kind != "principal" for name in self.scope.types)
            else []
        )
        places.append(Path("tenant", self.world.top))
        place, role = self.rng.choice(places), self.rng.choice(self.world.roles)
        return truth(f"principal is {role.full} {self.rng.choice(('on', 'on', 'at'))} {place.text}", place.guards)

    def guarded(self) -> Cond | None:
        """A comparison behind the guards that it needs."""
        made = self.comparison()
        if made is None:
            return None
        leaf = Cond(made.text)
        if self.rng.random() < 0.1:
            leaf = Cond("not", (leaf,))
        if not made.guards or not (self.scope.guarded or self.rng.random() < 0.15):
            return leaf
        return conjunction([*(Cond(guard) for guard in dict.fromkeys(made.guards)), leaf])

    def condition(self, depth: int = 0) -> Cond | None:
        rng = self.rng
        shape = rng.random()
        if depth < 3 and shape < 0.35:
            items = [cond for cond in (self.condition(depth + 1) for _ in range(rng.randint(2, 3))) if cond]
            if len(items) > 1:
                return Cond(rng.choice(("and", "or", "or")), tuple(items))
        if depth < 3 and shape < 0.43:
            item = self.condition(depth + 1)
            return Cond("not", (item,)) if item else None
        fitting = [name for name, scope in self.world.defines if fits(scope, self.scope)]
        if fitting and shape < 0.53:
            return Cond(rng.choice(fitting))
        return self.guarded()


def fits(defined: Scope, used: Scope) -> bool:
    """Whether a condition made for one scope can stand in another."""
    return (
        set(used.types) <= set(defined.types)
        and set(used.askers) <= set(defined.askers)
        and (defined.guarded or not used.guarded)
        and (used.one_asker_is_enough or not defined.one_asker_is_enough)
        and not defined.actions
    )
