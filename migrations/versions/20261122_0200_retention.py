"""How long what is done with is kept, who was deleted and is to be cleared away, and how something was asked for.

Safety note
    Locks: none that anybody waits for: all tables are new, and none refers to another.
    Time: a moment, for the same reason.
    Way back: drops the tables. Periods are the usual ones again. Who waits for approval, and whose invitation is
        accepted, is judged without what his request said, so a rule that reads the context refuses him. What was
        deleted and not yet cleared away is found anew, but counts as deleted only since then.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261122_0200"
down_revision = "20261122_0100"
branch_labels = None
depends_on = None

#: Nothing is granted to the decision service, which reads none of it.
GRANTS = (
    ("SELECT, INSERT, UPDATE", ("retention_periods", "departures")),
    ("SELECT, INSERT, UPDATE, DELETE", ("circumstances",)),
)


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=True)


def upgrade() -> None:
    """Make the tables, and on PostgreSQL grant them and put what a tenant owns behind the wall."""
    op.create_table(
        "retention_periods",
        _word("name"),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_retention_periods"),
    )
    op.create_table(
        "departures",
        _word("type"),
        _word("id"),
        _word("deleted_at"),
        _maybe("cleared_at"),
        _maybe("forgotten_at"),
        sa.PrimaryKeyConstraint("type", "id", name="pk_departures"),
    )
    op.create_table(
        "circumstances",
        _word("tenant_id"),
        _word("kind"),
        _word("id"),
        _word("said"),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "id", name="pk_circumstances"),
    )
    if op.get_context().dialect.name == "postgresql":
        for rights, tables in GRANTS:
            op.execute(f"GRANT {rights} ON {', '.join(tables)} TO bylaw_admin")
        _build_wall()


def _build_wall() -> None:
    """Show rows of a tenant to transactions of that tenant alone, the table's owner included."""
    own = "tenant_id = current_setting('bylaw.tenant', true)"
    op.execute("ALTER TABLE circumstances ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE circumstances FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON circumstances USING ({own}) WITH CHECK ({own} AND tenant_id <> '')")


def downgrade() -> None:
    """Drop the tables, and with them what was granted on them."""
    for table in ("circumstances", "departures", "retention_periods"):
        op.drop_table(table)
