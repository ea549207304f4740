"""Start the service alone: `python -m sidecar --policies DIR [--facts FILE] [--http HOST:PORT] …`.

It takes what `bylaw serve` takes, but reads no `.env` file. The processes of `--workers` are started like this, too.
"""

from __future__ import annotations

import argparse
import os
import sys

from sidecar.settings import Settings, SettingsError
from sidecar.workers import serve, work

FLAGS = ("policies", "facts", "database_url", "redis_url", "http", "max_staleness", "workers", "callers", "public_url")


def main() -> int:
    """Read the arguments and serve; return the exit code."""
    given = _parser().parse_args()
    if given.worker:
        return work(given.worker)
    flags = {name: getattr(given, name) for name in FLAGS}
    try:
        settings = Settings.read(os.environ, flags, dev=given.dev, json=given.json)
    except SettingsError as error:
        print(f"bylaw: {error}", file=sys.stderr)
        return 2
    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sidecar", description="Decide over HTTP.")
    parser.add_argument("--policies", metavar="DIR", help="directory of *.bylaw (default policies)")
    parser.add_argument("--facts", metavar="FILE", help="facts file, in place of the store")
    parser.add_argument("--database-url", metavar="URL", help="the store (default sqlite+aiosqlite:///bylaw.db)")
    parser.add_argument("--redis-url", metavar="URL", help="where hints come from, beside the store")
    parser.add_argument("--http", metavar="HOST:PORT", help="where to listen, or unix:/path (default 127.0.0.1:8180)")
    parser.add_argument("--max-staleness", metavar="TIME", help="how old facts may be (default 5s)")
    parser.add_argument("--workers", metavar="N", help="processes on one port (default 1)")
    parser.add_argument("--callers", metavar="WHO", help="who may ask (default loopback)")
    parser.add_argument("--public-url", metavar="URL", help="how clients know the service")
    parser.add_argument("--dev", action="store_true", help="callers have all scopes")
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.add_argument("--worker", metavar="FD", type=int, nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
