"""All endpoints of the API."""

from __future__ import annotations

from typing import Final

from admin.access import handlers as access
from admin.api_keys import handlers as api_keys
from admin.approvals import handlers as approvals
from admin.assignments import handlers as assignments
from admin.audit import handlers as audit
from admin.custom_roles import handlers as custom_roles
from admin.endpoint import Endpoint
from admin.feed import handlers as feed
from admin.groups import handlers as groups
from admin.invitations import handlers as invitations
from admin.links import handlers as links
from admin.memberships import handlers as memberships
from admin.personal_data import handlers as personal_data
from admin.principals import handlers as principals
from admin.resources import handlers as resources
from admin.tenants import handlers as tenants

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *tenants.ENDPOINTS,
    *personal_data.ENDPOINTS,
    *principals.ENDPOINTS,
    *memberships.ENDPOINTS,
    *groups.ENDPOINTS,
    *assignments.ENDPOINTS,
    *approvals.ENDPOINTS,
    *invitations.ENDPOINTS,
    *links.ENDPOINTS,
    *custom_roles.ENDPOINTS,
    *resources.ENDPOINTS,
    *api_keys.ENDPOINTS,
    *access.ENDPOINTS,
    *audit.ENDPOINTS,
    *feed.ENDPOINTS,
)
