"""Tokens that count no more, before their own time is up (stream g). Blocks that are over go with `retention`.

Whose they are need not be stored: the identity provider may be the only one who knows him.
"""

from __future__ import annotations

from store.changes import Write
from store.ids import check_id
from store.streams import GLOBAL, principal_key
from store.tables import blocked_tokens, token_horizons
from store.times import read_time, write_time
from store.writes.rows import add, find, remove, where
from store.writes.standing import principal_of


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


async def forget(write: Write, ref: str) -> None:
    """Forget which tokens of a principal count no more. He is deleted, so that none of them gives him anything."""
    kind, identity = principal_of(ref)
    own = {"type": kind, "id": identity}
    gone = [await remove(write, table, where(table, **own)) for table in (blocked_tokens, token_horizons)]
    if any(gone):
        write.touch(GLOBAL, principal_key(ref))
