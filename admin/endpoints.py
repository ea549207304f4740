"""All endpoints of the API."""

from __future__ import annotations

from typing import Final

from admin.api_keys import handlers as api_keys
from admin.approvals import handlers as approvals
from admin.assignments import handlers as assignments
from admin.custom_roles import handlers as custom_roles
from admin.endpoint import Endpoint
from admin.groups import handlers as groups
from admin.links import handlers as links
from admin.memberships import handlers as memberships
from admin.principals import handlers as principals
from admin.resources import handlers as resources
from admin.tenants import handlers as tenants

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *tenants.ENDPOINTS,
    *principals.ENDPOINTS,
    *memberships.ENDPOINTS,
    *groups.ENDPOINTS,
    *assignments.ENDPOINTS,
    *approvals.ENDPOINTS,
    *links.ENDPOINTS,
    *custom_roles.ENDPOINTS,
    *resources.ENDPOINTS,
    *api_keys.ENDPOINTS,
)
