"""What the middlewares share: what the application says is to be asked, and how a request that comes in is read.

    headers → scope          request → (the application's function) → Question → Decision → in, or a refusal

Nothing of the request says who asks but the application's function. It returns a `Question`, or `NO_CHECK` where this
request needs none: it is for everybody, or checked further in. None is a deny, so that a path that nobody thought of,
and a branch without a `return`, are closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from bylaw.client.errors import DeniedError
from bylaw.client.model import Decision, Question
from bylaw.client.scope import REVISION, RequestScope, make_scope


class NoCheck(Enum):
    """The one value of `NO_CHECK`."""

    NO_CHECK = "no check"


NO_CHECK: Final = NoCheck.NO_CHECK
Asked = Question | NoCheck | None


@dataclass(frozen=True, slots=True)
class Gate:
    """How a middleware behaves.

    Args:
        challenge: the `WWW-Authenticate` of a 401.
        carries_at_least: whether who sends a request may demand revisions by `Bylaw-At-Least`, and is told by
            `Bylaw-Revision` those of the application's writes meanwhile.
    """

    challenge: str = "Bearer"
    carries_at_least: bool = False

    def scope_of(self, request_id: str | None, at_least: str | None) -> RequestScope:
        """Make the scope of a request that has these headers.

        Raises:
            ValueError: they demand what is no revision.
        """
        return make_scope(request_id, at_least if self.carries_at_least else None)

    def told(self, scope: RequestScope) -> tuple[str, str] | None:
        """Return the header that the answer gets."""
        return (REVISION, ", ".join(scope.seen)) if self.carries_at_least and scope.seen else None


def question_of(said: object) -> Question | None:
    """Return what is to be asked; None: nothing.

    Raises:
        DeniedError: the application does not say.
        TypeError: it says something else.
    """
    if said is NO_CHECK:
        return None
    if isinstance(said, Question):
        return said
    if said is None:
        raise DeniedError(Decision(False, "not_said"))
    raise TypeError(f"expected a Question, NO_CHECK or None of what is to be asked, got {type(said).__name__}")


def let_through(decision: Decision, question: Question) -> Decision:
    """Return an allow.

    Raises:
        DeniedError: it is none.
    """
    if not decision.allowed:
        raise DeniedError(decision, question)
    return decision
