"""`test` blocks: set up their fixtures, ask their expectations, count what was covered.

Every expectation goes the way that a request from outside goes. A failure carries the whole explanation; what cannot
be set up or asked fails too, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine import nodes
from engine.authorizer import Question
from engine.decision import Decision
from engine.errors import RequestError
from engine.explain import explain, render
from engine.fixtures import FixtureError, Named, World
from engine.model import SYSTEM, Attribute, Model
from engine.policy import Facts, Policy
from engine.reasons import weigh
from engine.request import HttpRequest, Request
from engine.routes import path_segments
from engine.source import Span
from engine.values import parse_time


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that did not come out: the line it begins on, what was expected and came, and why it came."""

    test: str
    span: Span
    message: str
    explanation: str = ""

    def as_json(self) -> dict[str, Any]:
        message = f"{self.message}\n{self.explanation}" if self.explanation else self.message
        return {"file": self.span.source.name, "line": self.span.line, "test": self.test, "message": message}


@dataclass(slots=True)
class Seen:
    """What the tests have seen of one rule or one `can`."""

    name: str
    span: Span
    has_condition: bool
    applied: bool = False
    was_true: bool = False
    was_false: bool = False

    @property
    def is_covered(self) -> bool:
        return self.applied

    @property
    def both_ways(self) -> bool:
        return not self.has_condition or (self.was_true and self.was_false)


class Coverage:
    """Which rules and `can`s the tests made apply, and which conditions they saw true and false."""

    def __init__(self, model: Model) -> None:
        self.entries: dict[Span, Seen] = {}
        for rule in model.rules:
            self.entries[rule.span] = Seen(rule.name, rule.span, rule.conditions is not None)
        for role in model.roles.values():
            for can in role.cans:
                self.entries[can.span] = Seen(role.name, can.span, can.conditions is not None)

    def record(self, question: Question) -> None:
        """Count what one question weighed."""
        weighed = weigh(question)
        for rule in (*weighed.denies, *weighed.allows):
            if rule.means:
                self._note(rule.rule.span, rule.verdict, applied=rule.applies)
        for can in weighed.cans:
            if can.can is not None:
                self._note(can.can.span, can.verdict, applied=can.verdict == "true")

    def _note(self, span: Span, verdict: str, *, applied: bool) -> None:
        seen = self.entries[span]
        seen.applied = seen.applied or applied
        seen.was_true = seen.was_true or verdict == "true"
        seen.was_false = seen.was_false or verdict == "false"

    def as_json(self) -> dict[str, Any]:
        conditions = [seen for seen in self.entries.values() if seen.has_condition]
        return {
            "rules": len(self.entries),
            "rules_covered": sum(seen.is_covered for seen in self.entries.values()),
            "conditions": len(conditions),
            "conditions_both_ways": sum(seen.both_ways for seen in conditions),
            "missing": [
                {"name": seen.name, "file": seen.span.source.name, "line": seen.span.line, "what": what}
                for seen in sorted(self.entries.values(), key=lambda seen: (seen.span.source.name, seen.span.start))
                for what in _missing(seen)
            ],
        }


def _missing(seen: Seen) -> Iterable[str]:
    if not seen.applied:
        yield "never applied"
    if seen.has_condition and not seen.was_true:
        yield "condition never true"
    if seen.has_condition and not seen.was_false:
        yield "condition never false"


@dataclass(slots=True)
class TestRun:
    """What came of all tests of a policy. `results`: each test's name, place, and its failures."""

    __test__ = False  # not for pytest

    passed: int
    failures: list[Failure]
    coverage: Coverage
    results: list[tuple[nodes.TestNode, int, list[Failure]]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "failures": [failure.as_json() for failure in self.failures]}


def run_tests(policy: Policy) -> TestRun:
    """Run all `test` blocks of a policy, each in a world of its own, at one instant."""
    run = TestRun(0, [], Coverage(policy.model))
    now = policy.clock()
    for test in sorted(policy.model.tests, key=lambda node: (node.span.source.name, node.span.start)):
        passed, failures = _Runner(policy, test, run.coverage, now).run()
        run.passed += passed
        run.failures += failures
        run.results.append((test, passed, failures))
    return run


class _MismatchError(Exception):
    """An expectation that did not come out."""

    def __init__(self, message: str, explanation: str = "") -> None:
        super().__init__(message)
        self.explanation = explanation


