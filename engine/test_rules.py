"""Rules of the grammar for `test` blocks: fixtures and expectations."""

from collections.abc import Callable
from typing import Literal

from engine import nodes
from engine.condition_rules import ConditionRules
from engine.cursor import TEST_WORDS
from engine.lexer import Token


class TestRules(ConditionRules):
    """What reads the inside of a `test` block."""

    __test__ = False  # not for pytest

    def test(self, start: Token) -> nodes.TestNode:
        """ "test" STRING "{" { fixture | expectation } "}" """
        name = self.string("the name of the test")
        self.want_punct("{")
        statements: list[nodes.FixtureNode | nodes.ExpectationNode] = []
        while not self.take_punct("}"):
            statements.append(self.statement())
        return nodes.TestNode(name, tuple(statements), self.since(start))

    def statement(self) -> nodes.FixtureNode | nodes.ExpectationNode:
        start = self.token
        following = self.ahead(1)
        if start.kind not in ("name", "string"):
            self.fail("expected a fixture, an expectation or `}`")
        if start.kind == "name":
            if start.text == "exactly":
                return self.subject_search(start)
            if following.kind == "string" and self.ahead(2).is_word("as"):
                return self.route_ask(start)
            if (
                following.kind in ("name", "string")
                and not following.is_word("can")
                and not following.is_word("cannot")
            ):
                fixtures: dict[str, Callable[[Token], nodes.FixtureNode]] = {
                    "group": self.group_fixture,
                    "user": self.principal_fixture,
                    "service": self.principal_fixture,
                    "link": self.link_fixture,
                    "custom": self.custom_fixture,
                }
                if start.text in fixtures:
                    return fixtures[start.text](start)
        if following.is_word("can") or following.is_word("cannot"):
            return self.ask(start)
        return self.thing_fixture(start)

    def fixture_name(self, what: str) -> nodes.Name:
        """The name of something in a test: a bare name that is no word of a test, or a quoted one that may hold
        anything."""
        token = self.token
        if token.kind == "string":
            self.advance()
            return nodes.Name((token.text,), token.span, True)
        if token.kind != "name":
            self.fail(f"expected {what}")
        if token.text in TEST_WORDS:
            self.fail(f"expected {what}", cure=f'a name that is a keyword is quoted: `"{token.text}"`')
        self.advance()
        return nodes.Name((token.text,), token.span)

    def subject_name(self) -> nodes.Name | None:
        """NAME | "anonymous" (None)"""
        return None if self.take_word("anonymous") else self.fixture_name("who asks")

    def thing_fixture(self, start: Token) -> nodes.ThingFixture:
        """TYPE NAME [ "in" NAME ] [ "suspended" ] [ "{" … "}" ]"""
        kind = self.dotted("a type")
        name = self.fixture_name("the name of the fixture")
        parent = self.fixture_name("the parent") if self.take_word("in") else None
        suspended = self.take_word("suspended")
        attributes = self.values() if self.is_punct("{") else ()
        return nodes.ThingFixture(kind, name, parent, suspended, attributes, self.since(start))

    def group_fixture(self, start: Token) -> nodes.GroupFixture:
        """ "group" NAME [ "of" TENANT ] [ "in" GROUP, … ] [ "{" … "}" ] [ ":" HELD ]"""
        self.advance()
        name = self.fixture_name("the name of the group")
        tenant = self.fixture_name("a tenant") if self.take_word("of") else None
        groups = self.list_of(lambda: self.fixture_name("a group")) if self.take_word("in") else ()
        attributes = self.values() if self.is_punct("{") else ()
        held = self.held() if self.take_punct(":") else ()
        return nodes.GroupFixture(name, tenant, groups, attributes, held, self.since(start))

    def principal_fixture(self, start: Token) -> nodes.PrincipalFixture:
        """ "user" | "service" NAME [ "suspended" ] { [ "guest" ] "of" TENANT, … } [ "in" GROUP, … ] [ "{" … "}" ] [
        ":" HELD ]"""
        kind: Literal["user", "service"] = "user" if self.advance().text == "user" else "service"
        name = self.fixture_name("the name of the principal")
        suspended = self.take_word("suspended")
        members: list[nodes.Name] = []
        guests: list[nodes.Name] = []
        while self.is_word("of", "guest"):
            status = guests if self.take_word("guest") else members
            self.want_word("of")
            status.extend(self.list_of(lambda: self.fixture_name("a tenant")))
        groups = self.list_of(lambda: self.fixture_name("a group")) if self.take_word("in") else ()
        attributes = self.values() if self.is_punct("{") else ()
        held = self.held() if self.take_punct(":") else ()
        return nodes.PrincipalFixture(
            kind, name, suspended, tuple(members), tuple(guests), groups, attributes, held, self.since(start)
        )

    def link_fixture(self, start: Token) -> nodes.LinkFixture:
        """ "link" NAME "of" HOME ":" HELD"""
        self.advance()
        name = self.fixture_name("who holds the link")
        self.want_word("of")
        home = self.fixture_name("the home tenant")
        self.want_punct(":")
        return nodes.LinkFixture(name, home, self.held(), self.since(start))

    def custom_fixture(self, start: Token) -> nodes.CustomFixture:
        """ "custom" NAME "on" TYPE [ "of" TENANT ] "{" { "can" PATTERN, … } "}" """
        self.advance()
        name = self.fixture_name("the name of the role")
        self.want_word("on")
        on = self.dotted("a type")
        tenant = self.fixture_name("a tenant") if self.take_word("of") else None
        return nodes.CustomFixture(name, on, tenant, self.plain_cans(), self.since(start))

    def held(self) -> tuple[nodes.HeldNode, ...]:
        """ROLE "on" NAME [ "from" TIME ] [ "until" TIME ] { "," … }"""
        return self.list_of(self.held_one)

    def held_one(self) -> nodes.HeldNode:
        start = self.token
        role = self.dotted("a role")
        self.want_word("on")
        on = self.fixture_name("the place where it is held")
        starts = self.string("a time") if self.take_word("from") else None
        expires = self.string("a time") if self.take_word("until") else None
        return nodes.HeldNode(role, on, starts, expires, self.since(start))

    def values(self) -> nodes.Values:
        """ "{" [ NAME { "." NAME } ":" value { "," … } ] "}" """
        self.want_punct("{")
        if self.take_punct("}"):
            return ()
        found = self.list_of(self.value_entry)
        self.want_punct("}")
        return found

    def value_entry(self) -> tuple[nodes.Name, nodes.ValueNode]:
        name = self.dotted("a name")
        self.want_punct(":")
        return name, self.value()

    def value(self) -> nodes.ValueNode:
        """literal | NAME | "[" value, … "]" """
        start = self.token
        if self.take_punct("["):
            if self.take_punct("]"):
                return nodes.ListValue((), self.since(start))
            items = self.deeper(lambda: self.list_of(self.value))
            self.want_punct("]")
            return nodes.ListValue(items, self.since(start))
        literal = self.literal()
        if literal is not None:
            return literal
        return nodes.NameValue(self.fixture_name("a value"), self.since(start))

    def ask(self, start: Token) -> nodes.AskNode | nodes.ResourceSearchNode:
        """SUBJECT ( "can" | "cannot" ) ACTION ( NAME | TYPE "new" [ "in" PARENT ] | "exactly" NAME, … ) tail"""
        subject = self.subject_name()
        expected = self.advance().text == "can"
        action = self.dotted("an action")
        if expected and self.take_word("exactly"):
            names = self.found_names()
            return nodes.ResourceSearchNode(subject, action, names, self.tail(), self.since(start))
        resource, new, parent = self.asked_resource()
        return nodes.AskNode(subject, expected, action, resource, new, parent, self.tail(), self.since(start))

    def asked_resource(self) -> tuple[nodes.Name, bool, nodes.Name | None]:
        distance = 1
        while self.ahead(distance).is_punct("."):
            distance += 2
        if self.ahead(distance).is_word("new"):
            kind = self.dotted("the type of the new resource")
            self.want_word("new")
            parent = self.fixture_name("the parent") if self.take_word("in") else None
            return kind, True, parent
        return self.fixture_name("the resource"), False, None

    def found_names(self) -> tuple[nodes.Name, ...]:
        """ "none" | NAME { "," NAME }"""
        if self.take_word("none"):
            return ()
        return self.list_of(lambda: self.fixture_name("a name, or `none`"))

    def subject_search(self, start: Token) -> nodes.SubjectSearchNode:
        """ "exactly" ( "none" | NAME, … ) "can" ACTION NAME tail"""
        self.advance()
        names = self.found_names()
        self.want_word("can")
        action = self.dotted("an action")
        resource = self.fixture_name("the resource")
        return nodes.SubjectSearchNode(names, action, resource, self.tail(), self.since(start))

    def route_ask(self, start: Token) -> nodes.RouteAskNode:
        """METHOD STRING "as" SUBJECT [ "in" TENANT ] "is" ( "allowed" | "denied" ) tail"""
        method = self.advance().text
        path = self.advance().text
        self.want_word("as")
        subject = self.subject_name()
        tenant = self.fixture_name("a tenant") if self.take_word("in") else None
        self.want_word("is")
        if not self.is_word("allowed", "denied"):
            self.fail("expected `allowed` or `denied`", known=("allowed", "denied"))
        expected = self.advance().text == "allowed"
        tail = self.tail(in_allowed=False)
        whole = nodes.TailNode(tenant, tail.values, tail.at, tail.because, tail.at_span)
        return nodes.RouteAskNode(method, path, subject, expected, whole, self.since(start))

    def tail(self, *, in_allowed: bool = True) -> nodes.TailNode:
        """[ "in" TENANT ] [ "with" "{" … "}" ] [ "at" TIME ] [ "because" NAME ]"""
        tenant = self.fixture_name("a tenant") if in_allowed and self.take_word("in") else None
        values = self.values() if self.take_word("with") else ()
        at_span = self.ahead(1).span if self.is_word("at") else None
        at = self.string("a time") if self.take_word("at") else None
        because = self.dotted("a code, a rule or a role") if self.take_word("because") else None
        if self.is_word("in", "with", "at", "because"):
            self.fail(
                f"`{self.token.text}` stands before what is here",
                cure=f"the order is {'`in`, ' if in_allowed else ''}`with`, `at`, `because`",
            )
        return nodes.TailNode(tenant, values, at, because, at_span)
