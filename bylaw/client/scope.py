"""What belongs to the request that the application is answering: its id, how fresh the facts must be, what let it in.

A scope lives in a context variable, so that a check deep in the application carries both without being told: tasks and
threads that are begun with a copy of the context see the same one. The middlewares open it; a job of a queue or a test
does so itself:

    with request_scope(request_id=job.id):
        client.check(…)

Revisions that the application has seen (`client.saw`) while a scope is open are noted there, for whoever sends the
answer to hand them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from bylaw.client.model import Decision

REQUEST_ID: Final = "X-Request-ID"
AT_LEAST: Final = "Bylaw-At-Least"
REVISION: Final = "Bylaw-Revision"
#: As many revisions may be demanded at once.
MAX_TOKENS: Final = 8
_MAX_TOKEN: Final = 200
_MAX_REQUEST_ID: Final = 256


@dataclass(slots=True)
class RequestScope:
    """One request that is being answered.

    Attributes:
        request_id: goes along with every check, as `X-Request-ID`.
        at_least: revisions that every check demands.
        seen: those of the application's own writes meanwhile, the newest first.
    """

    request_id: str
    at_least: tuple[str, ...] = ()
    seen: tuple[str, ...] = field(default=(), init=False)

    def note(self, tokens: Iterable[str]) -> None:
        """Take revisions that were seen; the oldest are forgotten where there are too many."""
        self.seen = tuple(dict.fromkeys((*tokens, *self.seen)))[:MAX_TOKENS]


_current: ContextVar[RequestScope | None] = ContextVar("bylaw.client.scope", default=None)
_granted: ContextVar[Decision | None] = ContextVar("bylaw.client.granted", default=None)


def make_scope(request_id: str | None, at_least: str | None) -> RequestScope:
    """Make the scope of a request; see `request_scope`."""
    return RequestScope(known_request_id(request_id) or uuid4().hex, read_tokens(at_least) if at_least else ())


@contextmanager
def request_scope(request_id: str | None = None, at_least: str | None = None) -> Iterator[RequestScope]:
    """Open a scope until the block ends.

    Args:
        request_id: one that cannot be sent as it is, and none, is replaced by a new one.
        at_least: what a header `Bylaw-At-Least` says.

    Raises:
        ValueError: it says something else than one to eight revisions.
    """
    with within(make_scope(request_id, at_least)) as scope:
        yield scope


@contextmanager
def within(scope: RequestScope) -> Iterator[RequestScope]:
    """Open this scope until the block ends."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def granting(decision: Decision | None) -> Iterator[None]:
    """Have `granted` return this decision until the block ends; None: there was no check."""
    token = _granted.set(decision)
    try:
        yield
    finally:
        _granted.reset(token)


def keep_open(scope: RequestScope) -> None:
    """Open this scope for good, in a context that nobody uses for anything else."""
    _current.set(scope)


def keep_granting(decision: Decision | None) -> None:
    """Have `granted` return this decision for good, in such a context."""
    _granted.set(decision)


def current_scope() -> RequestScope | None:
    """Return the scope of the request that is being answered, if there is one."""
    return _current.get()


def granted() -> Decision:
    """Return the decision by which the running function or request was let through; it has the obligations.

    Raises:
        LookupError: nothing was checked.
    """
    decision = _granted.get()
    if decision is None:
        raise LookupError("nothing here was let through by a check")
    return decision


def known_request_id(given: str | None) -> str | None:
    """Return a request id that can be sent and logged as it is."""
    if given and len(given) <= _MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return None


def read_tokens(text: str) -> tuple[str, ...]:
    """Read revisions as a header has them, one or several between commas.

    Raises:
        ValueError: there are none, too many, or something else.
    """
    tokens = tuple(dict.fromkeys(each.strip(" \t") for each in text.split(",")))
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"at most {MAX_TOKENS} revisions")
    for each in tokens:
        # INVARIANT: what passes here can stand in a header: visible ASCII, so no line ends within it.
        if not each or len(each) > _MAX_TOKEN or not each.isascii() or not each.isprintable() or " " in each:
            raise ValueError(f"no revision as a header `{REVISION}` has it: {each[:_MAX_TOKEN]!r}")
    return tokens
