r"""Text → tokens.

One regular expression with no nested repetition walks the text once, so its time is linear whatever comes in. A word
    is only a `name` here:
whether it is a keyword, the parser says, at the place where the grammar has it.
"""

import re
from dataclasses import dataclass
from typing import Literal

from engine.diagnostics import Diagnostic
from engine.source import Source, Span

TokenKind = Literal["name", "string", "int", "duration", "punct", "end"]

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_]*(?:\.[0-9]+)?)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<open>"[^\n]*)
    | (?P<punct><=|>=|==|!=|[{}\[\](),:.|?<>+\-*=])
    """,
    re.VERBOSE,
)
_DURATION = re.compile(r"(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?\Z")
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|(.)|$)", re.DOTALL)
_NUMBER_HELP = (
    "numbers are whole; durations are written `90s`, `15m`, `8h`, `30d`, `1h30m`; a name begins with a letter"
)
_PLAIN_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the text: for a string `text` is its value, else what stands there."""

    kind: TokenKind
    text: str
    span: Span

    def is_word(self, word: str) -> bool:
        """Say whether this is that bare word (a quoted one never is a keyword)."""
        return self.kind == "name" and self.text == word

    def is_punct(self, text: str) -> bool:
        return self.kind == "punct" and self.text == text


def tokenize(source: Source) -> tuple[list[Token], list[Diagnostic]]:
    """Cut a source into tokens; the last is of kind `end`. What is no token is reported and left out."""
    tokens: list[Token] = []
    found: list[Diagnostic] = []
    text, position, size = source.text, 0, len(source.text)
    while position < size:
        match = _TOKEN.match(text, position)
        if match is None:
            end = _after_stray(text, position)
            if not (found and found[-1].span.line == source.position(position)[0]):  # once a line is enough
                found.append(_stray(source, position, end))
            position = end
            continue
        position = match.end()
        kind = match.lastgroup
        if kind == "space":
            continue
        span = Span(source, match.start(), position)
        word = match.group()
        if kind == "name":
            tokens.append(Token("name", word, span))
        elif kind == "punct":
            tokens.append(Token("punct", word, span))
        elif kind == "number":
            tokens.append(_number(word, span, found))
        elif kind == "string":
            tokens.append(Token("string", _unescape(word, span, found), span))
        else:
            found.append(
                Diagnostic(
                    "E0100",
                    "this string has no end on its line",
                    span,
                    'write `"` at its end; `\\n` stands for a line end',
                )
            )
            tokens.append(Token("string", word[1:], span))
    tokens.append(Token("end", "", Span(source, size, size)))
    return tokens, found


def _number(word: str, span: Span, found: list[Diagnostic]) -> Token:
    if word.isdigit():
        return Token("int", word, span)
    if _DURATION.match(word):
        return Token("duration", word, span)
    found.append(Diagnostic("E0100", f"`{word}` is no number, duration or name", span, _NUMBER_HELP))
    return Token("int", "0", span)


def _unescape(word: str, span: Span, found: list[Diagnostic]) -> str:
    body = word[1:-1]
    if "\\" not in body:
        return body

    def replace(match: re.Match[str]) -> str:
        code, letter = match.groups()
        if code is not None and int(code, 16) <= 0x10FFFF and not 0xD800 <= int(code, 16) <= 0xDFFF:
            return chr(int(code, 16))
        if code is None and letter in _PLAIN_ESCAPES:
            return _PLAIN_ESCAPES[letter]
        start = span.start + 1 + match.start()
        place = Span(span.source, start, start + len(match.group()))
        found.append(
            Diagnostic("E0100", f"`{match.group()}` is no escape", place, r"a string knows \" \\ \n \t and \u{…}")
        )
        return ""

    return _ESCAPE.sub(replace, body)


def _after_stray(text: str, position: int) -> int:
    """The end of a run of characters that begin no token, so that a binary file is one finding and not a million."""
    while position < len(text) and _TOKEN.match(text, position) is None:
        position += 1
    return position


def _stray(source: Source, position: int, end: int) -> Diagnostic:
    character = source.text[position]
    span = Span(source, position, end)
    if character == "'":
        return Diagnostic("E0100", "strings stand in double quotes", span, 'write `"…"`')
    if character in "&!":
        return Diagnostic("E0100", f"`{character}` is not used here", span, "write `and`, `or`, `not`")
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    return Diagnostic("E0100", f"`{shown}` cannot stand here", span)
