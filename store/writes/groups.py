"""Groups of a tenant, and who is in them (stream t)."""

from __future__ import annotations

from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.tables import assignments
from store.writes import grouping
from store.writes.attributes import Attributes
from store.writes.grouping import OWN
from store.writes.removal import clear, strip
from store.writes.rows import where
from store.writes.standing import GROUP


async def make(write: Write, name: str, *, attributes: Attributes | None = None) -> None:
    """Make a group. Its name is given once, in all tenants and the platform."""
    await grouping.make(OWN, write, name, attributes)


async def set_attributes(write: Write, name: str, attributes: Attributes) -> None:
    """Put these attributes in the place of all that the group had."""
    await grouping.set_attributes(OWN, write, name, attributes)


async def delete(write: Write, name: str) -> None:
    """Delete a group, for ever, with what it holds and what is held on it.

    Raises:
        NeedsSharedError: links end on it, and the write is not shared.
    """
    await grouping.delete(OWN, write, name)
    await strip(write, where(assignments, subject_type=GROUP, subject_id=name))
    await clear(write, (GROUP, name))


async def nest(write: Write, inner: str, outer: str) -> None:
    """Put a group into another of the same tenant."""
    await grouping.nest(OWN, write, inner, outer)


async def unnest(write: Write, inner: str, outer: str, *, missing_ok: bool = False) -> None:
    """Take a group out of another."""
    await grouping.unnest(OWN, write, inner, outer, missing_ok=missing_ok)


async def add_member(
    write: Write, name: str, ref: str, *, starts: int = ALWAYS, expires: int = NEVER, beside: bool = False
) -> None:
    """Put a user or service into a group; `beside` as in `periods`."""
    await grouping.add_member(OWN, write, name, ref, starts=starts, expires=expires, beside=beside)


async def remove_member(
    write: Write, name: str, ref: str, *, starts: int | None = None, missing_ok: bool = False
) -> None:
    """Take a principal out of a group: for all times, or for those that begin at `starts`."""
    await grouping.remove_member(OWN, write, name, ref, starts=starts, missing_ok=missing_ok)
