"""Text → syntax tree.

A recursive descent over the tokens of one file, one method per rule of the grammar, each quoting its rule. The design
sketched a lark grammar; three things argued for this form, each seen: words are keywords only where the grammar has
them (an action may be called `in`, a rule `because`), which here needs no lexer states; after a syntax error the next
declaration is found, so all errors of all files come in one run; and `bylaw lint` has no parser to import and no
tables to build or to trust from a cache (importing lark alone costs 50 ms).

What is deeper than `MAX_NESTING` is refused here, so that no later stage can run out of stack.
"""

from collections.abc import Callable
from typing import Literal

from engine import nodes
from engine.cursor import DECLARATIONS, MAX_TEXT, PolicySyntaxError
from engine.diagnostics import Diagnostic
from engine.lexer import Token, tokenize
from engine.source import Source, Span
from engine.test_rules import TestRules


def parse(source: Source) -> tuple[nodes.Module, list[Diagnostic]]:
    """Parse one file: the declarations that could be read, and every syntax error."""
    if len(source.text) > MAX_TEXT:
        span = Span(source, 0, 0)
        return nodes.Module((), span), [Diagnostic("E0101", "a policy holds at most 4 MiB of text", span)]
    tokens, found = tokenize(source)
    unread = {d.span.line for d in found}
    parser = Parser(tokens)
    declarations: list[nodes.Declaration] = []
    while not parser.at_end():
        began = parser.index
        try:
            declarations.append(parser.declaration())
        except PolicySyntaxError as error:
            # What could not be read as words is told already, and not again as the confusion it leaves on its line.
            if error.diagnostic.span.line not in unread:
                found.append(error.diagnostic)
            parser.skip_to_declaration(began)
    return nodes.Module(tuple(declarations), Span(source, 0, len(source.text))), found


