"""Start the service alone: `python -m sidecar --policies DIR [--facts FILE] [--http HOST:PORT] …`.

It takes what `bylaw serve` takes, but reads no `.env` file. The processes of `--workers` are started like this, too.
"""

from __future__ import annotations

import argparse
import os
import sys

from sidecar.settings import FLAGS, Settings, SettingsError
from sidecar.workers import serve, work


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
    parser = argparse.ArgumentParser(
        prog="python -m sidecar", description="Decide over HTTP. `bylaw serve --help` says what each flag means."
    )
    for name in FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE")
    parser.add_argument("--dev", action="store_true", help="callers have all scopes")
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.add_argument("--worker", metavar="FD", type=int, nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
