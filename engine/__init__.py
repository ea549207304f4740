"""The policy language and the decision. Pure: what it decides depends on policy, facts, request and instant alone.

from engine import Facts, Policy, Request
policy = Policy.load("policies/studio")
facts = Facts.load("policies/studio/facts.yaml", policy)
policy.decide(Request(tenant="acme", subject="user:ann", action="read", resource="task:t1"), facts).allowed
"""

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
