"""What the engine raises.

    ValueError
    └── BylawError              .code  .diagnostics
        ├── PolicyError         a policy that does not load; carries every diagnostic
        ├── FactsError          facts that do not fit the policy, or are not well formed
        └── RequestError        a question that is malformed: unknown type or action, value of the wrong type, no tenant

A deny is never raised: it is an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.diagnostics import Diagnostic


class BylawError(ValueError):
    """Base of all errors of the engine: a stable `code`, a sentence, and the diagnostics if there are any."""

    def __init__(self, code: str, message: str, diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.diagnostics = tuple(diagnostics)


class PolicyError(BylawError):
    """The policy has errors; `diagnostics` holds all of them, warnings too."""


class FactsError(BylawError):
    """The facts are not well formed or do not fit the policy; `diagnostics` names each place."""


class RequestError(BylawError):
    """The request is malformed: an error, not a decision."""