class Parser(TestRules):
    """What reads declarations."""

    def declaration(self) -> nodes.Declaration:
        """tenant | resource | principal | system | context | role | custom | allow | deny | route | assign | define |
        test"""
        rules: dict[str, Callable[[Token], nodes.Declaration]] = {
            "tenant": self.tenant,
            "resource": self.resource,
            "principal": self.principal,
            "system": self.system,
            "context": self.context,
            "role": self.role,
            "custom": self.custom,
            "allow": self.rule,
            "deny": self.rule,
            "route": self.route,
            "assign": self.assign,
            "define": self.define,
            "test": self.test,
        }
        token = self.token
        if token.kind != "name" or token.text not in rules:
            self.fail("expected a declaration", known=DECLARATIONS, cure=None)
        self.advance()
        return rules[token.text](token)

    def tenant(self, start: Token) -> nodes.TenantNode:
        """ "tenant" NAME [ body ]"""
        name = self.dotted("the name of the tenant's type")
        actions, attributes = self.body()
        return nodes.TenantNode(name, actions, attributes, self.since(start))

    def resource(self, start: Token) -> nodes.ResourceNode:
        """ "resource" NAME [ "in" TYPE { "|" TYPE } ] [ "external" ] [ body ]"""
        name = self.dotted("the name of the resource type")
        parents: list[nodes.Name] = []
        if self.take_word("in"):
            parents.append(self.dotted("the type of the parent"))
            while self.take_punct("|"):
                parents.append(self.dotted("the type of the parent"))
        external = self.take_word("external")
        actions, attributes = self.body()
        return nodes.ResourceNode(name, tuple(parents), external, actions, attributes, self.since(start))

    def principal(self, start: Token) -> nodes.PrincipalNode:
        """ "principal" NAME [ "as" NAME, … ] [ body ]"""
        name = self.name("`user`, `service` or `group`")
        aliases = self.list_of(lambda: self.name("a further name")) if self.take_word("as") else ()
        actions, attributes = self.body()
        return nodes.PrincipalNode(name, aliases, actions, attributes, self.since(start))

    def system(self, start: Token) -> nodes.SystemNode:
        """ "system" "{" "actions" … "}" """
        actions, attributes = self.body(required=True)
        if attributes:
            raise PolicySyntaxError(
                Diagnostic("E0100", "`system` has actions alone, no attributes", attributes[0].span)
            )
        return nodes.SystemNode(actions, self.since(start))

    def context(self, start: Token) -> nodes.ContextNode:
        """ "context" "{" [ field { "," field } ] "}" """
        return nodes.ContextNode(self.fields(), self.since(start))

    def body(self, *, required: bool = False) -> tuple[tuple[nodes.ActionNode, ...], tuple[nodes.AttributeNode, ...]]:
        """ "{" { "actions" action, … | "attributes" "{" … "}" } "}" """
        if not required and not self.is_punct("{"):
            return (), ()
        self.want_punct("{")
        actions: list[nodes.ActionNode] = []
        attributes: list[nodes.AttributeNode] = []
        while not self.take_punct("}"):
            if self.take_word("actions"):
                actions.extend(self.list_of(self.action))
            elif self.take_word("attributes"):
                attributes.extend(self.fields(sent=True))
            else:
                self.fail("expected `actions`, `attributes` or `}`", known=("actions", "attributes"))
        return tuple(actions), tuple(attributes)

    def action(self) -> nodes.ActionNode:
        """NAME [ "new" ] [ "{" field, … "}" ]"""
        start = self.token
        name = self.name("the name of an action")
        new = self.take_word("new")
        fields = self.fields() if self.is_punct("{") else ()
        return nodes.ActionNode(name, new, fields, self.since(start))

    def fields(self, *, sent: bool = False) -> tuple[nodes.AttributeNode, ...]:
        """ "{" [ NAME ":" TYPE [ "?" ] [ "sent" ] { "," … } ] "}" """
        self.want_punct("{")
        if self.take_punct("}"):
            return ()
        found = self.list_of(lambda: self.attribute(sent=sent))
        self.want_punct("}")
        return found

    def attribute(self, *, sent: bool) -> nodes.AttributeNode:
        start = self.token
        name = self.name("the name of an attribute")
        self.want_punct(":")
        kind = self.type()
        optional = self.take_punct("?")
        is_sent = sent and self.take_word("sent")
        return nodes.AttributeNode(name, kind, optional, is_sent, self.since(start))

    def type(self) -> nodes.TypeNode:
        """NAME | "set" "<" TYPE ">" | STRING { "|" STRING }"""
        start = self.token
        if start.kind == "string" and not self.ahead(1).is_punct("."):
            options = [self.advance().text]
            while self.take_punct("|"):
                options.append(self.string("the next word of the enumeration"))
            return nodes.EnumType(tuple(options), self.since(start))
        if start.is_word("set") and self.ahead(1).is_punct("<"):
            self.advance()
            self.advance()
            element = self.deeper(self.type)
            self.want_punct(">")
            return nodes.SetType(element, self.since(start))
        return nodes.TypeName(self.dotted("a type"), self.since(start))

    def role(self, start: Token) -> nodes.RoleNode:
        """ "role" NAME "on" TYPE [ "is" ROLE, … ] [ "crossing" ] [ "claimable" ] "{" { can } "}" """
        name = self.name("the name of the role")
        self.want_word("on")
        on = self.dotted("the type that the role is held on")
        supers = self.list_of(lambda: self.dotted("a role")) if self.take_word("is") else ()
        crossing = claimable = False
        while self.is_word("crossing", "claimable"):
            if self.advance().text == "crossing":
                crossing = True
            else:
                claimable = True
        self.want_punct("{")
        cans: list[nodes.CanNode] = []
        while not self.take_punct("}"):
            cans.append(self.can())
        return nodes.RoleNode(name, on, supers, crossing, claimable, tuple(cans), self.since(start))

    def can(self) -> nodes.CanNode:
        """ "can" PATTERN, … [ "when" cond ] [ "unless" cond ]"""
        start = self.token
        if not self.take_word("can"):
            self.fail("expected `can` or `}`", known=("can",))
        patterns = self.list_of(self.pattern)
        when, unless = self.conditions()
        return nodes.CanNode(patterns, when, unless, self.since(start))

    def conditions(self) -> tuple[nodes.ExprNode | None, nodes.ExprNode | None]:
        """[ "when" cond ] [ "unless" cond ]"""
        when = self.condition() if self.take_word("when") else None
        unless = self.condition() if self.take_word("unless") else None
        if self.is_word("when"):
            self.fail("`when` stands before `unless`, once")
        return when, unless

    def custom(self, start: Token) -> nodes.CustomNode:
        """ "custom" "on" TYPE "{" { "can" PATTERN, … } "}" """
        self.want_word("on")
        on = self.dotted("the type that the roles are held on")
        patterns = self.plain_cans()
        return nodes.CustomNode(on, patterns, self.since(start))

    def rule(self, start: Token) -> nodes.RuleNode:
        """("allow" | "deny") NAME ":" WHO, … "to" PATTERN, … [ when ] [ unless ] [ "because" STRING ] [ "with" "{" …
        "}" ]"""
        name = self.name("the name of the rule")
        if not self.is_punct(":"):
            self.fail(
                "expected `:` after the rule's name", cure=f"every rule has a name: `{start.text} my_rule: … to …`"
            )
        self.advance()
        who = self.list_of(self.who)
        self.want_word("to")
        patterns = self.list_of(self.pattern)
        when, unless = self.conditions()
        because = self.string("the reason") if self.take_word("because") else None
        obligations = self.obligations() if self.take_word("with") else ()
        effect: Literal["allow", "deny"] = "allow" if start.text == "allow" else "deny"
        return nodes.RuleNode(effect, name, who, patterns, when, unless, because, obligations, self.since(start))

    def who(self) -> nodes.WhoNode:
        """ "anyone" | "public" | "user" | "service" | ROLE | "group" STRING"""
        start = self.token
        if start.is_word("group") and self.ahead(1).kind == "string":
            self.advance()
            token = self.advance()
            return nodes.WhoNode("group", nodes.Name((token.text,), token.span, True), self.since(start))
        name = self.dotted('who: `anyone`, `public`, `user`, `service`, a role, or `group "NAME"`')
        for kind in ("anyone", "public", "user", "service"):
            if start.kind == "name" and name.text == kind:
                return nodes.WhoNode(kind, name, name.span)
        return nodes.WhoNode("role", name, name.span)

    def obligations(self) -> tuple[tuple[nodes.Name, nodes.Literal_], ...]:
        """ "{" [ NAME ":" literal { "," … } ] "}" """
        self.want_punct("{")
        if self.take_punct("}"):
            return ()
        found = self.list_of(self.obligation)
        self.want_punct("}")
        return found

    def obligation(self) -> tuple[nodes.Name, nodes.Literal_]:
        name = self.name("the name of an obligation")
        self.want_punct(":")
        literal = self.literal()
        if literal is None:
            self.fail("expected a literal")
        return name, literal

    def route(self, start: Token) -> nodes.RouteNode:
        """ "route" METHOD STRING ( "to" ACTION [ "in" TYPE ] | "public" | "authenticated" )"""
        method = "*" if self.take_punct("*") else self.segment("a method, or `*`").text
        template_token = self.token
        template = self.string("the path's template")
        action: nodes.PatternNode | None = None
        parent: nodes.Name | None = None
        open_to: Literal["public", "authenticated"] | None = None
        if self.take_word("public"):
            open_to = "public"
        elif self.take_word("authenticated"):
            open_to = "authenticated"
        elif self.take_word("to"):
            action = self.pattern()
            if self.take_word("in"):
                parent = self.dotted("the type of the parent")
        else:
            self.fail("expected `to`, `public` or `authenticated`", known=("to", "public", "authenticated"))
        return nodes.RouteNode(method, template, action, parent, open_to, template_token.span, self.since(start))

    def assign(self, start: Token) -> nodes.AssignNode:
        """ "assign" ROLE, … "by" ROLE, … [ "when" cond ] [ "{" option, … "}" ]"""
        what = self.list_of(self.assigned)
        self.want_word("by")
        by = self.list_of(lambda: self.dotted("a role"))
        when = self.condition() if self.take_word("when") else None
        options: dict[str, object] = {}
        if self.take_punct("{") and not self.take_punct("}"):
            self.list_of(lambda: self.assign_option(options))
            self.want_punct("}")
        return nodes.AssignNode(
            what,
            by,
            when,
            options.get("max"),  # type: ignore[arg-type]  # an int, by `assign_option`
            "not self" in options,
            "approval" in options,
            "anyone" in options,
            options.get("expires"),  # type: ignore[arg-type]  # a str, by `assign_option`
            self.since(start),
        )

    def assigned(self) -> nodes.AssignedNode:
        start = self.token
        if start.is_word("group") and self.ahead(1).kind == "string":
            self.advance()
            token = self.advance()
            return nodes.AssignedNode("group", nodes.Name((token.text,), token.span, True), self.since(start))
        name = self.dotted('a role, `members`, `groups`, `custom` or `group "NAME"`')
        for kind in ("members", "groups", "custom"):
            if start.kind == "name" and name.text == kind:
                return nodes.AssignedNode(kind, name, name.span)
        return nodes.AssignedNode("role", name, name.span)

    def assign_option(self, options: dict[str, object]) -> None:
        """ "max" INT | "not" "self" | "approval" | "anyone" | "expires" "within" DURATION"""
        start = self.token
        if self.take_word("max"):
            if self.token.kind != "int":
                self.fail("expected a number after `max`")
            key, value = "max", int(self.advance().text[:18])
        elif self.take_word("not"):
            self.want_word("self")
            key, value = "not self", 1
        elif self.is_word("approval", "anyone"):
            key, value = self.advance().text, 1
        elif self.take_word("expires"):
            self.want_word("within")
            if self.token.kind != "duration":
                self.fail("expected a duration, like `30d`")
            key, value = "expires", self.advance().text  # type: ignore[assignment]  # one dict for all options
        else:
            self.fail(
                "expected `max N`, `not self`, `approval`, `anyone` or `expires within DURATION`",
                known=("max", "approval", "anyone", "expires"),
            )
        if key in options:
            raise PolicySyntaxError(Diagnostic("E0100", f"`{key}` stands here twice", self.since(start)))
        options[key] = value

    def define(self, start: Token) -> nodes.DefineNode:
        """ "define" NAME "=" cond"""
        name = self.name("the name of the condition")
        self.want_punct("=")
        return nodes.DefineNode(name, self.condition(), self.since(start))
