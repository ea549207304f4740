"""Text → syntax tree.

A recursive descent over the tokens of one file, one method per rule of the grammar, each quoting its rule. The design
sketched a lark grammar; three things argued for this form, each seen: words are keywords only where the grammar has
them (an action may be called `in`, a rule `because`), which here needs no lexer states; after a syntax error the next
declaration is found, so all errors of all files come in one run; and `bylaw lint` has no parser to import and no
tables to build or to trust from a cache (importing lark alone costs 50 ms).

What is deeper than `MAX_NESTING` is refused here, so that no later stage can run out of stack.
"""

from collections.abc import Callable
from typing import Literal, NoReturn, TypeVar

from engine import nodes
from engine.diagnostics import Diagnostic
from engine.lexer import Token, tokenize
from engine.source import Source, Span
from engine.spelling import nearest

T = TypeVar("T")

MAX_NESTING = 64
MAX_TEXT = 4 * 1024 * 1024

DECLARATIONS = (
    "tenant",
    "resource",
    "principal",
    "system",
    "context",
    "role",
    "custom",
    "allow",
    "deny",
    "route",
    "assign",
    "define",
    "test",
)
COMPARISONS = ("in", "contains", "overlaps", "within", "like")
SYMBOLS = ("==", "!=", "<", "<=", ">", ">=")
#: Words that a test's statements are made of: a name spelt like one is quoted.
TEST_WORDS = frozenset(
    [
        "can",
        "cannot",
        "exactly",
        "none",
        "anonymous",
        "is",
        "as",
        "in",
        "of",
        "with",
        "at",
        "because",
        "from",
        "until",
        "new",
        "guest",
        "suspended",
        "allowed",
        "denied",
        "on",
    ]
)


