"""What a store holds of policies: every version that was uploaded, and which of them was published when.

Safety note
    Locks: none that anybody waits for: both tables are new.
    Time: a moment, for the same reason.
    Way back: drops both tables with every policy in them. Processes decide by their directories again, as soon as they
        are started anew: see that those hold what was published last.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261122_0500"
down_revision = "20261122_0400"
branch_labels = None
depends_on = None

TABLES = ("policies", "publications")
#: What was uploaded stays as it is, and so does what was published: nobody may change or remove a row.
GRANTS = (("bylaw_sidecar", "SELECT"), ("bylaw_admin", "SELECT, INSERT"))


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=True)


def upgrade() -> None:
    """Make the tables, and on PostgreSQL grant them."""
    op.create_table(
        "policies",
        _word("id"),
        _word("digest"),
        _word("files"),
        _maybe("lock"),
        _word("note"),
        _word("made"),
        _word("made_by"),
        sa.PrimaryKeyConstraint("id", name="pk_policies"),
    )
    op.create_table(
        "publications",
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False),
        _maybe("policy_id"),
        _word("at"),
        _word("by"),
        sa.PrimaryKeyConstraint("n", name="pk_publications"),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name="fk_publications_policies_policy_id"),
    )
    if op.get_context().dialect.name == "postgresql":
        for role, rights in GRANTS:
            op.execute(f"GRANT {rights} ON {', '.join(TABLES)} TO {role}")


def downgrade() -> None:
    """Drop the tables, and with them what was granted on them."""
    for table in reversed(TABLES):
        op.drop_table(table)
