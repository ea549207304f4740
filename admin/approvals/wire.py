"""Requests for approval on the wire."""

from __future__ import annotations

from typing import Literal

from admin.wire import Shape


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
