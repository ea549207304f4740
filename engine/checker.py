"""Syntax trees → the checked model. Finds every error there is and does not stop at the first.

Names come from `symbols`, conditions from `conditions`, route templates from `routes`; what is no error but worth a
warning or a note is in `lints`. A model is made only of a policy without errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from engine import diagnostics, nodes
from engine.conditions import ConditionChecker
from engine.diagnostics import Diagnostic
from engine.model import SYSTEM, Action, Assign, Can, Conditions, Expr, Model, Role, Route, Rule, TypeInfo, Who, Within
from engine.paths import Scope
from engine.patterns import matching
from engine.routes import RouteChecker
from engine.source import Source
from engine.spelling import nearest
from engine.symbols import RESERVED_RULES, Report, Symbols, collect
from engine.values import MAX_INT, MIN_INT, parse_duration

LANGUAGE_VERSION = 1
ASKERS = ("user", "service")
_MAY_BE_DECLARED_IN_WHAT_IS_BROKEN = frozenset(("E0200", "E0301", "E0400", "E0403"))
#: How a condition treats a path that one declared type of principal cannot have.
Leniency = Literal["all must have it", "one must have it", "warn"]


def check(
    modules: Sequence[tuple[Source, nodes.Module]], syntax: Sequence[Diagnostic]
) -> tuple[Model | None, list[Diagnostic]]:
    """Check parsed files together; return the model, unless there are errors, and all findings.

    Where a file has syntax errors the rest is checked too, but names it may have declared are not missed.
    """
    ordered = sorted(modules, key=lambda pair: pair[0].name)
    declarations = [declaration for _, module in ordered for declaration in module.declarations]
    report = Report()
    checker = _Checker(declarations, report)
    parts = checker.check()
    found = list(syntax) + [d for d in report.found if not syntax or d.code not in _MAY_BE_DECLARED_IN_WHAT_IS_BROKEN]
    if diagnostics.errors(found):
        return None, diagnostics.sort(found)
    model = Model(**parts, diagnostics=(), digest=digest_of(source for source, _ in ordered))  # type: ignore[arg-type]  # the parts by name
    return model, diagnostics.sort(found)


def digest_of(sources: Iterable[Source]) -> str:
    """Return the policy's digest: any changed byte, file name or language version changes it."""
    state = hashlib.sha256(f"bylaw {LANGUAGE_VERSION}\n".encode())
    for source in sorted(sources, key=lambda item: item.name):
        text = source.text.encode("utf-8", "surrogatepass")
        state.update(f"{len(source.name)} {len(text)}\n{source.name}\n".encode("utf-8", "surrogatepass"))
        state.update(text)
    return f"sha256:{state.hexdigest()}"


