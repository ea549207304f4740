"""What both clients do alike: say what is sent, make decisions of what comes, remember revisions, complain.

    Question → Post ──(the connection: `_sync`, `_async`)──▶ Answer → Decision

A client is handed the I/O by its subclass alone, so a rule of safety is written here once.
"""

from __future__ import annotations

import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from bylaw import __version__
from bylaw.client.complaints import Complaints
from bylaw.client.endpoint import DEFAULT_URL, Endpoint, parse_endpoint
from bylaw.client.errors import (
    BadAnswerError,
    BylawError,
    DeniedError,
    RefusedError,
    TimedOutError,
    UnavailableError,
    bad_answer,
)
from bylaw.client.model import (
    UNKNOWN_OBLIGATION,
    Decision,
    Obligations,
    Question,
    Semantic,
    hold_to,
)
from bylaw.client.refusals import Refusal, refusal_of
from bylaw.client.revisions import Revisions
from bylaw.client.scope import AT_LEAST, REQUEST_ID, current_scope
from bylaw.client.wire import (
    Answer,
    read_decision,
    read_decisions,
    read_explanation,
    write_question,
    write_questions,
)

#: How long a revision is carried. No shorter than the service's `BYLAW_MAX_STALENESS`, by which all of it has them.
REMEMBER_S: Final = 10.0
TIMEOUT_S: Final = 1.0
POOL_SIZE: Final = 32
NO_OBLIGATIONS: Final[Obligations] = MappingProxyType({})


class Post(NamedTuple):
    """What is sent: a path of the service, headers, a body; and which tenants it is about."""

    path: str
    headers: dict[str, str]
    body: bytes
    tenants: set[str | None]


