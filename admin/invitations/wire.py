"""Invitations on the wire. The token is shown once, by the answer that makes it: whoever has it may accept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Role, Shape, Time


class Offered(Shape):
    """A role that an invitation gives."""

    role: Role
    on: str = Field(min_length=1, max_length=512, examples=["project:p1"])


class NewInvitation(Shape):
    """An invitation to be made: into the tenant, with roles on anything in it."""

    email: str | None = Field(default=None, max_length=320, description="kept encrypted, for people to tell them apart")
    status: Literal["active", "guest"] = "active"
    roles: list[Offered] = Field(default_factory=list, max_length=100)
    expires: Time | None = Field(default=None, description="until when it may be accepted: 7 days, if nothing is said")


class MadeInvitation(Shape):
    """An invitation, and its token, this once."""

    id: str
    token: str
    expires: str


class Invitation(Shape):
    """An invitation."""

    id: str
    email: str | None
    status: Literal["active", "guest"]
    roles: list[Offered]
    invited_by: str
    made: str
    expires: str
    accepted_at: str | None = None
    accepted_by: str | None = None
    withdrawn_at: str | None = None


class InvitationQuery(PageQuery):
    """Which of them, and in which order."""

    status: Literal["open", "accepted", "withdrawn", "over"] | None = Field(
        default=None, description="over: nobody accepted while it was open"
    )
    sort: Literal["made", "-made"] = Field(default="made", description="`-`: the newest first")


class Acceptance(Shape):
    """What the invited sends, with his own token as the bearer's."""

    token: str = Field(min_length=1, max_length=256)


class Accepted(Shape):
    """What the invited got."""

    tenant: str
    subject: str
    status: str
    roles: list[Offered]
