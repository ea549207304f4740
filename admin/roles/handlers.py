"""`/tenants/{tenant}/roles`: which roles there are to be given, what they give, and who hands them out.

It takes `read_access`, as the list of the tenant's own roles does. That every member may see what the policy says would
be of more use to those who may give a role and may not look around; but it tells an attacker whom to go for.
"""

from __future__ import annotations

from typing import Final

from admin.door import want
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.roles import repository, service
from admin.roles.wire import Roles
from admin.writing import reading


async def read_roles(ask: Ask) -> Answer:
    async with reading(ask, ask.tenant) as connection:
        await want(ask, connection, "read_access", ask.tenant)
        custom = await repository.list_names(connection, ask.tenant)
    return Answer(service.roles_of(ask.services.policy(), custom))


ENDPOINTS: Final = (
    Endpoint("GET", "/tenants/{tenant}/roles", "List the roles that may be given", read_roles, Need("read_access"),
             Roles),
)  # fmt: skip