class Client(ABC):
    """The part of a client that has no connection.

    Args:
        url: `http://HOST:PORT`, `https://HOST` or `unix:/PATH`.
        key: of this caller, where the service wants one.
        timeout_s: for all of one check.
        obligations: those that are understood, by name; an allow with another is a deny.
        remember_s: how long revisions are carried; no shorter than the service's `BYLAW_MAX_STALENESS`.
        pool_size: as many checks at once; the next wait for one of them.
        ssl_context: for a certificate of one's own, or an authority that the system does not know.
        clock: seconds that only go forward.

    Attributes:
        is_async: whether its answers must be awaited.

    Raises:
        ValueError: it cannot ask like this.
    """

    is_async: ClassVar[bool]

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        obligations: Obligations = NO_OBLIGATIONS,
        remember_s: float = REMEMBER_S,
        pool_size: int = POOL_SIZE,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint: Endpoint = parse_endpoint(url)
        if not timeout_s > 0 or pool_size < 1 or remember_s < 0:
            raise ValueError("timeout_s must be more than 0, pool_size at least 1, remember_s not less than 0")
        self._headers = _headers(key)
        self._timeout_s = timeout_s
        self._obligations = dict(obligations)
        self._pool_size = pool_size
        self._ssl_context = ssl_context or (ssl.create_default_context() if self._endpoint.is_secure else None)
        self._revisions = Revisions(remember_s, clock)
        self._complaints = Complaints(clock)
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Make what connections are made of."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._endpoint)!r})"

    def saw(self, revision: str | None, *, tenant: str | None = None) -> None:
        """Have checks answered from facts that know of a write.

        Args:
            revision: the header `Bylaw-Revision` of the write's answer; None: it had none.
            tenant: where it was written; None: every check is to know of it.

        Raises:
            ValueError: it is no revision.
        """
        if revision is not None:
            self._revisions.saw(revision, tenant)

    def at_least(self, tenant: str | None = None) -> tuple[str, ...]:
        """List the revisions that a check of this tenant demands now, for who passes them on."""
        return self._revisions.demanded((tenant,))

    # --- what is sent ------------------------------------------------------------------------------

    def _check_of(self, question: Question) -> Post:
        return self._post("/check", write_question(question), (question,))

    def _checks_of(self, questions: Sequence[Question], semantic: Semantic) -> Post:
        return self._post("/check", write_questions(questions, semantic), questions)

    def _explain_of(self, question: Question) -> Post:
        return self._post("/explain", write_question(question), (question,))

    def _post(self, path: str, body: bytes, questions: Sequence[Question]) -> Post:
        headers = self._headers.copy()
        tenants = _tenants(questions)
        tokens = self._revisions.demanded(tenants)
        if tokens:
            headers[AT_LEAST] = ",".join(tokens)
        scope = current_scope()
        if scope is not None:
            headers[REQUEST_ID] = scope.request_id
        return Post(path, headers, body, tenants)

    # --- what comes --------------------------------------------------------------------------------

    def _decision_of(self, post: Post, answer: Answer) -> Decision:
        self._remember(post, answer)
        return self._held(read_decision(answer))

    def _decisions_of(self, post: Post, answer: Answer, asked: int, semantic: Semantic) -> list[Decision]:
        self._remember(post, answer)
        return [self._held(each) for each in read_decisions(answer, asked, semantic)]

    def _explanation_of(self, post: Post, answer: Answer) -> dict[str, Any]:
        self._remember(post, answer)
        return read_explanation(answer)

    def _remember(self, post: Post, answer: Answer) -> None:
        """Take the revision that an answer is sent with, if it is; decisions are not, today."""
        if answer.revision is not None:
            with suppress(ValueError):  # it is nobody's question that somebody in between wrote nonsense there
                for tenant in post.tenants:
                    self._revisions.saw(answer.revision, tenant)

    def _held(self, decision: Decision) -> Decision:
        """Turn an allow that is not understood into a deny, and say so to whoever reads the log."""
        held = hold_to(decision, self._obligations)
        if held.code == UNKNOWN_OBLIGATION:
            names = ", ".join(f"`{each.name}`" for each in held.obligations)
            message = f"an allow obliges to {names}; what this client can keep is named in its `obligations`"
            self._complaints.note(RefusedError(UNKNOWN_OBLIGATION, message))
        return held

    def _no_answer(self) -> UnavailableError:
        """Make the error of a connection that could not be had, or that ended."""
        return UnavailableError("unreachable", f"the decision service at {self._endpoint} cannot be reached")

    def _timed_out(self) -> TimedOutError:
        """Make the error of an answer that did not come."""
        return TimedOutError("timed_out", f"no answer from {self._endpoint} within {self._timeout_s:g} s")

    def _closed(self) -> UnavailableError:
        """Make the error of a client that is no longer open."""
        return UnavailableError("closed", "this client is closed")

    # --- what is told ------------------------------------------------------------------------------

    def refusal_of(self, error: BylawError, *, challenge: str = "Bearer") -> Refusal:
        """Make the HTTP answer for who is not let through, and log why if that is no deny.

        Args:
            challenge: how to say who one is, as `WWW-Authenticate` has it.
        """
        if not isinstance(error, DeniedError):
            self._complaints.note(error)
        return refusal_of(error, challenge=challenge)


def cut_off() -> BadAnswerError:
    """Make the error of an answer that began and did not end."""
    return bad_answer("it is no HTTP, or was cut off")


def _tenants(questions: Sequence[Question]) -> set[str | None]:
    """List the tenants that questions are about, wherever they name them."""
    found: set[str | None] = set()
    for each in questions:
        found.add(each.tenant)
        for properties in (each.subject_properties, each.resource_properties):
            named = properties.get("tenant") if properties is not None else None
            if isinstance(named, str):
                found.add(named)
    return found


def _headers(key: str | None) -> dict[str, str]:
    made = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"bylaw-python/{__version__}",
    }
    if key is not None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("key: visible ASCII characters, without a space")  # not quoted: it may be the key
        made["Authorization"] = f"Bearer {key}"
    return made
