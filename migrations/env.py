"""Runs a migration on the connection that `store.migrating` opened, with its locks and time limits set.

Alembic executes this file once a step, and makes the step one transaction: on PostgreSQL here, unless one was begun to
look at something first; on SQLite always in the one that was begun before, since Alembic knows none that holds there.
"""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run what Alembic was asked for."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


run()
