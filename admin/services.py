"""What endpoints work with: the store, the policy that runs, and the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from admin.encryption import KeyRing
from engine import Policy
from store.changes import Writer
from store.database import Database
from store.settling import Receipts


@dataclass(frozen=True, slots=True)
class Services:
    """What one process has.

    Args:
        policy: gives the policy that runs; read it once per request, the next may find another.
        clock: nanoseconds since 1970.
        ring: encrypts what is known of persons; None: nothing is kept.
    """

    database: Database
    writer: Writer
    receipts: Receipts
    policy: Callable[[], Policy]
    clock: Callable[[], int] = time.time_ns
    ring: KeyRing | None = None
