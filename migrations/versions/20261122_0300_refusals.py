"""What was refused, in chains of its own, and the security settings of tenants.

Safety note
    Locks: none that anybody waits for beyond a moment: all tables are new, and the one foreign key locks `tenants`
        against writes while an empty table is made.
    Time: a moment, for the same reason.
    Way back: drops the tables with all that they hold, and the platform's chain with them. What was refused is known
        no more: export it first, by `bylaw audit export`. What tenants had set holds no more: invitations and links may
        be made as without settings.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261122_0300"
down_revision = "20261122_0200"
branch_labels = None
depends_on = None

#: Rows of one tenant, which row-level security shows to a transaction of that tenant alone.
OWNED = ("refusals", "tenant_security")
#: Nothing is granted to the decision service, which reads none of it. What was refused is never changed or removed.
GRANTS = (
    ("SELECT, INSERT", ("refusals", "platform_refusals")),
    ("SELECT, INSERT, UPDATE", ("refusal_heads",)),
    ("SELECT, INSERT, UPDATE, DELETE", ("tenant_security",)),
)


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False)


def _number() -> sa.Column[int]:
    return sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False)


# --- up -----------------------------------------------------------------------------------------------


def upgrade() -> None:
    """Make the tables, and on PostgreSQL grant them and put what a tenant owns behind the wall."""
    op.create_table(
        "refusal_heads",
        _word("stream"),
        sa.Column("n", sa.BigInteger(), nullable=False),
        _word("head"),
        sa.PrimaryKeyConstraint("stream", name="pk_refusal_heads"),
    )
    for table, whose in (("platform_refusals", "stream"), ("refusals", "tenant_id")):
        op.create_table(
            table,
            _word(whose),
            _number(),
            _word("at"),
            _word("actor"),
            _word("entries"),
            _word("before"),
            _word("hash"),
            sa.PrimaryKeyConstraint(whose, "n", name=f"pk_{table}"),
        )
    op.create_table(
        "tenant_security",
        _word("tenant_id"),
        _word("settings"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_security"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_tenant_security_tenants_tenant_id"),
    )
    if op.get_context().dialect.name == "postgresql":
        for rights, tables in GRANTS:
            op.execute(f"GRANT {rights} ON {', '.join(tables)} TO bylaw_admin")
        _build_wall()


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
    for table in ("tenant_security", "refusals", "platform_refusals", "refusal_heads"):
        op.drop_table(table)
