"""In which tenants somebody is, on the wire."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Shape

#: Each tenant on a page is looked into by itself.
MAX_TENANTS: Final = 25


class Tenancy(Shape):
    """A membership, seen from its holder."""

    tenant: str
    tenant_status: Literal["active", "suspended"]
    status: Literal["active", "guest", "suspended"]
    starts: str | None = None
    expires: str | None = None


class TenancyQuery(PageQuery):
    """Which page."""

    limit: int = Field(default=MAX_TENANTS, ge=1, le=MAX_TENANTS)
