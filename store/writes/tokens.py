"""Tokens that count no more, before their own time is up (stream g).

Whose they are need not be stored: the identity provider may be the only one who knows him.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, tuple_

from store.changes import Write
from store.ids import check_id
from store.streams import GLOBAL, principal_key
from store.tables import blocked_tokens, token_horizons
from store.times import read_time, write_time
from store.writes.rows import add, find, remove, where
from store.writes.standing import principal_of

#: So many a sweep forgets at a time: fewer than the keys that a change can name.
PRUNE_LIMIT: Final = 500


async def block(write: Write, ref: str, jti: str, *, until: int, reason: str | None = None) -> int:
    """Block one token of a principal; return until when. A block is never shortened.

    Args:
        until: when the token is refused for its age anyway, so that the block may be forgotten.
        reason: for the audit log: a word, and nothing of a person.
    """
    kind, identity = principal_of(ref)
    key = {"type": kind, "id": identity, "jti": check_id(jti, "a token's id")}
    known = await find(write, blocked_tokens, **key)
    wanted = write_time(until)
    latest = wanted if known is None else max(wanted, known.until)
    await remove(write, blocked_tokens, where(blocked_tokens, **key))
    await add(write, blocked_tokens, **key, until=latest)
    write.touch(GLOBAL, principal_key(ref))
    why = {} if reason is None else {"reason": reason}
    write.record("token.blocked", GLOBAL, principal=ref, jti=jti, until=latest, **why)
    return read_time(latest)


async def set_valid_after(write: Write, ref: str, moment: int) -> int:
    """Let no token of a principal count that was issued before a moment; return from when on they count. It never moves
    back: what was cut off stays cut off."""
    kind, identity = principal_of(ref)
    key = {"type": kind, "id": identity}
    known = await find(write, token_horizons, **key)
    wanted = write_time(moment)
    latest = wanted if known is None else max(wanted, known.valid_after)
    await remove(write, token_horizons, where(token_horizons, **key))
    await add(write, token_horizons, **key, valid_after=latest)
    write.touch(GLOBAL, principal_key(ref))
    write.record("token.valid_after", GLOBAL, principal=ref, moment=latest)
    return read_time(latest)


async def prune(write: Write, *, limit: int = PRUNE_LIMIT) -> int:
    """Forget blocks of tokens that are too old to count anyway; return how many. Call again while it is `limit`."""
    key = tuple_(blocked_tokens.c.type, blocked_tokens.c.id, blocked_tokens.c.jti)
    past = blocked_tokens.c.until <= write_time(write.now)
    some = select(blocked_tokens.c.type, blocked_tokens.c.id, blocked_tokens.c.jti).where(past).limit(limit)
    rows = await remove(write, blocked_tokens, key.in_(some), "type", "id")
    write.touch(GLOBAL, *(principal_key(f"{row.type}:{row.id}") for row in rows))
    write.record("token.pruned", GLOBAL, tokens=len(rows))
    return len(rows)
