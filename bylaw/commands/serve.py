"""`bylaw serve`: the decision service on the facts of a store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings import Settings

#: What may stand on the command line; all but `workers` also in a variable of that name.
FLAGS = ("policies", "database_url", "redis_url", "http", "max_staleness", "callers", "public_url", "workers")


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from sidecar.workers import serve

    return serve(settings_of(args))


def settings_of(args: argparse.Namespace, *, facts: str | None = None, dev: bool = False) -> Settings:
    """Read the settings: what is said on the command line over the environment over `.env`.

    Raises:
        BylawError: something is unknown, malformed or not safe.
    """
    from sidecar.settings import Settings
    from store.environment import environment

    flags = {name: getattr(args, name) for name in FLAGS} | {"facts": facts}
    return Settings.read(environment(), flags, dev=dev, json=args.json)
