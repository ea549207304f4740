"""Requests for approval on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Shape, Subject


class Waiting(Shape):
    """What is asked for waits for the approval of another."""

    approval: str
    message: str


class Approval(Shape):
    """A request for approval: somebody is to get a role on a place, or into a group (the role is `member` then)."""

    id: str
    subject: str
    role: str
    on: str
    requested_by: str
    requested_at: str
    expires: str
    decided_by: str | None = None
    decided_at: str | None = None
    outcome: Literal["approved", "refused", "withdrawn"] | None = None


class ApprovalQuery(PageQuery):
    """Which of them, and in which order."""

    status: Literal["pending", "approved", "refused", "withdrawn", "over"] | None = Field(
        default=None, description="over: nobody decided in time"
    )
    subject: Subject | None = Field(default=None, description="who is to get something")
    sort: Literal["made", "-made"] = Field(default="made", description="`-`: the newest first")
