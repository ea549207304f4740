"""Text → pieces: what the author wrote, as a formatter must see it.

The syntax tree forgets comments, the order of options, and where lines ended. So the real parser is watched at work and
says of each token whether it took it as a name or value, or as a word or sign of the grammar; from then on
`can when when x` is unambiguous, and there is no second grammar to keep in step with the first.

Here parentheses that precedence makes redundant are dropped, quotes that a plain name does not need, and strings are
escaped in the one way. Parentheses around an `and` in an `or`, and around what a `not` turns round, stay: they cost two
characters and spare the reader of a deny a second look.
"""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from engine import nodes
from engine.cursor import COMPARISONS, DECLARATIONS, SYMBOLS, TEST_WORDS
from engine.lexer import Token, tokenize
from engine.parser import Parser
from engine.source import Source

T = TypeVar("T")

_WORDS = """
    action actions and anyone approval attributes authenticated by claimable crossing expires external false group
    groups has link max members not or public self sent service set to true unless user when
"""
#: A name spelt like one of these keeps its quotes, wherever it stands.
KEYWORDS = TEST_WORDS | {*DECLARATIONS, *COMPARISONS, *_WORDS.split()}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_COMMENT = re.compile(r"#[^\n]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment before a piece; `own_line`: nothing stands before it on its line; `blank`: an empty line does above."""

    text: str
    own_line: bool
    blank: bool
    column: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands before a piece: comments, whether the line ended there and an empty one followed, and spaces."""

    comments: tuple[Comment, ...]
    newline: bool
    blank: bool
    spaces: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A token as it will be printed; `word` is empty where it is a name or a value, `tight`: no space goes before it.

    `line`, `column` and `end` say where it stood, columns counted from 0.
    """

    text: str
    word: str
    gap: Gap
    line: int
    column: int
    end: int
    tight: bool


@dataclass(frozen=True, slots=True)
class Stretch:
    """The pieces of a declaration, or of a statement in a test: from `start` up to, not including, `end`."""

    start: int
    end: int
    statements: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The pieces of a file, the declarations among them, and for each opening bracket its closing one.

    The last piece is the end of the text.
    """

    pieces: tuple[Piece, ...]
    declarations: tuple[Stretch, ...]
    match: dict[int, int]


class _Watcher(Parser):
    """The parser, noting which tokens it takes as values, which as names that need no quotes, and where things begin.

    Rules that call themselves are left alone: a frame more for each level would run out of stack before `MAX_NESTING`.
    """

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self.taken: set[int] = set()
        self.plain: set[int] = set()
        self.angles: set[int] = set()
        self.declarations: list[tuple[int, int, list[tuple[int, int]]]] = []
        self.statements: list[tuple[int, int]] = []
        self.keeps_quotes = False

    def segment(self, what: str) -> Token:
        self.taken.add(self.index)
        if not self.keeps_quotes:
            self.plain.add(self.index)
        return super().segment(what)

    def fixture_name(self, what: str) -> nodes.Name:
        self.taken.add(self.index)
        return super().fixture_name(what)

    def literal(self) -> nodes.Literal_ | None:
        start = self.index
        found = super().literal()
        self.taken.update(range(start, self.index))
        return found

    def quoting(self, rule: Callable[[], T]) -> T:
        """Run a rule in which quotes may tell a name from a word or a string: they stay as written."""
        before, self.keeps_quotes = self.keeps_quotes, True
        try:
            return rule()
        finally:
            self.keeps_quotes = before

    def who(self) -> nodes.WhoNode:
        return self.quoting(super().who)

    def assigned(self) -> nodes.AssignedNode:
        return self.quoting(super().assigned)

    def path(self) -> nodes.PathNode:
        return self.quoting(super().path)

    def type(self) -> nodes.TypeNode:
        start = self.index
        found = self.quoting(super().type)
        self.angles.update(k for k in range(start, self.index) if self.tokens[k].kind == "punct")
        return found

    def route(self, start: Token) -> nodes.RouteNode:
        outer = super().route
        return self.quoting(lambda: outer(start))

    def declaration(self) -> nodes.Declaration:
        start, self.statements = self.index, []
        found = super().declaration()
        self.declarations.append((start, self.index, self.statements))
        return found

    def statement(self) -> nodes.FixtureNode | nodes.ExpectationNode:
        start = self.index
        found = self.quoting(super().statement)
        self.statements.append((start, self.index))
        return found


def read(source: Source) -> Written:
    """Read a source that has no syntax error."""
    tokens, _ = tokenize(source)
    watcher = _Watcher(tokens)
    while not watcher.at_end():
        watcher.declaration()
    words = [_word(token, index in watcher.taken) for index, token in enumerate(tokens)]
    match = _match(words)
    dropped = _redundant(tokens, words, match)
    kept = [index for index in range(len(tokens)) if index not in dropped]
    pieces: list[Piece] = []
    before: int | None = None
    for index in kept:
        tight = before is not None and _is_tight(tokens, words, before, index, watcher.angles)
        gap = _gap(source, tokens[before].span.end if before is not None else 0, tokens[index].span.start)
        pieces.append(_piece(tokens[index], words[index], gap, may_be_plain=index in watcher.plain, tight=tight))
        before = index
    pairs = {bisect(kept, i) - 1: bisect(kept, j) - 1 for i, j in match.items() if i not in dropped}
    return Written(tuple(pieces), _stretches(watcher, kept), pairs)


def _stretches(watcher: _Watcher, kept: Sequence[int]) -> tuple[Stretch, ...]:
    """Turn the numbers of tokens where declarations and statements begin and end into those of pieces."""
    place = partial(bisect_left, kept)
    return tuple(
        Stretch(place(i), place(j), tuple(Stretch(place(a), place(b)) for a, b in statements))
        for i, j, statements in watcher.declarations
    )


def _word(token: Token, is_value: bool) -> str:
    return token.text if token.kind in ("name", "punct") and not is_value else ""


def _match(words: Sequence[str]) -> dict[int, int]:
    """Find for each opening bracket the one that closes it."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for index, word in enumerate(words):
        if word in ("(", "[", "{"):
            opened.append(index)
        elif word in (")", "]", "}"):
            found[opened.pop()] = index
    return found


# --- what is printed --------------------------------------------------------------------------------------------------


def _text(token: Token, may_be_plain: bool) -> str:
    if token.kind != "string":
        return token.text
    if may_be_plain and _IDENTIFIER.match(token.text) and token.text not in KEYWORDS:
        return token.text
    return quote(token.text)


def quote(value: str) -> str:
    """Write a string in the one way: only what would end it, or would not be seen, is escaped."""
    return f'"{"".join(map(_escape, value))}"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable() or "\ud800" <= character <= "\udfff":  # half a pair has no escape that the lexer reads
        return character
    return f"\\u{{{ord(character):x}}}"


def _piece(token: Token, word: str, gap: Gap, *, may_be_plain: bool, tight: bool) -> Piece:
    line, column = token.span.source.position(token.span.start)
    end = column + token.span.end - token.span.start
    return Piece(_text(token, may_be_plain), word, gap, line, column - 1, end - 1, tight)


def _gap(source: Source, start: int, end: int) -> Gap:
    """Read what stands between two pieces: white space, comments, and parentheses that have been dropped."""
    comments: list[Comment] = []
    own_line = start == 0
    for found in _COMMENT.finditer(source.text, start, end):
        ends = source.text.count("\n", start, found.start())
        column = source.position(found.start())[1] - 1
        comments.append(Comment(found.group().rstrip(" \t\r\f\v"), own_line or ends > 0, ends > 1, column))
        start, own_line = found.end(), True
    ends = source.text.count("\n", start, end)
    rest = source.text[start:end]
    return Gap(tuple(comments), bool(comments) or ends > 0, ends > 1, len(rest) - len(rest.rstrip(" \t")))


def _is_tight(tokens: Sequence[Token], words: Sequence[str], before: int, index: int, angles: set[int]) -> bool:
    """Say whether two neighbours stand without a space between them."""
    word, word_before = words[index], words[before]
    if word in (",", ".", "?", ")", "]", ":") or word_before in ("(", "[", "."):
        return True
    if word == "(":
        return _is_call(tokens, words, before)
    if word in ("<", ">") or word_before == "<":
        return index in angles or before in angles
    is_sign = tokens[before].is_punct("-") and not word_before
    return is_sign or (word == "}" and word_before == "{")


def _is_call(tokens: Sequence[Token], words: Sequence[str], before: int) -> bool:
    """Say whether a `(` after this token holds arguments: only a function's name can stand right before it."""
    return tokens[before].kind == "name" and not words[before]


# --- parentheses ------------------------------------------------------------------------------------------------------

#: How tightly what stands in parentheses holds together: an `or` least, one operand most.
_OR, _AND, _NOT, _COMPARE, _SUM, _TERM = range(6)
_COMPARING = {*SYMBOLS, *COMPARISONS, "is", "has"}


def _redundant(tokens: Sequence[Token], words: Sequence[str], match: dict[int, int]) -> set[int]:
    """Find the parentheses without which the text means the same."""
    found: set[int] = set()
    outer: list[int] = []  # the brackets around, innermost last
    for index, word in enumerate(words):
        if word in (")", "]", "}"):
            outer.pop()
        elif word in ("(", "[", "{"):
            if word == "(" and not _is_call(tokens, words, index - 1):
                needed = max(_asked_before(tokens, words, index, outer), _asked_after(words, match[index] + 1))
                if _strength(words, match, index + 1, match[index]) >= needed:
                    found |= {index, match[index]}
            outer.append(index)
    return found


def _strength(words: Sequence[str], match: dict[int, int], start: int, end: int) -> int:
    """Say how tightly the expression between two tokens holds together."""
    while words[start] == "(" and match[start] == end - 1:
        start, end = start + 1, end - 1
    operators: set[str] = set()
    index = start
    while index < end:
        operators.add(words[index])
        index = match.get(index, index) + 1
    if operators & {"or"}:
        return _OR
    if operators & {"and"}:
        return _AND
    if words[start] == "not":
        return _NOT
    if operators & _COMPARING:
        return _COMPARE
    return _SUM if operators & {"+", "-"} else _TERM


def _asked_before(tokens: Sequence[Token], words: Sequence[str], index: int, outer: Sequence[int]) -> int:
    """Say how tightly an operand must hold together, by what stands before it."""
    word = words[index - 1]
    if word in ("and", "or"):
        return _NOT  # by precedence an `and` could stand bare in an `or`, but not everybody knows
    if word in ("+", "-"):
        return _TERM
    if word == "not" or word in _COMPARING:
        return _SUM
    if word in ("(", "[", ",") and outer:
        around = outer[-1]
        if words[around] == "[":
            return _TERM
        if words[around] == "(" and _is_call(tokens, words, around - 1):
            return _SUM
    return _OR


def _asked_after(words: Sequence[str], index: int) -> int:
    """Say how tightly an operand must hold together, by what stands after it."""
    word = words[index]
    if word in ("and", "or"):
        return _NOT
    return _SUM if word in ("+", "-", "not") or word in _COMPARING else _OR