class _Runner:
    """Runs one test."""

    def __init__(self, policy: Policy, test: nodes.TestNode, coverage: Coverage, now: int) -> None:
        self.policy = policy
        self.model = policy.model
        self.test = test
        self.coverage = coverage
        self.now = now

    def run(self) -> tuple[int, list[Failure]]:
        try:
            self.world = World(self.model, self.test.statements)
        except FixtureError as error:
            return 0, [Failure(self.test.name, error.diagnostic.span, str(error))]
        self.facts = Facts.made(self.world.facts, self.policy)
        self.facts.questioner.observer = self.coverage.record
        passed, failures = 0, []
        for statement in self.test.statements:
            if not isinstance(
                statement, nodes.AskNode | nodes.RouteAskNode | nodes.ResourceSearchNode | nodes.SubjectSearchNode
            ):
                continue
            try:
                self.expect(statement)
                passed += 1
            except _MismatchError as error:
                failures.append(Failure(self.test.name, statement.span, str(error), error.explanation))
            except FixtureError as error:
                failures.append(Failure(self.test.name, statement.span, str(error)))
            except RequestError as error:
                failures.append(Failure(self.test.name, statement.span, f"the request is an error: {error.message}"))
        return passed, failures

    def expect(self, statement: nodes.ExpectationNode) -> None:
        match statement:
            case nodes.AskNode():
                request = self.request(statement)
                now = self.instant(statement.tail)
                decision = self.facts.questioner.decide(request, now)
                self.compare(statement.expected, statement.tail, decision, request, now)
            case nodes.RouteAskNode():
                asked = self.http_request(statement)
                now = self.instant(statement.tail)
                decision = self.facts.questioner.decide_route(asked, now)
                self.compare(statement.expected, statement.tail, decision, asked, now)
            case nodes.ResourceSearchNode():
                self.resource_search(statement)
            case nodes.SubjectSearchNode():
                self.subject_search(statement)

    # --- requests ----------------------------------------------------------------------------------

    def subject(self, name: nodes.Name | None) -> str:
        if name is None:
            return "anonymous"
        named = self.world.named(name)
        if named.type not in ("user", "service"):
            raise FixtureError("E0500", f"`{name.parts[0]}` is no user or service", name.span)
        return named.ref

    def instant(self, tail: nodes.TailNode) -> int:
        if tail.at is None:
            return self.now
        moment = parse_time(tail.at)
        if moment is None:
            raise FixtureError("E0303", 'a time is written "2026-03-01T10:00:00Z"', tail.at_span or self.test.span)
        return moment

    def request(self, statement: nodes.AskNode) -> Request:
        if statement.new:
            kind = self.model.tenant if statement.resource.text == "tenant" else statement.resource.text
            properties: dict[str, Any] = {"new": True}
            tenant = None
            if statement.parent is not None:
                tenant, properties["parent"] = self.world.place(statement.parent)
            resource = f"{kind}:new"
        else:
            tenant, resource, properties = self.resource(statement.resource)
            kind = resource.partition(":")[0]
        made = self.sent(statement.tail, kind, statement.action.parts[-1], properties)
        return self.build(
            statement.tail, tenant, self.subject(statement.subject), statement.action.text, resource, made
        )

    def resource(self, name: nodes.Name) -> tuple[str | None, str, dict[str, Any]]:
        if not name.quoted and name.text in (SYSTEM, "tenant") and name.text not in self.world.names:
            tenant, ref = self.world.place(name)
            return tenant or None, ref, {}
        named = self.world.named(name)
        if self.model.types[named.type].kind == "principal" and named.type != "group":
            return None, named.ref, {}
        return named.tenant, named.ref, dict(named.properties)

    def build(
        self,
        tail: nodes.TailNode,
        tenant: str | None,
        subject: str,
        action: str,
        resource: str,
        sent: dict[str, dict[str, Any]],
    ) -> Request:
        if tail.tenant is not None:
            tenant = self.world.tenant_name(tail.tenant)
        elif tenant is None and resource.partition(":")[0] != SYSTEM:
            tenant = self.implied_tenant(resource)
        return Request(
            tenant=tenant if self.model.has_tenant else None,
            subject=subject,
            action=action,
            resource=resource,
            subject_properties=sent["principal"],
            resource_properties=sent["resource"],
            action_properties=sent["action"],
            context=sent["context"],
        )

    def implied_tenant(self, resource: str) -> str | None:
        """Where no tenant is named: that of a principal's only membership, else the only tenant there is."""
        homes = {home for home, kind, identity in self.world.members if f"{kind}:{identity}" == resource}
        if len(homes) == 1:
            return min(homes)
        return next(iter(self.world.tenants)) if len(self.world.tenants) == 1 else None

    def sent(self, tail: nodes.TailNode, kind: str, action: str, resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Sort what stands in `with { … }` by what it is sent of."""
        found: dict[str, dict[str, Any]] = {"context": {}, "action": {}, "resource": resource, "principal": {}}
        for name, value in tail.values:
            head = name.parts[0] if len(name.parts) > 1 and name.parts[0] in found else "context"
            key = ".".join(name.parts[1:]) if len(name.parts) > 1 and head == name.parts[0] else name.text
            attribute = self.declared(head, key, kind, action)
            found[head][key] = self.world.json(value, attribute.type if attribute is not None else None)
        return found

    def declared(self, head: str, name: str, kind: str, action: str) -> Attribute | None:
        info = self.model.types.get(kind)
        if head == "context":
            return self.model.context.get(name)
        if head == "principal":
            return self.model.types["user"].attributes.get(name) or self.model.types["service"].attributes.get(name)
        if info is None:
            return None
        return (
            info.attributes.get(name)
            if head == "resource"
            else info.actions[action].fields.get(name)
            if action in info.actions
            else None
        )

    def http_request(self, statement: nodes.RouteAskNode) -> HttpRequest:
        sent = self.sent(statement.tail, "", "", {})
        return HttpRequest(
            statement.method,
            statement.path,
            self.subject(statement.subject),
            self.route_tenant(statement),
            context=sent["context"],
            subject_properties=sent["principal"],
        )

    def route_tenant(self, statement: nodes.RouteAskNode) -> str | None:
        """The active tenant of a route: that of `in`; or the path names it; or that of the resource; or the only
        one."""
        if not self.model.has_tenant:
            return None
        if statement.tail.tenant is not None:
            return self.world.tenant_name(statement.tail.tenant)
        segments = path_segments(statement.path)
        match = self.policy.program.routes.find(statement.method, segments) if segments is not None else None
        bound = dict(match.bindings) if match is not None else {}
        if self.model.tenant in bound:
            return None
        if match is not None and match.route.action is not None:
            wanted = match.route.parent or self.model.actions[match.route.action].type
            named = self.world.names.get(bound.get(wanted, ""))
            if isinstance(named, Named) and named.type == wanted and named.tenant is not None:
                return named.tenant
        return next(iter(self.world.tenants)) if len(self.world.tenants) == 1 else None

    # --- answers -----------------------------------------------------------------------------------

    def compare(
        self, expected: bool, tail: nodes.TailNode, decision: Decision, request: Request | HttpRequest, now: int
    ) -> None:
        wrong = decision.allowed != expected
        reason_differs = tail.because is not None and not self.is_because(decision, tail.because)
        if not wrong and not reason_differs:
            return
        wanted = "an allow" if expected else "a deny"
        if tail.because is not None:
            wanted += f" because `{tail.because.text}`"
        got = f"{'an allow' if decision.allowed else 'a deny'} because `{decision.by or decision.code}`"
        request.now = now
        raise _MismatchError(f"expected {wanted}, got {got}", render(explain(self.policy, request, self.facts)))

    def is_because(self, decision: Decision, because: nodes.Name) -> bool:
        """A code, the name of the rule, or `TYPE.NAME` of the role that determined."""
        by = (decision.by or "").partition(" on ")[0]
        written = because.text
        if because.parts[0] == "tenant" and len(because.parts) > 1:
            written = ".".join((self.model.tenant, *because.parts[1:]))
        return written in (decision.code, by)

    def resource_search(self, statement: nodes.ResourceSearchNode) -> None:
        kinds = self.searched_types(statement.action)
        now = self.instant(statement.tail)
        found: set[str] = set()
        for kind in kinds:
            sent = self.sent(statement.tail, kind, statement.action.parts[-1], {})
            request = self.build(
                statement.tail, None, self.subject(statement.subject), statement.action.parts[-1], kind, sent
            )
            found |= set(self.search(request, now))
        self.compare_sets({self.found_name(name) for name in statement.names}, found)

    def searched_types(self, action: nodes.Name) -> list[str]:
        """The types of a search: that of the action, or of a bare one every type that has it."""
        if len(action.parts) > 1:
            kind = ".".join(action.parts[:-1])
            kind = self.model.tenant if kind == "tenant" else kind
            if kind not in self.model.types:
                raise FixtureError("E0200", f"unknown type `{kind}`", action.span)
            return [kind]
        found = [
            info.name for info in self.model.types.values() if action.text in info.actions and info.kind != "system"
        ]
        if not found:
            raise FixtureError("E0400", f"no type has an action `{action.text}`", action.span)
        return found

    def found_name(self, name: nodes.Name) -> str:
        return self.world.named(name).ref

    def subject_search(self, statement: nodes.SubjectSearchNode) -> None:
        tenant, resource, properties = self.resource(statement.resource)
        kind = resource.partition(":")[0]
        now = self.instant(statement.tail)
        found: set[str] = set()
        for asker in ("user", "service"):
            sent = self.sent(statement.tail, kind, statement.action.parts[-1], dict(properties))
            request = self.build(statement.tail, tenant, asker, statement.action.text, resource, sent)
            found |= set(self.search(request, now))
        self.compare_sets({self.found_name(name) for name in statement.names}, found)

    def search(self, request: Request, now: int) -> list[str]:
        request.now = now
        return self.policy.search(request, self.facts)

    def compare_sets(self, expected: set[str], found: set[str]) -> None:
        if expected == found:
            return
        rows = []
        if found - expected:
            rows.append(f"found besides: {', '.join(sorted(found - expected))}")
        if expected - found:
            rows.append(f"not found: {', '.join(sorted(expected - found))}")
        raise _MismatchError("; ".join(rows))
