"""What came back over a connection: bytes in, answers out, without what differs from one asking to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MADE: Final = "<made>"
#: Of each answer another: ids of decisions, request ids that are made here, times.
_PASSING: Final = (
    (re.compile(r'"id": "[0-9A-HJKMNP-TV-Z]{26}"'), f'"id": "{_MADE}"'),
    (re.compile(r'"requestId": "[0-9a-f]{32}"'), f'"requestId": "{_MADE}"'),
    (re.compile(r'"timestamp": "[^"]*"'), f'"timestamp": "{_MADE}"'),
)
_MADE_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status line, headers in alphabetical order, body."""

    begin: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def status(self) -> int:
        return int(self.begin.split()[1])

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)

    def alike(self) -> Answer:
        """Leave out what differs from one asking to the next."""
        if (
            self.header("Content-Type") == "text/plain; charset=utf-8"
        ):  # aiohttp quotes the piece that it could not read
            kept = tuple((name, value) for name, value in self.headers if name not in ("Date", "Content-Length"))
            return Answer(self.begin, kept, _MADE)
        headers = tuple((name, _passing(name, value)) for name, value in self.headers if name != "Date")
        body = self.body
        for pattern, instead in _PASSING:
            body = pattern.sub(instead, body)
        return Answer(self.begin, headers, body)


@dataclass(frozen=True, slots=True)
class Said:
    """All that came back over a connection, and whether it was closed after it."""

    answers: tuple[Answer, ...]
    is_closed: bool

    def alike(self) -> Said:
        return Said(tuple(each.alike() for each in self.answers), self.is_closed)


def read_answers(said: bytes) -> tuple[Answer, ...]:
    """Read what came back.

    Raises:
        ValueError: it is cut off, or no HTTP.
    """
    return tuple(_answers(said))


def _answers(said: bytes) -> Iterator[Answer]:
    at = 0
    while at < len(said):
        ends = said.find(b"\r\n\r\n", at)
        if ends < 0 or not said.startswith(b"HTTP/", at):
            raise ValueError(f"no answer begins with {said[at : at + 80]!r}")
        begin, *lines = said[at:ends].decode("latin-1").split("\r\n")
        answer = Answer(begin, tuple(sorted(_field(line) for line in lines)), "")
        length, at = int(answer.header("Content-Length") or 0), ends + 4
        if at == len(said) or said.startswith(b"HTTP/", at):  # to HEAD: no body, whatever its length
            length = 0
        if at + length > len(said):
            raise ValueError(f"{begin}: a body of {length} bytes ends after {len(said) - at}")
        yield Answer(begin, answer.headers, said[at : at + length].decode())
        at += length


def _field(line: str) -> tuple[str, str]:
    name, mark, value = line.partition(": ")
    if not mark:
        raise ValueError(f"no header: {line!r}")
    return name, value


def _passing(name: str, value: str) -> str:
    is_made = name == "x-bylaw-decision-id" or (name == "X-Request-ID" and _MADE_ID.fullmatch(value))
    return _MADE if is_made else value
