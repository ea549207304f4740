"""Questions and decisions, as the application sees them: values, without a connection and without JSON.

A decision is true where the service said yes *and* this client understands every obligation of that yes. Whether it
does is settled when the answer is read (`hold_to`), not where a decision is used: a yes that binds its caller to what
he does not know of never reaches him as a yes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, TypedDict

#: The subject that is nobody.
ANONYMOUS: Final = "anonymous"
UNKNOWN_OBLIGATION: Final = "unknown_obligation"

Properties = Mapping[str, Any]
Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]

_log = logging.getLogger("bylaw.client")


@dataclass(frozen=True, slots=True)
class Question:
    """May this subject do this to that resource?

    Args:
        subject: `user:ann`, `service:billing`, or `anonymous`; the type ends at the first colon.
        action: `read`, or `task.read`.
        resource: `task:t1`.
        tenant: the active tenant.
        context: what the policy declares of requests.
        subject_properties, action_properties, resource_properties: attributes that are sent along.
    """

    subject: str
    action: str
    resource: str
    _: KW_ONLY
    tenant: str | None = None
    context: Properties | None = None
    subject_properties: Properties | None = None
    action_properties: Properties | None = None
    resource_properties: Properties | None = None


class Parts(TypedDict, total=False):
    """What of a question may be left out; see `Question`."""

    tenant: str | None
    context: Properties | None
    subject_properties: Properties | None
    action_properties: Properties | None
    resource_properties: Properties | None


@dataclass(frozen=True, slots=True)
class Obligation:
    """What an answer asks of whoever acts on it: one entry of a rule's `with`.

    Attributes:
        id: `RULE.NAME`. name: `NAME`. value: what the rule says of it.
    """

    id: str
    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer. It is true where it allows: `if client.check(…):`.

    Attributes:
        allowed: whether the service allows it, and every obligation is understood here.
        code: why, in one word; `unknown_obligation` if an obligation is not understood.
        by: the rule, or the role and where it is held. at: where that stands in the policy.
        because: the rule's own words.
        obligations: what is asked of whoever acts on it.
        revision: of the facts. policy: its digest.
        id: of this decision, for logs; "" where nothing was decided.
        error: of one among many: why it could not be decided.
        answered: what the service said, where that was an allow with an obligation that is not understood.
    """

    allowed: bool
    code: str
    by: str | None = None
    at: str | None = None
    because: str | None = None
    obligations: tuple[Obligation, ...] = ()
    revision: str = ""
    policy: str = ""
    id: str = ""
    error: str | None = None
    answered: Decision | None = None

    def __bool__(self) -> bool:
        return self.allowed


#: Obligations that are understood, by name: `True`, and the application sees to them itself, or a function that says
#: whether this one can be kept; it is asked when the answer is read.
Obligations = Mapping[str, Literal[True] | Callable[[Obligation], bool]]


def hold_to(decision: Decision, known: Obligations) -> Decision:
    """Turn an allow with an obligation that is not understood into a deny."""
    if not decision.allowed or not decision.obligations:
        return decision
    if all(_is_understood(each, known) for each in decision.obligations):
        return decision
    return Decision(
        False,
        UNKNOWN_OBLIGATION,
        decision.by,
        decision.at,
        None,
        decision.obligations,
        decision.revision,
        decision.policy,
        decision.id,
        answered=decision,
    )


def _is_understood(obligation: Obligation, known: Obligations) -> bool:
    """Ask for `True` itself: a function that forgot to answer, or that would have to be awaited, has not said yes."""
    handler = known.get(obligation.name)
    if not callable(handler):
        return handler is True
    try:
        return handler(obligation) is True
    except Exception:
        _log.exception("the function for the obligation `%s` failed: the allow is a deny", obligation.name)
        return False
