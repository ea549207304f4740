"""Rules of the grammar for conditions: `cond`, `compare`, `sum`, `term`, `path`, and lists of patterns' literals."""

from collections.abc import Callable
from typing import Literal

from engine import nodes
from engine.cursor import COMPARISONS, MAX_NESTING, SYMBOLS, Cursor, PolicySyntaxError
from engine.diagnostics import Diagnostic
from engine.lexer import Token


class ConditionRules(Cursor):
    """What reads conditions, wherever they stand."""

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
            if count >= MAX_NESTING:
                raise PolicySyntaxError(Diagnostic("E0101", f"a sum has at most {MAX_NESTING} terms", self.token.span))
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
            self.bound_parts(segments)
        return nodes.PathNode(tuple(segments), self.since(start))
