"""The policy language and the decision. Pure: what it decides depends on policy, facts, request and instant alone.

    from engine import Facts, Policy, Request
    policy = Policy.load("policies/studio")
    facts = Facts.load("policies/studio/facts.yaml", policy)
    policy.decide(Request(tenant="acme", subject="user:ann", action="read", resource="task:t1"), facts).allowed

Names are imported when they are first used, so that `bylaw lint` loads nothing that decides.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.decision import Decision, Obligation
    from engine.diagnostics import Diagnostic
    from engine.errors import BylawError, FactsError, PolicyError, RequestError
    from engine.policy import Facts, Policy
    from engine.request import HttpRequest, Request

__all__ = [
    "BylawError",
    "Decision",
    "Diagnostic",
    "Facts",
    "FactsError",
    "HttpRequest",
    "Obligation",
    "Policy",
    "PolicyError",
    "Request",
    "RequestError",
]

_HOMES = {
    "BylawError": "errors",
    "Decision": "decision",
    "Diagnostic": "diagnostics",
    "Facts": "policy",
    "FactsError": "errors",
    "HttpRequest": "request",
    "Obligation": "decision",
    "Policy": "policy",
    "PolicyError": "errors",
    "Request": "request",
    "RequestError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `engine` has no `{name}`")
    value = getattr(import_module(f"engine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