class _SyntaxError(Exception):
    """One syntax error; caught where a declaration begins. Never leaves this module."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def parse(source: Source) -> tuple[nodes.Module, list[Diagnostic]]:
    """Parse one file: the declarations that could be read, and every syntax error."""
    if len(source.text) > MAX_TEXT:
        span = Span(source, 0, 0)
        return nodes.Module((), span), [Diagnostic("E0101", "a policy holds at most 4 MiB of text", span)]
    tokens, found = tokenize(source)
    parser = _Parser(tokens)
    declarations: list[nodes.Declaration] = []
    while not parser.at_end():
        try:
            declarations.append(parser.declaration())
        except _SyntaxError as error:
            found.append(error.diagnostic)
            parser.skip_to_declaration()
    return nodes.Module(tuple(declarations), Span(source, 0, len(source.text))), found


class _Parser:
    """The tokens of one file and the place that has been reached."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.depth = 0

    # --- the tokens --------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def ahead(self, distance: int) -> Token:
        return self.tokens[min(self.index + distance, len(self.tokens) - 1)]

    def at_end(self) -> bool:
        return self.token.kind == "end"

    def advance(self) -> Token:
        token = self.tokens[self.index]
        if token.kind != "end":
            self.index += 1
        return token

    def since(self, start: Token) -> Span:
        """The span from a token to the one before the present one."""
        last = self.tokens[max(self.index - 1, 0)]
        return start.span if last.span.end < start.span.end else start.span.to(last.span)

    def is_word(self, *words: str) -> bool:
        return self.token.kind == "name" and self.token.text in words

    def is_punct(self, text: str) -> bool:
        return self.token.is_punct(text)

    def take_word(self, word: str) -> bool:
        if self.token.is_word(word):
            self.index += 1
            return True
        return False

    def take_punct(self, text: str) -> bool:
        if self.token.is_punct(text):
            self.index += 1
            return True
        return False

    def want_word(self, word: str) -> Token:
        if not self.token.is_word(word):
            self.fail(f"expected `{word}`")
        return self.advance()

    def want_punct(self, text: str) -> Token:
        if not self.token.is_punct(text):
            self.fail(f"expected `{text}`")
        return self.advance()

    def fail(self, wanted: str, *, cure: str | None = None, known: tuple[str, ...] = ()) -> NoReturn:
        token = self.token
        shown = {"end": "the text ends", "string": f'there is "{token.text}"'}.get(
            token.kind, f"there is `{token.text}`"
        )
        fix = nearest(token.text, known) if known and token.kind == "name" else None
        place = token.span
        if token.kind == "end" and self.index:
            place = self.tokens[self.index - 1].span
        raise _SyntaxError(
            Diagnostic(
                "E0100", f"{wanted}, but {shown}", place, cure or (f"did you mean `{fix}`?" if fix else None), fix
            )
        )

    def skip_to_declaration(self) -> None:
        """Go on to the next word that begins a line unindented and may begin a declaration."""
        self.depth = 0
        if not self.at_end():
            self.index += 1
        while not self.at_end():
            token = self.token
            if (
                token.kind == "name"
                and token.text in DECLARATIONS
                and token.span.source.position(token.span.start)[1] == 1
            ):
                return
            self.index += 1

    def deeper(self, rule: Callable[[], T]) -> T:
        """Run a rule one level deeper, up to `MAX_NESTING`."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise _SyntaxError(
                Diagnostic(
                    "E0101",
                    f"nested deeper than {MAX_NESTING} levels",
                    self.token.span,
                    "name a part of it with `define`",
                )
            )
        try:
            return rule()
        finally:
            self.depth -= 1

    def list_of(self, rule: Callable[[], T]) -> tuple[T, ...]:
        """item { "," item }"""
        items = [rule()]
        while self.take_punct(","):
            items.append(rule())
        return tuple(items)

    # --- names -------------------------------------------------------------------------------------

    def segment(self, what: str) -> Token:
        """NAME or a quoted string that stands for one."""
        token = self.token
        if token.kind not in ("name", "string"):
            self.fail(f"expected {what}")
        if token.kind == "string" and (not token.text or any(c in token.text for c in ":/.*")):
            self.fail(f"expected {what}", cure="a quoted name holds none of `: / . *` and is not empty")
        return self.advance()

    def name(self, what: str) -> nodes.Name:
        """One name, no points."""
        token = self.segment(what)
        return nodes.Name((token.text,), token.span, token.kind == "string")

    def dotted(self, what: str) -> nodes.Name:
        """NAME { "." NAME }"""
        start = self.token
        parts = [self.segment(what).text]
        while self.take_punct("."):
            parts.append(self.segment(what).text)
        return nodes.Name(tuple(parts), self.since(start), start.kind == "string" and len(parts) == 1)

    def string(self, what: str) -> str:
        if self.token.kind != "string":
            self.fail(f"expected {what} in double quotes")
        return self.advance().text

    # --- declarations ------------------------------------------------------------------------------

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
            raise _SyntaxError(Diagnostic("E0100", "`system` has actions alone, no attributes", attributes[0].span))
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

    def pattern(self) -> nodes.PatternNode:
        """type.action | type.* | namespace.* | *.action | * | action"""
        start = self.token
        parts = [self.pattern_part()]
        while self.take_punct("."):
            parts.append(self.pattern_part())
        span = self.since(start)
        stars = parts.count("*")
        if (
            stars > 1
            or (stars and len(parts) > 1 and parts[0] != "*" and parts[-1] != "*")
            or (parts[0] == "*" and len(parts) > 2)
        ):
            raise _SyntaxError(
                Diagnostic(
                    "E0100",
                    f"`{'.'.join(parts)}` is no pattern",
                    span,
                    "patterns are `type.action`, `type.*`, `namespace.*`, `*.action` and `*`",
                )
            )
        if self.is_punct("*") and self.token.span.start == span.end:
            self.fail(
                "a `*` stands for a whole segment",
                cure="patterns are `type.action`, `type.*`, `namespace.*`, `*.action` and `*`",
            )
        return nodes.PatternNode(tuple(parts), span)

    def pattern_part(self) -> str:
        return "*" if self.take_punct("*") else self.segment("a pattern").text

    def custom(self, start: Token) -> nodes.CustomNode:
        """ "custom" "on" TYPE "{" { "can" PATTERN, … } "}" """
        self.want_word("on")
        on = self.dotted("the type that the roles are held on")
        patterns = self.plain_cans()
        return nodes.CustomNode(on, patterns, self.since(start))

    def plain_cans(self) -> tuple[nodes.PatternNode, ...]:
        self.want_punct("{")
        patterns: list[nodes.PatternNode] = []
        while not self.take_punct("}"):
            if not self.take_word("can"):
                self.fail("expected `can` or `}`", known=("can",))
            patterns.extend(self.list_of(self.pattern))
        return tuple(patterns)

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
            raise _SyntaxError(Diagnostic("E0100", f"`{key}` stands here twice", self.since(start)))
        options[key] = value

    def define(self, start: Token) -> nodes.DefineNode:
        """ "define" NAME "=" cond"""
        name = self.name("the name of the condition")
        self.want_punct("=")
        return nodes.DefineNode(name, self.condition(), self.since(start))

    # --- conditions --------------------------------------------------------------------------------

    def condition(self) -> nodes.ExprNode:
        """cond := and { "or" and }"""
        return self.deeper(lambda: self.joined("or", lambda: self.joined("and", self.negation)))

    def joined(self, word: Literal["and", "or"], rule: Callable[[], nodes.ExprNode]) -> nodes.ExprNode:
        start = self.token
        items = [rule()]
        while self.take_word(word):
            items.append(rule())
        return items[0] if len(items) == 1 else nodes.BoolNode(word, tuple(items), self.since(start))

    def negation(self) -> nodes.ExprNode:
        """not := "not" not | compare"""
        start = self.token
        if self.take_word("not"):
            return nodes.NotNode(self.deeper(self.negation), self.since(start))
        return self.comparison()

    def comparison(self) -> nodes.ExprNode:
        """sum [ op sum ] | "principal" "is" ROLE ("on" | "at") path | path "has" (NAME | TYPE)"""
        start = self.token
        left = self.sum()
        if self.is_word("is") and isinstance(left, nodes.PathNode):
            return self.holds(left, start)
        if self.is_word("has") and isinstance(left, nodes.PathNode):
            self.advance()
            return nodes.HasNode(left, self.dotted("the name of an attribute or of a type"), self.since(start))
        op = self.comparison_op()
        if op is None:
            return left
        right = self.sum()
        if self.comparison_op() is not None:
            self.index -= 1
            self.fail("comparisons do not chain", cure="join two comparisons with `and`")
        return nodes.CompareNode(op, left, right, self.since(start))

    def comparison_op(self) -> str | None:
        token = self.token
        if token.kind == "punct" and token.text in SYMBOLS:
            return self.advance().text
        if token.kind == "name" and token.text in COMPARISONS:
            return self.advance().text
        if token.is_word("not") and self.ahead(1).is_word("in"):
            self.index += 2
            return "not in"
        if token.is_punct("="):
            self.fail("expected `==`", cure="`==` compares; `=` stands in `define` alone")
        return None

    def holds(self, subject: nodes.PathNode, start: Token) -> nodes.HoldsNode:
        if [segment.text for segment in subject.segments] != ["principal"]:
            self.fail("only `principal is ROLE on …` can be asked")
        self.advance()
        role = self.dotted("a role")
        if not self.is_word("on", "at"):
            self.fail(
                "expected `on` or `at` and a place",
                cure="`principal is ROLE on resource`: held there or above; `at`: on that very instance",
            )
        exact = self.advance().text == "at"
        return nodes.HoldsNode(role, exact, self.path(), self.since(start))

    def sum(self) -> nodes.ExprNode:
        """sum := term { ("+" | "-") term }"""
        start = self.token
        left = self.term()
        count = 0
        while self.is_punct("+") or self.is_punct("-"):
            count += 1
            if count > MAX_NESTING:
                raise _SyntaxError(Diagnostic("E0101", f"a sum has at most {MAX_NESTING} terms", self.token.span))
            op: Literal["+", "-"] = "+" if self.advance().text == "+" else "-"
            left = nodes.ArithNode(op, left, self.term(), self.since(start))
        return left

    def term(self) -> nodes.ExprNode:
        """term := literal | path | "[" term, … "]" | call | "(" cond ")" """
        start = self.token
        if self.take_punct("("):
            inner = self.condition()
            self.want_punct(")")
            return inner
        if self.take_punct("["):
            if self.take_punct("]"):
                return nodes.ListNode((), self.since(start))
            items = self.deeper(lambda: self.list_of(self.term))
            self.want_punct("]")
            return nodes.ListNode(items, self.since(start))
        literal = self.literal()
        if literal is not None:
            return literal
        if start.kind == "name" and self.ahead(1).is_punct("("):
            return self.call()
        return self.path()

    def literal(self) -> nodes.Literal_ | None:
        """STRING | [ "-" ] INT | DURATION | "true" | "false" """
        start = self.token
        if start.kind == "string" and not self.ahead(1).is_punct("."):
            return nodes.Literal_("string", self.advance().text, start.span)
        negative = start.is_punct("-") and self.ahead(1).kind == "int"
        if negative:
            self.advance()
        token = self.token
        if token.kind == "int":
            self.advance()
            digits = token.text[:40]  # more digits than any integer has are out of range however they go on
            return nodes.Literal_("int", -int(digits) if negative else int(digits), self.since(start))
        if token.kind == "duration":
            return nodes.Literal_("duration", self.advance().text, token.span)
        if token.is_word("true") or token.is_word("false"):
            return nodes.Literal_("bool", self.advance().text == "true", token.span)
        return None

    def call(self) -> nodes.CallNode:
        """NAME "(" [ term, … ] ")" """
        start = self.token
        name = self.name("a function")
        self.want_punct("(")
        args: tuple[nodes.ExprNode, ...] = ()
        if not self.is_punct(")"):
            args = self.deeper(lambda: self.list_of(self.sum))
        self.want_punct(")")
        return nodes.CallNode(name, args, self.since(start))

    def path(self) -> nodes.PathNode:
        """NAME { "." NAME }"""
        start = self.token
        if start.kind not in ("name", "string"):
            self.fail("expected a value, a path or a condition")
        segments = [self.name("a path")]
        while self.take_punct("."):
            segments.append(self.name("a name after the point"))
        return nodes.PathNode(tuple(segments), self.since(start))

    # --- tests -------------------------------------------------------------------------------------

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
        return nodes.TailNode(tenant, values, at, because, at_span)
