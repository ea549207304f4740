"""What the store refuses, or cannot do.

BylawError
└── StoreError                 .code  .message
    ├── UnavailableError       the database cannot be reached, or does not answer in time
    ├── UnfitError             it is reached, but must not be used like this: rights, schema, a replica
    └── RefusedError           a write that the facts do not allow: unknown, taken, a cycle, a wrong name
"""

from __future__ import annotations

from engine.errors import BylawError


class StoreError(BylawError):
    """Something about the database; the sentence says what, and the cure."""


class UnavailableError(StoreError):
    """The database cannot be reached, or does not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class UnfitError(StoreError):
    """The database is there and must not be used like this."""


class RefusedError(StoreError):
    """A write that the facts do not allow. Nothing was changed."""
