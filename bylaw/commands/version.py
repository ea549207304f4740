"""`bylaw version`."""

from __future__ import annotations

import argparse
import platform

from bylaw import __version__
from bylaw.output import print_json
from engine.checker import LANGUAGE_VERSION


def run(args: argparse.Namespace) -> int:
    """Print the versions of the product, the language and Python."""
    if args.json:
        print_json({"version": __version__, "language": LANGUAGE_VERSION, "python": platform.python_version()})
    else:
        print(f"bylaw {__version__} (language {LANGUAGE_VERSION}, Python {platform.python_version()})")
    return 0
