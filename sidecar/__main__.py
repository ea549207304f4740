"""Start the service alone: `python -m sidecar --policies DIR --facts FILE [--http HOST:PORT] [--dev] [--json]`."""

from __future__ import annotations

import argparse
import os
import sys

from sidecar.app import run
from sidecar.settings import Settings, SettingsError


def main() -> int:
    """Read the arguments and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sidecar", description="Decide over HTTP, facts in memory.")
    parser.add_argument("--policies", metavar="DIR", help="directory of *.bylaw (default policies)")
    parser.add_argument("--facts", metavar="FILE", help="facts file")
    parser.add_argument("--http", metavar="HOST:PORT", help="where to listen, or unix:/path (default 127.0.0.1:8180)")
    parser.add_argument("--dev", action="store_true", help="callers have all scopes")
    parser.add_argument("--json", action="store_true", help="print for machines")
    given = parser.parse_args()
    flags = {"policies": given.policies, "facts": given.facts, "http": given.http}
    try:
        settings = Settings.read(os.environ, flags, dev=given.dev, json=given.json)
    except SettingsError as error:
        print(f"bylaw: {error}", file=sys.stderr)
        return 2
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
