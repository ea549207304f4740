"""Questions: may this principal do this on that?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engine.values import time_of

Properties = Mapping[str, Any]
_EMPTY: Properties = {}


class _Read:
    """What every decision reads of a request, together in memory: as in `standing`."""

    __slots__ = ("action", "context", "has_properties", "now", "resource", "subject", "tenant")


class Request(_Read):
    """A question. Properties and context are JSON values, as they come.

    Args:
        tenant: the active tenant, if the request itself names one.
        subject: `"user:ann"`, or `"anonymous"`; in a subject search the type alone.
        action: `"read"` or with its type, `"task.read"`; None in an action search.
        resource: `"task:t1"`; in a resource search the type alone.
        token_tenant: the tenant that the verified token claims; None if there is no token.
        now: the instant at which it is decided, an aware datetime; None: the clock's.
    """

    __slots__ = ("action_properties", "resource_properties", "subject_properties", "token_tenant")

    def __init__(
        self,
        tenant: str | None = None,
        subject: str = "anonymous",
        action: str | None = None,
        resource: str = "",
        subject_properties: Properties | None = None,
        resource_properties: Properties | None = None,
        action_properties: Properties | None = None,
        context: Properties | None = None,
        token_tenant: str | None = None,
        now: datetime | None = None,
    ) -> None:
        self.tenant = tenant
        self.subject = subject
        self.action = action
        self.resource = resource
        self.subject_properties = subject_properties or _EMPTY
        self.resource_properties = resource_properties or _EMPTY
        self.action_properties = action_properties or _EMPTY
        self.context = context or _EMPTY
        self.token_tenant = token_tenant
        self.now = None if now is None else time_of(now)
        self.has_properties = bool(
            subject_properties or resource_properties or action_properties or token_tenant is not None
        )

    def __repr__(self) -> str:
        return f"Request({self.subject} {self.action} {self.resource} in {self.tenant})"


class HttpRequest:
    """A question by method and path, which the policy's routes turn into an action on a resource.

    Args:
        path: as it came, its query included, nothing decoded.
        tenant: the active tenant, if something beside path and token names it.
    """

    __slots__ = (
        "context",
        "has_properties",
        "method",
        "now",
        "path",
        "subject",
        "subject_properties",
        "tenant",
        "token_tenant",
    )

    def __init__(
        self,
        method: str,
        path: str,
        subject: str = "anonymous",
        tenant: str | None = None,
        token_tenant: str | None = None,
        context: Properties | None = None,
        now: datetime | None = None,
        subject_properties: Properties | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.subject = subject
        self.tenant = tenant
        self.token_tenant = token_tenant
        self.context = context or _EMPTY
        self.now = None if now is None else time_of(now)
        self.subject_properties = subject_properties or _EMPTY
        self.has_properties = True  # a path says more than what is remembered of a request
