"""Effective access on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from admin.paging import MAX_CURSOR, MAX_LIMIT
from admin.wire import Attributes, Ref, Shape


class AccessQuery(Shape):
    """Whose access, to what. A page has as many actions as a list may have at most: mostly that is all of them."""

    subject: Ref
    resource: Ref = Field(examples=["project:p1"])
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="from the page before: its `next`")
    limit: int = Field(default=MAX_LIMIT, ge=1, le=MAX_LIMIT)


class Verdict(Shape):
    """Whether he may do something, and what that rests on."""

    action: str
    decision: bool
    code: str
    by: str | None = None
    at: str | None = None
    because: str | None = None


class Access(Shape):
    """What somebody may do with a thing, action by action, all by one state of the facts and at one instant."""

    subject: str
    resource: str
    policy: str
    revision: str
    items: list[Verdict]
    next: str | None = None


class Question(Shape):
    """A question whose answer is to be explained."""

    subject: Ref
    action: str = Field(min_length=1, max_length=256, examples=["project.read"])
    resource: Ref = Field(examples=["project:p1"])
    context: Attributes | None = Field(default=None, examples=[{"mfa": True}])


class Explanation(Shape):
    """The whole reasoning, as `POST /explain` of the decision service gives it."""

    reasoning: dict[str, Any]