class _Checker:
    """One run over all declarations of a policy."""

    def __init__(self, declarations: Sequence[nodes.Declaration], report: Report) -> None:
        self.declarations = declarations
        self.report = report
        self.symbols: Symbols = collect(declarations, report)
        self.types: Mapping[str, TypeInfo] = self.symbols.types

    def check(self) -> dict[str, object]:
        self.check_defines()
        roles = self.roles()
        return {
            "tenant": self.symbols.tenant,
            "has_tenant": self.symbols.has_tenant,
            "types": self.types,
            "context": self.symbols.context,
            "roles": roles,
            "custom": self.custom(),
            "rules": self.rules(),
            "routes": self.routes(),
            "assigns": self.assigns(),
            "tests": tuple(node for node in self.declarations if isinstance(node, nodes.TestNode)),
        }

    # --- defines -----------------------------------------------------------------------------------

    def check_defines(self) -> None:
        edges = {
            name: _names_in(node.condition) & set(self.symbols.defines) for name, node in self.symbols.defines.items()
        }
        for name in _in_cycles(edges):
            self.report.add("E0204", f"`{name}` is defined by itself", self.symbols.defines[name].name.span)

    # --- roles -------------------------------------------------------------------------------------

    def roles(self) -> dict[str, Role]:
        supers = {name: self.supers_of(name, node) for name, node in self.symbols.roles.items()}
        for name in _in_cycles({name: set(above) for name, above in supers.items()}):
            self.report.add("E0204", f"role `{name}` is itself through `is`", self.symbols.roles[name].name.span)
        cans = {name: self.cans_of(name, node) for name, node in self.symbols.roles.items()}
        found: dict[str, Role] = {}
        for name, node in sorted(self.symbols.roles.items()):
            satisfies = _taken_over(name, supers)
            gives = tuple((can, satisfies[other]) for other in sorted(satisfies) for can in cans[other])
            kind = name.rpartition(".")[0]
            self.check_flags(node, kind)
            found[name] = Role(
                name, kind, supers[name], node.crossing, node.claimable, cans[name], satisfies, gives, node.span
            )
        return found

    def check_flags(self, node: nodes.RoleNode, kind: str) -> None:
        if node.claimable and kind != self.symbols.tenant:
            self.report.add("E0401", "only a role on the tenant can be claimed", node.name.span)
        if node.crossing and kind == SYSTEM:
            self.report.add("E0401", "a role on `system` is over all tenants already", node.name.span)
        info = self.types[kind]
        if info.kind == "principal" and not info.actions:
            self.report.add("E0401", f"`{kind}` is no resource: it declares no actions", node.on.span)

    def supers_of(self, name: str, node: nodes.RoleNode) -> tuple[str, ...]:
        kind = name.rpartition(".")[0]
        found: list[str] = []
        for written in node.supers:
            other = self.symbols.role_named(written, self.report, own=kind)
            if other is None:
                continue
            if other.rpartition(".")[0] not in self.inside(kind):
                self.report.add("E0401", f"`{other}` is not held on `{kind}` nor on anything inside it", written.span)
            elif other in found:
                self.report.add("E0201", f"`{other}` stands here twice", written.span)
            else:
                found.append(other)
        return tuple(found)

    def inside(self, kind: str) -> frozenset[str]:
        if kind == SYSTEM:
            return frozenset(self.types)
        return frozenset(name for name, info in self.types.items() if name == kind or kind in info.above)

    def cans_of(self, name: str, node: nodes.RoleNode) -> tuple[Can, ...]:
        kind = name.rpartition(".")[0]
        found = []
        for can in node.cans:
            actions = self.actions_in(can.patterns, kind)
            conditions = self.conditions(can.when, can.unless, actions, ASKERS, leniency="one must have it")
            found.append(Can(name, frozenset(action.code for action in actions), conditions, can.span))
        return tuple(found)

    def custom_places(self) -> set[str]:
        """The types on which tenants may make roles of their own."""
        found = [self.symbols.type_named(node.on) for node in self.declarations if isinstance(node, nodes.CustomNode)]
        return {info.name for info in found if info is not None and info.kind in ("tenant", "resource")}

    def custom(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for node in self.declarations:
            if not isinstance(node, nodes.CustomNode):
                continue
            info = self.symbols.type_named(node.on)
            if info is None:
                self.report.unknown("type", node.on.text, node.on.span, self.types)
            elif info.kind not in ("tenant", "resource"):
                self.report.add("E0401", f"tenants make no roles on `{info.name}`", node.on.span)
            elif info.name in found:
                self.report.add("E0201", f"`custom on {info.name}` is declared twice", node.on.span)
            else:
                found[info.name] = frozenset(action.code for action in self.actions_in(node.patterns, info.name))
        return found

    # --- patterns ----------------------------------------------------------------------------------

    def actions_in(self, patterns: Sequence[nodes.PatternNode], kind: str | None) -> list[Action]:
        """The actions that patterns reach; in a role or `custom` on `kind` only its own and those inside it."""
        found: dict[str, Action] = {}
        for pattern in patterns:
            for action in self.actions_of(pattern, kind):
                found[action.code] = action
        return [found[code] for code in sorted(found)]

    def actions_of(self, pattern: nodes.PatternNode, kind: str | None) -> list[Action]:
        actions = matching(pattern.parts, self.types, tenant=self.symbols.tenant, own=kind)
        if pattern.parts == ("*",) and kind != SYSTEM:
            self.report.add(
                "W0104",
                "a lone `*` reaches whatever is declared later, too",
                pattern.span,
                cure="name the types: `type.*`, `*.action`",
            )
        if not actions:
            self.dead_pattern(pattern, kind)
            return []
        if kind is None:
            return actions
        inside = self.inside(kind)
        within = [action for action in actions if action.type in inside]
        if not within:
            outside = actions[0].type
            code = "E0400" if pattern.parts[0] == "*" else "E0401"
            self.report.add(
                code, f"`{outside}` does not lie in `{kind}`, so a role there cannot reach it", pattern.span
            )
        return within

    def dead_pattern(self, pattern: nodes.PatternNode, kind: str | None) -> None:
        parts = pattern.parts
        if len(parts) == 1:
            if kind is None:
                self.report.add(
                    "E0400",
                    f"`{pattern.text}` names no action: here it stands with its type",
                    pattern.span,
                    cure=f"write `TYPE.{pattern.text}`",
                )
            else:
                fix = nearest(parts[0], self.types[kind].actions)
                self.report.add("E0400", f"`{kind}` has no action `{parts[0]}`", pattern.span, fix=fix)
            return
        name = ".".join(parts[:-1])
        info = self.types.get(self.symbols.tenant if name == "tenant" else name)
        if parts[0] == "*":
            known = {action for other in self.types.values() for action in other.actions}
            self.report.add(
                "E0400", f"no type has an action `{parts[1]}`", pattern.span, fix=_with("*.", nearest(parts[1], known))
            )
        elif info is None:
            self.report.add(
                "E0400",
                f"there is no type `{name}`",
                pattern.span,
                fix=_with("", nearest(name, self.types), f".{parts[-1]}"),
            )
        elif parts[-1] == "*":
            self.report.add("E0400", f"`{name}` has no actions", pattern.span)
        else:
            fix = _with(f"{name}.", nearest(parts[-1], info.actions))
            self.report.add("E0400", f"`{name}` has no action `{parts[-1]}`", pattern.span, fix=fix)

    # --- rules -------------------------------------------------------------------------------------

    def rules(self) -> tuple[Rule, ...]:
        found: dict[str, Rule] = {}
        for node in self.declarations:
            if isinstance(node, nodes.RuleNode):
                rule = self.rule(node)
                if rule.name in found:
                    self.report.twice(f"rule `{rule.name}`", node.name.span, found[rule.name].span)
                found.setdefault(rule.name, rule)
        return tuple(found[name] for name in sorted(found))

    def rule(self, node: nodes.RuleNode) -> Rule:
        name = node.name.text
        if name in RESERVED_RULES:
            self.report.add("E0203", f"`{name}` is the code of a decision and cannot name a rule", node.name.span)
        who = self.who(node.who)
        actions = self.actions_in(node.patterns, None)
        everyone = who.anyone or who.public or who.roles or who.groups
        askers = ASKERS if everyone else tuple(kind for kind in ASKERS if kind in who.types)
        is_deny = node.effect == "deny"
        if is_deny and node.when is not None:
            for has in self.has_in(node.when):
                self.report.add(
                    "W0108",
                    "`has` in a deny's `when` spares what is absent",
                    has.span,
                    cure="leave it out: what is absent is denied then",
                )
        leniency: Leniency = "warn" if is_deny else "all must have it"
        conditions = self.conditions(node.when, node.unless, actions, askers, leniency=leniency, is_deny=is_deny)
        codes = frozenset(action.code for action in actions)
        return Rule(node.effect, name, who, codes, conditions, node.because, self.obligations(node), node.span)

    def obligations(self, node: nodes.RuleNode) -> tuple[tuple[str, object], ...]:
        found: dict[str, object] = {}
        for name, literal in node.obligations:
            if name.text in found:
                self.report.add("E0201", f"obligation `{name.text}` stands here twice", name.span)
            if literal.kind == "int" and not MIN_INT <= int(literal.value) <= MAX_INT:
                self.report.add("E0303", "a number has 64 bits", literal.span)
            found[name.text] = literal.value
        return tuple(sorted(found.items()))

    def who(self, written: Sequence[nodes.WhoNode]) -> Who:
        kinds = {node.kind for node in written}
        roles = {self.symbols.role_named(node.name, self.report) for node in written if node.kind == "role"} - {None}
        groups = sorted({node.name.text for node in written if node.kind == "group"})
        types = frozenset(kind for kind in kinds if kind in ASKERS)
        return Who("anyone" in kinds, "public" in kinds, types, frozenset(filter(None, roles)), tuple(groups))

    # --- conditions --------------------------------------------------------------------------------

    def conditions(
        self,
        when: nodes.ExprNode | None,
        unless: nodes.ExprNode | None,
        actions: Sequence[Action],
        askers: Sequence[str],
        *,
        leniency: Leniency,
        is_deny: bool = False,
    ) -> Conditions | None:
        """Check a condition for every action and type of principal that it may be asked for."""
        if when is None and unless is None:
            return None
        reads_action = any("action" in self.heads(node) for node in (when, unless) if node is not None)
        found: dict[tuple[str, str], Expr] = {}
        known: dict[object, dict[str, Expr]] = {}
        for action in actions:
            key = action.code if reads_action else action.type
            if key not in known:
                scope = self.types[action.type], action
                known[key] = self.for_askers(when, unless, scope, askers, leniency=leniency, is_deny=is_deny)
            for asker, condition in known[key].items():
                found[action.code, asker] = condition
        return found

    def heads(self, node: nodes.ExprNode) -> set[str]:
        """The first names of all paths, those of the defines that it uses included."""
        names = _names_in(node)
        pending = names & set(self.symbols.defines)
        done: set[str] = set()
        while pending:
            name = pending.pop()
            done.add(name)
            names |= _names_in(self.symbols.defines[name].condition)
            pending |= (names & set(self.symbols.defines)) - done
        return names

    def has_in(self, node: nodes.ExprNode) -> list[nodes.HasNode]:
        """All `has` of a condition, those of the defines that it uses included."""
        pending = [
            node,
            *(self.symbols.defines[name].condition for name in self.heads(node) if name in self.symbols.defines),
        ]
        return [part for item in pending for part in _parts(item) if isinstance(part, nodes.HasNode)]

    def for_askers(
        self,
        when: nodes.ExprNode | None,
        unless: nodes.ExprNode | None,
        scope: tuple[TypeInfo, Action | None],
        askers: Sequence[str],
        *,
        leniency: Leniency,
        is_deny: bool = False,
    ) -> dict[str, Expr]:
        """Check for every declared type of principal; one that is not declared, and anonymous, read what the first of
        them reads: nothing."""
        candidates = [kind for kind in askers if self.types[kind].declared] or list(askers)
        good: dict[str, Expr] = {}
        for kind in candidates:
            own = Report()
            others = tuple(self.types[other] for other in candidates if other != kind)
            lenient = leniency != "all must have it"
            scope_of = Scope(*scope, self.types[kind], is_deny, others if lenient else ())
            checker = ConditionChecker(self.symbols, own, scope_of)
            condition = checker.check(when, unless)
            self.merge(own)
            if condition is not None and not own.found:
                good[kind] = condition
            if leniency == "warn":
                for span, message in checker.lacking:
                    self.report.add("W0109", f"{message}, so a {kind} is always denied here", span)
        if not good:
            return {}
        first = next(iter(good.values()))
        return {kind: good.get(kind, first) for kind in (*ASKERS, "anonymous")}

    def merge(self, other: Report) -> None:
        for d in other.found:
            self.report.add(d.code, d.message, d.span, cure=d.help, fix=d.fix)

    # --- routes and assigns ------------------------------------------------------------------------

    def routes(self) -> tuple[Route, ...]:
        checker = RouteChecker(self.symbols, self.report, self.one_action)
        return checker.check([node for node in self.declarations if isinstance(node, nodes.RouteNode)])

    def one_action(self, pattern: nodes.PatternNode) -> Action | None:
        if "*" in pattern.parts:
            self.report.add("E0400", "a route names one action", pattern.span)
            return None
        found = self.actions_of(pattern, None)
        return found[0] if found else None

    def assigns(self) -> tuple[Assign, ...]:
        found = [self.assign(node) for node in self.declarations if isinstance(node, nodes.AssignNode)]
        return tuple(
            sorted(found, key=lambda assign: (assign.what, assign.by, assign.span.source.name, assign.span.start))
        )

    def assign(self, node: nodes.AssignNode) -> Assign:
        what: list[str] = []
        places: set[str] = set()
        for item in node.what:
            if item.kind == "role":
                role = self.symbols.role_named(item.name, self.report)
                if role is not None:
                    what.append(role)
                    places.add(role.rpartition(".")[0])
            else:
                what.append(f"group {item.name.text}" if item.kind == "group" else item.kind)
                places.add(SYSTEM if item.kind == "group" else self.symbols.tenant)
                if item.kind == "custom":
                    places |= self.custom_places()
        by = [role for written in node.by if (role := self.symbols.role_named(written, self.report)) is not None]
        within = parse_duration(node.expires_within) if node.expires_within is not None else None
        if node.expires_within is not None and within is None:
            self.report.add("E0303", "this duration is too long", node.span)
        return Assign(
            tuple(what),
            tuple(by),
            self.assign_conditions(node.when, places),
            node.max,
            node.not_self,
            node.approval,
            node.anyone,
            within,
            node.span,
        )

    def assign_conditions(self, when: nodes.ExprNode | None, places: Iterable[str]) -> Conditions | None:
        if when is None:
            return None
        found: dict[tuple[str, str], Expr] = {}
        for place in sorted(places):
            scope = self.types[place], None
            for asker, condition in self.for_askers(when, None, scope, ASKERS, leniency="one must have it").items():
                found[place, asker] = condition
        return found


def _with(before: str, name: str | None, after: str = "") -> str | None:
    return None if name is None else f"{before}{name}{after}"


def _names_in(node: nodes.ExprNode) -> set[str]:
    """The first names of all paths in an expression."""
    found: set[str] = set()
    for part in _parts(node):
        match part:
            case nodes.PathNode():
                found.add(part.segments[0].text)
            case nodes.HasNode():
                found.add(part.path.segments[0].text)
            case nodes.HoldsNode():
                found.add(part.place.segments[0].text)
            case _:
                pass
    return found


def _parts(node: nodes.ExprNode) -> Iterator[nodes.ExprNode]:
    """An expression and all within it."""
    pending = [node]
    while pending:
        item = pending.pop()
        yield item
        match item:
            case nodes.NotNode():
                pending.append(item.item)
            case nodes.BoolNode() | nodes.ListNode():
                pending.extend(item.items)
            case nodes.CallNode():
                pending.extend(item.args)
            case nodes.ArithNode() | nodes.CompareNode():
                pending += (item.left, item.right)
            case _:
                pass


def _taken_over(name: str, supers: Mapping[str, Iterable[str]]) -> dict[str, Within]:
    """All roles that a role is, and within which types each counts: a step to a role of an inner type adds that type.

    That all of them are on the chain is enough: types do not lie in each other both ways, so their order on a chain
    is given.
    """
    found: dict[str, set[frozenset[str]]] = {}
    pending = [(name, frozenset[str]())]
    while pending:
        role, within = pending.pop()
        known = found.setdefault(role, set())
        if any(other <= within for other in known):
            continue
        found[role] = {other for other in known if not within <= other} | {within}
        kind = role.rpartition(".")[0]
        for inner in supers.get(role, ()):
            inner_kind = inner.rpartition(".")[0]
            pending.append((inner, within if inner_kind == kind else within | {inner_kind}))
    return {role: tuple(sorted(ways, key=sorted)) for role, ways in found.items()}


def _reachable(name: str, edges: Mapping[str, Iterable[str]]) -> frozenset[str]:
    found = {name}
    pending = [name]
    while pending:
        for other in edges.get(pending.pop(), ()):
            if other not in found:
                found.add(other)
                pending.append(other)
    return frozenset(found)


def _in_cycles(edges: Mapping[str, set[str]]) -> list[str]:
    """The names that reach themselves."""
    return sorted(name for name in edges if any(name in _reachable(other, edges) for other in edges[name]))
