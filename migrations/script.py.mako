"""${message}

Safety note
    Locks: TODO which tables, how strongly, and who waits for them meanwhile
    Time: TODO how long on ten million rows, and what was done so that it is not longer
    Way back: TODO what `downgrade` loses, and how to go back without that
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    ${downgrades if downgrades else "raise NotImplementedError"}
