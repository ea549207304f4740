"""Who may ask for decisions, by key or by client certificate.

Safety note
    Locks: none that anybody waits for, since the table is new.
    Time: a moment, for the same reason.
    Way back: drops the table: nobody has a key any more, and services that ask for one refuse every caller. Keys cannot
        be made again from anything else, so `bylaw callers list --json` beforehand tells what to give out anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261121_2000"
down_revision = "20261121_1400"
branch_labels = None
depends_on = None

GRANTS = (("bylaw_sidecar", "SELECT"), ("bylaw_admin", "SELECT, INSERT, UPDATE, DELETE"))


def _text() -> sa.Text:
    """Make a text that compares by byte, whatever the collation of the database."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=False)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, _text(), nullable=True)


def upgrade() -> None:
    """Make the table; the decision service may read it."""
    op.create_table(
        "callers",
        _word("id"),
        _word("name"),
        _word("prefix"),
        _maybe("tenants"),
        _word("scopes"),
        _maybe("rate"),
        _maybe("expires"),
        _word("made"),
        sa.PrimaryKeyConstraint("id", name="pk_callers"),
        sa.UniqueConstraint("name", name="uq_callers_name"),
    )
    if op.get_context().dialect.name == "postgresql":
        for role, rights in GRANTS:
            op.execute(f"GRANT {rights} ON callers TO {role}")


def downgrade() -> None:
    """Drop the table, and with it what was granted on it."""
    op.drop_table("callers")
