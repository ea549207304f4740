"""Security settings of tenants on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from admin.wire import Shape

_Days = Annotated[int, Field(ge=1, le=3650)]
Domain = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
        examples=["acme.example"],
    ),
]


class Security(Shape):
    """What a tenant demands of what is made in it from now on. What is not said is as it is without settings."""

    invitation_days: int = Field(default=7, ge=1, le=7, description="so long an invitation is open at most")
    invited_domains: list[Domain] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="only addresses of these very domains are invited, and none without one; null: anybody is",
    )
    max_link_days: _Days | None = Field(
        default=None, description="a link that lets somebody of another tenant in ends after so long; null: or never"
    )
    max_key_days: _Days | None = Field(
        default=None, description="a key with the scope of this tenant ends after so long; null: or never"
    )
