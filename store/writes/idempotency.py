"""Requests that are sent twice and done once: who sends a key with one is told what was answered the first time.

    begin ──▶ nobody had the key: the write goes on ──▶ finish, with the answer ──▶ commit
      └─────▶ somebody has: `RepeatedError`, with his answer, and nothing is written

The key is claimed in the same transaction as the write that it protects, so either both are kept or neither is: a
write that was refused, or cut off, leaves the key free. Whoever comes with the same key meanwhile waits for that
transaction, and then has its answer. A key that was claimed and kept without an answer is under way: that is a write of
several transactions, or was one.

A repetition is raised rather than returned: who does not look must not do it twice, and the write is to be taken back.

A key is its actor's. One that comes with another request is refused; the request's digest should cover its method, path
and body. Answers are kept for a day, as they were given, but never with a key in them: what is shown once is not there
to be shown again. Whether an answer names persons is for callers to say, and to encrypt it.

Beginning and finishing leave no entry in the audit log, where the write itself stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, text, tuple_

from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id
from store.keys import KEY, check_digest
from store.tables import idempotency_keys
from store.times import write_time
from store.writes.rows import change, find, remove, where

#: How long an answer is kept.
KEEP_NS: Final = 86_400 * 1_000_000_000
#: So many a sweep forgets at a time.
PRUNE_LIMIT: Final = 500

_CLAIM: Final = text("""
    INSERT INTO idempotency_keys (actor, key, request, made) VALUES (:actor, :key, :request, :made)
    ON CONFLICT (actor, key) DO UPDATE
    SET request = excluded.request, status = NULL, body = NULL, headers = NULL, made = excluded.made
    WHERE idempotency_keys.made <= :forgotten
""")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered."""

    status: int
    body: str
    headers: Mapping[str, str]


class RepeatedError(RefusedError):
    """The request was sent before: here is what it was answered, None while it is under way."""

    def __init__(self, answer: Answer | None) -> None:
        said = "is under way: ask again in a moment" if answer is None else "was answered before"
        super().__init__("repeated", f"the request with this idempotency key {said}")
        self.answer = answer


async def begin(write: Write, key: str, request: str) -> None:
    """Claim a key for a request of the write's actor: the first that a write does.

    Args:
        request: its digest.

    Raises:
        RepeatedError: the request was sent before.
        RefusedError: another request has the key.
    """
    check_id(key, "an idempotency key")
    said = {"actor": write.actor, "key": key, "request": check_digest(request, "a request")}
    forgotten = write_time(write.now - KEEP_NS)
    claimed = await write.connection.execute(_CLAIM, {**said, "made": write_time(write.now), "forgotten": forgotten})
    if claimed.rowcount == 1:
        return
    row = await find(write, idempotency_keys, actor=write.actor, key=key)
    if row is not None and row.request != request:
        raise RefusedError("key_reused", "another request was sent with this idempotency key: choose a new one")
    raise RepeatedError(None if row is None else _answer(row))


async def finish(write: Write, key: str, answer: Answer) -> None:
    """Keep what a request is answered, in the write that claimed the key.

    Raises:
        RuntimeError: nobody claimed it, or the answer has a key in it.
    """
    headers = json.dumps(dict(answer.headers), sort_keys=True)
    if KEY.search(answer.body) or KEY.search(headers):
        raise RuntimeError("an answer that shows a key must not be kept: keep it without")
    open_one = where(idempotency_keys, actor=write.actor, key=key, status=None)
    if not await change(write, idempotency_keys, open_one, status=answer.status, body=answer.body, headers=headers):
        raise RuntimeError("this idempotency key was not begun, or is finished")


async def prune(write: Write, *, limit: int = PRUNE_LIMIT) -> int:
    """Forget answers that are older than a day; return how many. Call again while it is `limit`."""
    columns = (idempotency_keys.c.actor, idempotency_keys.c.key)
    some = select(*columns).where(idempotency_keys.c.made <= write_time(write.now - KEEP_NS)).limit(limit)
    rows = await remove(write, idempotency_keys, tuple_(*columns).in_(some))
    write.record("idempotency.pruned", keys=len(rows))
    return len(rows)


async def forget_actor(write: Write, actor: str) -> None:
    """Forget what somebody was answered: he is to be forgotten."""
    await remove(write, idempotency_keys, where(idempotency_keys, actor=actor))


def _answer(row: Row[Any]) -> Answer | None:
    return None if row.status is None else Answer(row.status, row.body, json.loads(row.headers))
