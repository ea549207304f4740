"""Tokens that are taken back, on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Ref, Shape, Time

#: Why a token is blocked. It stands in the audit log for ever, so it is one of these words and nobody's own.
Reason = Literal["logout", "security_event", "role_change", "lost", "other"]


class NewBlock(Shape):
    """A token that is to count no more."""

    subject: Ref = Field(description="whose it is: a user or a service")
    jti: str = Field(min_length=1, max_length=256, description="the token's id, as its claim has it")
    expires: Time = Field(description="the token's own end, at most ten years ahead: the block is forgotten then")
    reason: Reason = Field(default="other", description="for the audit log")


class Block(Shape):
    """A token that counts no more, until its own end."""

    subject: str
    jti: str
    expires: str


class BlockQuery(PageQuery):
    """Whose blocked tokens; not said: of all."""

    subject: Ref | None = None


class NewHorizon(Shape):
    """From when on tokens are to count."""

    moment: Time | None = Field(
        default=None, description="tokens issued until then count no more; not said: until now; not in the future"
    )


class Horizon(Shape):
    """From when on somebody's tokens count; null: whenever they were issued."""

    subject: str
    valid_after: str | None
