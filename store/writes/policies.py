"""Policies: uploaded once and never changed, published, and published again to go back (stream p).

Whether a policy is a good one, and may follow the one before, is for callers to say before: here are rows. Who decides
reads them by `published`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from engine.source import Source
from store.changes import Write
from store.errors import RefusedError
from store.ids import new_id
from store.published import Publication, position, publication_at
from store.streams import EVERYTHING, POLICIES
from store.tables import policies, publications
from store.times import write_time
from store.writes.rows import add, find
from store.writes.standing import refuse_absent


async def upload(write: Write, sources: Iterable[Source], lock: bytes | None, *, digest: str, note: str = "") -> str:
    """Keep a policy; return its id. Nothing decides by it yet."""
    made = new_id()
    await add(
        write,
        policies,
        id=made,
        digest=digest,
        files=json.dumps({source.name: source.text for source in sources}, ensure_ascii=False),
        lock=None if lock is None else lock.decode(),
        note=note,
        made=write_time(write.now),
        made_by=write.actor,
    )
    write.record("policy.uploaded", POLICIES, policy=made, digest=digest)
    return made


async def publish(write: Write, policy: str | None, *, after: int) -> Publication:
    """Let a policy decide from this write on, in every process; None: what each finds in its directory.

    Args:
        after: the number of the publication that it was judged by.

    Raises:
        RefusedError: there is no such policy, it is the one that decides, or another was published meanwhile.
    """
    if policy is not None and await find(write, policies, id=policy) is None:
        raise refuse_absent(f"policy `{policy}`")
    n = (await position(write.connection)).n
    last = await publication_at(write.connection)
    if last.n != after:
        raise RefusedError("conflict", "another policy was published meanwhile: look, and ask again")
    if last.policy == policy:
        said = "no policy is published" if policy is None else f"policy `{policy}` is the one that decides"
        raise RefusedError("conflict", f"{said}: there is nothing to change")
    await add(write, publications, n=n, policy_id=policy, at=write_time(write.now), by=write.actor)
    write.touch(POLICIES, EVERYTHING)
    write.record("policy.withdrawn" if policy is None else "policy.published", POLICIES, policy=policy or last.policy)
    return Publication(n, policy, write.now, write.actor)
