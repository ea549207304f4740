"""The tokens of one file and the place that has been reached: what all rules of the grammar are written with."""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from engine import nodes
from engine.diagnostics import Diagnostic
from engine.lexer import Token
from engine.source import Span
from engine.spelling import nearest

T = TypeVar("T")

MAX_NESTING = 64
MAX_PARTS = 16
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


class PolicySyntaxError(Exception):
    """One syntax error; caught where a declaration begins. Never leaves the parser."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class Cursor:
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
        message = f"{wanted}, but {shown}" if wanted.startswith("expected") else wanted
        if cure is None and self.is_punct_before(","):
            cure = "no comma stands after the last of a list"
        raise PolicySyntaxError(
            Diagnostic("E0100", message, place, cure or (f"did you mean `{fix}`?" if fix else None), fix)
        )

    def is_punct_before(self, text: str) -> bool:
        """Say whether something closes a list right after a comma."""
        closes = self.token.kind == "punct" and self.token.text in "}])"
        return closes and self.index > 0 and self.tokens[self.index - 1].is_punct(text)

    def skip_to_declaration(self, began: int) -> None:
        """Go on to the next word that begins a line unindented and may begin a declaration, past `began`."""
        self.depth = 0
        self.index = max(self.index, min(began + 1, len(self.tokens) - 1))
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
            raise PolicySyntaxError(
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
            self.bound_parts(parts)
        return nodes.Name(tuple(parts), self.since(start), start.kind == "string" and len(parts) == 1)

    def bound_parts(self, parts: list[T]) -> None:
        """Refuse a dotted name of more parts than anything has."""
        if len(parts) > MAX_PARTS:
            raise PolicySyntaxError(Diagnostic("E0101", f"a name has at most {MAX_PARTS} parts", self.token.span))

    def string(self, what: str) -> str:
        if self.token.kind != "string":
            self.fail(f"expected {what} in double quotes")
        return self.advance().text

    # --- patterns ------------------------------------------------------------------------------------

    def pattern(self) -> nodes.PatternNode:
        """type.action | type.* | namespace.* | *.action | * | action"""
        start = self.token
        parts = [self.pattern_part()]
        while self.take_punct("."):
            parts.append(self.pattern_part())
            self.bound_parts(parts)
        span = self.since(start)
        stars = parts.count("*")
        if (
            stars > 1
            or (stars and len(parts) > 1 and parts[0] != "*" and parts[-1] != "*")
            or (parts[0] == "*" and len(parts) > 2)
        ):
            raise PolicySyntaxError(
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

    def plain_cans(self) -> tuple[nodes.PatternNode, ...]:
        self.want_punct("{")
        patterns: list[nodes.PatternNode] = []
        while not self.take_punct("}"):
            if not self.take_word("can"):
                self.fail("expected `can` or `}`", known=("can",))
            patterns.extend(self.list_of(self.pattern))
        return tuple(patterns)
