"""`bylaw dev`: the decision service on a policy and a facts file, for trying things out."""

from __future__ import annotations

import argparse
import os
import sys


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from sidecar.app import run as serve
    from sidecar.settings import Settings, SettingsError

    flags = {"policies": args.policies, "facts": args.facts, "http": args.http}
    try:
        settings = Settings.read(os.environ, flags, dev=True, json=args.json)
    except SettingsError as error:
        print(f"bylaw: {error}", file=sys.stderr)
        return 2
    return serve(settings)
