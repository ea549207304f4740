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
from admin.policies import handlers as policies
from admin.principals import handlers as principals
from admin.reencryption import handlers as reencryption
from admin.resources import handlers as resources
from admin.retention import handlers as retention
from admin.roles import handlers as roles
from admin.security import handlers as security
from admin.tenancies import handlers as tenancies
from admin.tenants import handlers as tenants
from admin.tokens import handlers as tokens

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *tenants.ENDPOINTS,
    *security.ENDPOINTS,
    *personal_data.ENDPOINTS,
    *principals.ENDPOINTS,
    *tenancies.ENDPOINTS,
    *memberships.ENDPOINTS,
    *groups.ENDPOINTS,
    *assignments.ENDPOINTS,
    *approvals.ENDPOINTS,
    *invitations.ENDPOINTS,
    *links.ENDPOINTS,
    *custom_roles.ENDPOINTS,
    *roles.ENDPOINTS,
    *resources.ENDPOINTS,
    *policies.ENDPOINTS,
    *api_keys.ENDPOINTS,
    *tokens.ENDPOINTS,
    *access.ENDPOINTS,
    *audit.ENDPOINTS,
    *feed.ENDPOINTS,
    *retention.ENDPOINTS,
    *reencryption.ENDPOINTS,
)
