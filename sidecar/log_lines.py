"""Lines of the decision log: a question and its answer in, one sealed line out; and for `bylaw replay`, back.

    {"chain": "one-01K…", "n": 7, "before": "9f…", "time": "2026-11-21T14:42:47.583112Z",
     "decision": true, "context": {…},                                  the answer, as its caller got it
     "caller": "loopback", "request_id": "…", "path": "/check",
     "input": {"action": "read", "resource": "task:t1", …},             all that is needed to ask again
     "hash": "ab…"}

A chain is what one process wrote. `n` counts its lines from 1 without a gap, `before` is the hash of the line before,
and `hash` the SHA-256 of the line's own bytes without that member. It is taken over the bytes as they stand, not over
what they mean: so nobody has to agree on how JSON is written, and no byte is without effect.

Beside decisions a chain holds what happened to it: `{"dropped": 3}`, decisions that are not in the log; `{"removed":
900}`, the lines up to there may be gone, since rotation removed them; `{"closed": true}`, its end.

The chain has no key. It shows that a line was removed, changed, moved or put in, to whoever has the rest. It does not
hold against somebody who writes all lines anew from there on; that takes a hash kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Final

from engine.request import HttpRequest, Request
from engine.values import MAX_TIME, MIN_TIME, parse_time

Json = dict[str, Any]

#: No line is longer, so nobody who reads need hold more in memory.
MAX_LINE: Final = 1024 * 1024
_HEAD: Final = b'{"chain": "'
_TAIL: Final = re.compile(rb', "hash": "([0-9a-f]{64})"\}')
_TAIL_LENGTH: Final = len(', "hash": "') + 64 + len('"}')
_SECOND: Final = 1_000_000_000
_REQUEST: Final = (
    "tenant", "subject", "action", "resource",
    "subject_properties", "resource_properties", "action_properties", "context", "token_tenant",
)  # fmt: skip
_HTTP_REQUEST: Final = ("method", "path", "tenant", "subject", "subject_properties", "context", "token_tenant")
#: What a question's `input` may hold, and what of it are objects.
INPUT_MEMBERS: Final = frozenset({*_REQUEST, *_HTTP_REQUEST})
OBJECTS: Final = frozenset({"subject_properties", "resource_properties", "action_properties", "context"})
_canonical: Final = json.JSONEncoder(sort_keys=True, allow_nan=False)


class BrokenLineError(Exception):
    """These bytes are no line of a decision log, or not the one that was written; the sentence says why."""


# --- writing ------------------------------------------------------------------------------------------


def written(value: object) -> str:
    """Write a value the one way: members sorted, ASCII.

    Raises:
        ValueError, TypeError: it is no JSON.
    """
    return _canonical.encode(value)


def input_of(question: Request | HttpRequest) -> Json:
    """Return what is needed to ask again; what says nothing is left out."""
    names = _REQUEST if isinstance(question, Request) else _HTTP_REQUEST
    given = ((name, getattr(question, name)) for name in names)
    return {name: value for name, value in given if value is not None and (value or name not in OBJECTS)}


def written_input(question: Request | HttpRequest) -> str:
    """Write `input_of`. What nearly all questions are, four words, is put together by hand: that costs a fifth."""
    if (
        type(question) is Request
        and not question.has_properties
        and not question.context
        and question.tenant is not None
        and question.action is not None
    ):
        return (
            f'{{"action": {_quote(question.action)}, "resource": {_quote(question.resource)}, '
            f'"subject": {_quote(question.subject)}, "tenant": {_quote(question.tenant)}}}'
        )
    return written(input_of(question))


def written_time(now: int) -> str:
    """Write an instant to the microsecond, or to the nanosecond where it is that exact: decided again at any other,
    something might just have expired."""
    second, rest = divmod(now, _SECOND)
    fraction = f"{rest:09d}" if rest % 1000 else f"{rest // 1000:06d}"
    return f"{_whole_second(second)}.{fraction}Z"


@lru_cache(maxsize=64)
def _whole_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Chain:
    """What one process writes.

    Attributes:
        n: how many lines it has.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.n = 0
        self._quoted = _quote(name)
        self._before = "null"

    def seal(self, members: str) -> bytes:
        """Make the next line of its members, which are written as within an object.

        Raises:
            ValueError: it is too long.
        """
        head = f'{{"chain": {self._quoted}, "n": {self.n + 1}, "before": {self._before}, {members}'.encode()
        if len(head) + _TAIL_LENGTH >= MAX_LINE:
            raise ValueError("a line must not be so long")
        digest = hashlib.sha256(head + b"}").hexdigest()
        self.n += 1
        self._before = f'"{digest}"'
        return b'%s, "hash": "%s"}\n' % (head, digest.encode())


# --- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A line that holds in itself: its place in its chain, its hash, and all that it says."""

    chain: str
    n: int
    before: str | None
    hash: str
    said: Json


def unseal(raw: bytes) -> Line:
    """Read a line, without its line break.

    Raises:
        BrokenLineError: it is not what was written.
    """
    tail = _TAIL.fullmatch(raw, max(len(raw) - _TAIL_LENGTH, 0))
    if tail is None:
        raise BrokenLineError("this is no line of a decision log")
    digest = tail.group(1).decode()
    if hashlib.sha256(raw[:-_TAIL_LENGTH] + b"}").hexdigest() != digest:
        raise BrokenLineError("this line was changed: it does not have its hash")
    try:
        said = json.loads(raw)
        chain, n, before = said["chain"], said["n"], said["before"]
    except (ValueError, LookupError, RecursionError, TypeError) as error:
        raise BrokenLineError("this line has a hash, but is no line of a decision log") from error
    if type(chain) is not str or type(n) is not int or n < 1 or not isinstance(before, str | None):
        raise BrokenLineError("this line has a hash, but is no line of a decision log")
    return Line(chain, n, before, digest, said)


def is_cut_off(raw: bytes) -> bool:
    """Say whether bytes without a line break may be the beginning of a line: its hash, which comes last, is missing."""
    return _HEAD.startswith(raw[: len(_HEAD)]) and _TAIL.search(raw) is None


def chain_of(raw: bytes) -> str | None:
    """Read the chain off the beginning of a line that was cut off, if enough of it is there."""
    name, quote, _ = raw.removeprefix(_HEAD).partition(b'"')
    return name.decode(errors="replace") if quote else None


def question_of(said: Mapping[str, Any]) -> Request | HttpRequest:
    """Make the question of a line again, at its instant.

    Raises:
        BrokenLineError: there is none in it.
    """
    given, time = said.get("input"), said.get("time")
    now = parse_time(time) if isinstance(time, str) else None
    if now is None or not MIN_TIME <= now <= MAX_TIME:
        raise BrokenLineError("`time` is no instant")
    if not isinstance(given, dict):
        raise BrokenLineError("`input` is missing")
    for name, value in given.items():
        if name not in INPUT_MEMBERS or not isinstance(value, dict if name in OBJECTS else str):
            raise BrokenLineError("`input` is no question of this version")
    try:
        question = HttpRequest(**given) if "method" in given else Request(**given)
    except TypeError as error:
        raise BrokenLineError("`input` is no question of this version") from error
    question.now = now
    return question
