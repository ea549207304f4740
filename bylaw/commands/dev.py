"""`bylaw dev`: the decision service on a policy and a facts file, for trying things out."""

from __future__ import annotations

import argparse


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from sidecar import app  # a server is imported only where one is started

    return app.main(args)
