"""`python -m migrations "what it does"`: begin a new migration."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from alembic import command

from store.migrating import scripts


def main(words: list[str], now: datetime) -> int:
    """Write the file of a migration, named after the minute and what it does."""
    if not words:
        print('say what it does: python -m migrations "links may end"', file=sys.stderr)
        return 2
    command.revision(scripts(), message=" ".join(words), rev_id=f"{now:%Y%m%d_%H%M}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], datetime.now(UTC)))
