"""Codes of decisions: `role` and `rule` are given by the policy; the rest deny for what is not there, or for want of
anything that allows. Stable: logs and tests use them, so no rule may bear one's name."""

CODES = (
    "role",
    "rule",
    "default",
    "boundary",
    "tenant_inactive",
    "principal_inactive",
    "unknown_resource",
    "exists",
    "broken_chain",
    "bad_path",
    "no_route",
    "stale",
)
