"""Warnings and notes: what a good policy does not have, and what its reviewer should know."""

from __future__ import annotations

from engine.diagnostics import Diagnostic
from engine.model import Model


def lint(model: Model) -> list[Diagnostic]:
    """Return the warnings and notes of a policy without errors."""
    return []
