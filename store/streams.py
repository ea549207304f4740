"""Streams of changes, and the keys that name what a change touched.

A stream is a counter that every write to what it covers moves: `g` for what all tenants share, `p` for published
policies, `t:TENANT` for what one tenant owns. Its name sorts as it must be locked: g, p, then tenants in byte order.
What was refused has chains of the same form, `r` and `r:TENANT`, beside these: it changes nothing, so nobody follows.

A key names one view, within its stream. It is text and is never looked for by pattern, so no part of it needs
escaping: the type of a principal or resource has no colon.

    t:TENANT   principal:TYPE:ID   group:NAME   resource:TYPE:ID   tenant   *
    g          principal:TYPE:ID   group:NAME   tenant:ID   callers   *
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

GLOBAL: Final = "g"
POLICIES: Final = "p"
#: The chain of what was refused where no tenant is concerned; no facts are in it, and nobody follows it.
REFUSED: Final = "r"
#: The whole stream: what follows it drops all that it holds.
EVERYTHING: Final = "*"
#: The tenant's attributes and its own roles.
TENANT: Final = "tenant"
#: Who may ask for decisions: all of them are one view.
CALLERS: Final = "callers"
ANYONE_KEY: Final = "group:anyone"


class Position(NamedTuple):
    """How far a stream is: its number, and the head that tells its history."""

    n: int
    head: str


NOWHERE: Final = Position(0, "")


def stream_of(tenant: str) -> str:
    return f"t:{tenant}"


def refused_in(tenant: str | None) -> str:
    """Name the chain of what was refused in a tenant; None: in none that there is."""
    return REFUSED if tenant is None else f"{REFUSED}:{tenant}"


def is_of_refusals(stream: str) -> bool:
    return stream == REFUSED or stream.startswith(f"{REFUSED}:")


def tenant_of(stream: str) -> str | None:
    """Name the tenant that a stream belongs to; None for `g`, `p` and `r`."""
    return stream[2:] if stream.startswith(("t:", "r:")) else None


def in_lock_order(streams: Iterable[str]) -> list[str]:
    """Sort streams as every writer locks them, so that no two wait for each other."""
    return sorted(set(streams), key=lambda stream: stream.encode())


def principal_key(ref: str) -> str:
    """Name the view of a principal, `"user:ann"`."""
    return f"principal:{ref}"


def group_key(name: str) -> str:
    return f"group:{name}"


def resource_key(ref: str) -> str:
    """Name the view of a resource, `"task:t1"`."""
    return f"resource:{ref}"


def tenant_key(tenant: str) -> str:
    return f"tenant:{tenant}"


def subject_key(ref: str) -> str:
    """Name the view that holds what a subject of an assignment holds: a principal, a group, or `anyone`."""
    if ref == "anyone":
        return ANYONE_KEY
    kind, _, identity = ref.partition(":")
    return group_key(identity) if kind == "group" else principal_key(ref)
