"""Indexes by which administration lists what tenants have.

Safety note
    Locks: each index keeps its table from being written while it is built; reads and decisions go on.
    Time: about a minute for every ten million rows of memberships, assignments, resources and members of groups.
    Way back: makes the three indexes again that wider ones replaced, and drops the rest. Nothing is lost; lists of
        large tenants get slow.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261122_0400"
down_revision = "20261122_0300"
branch_labels = None
depends_on = None

ENDS = "expires IS NOT NULL"
LIVE = "NOT deleted"
#: Name, table, columns, and which rows; None: all.
WIDER = (
    (
        "ix_assignments_places",
        "assignments",
        ("tenant_id", "place_type", "place_id", "subject_type", "subject_id", "role", "starts"),
        None,
    ),
    ("ix_resources_children", "resources", ("tenant_id", "parent_type", "parent_id", "type", "id"), LIVE),
    ("ix_group_members_listed", "group_members", ("tenant_id", "group_id", "type", "id", "starts"), None),
)
NEW = (
    ("ix_memberships_tenant_id_status_type_id", "memberships", ("tenant_id", "status", "type", "id"), None),
    ("ix_memberships_expiring", "memberships", ("tenant_id", "expires"), ENDS),
    (
        "ix_assignments_roles",
        "assignments",
        ("tenant_id", "role", "subject_type", "subject_id", "place_type", "place_id", "starts"),
        None,
    ),
    (
        "ix_links_listed",
        "links",
        ("tenant_id", "type", "id", "home_id", "place_type", "place_id", "role", "starts"),
        None,
    ),
    ("ix_links_expiring", "links", ("tenant_id", "expires"), ENDS),
    ("ix_principals_type_status_id", "principals", ("type", "status", "id"), None),
    ("ix_tenants_status_id", "tenants", ("status", "id"), None),
    ("ix_principals_not_deleted", "principals", ("type", "id"), "status <> 'deleted'"),
    ("ix_tenants_not_deleted", "tenants", ("id",), "status <> 'deleted'"),
    ("ix_api_keys_live", "api_keys", ("id",), "revoked_at IS NULL"),
    ("ix_api_keys_revoked", "api_keys", ("id",), "revoked_at IS NOT NULL"),
    ("ix_invitations_not_closed", "invitations", ("tenant_id", "id"), "accepted_at IS NULL AND withdrawn_at IS NULL"),
    ("ix_invitations_accepted", "invitations", ("tenant_id", "id"), "accepted_at IS NOT NULL"),
    ("ix_invitations_withdrawn", "invitations", ("tenant_id", "id"), "withdrawn_at IS NOT NULL"),
    ("ix_approvals_tenant_id_outcome_id", "approvals", ("tenant_id", "outcome", "id"), None),
    ("ix_approvals_subjects", "approvals", ("tenant_id", "subject_type", "subject_id", "id"), None),
)
#: What the wider ones replace.
OLD = (
    (
        "ix_assignments_tenant_id_place_type_place_id",
        "assignments",
        ("tenant_id", "place_type", "place_id"),
        None,
    ),
    ("ix_resources_children", "resources", ("tenant_id", "parent_type", "parent_id"), LIVE),
    ("ix_group_members_tenant_id_group_id", "group_members", ("tenant_id", "group_id"), None),
)
Indexes = tuple[tuple[str, str, tuple[str, ...], str | None], ...]


def upgrade() -> None:
    """Make the indexes, wider ones in the place of three."""
    _drop(OLD)
    _make((*WIDER, *NEW))


def downgrade() -> None:
    """Make the three narrow indexes again, and drop the rest."""
    _drop((*WIDER, *NEW))
    _make(OLD)


def _make(indexes: Indexes) -> None:
    for name, table, columns, rows in indexes:
        where = sa.text(rows) if rows is not None else None
        op.create_index(name, table, list(columns), postgresql_where=where, sqlite_where=where)


def _drop(indexes: Indexes) -> None:
    for name, table, _, _ in indexes:
        op.drop_index(name, table_name=table)
