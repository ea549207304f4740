"""What administration keeps: keys, invitations, approvals, answers, personal data.

Safety note
    Locks: none that anybody waits for beyond a moment: all tables are new, and the one foreign key locks `tenants`
        against writes while an empty table is made.
    Time: a moment, for the same reason.
    Way back: drops the tables with all that they hold. Nobody has a key to administer with any more, open invitations
        lead nowhere, what waits for approval is forgotten, and what is known of persons is lost: a backup is the only
        way to have them again. The register of who is to be forgotten goes too: keep a copy, and erase again from it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261122_0100"
down_revision = "20261121_2000"
branch_labels = None
depends_on = None

#: Rows of one tenant, which row-level security shows to a transaction of that tenant alone.
OWNED = ("invitations", "approvals")
#: Nothing is granted to the decision service, which reads none of it. Keys and the register are never deleted.
GRANTS = (
    ("SELECT, INSERT, UPDATE", ("api_keys", "erasures")),
    ("SELECT, INSERT, DELETE", ("invitation_tokens",)),
    ("SELECT, INSERT, UPDATE, DELETE", ("idempotency_keys", "personal_data", *OWNED)),
)


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=True)


# --- up -----------------------------------------------------------------------------------------------


def upgrade() -> None:
    """Make tables and indexes, and on PostgreSQL grant them and put what a tenant owns behind the wall."""
    _make_keys_and_answers()
    _make_personal_data()
    _make_invitations()
    _make_approvals()
    if op.get_context().dialect.name == "postgresql":
        for rights, tables in GRANTS:
            op.execute(f"GRANT {rights} ON {', '.join(tables)} TO bylaw_admin")
        _build_wall()


def _make_keys_and_answers() -> None:
    op.create_table(
        "api_keys",
        _word("id"),
        _word("name"),
        _word("prefix"),
        _word("digest"),
        _word("scopes"),
        _word("made"),
        _word("made_by"),
        _maybe("expires"),
        _maybe("revoked_at"),
        _maybe("last_used"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "idempotency_keys",
        _word("actor"),
        _word("key"),
        _word("request"),
        sa.Column("status", sa.Integer(), nullable=True),
        _maybe("body"),
        _maybe("headers"),
        _word("made"),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_made", "idempotency_keys", ["made"])


def _make_personal_data() -> None:
    op.create_table(
        "personal_data",
        _word("type"),
        _word("id"),
        _word("field"),
        _word("value"),
        _maybe("blind_index"),
        _word("changed"),
        sa.PrimaryKeyConstraint("type", "id", "field", name="pk_personal_data"),
        sa.UniqueConstraint("field", "blind_index", name="uq_personal_data_field_blind_index"),
    )
    op.create_table(
        "erasures",
        _word("id"),
        _word("pseudonym"),
        _word("requested_at"),
        _word("requested_by"),
        _maybe("done_at"),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )


def _make_invitations() -> None:
    op.create_table(
        "invitation_tokens",
        _word("digest"),
        _word("tenant_id"),
        sa.PrimaryKeyConstraint("digest", name="pk_invitation_tokens"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_invitation_tokens_tenants_tenant_id"),
    )
    op.create_table(
        "invitations",
        _word("tenant_id"),
        _word("id"),
        _word("digest"),
        _maybe("email"),
        _maybe("email_index"),
        _word("roles"),
        _word("status"),
        _word("invited_by"),
        _word("made"),
        _word("expires"),
        _maybe("accepted_at"),
        _maybe("accepted_by"),
        _maybe("withdrawn_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_invitations"),
        sa.UniqueConstraint("tenant_id", "digest", name="uq_invitations_tenant_id_digest"),
    )
    op.create_index("ix_invitations_tenant_id_email_index", "invitations", ["tenant_id", "email_index"])


def _make_approvals() -> None:
    op.create_table(
        "approvals",
        _word("tenant_id"),
        _word("id"),
        _word("change"),
        _word("subject_type"),
        _word("subject_id"),
        _word("place_type"),
        _word("place_id"),
        _word("role"),
        _word("requested_by"),
        _word("requested_at"),
        _word("expires"),
        _maybe("decided_by"),
        _maybe("decided_at"),
        _maybe("outcome"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_approvals"),
    )
    pending = sa.text("outcome IS NULL")
    op.create_index(
        "ix_approvals_pending",
        "approvals",
        ["tenant_id", "place_type", "place_id", "role"],
        postgresql_where=pending,
        sqlite_where=pending,
    )


def _build_wall() -> None:
    """Show rows of a tenant to transactions of that tenant alone, the tables' owner included.

    The setting is empty, not NULL, after the first transaction of a connection that had a tenant: so no row may have an
    empty tenant.
    """
    own = "tenant_id = current_setting('bylaw.tenant', true)"
    for table in OWNED:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK ({own} AND tenant_id <> '')")


# --- down ---------------------------------------------------------------------------------------------


def downgrade() -> None:
    """Drop the tables, and with them what was granted on them."""
    for table in (
        *("approvals", "invitations", "invitation_tokens", "erasures", "personal_data", "idempotency_keys"),
        "api_keys",
    ):
        op.drop_table(table)
