"""Requests that carry an `Idempotency-Key`: what was done once is answered again, and not done again.

    held(write) ──▶ the key is claimed ──▶ the handler's work ──▶ finish(answer) ──▶ commit
                         └──▶ somebody had it: `RepeatedRequestError`, with what he was answered

The answer is kept in the transaction of the write that it tells of. A handler answers when its write is done, so the
write of such a request stays open until then: it is committed here, at the boundary of the request, and not where the
handler's block ends. A handler with several writes commits each when the next begins, and the answer goes into the
last. What is refused leaves the key free.

An answer that shows a key is not kept: who repeats that request is told that it was done. Answers name persons, so
they are encrypted if there are keys, together with their headers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

from admin.encryption import MAX_LONG_BYTES, DecryptionError, KeyRing, Place, is_sealed
from admin.errors import PublicError, bad_request
from store.changes import Write, Writer
from store.errors import RefusedError
from store.ids import check_id
from store.keys import KEY
from store.writes import idempotency

HEADER: Final = "Idempotency-Key"
#: The status under which it is kept that an answer showed a key.
_SHOWN_ONCE: Final = 409


class Reply(NamedTuple):
    """What is answered, before it is bytes."""

    status: int
    body: Any
    headers: Mapping[str, str]


class RepeatedRequestError(Exception):
    """The request was answered before. No handler catches this: it is no refusal, and what it began is to be undone."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("answered before")
        self.reply = reply


class Once:
    """One request that is to be done once.

    Args:
        key: as the client chose it.
        request: digest of what it asks for.
        actor: who asks.
        ring: encrypts what is kept; None: it is kept in the clear.
    """

    def __init__(self, key: str, request: str, writer: Writer, actor: str, ring: KeyRing | None = None) -> None:
        self._key = key
        self._request = request
        self._writer = writer
        self._actor = actor
        self._ring = ring
        self._write: Write | None = None
        self._open = AsyncExitStack()
        self._is_claimed = False

    @asynccontextmanager
    async def held(self, opened: AbstractAsyncContextManager[Write]) -> AsyncIterator[Write]:
        """Enter a write that stays open when its block has ended well.

        Raises:
            RepeatedRequestError: the request was answered before.
            PublicError: it is under way.
        """
        await self._commit()
        async with AsyncExitStack() as rest:
            write = await rest.enter_async_context(opened)
            if not self._is_claimed:
                await self._claim(write)
            yield write
            write.token = await write.next_token()
            self._write, self._open = write, rest.pop_all()

    async def finish(self, reply: Reply) -> None:
        """Keep what is answered, and commit. Where nothing was written there is nothing to keep."""
        if self._write is not None:
            await idempotency.finish(self._write, self._key, self._kept(reply))
            await self._commit()
        elif self._is_claimed:
            async with self._writer.write(actor=self._actor) as write:
                await idempotency.finish(write, self._key, self._kept(reply))

    async def abandon(self, error: BaseException) -> None:
        """Undo what is not committed."""
        self._write = None
        await self._open.__aexit__(type(error), error, error.__traceback__)

    async def _commit(self) -> None:
        if self._write is not None:
            self._write = None
            await self._open.aclose()
            self._is_claimed = True

    async def _claim(self, write: Write) -> None:
        try:
            await idempotency.begin(write, self._key, self._request)
        except idempotency.RepeatedError as error:
            if error.answer is None:
                raise PublicError(409, error.code, error.message, headers={"Retry-After": "1"}) from error
            raise RepeatedRequestError(_told_again(self._opened(error.answer))) from error

    def _kept(self, reply: Reply) -> idempotency.Answer:
        """Write an answer as it is kept."""
        found = _kept(reply)
        if self._ring is None:
            return found
        said = json.dumps([found.body, dict(found.headers)])
        sealed = self._ring.encrypt(said, place_of(self._actor, self._key), max_bytes=MAX_LONG_BYTES)
        return idempotency.Answer(found.status, sealed, {})

    def _opened(self, kept: idempotency.Answer) -> idempotency.Answer:
        """Read an answer that was kept.

        Raises:
            PublicError: it was encrypted by a key that is not here.
        """
        if not is_sealed(kept.body):
            return kept
        try:
            if self._ring is not None:
                body, headers = json.loads(self._ring.decrypt(kept.body, place_of(self._actor, self._key)))
                return idempotency.Answer(kept.status, body, headers)
        except DecryptionError:
            pass
        raise PublicError(
            409,
            "no_keys",
            "this was done by the first request with this key, and what that was answered cannot be read with the keys "
            "of this service: read what is there now",
        )


def place_of(actor: str, key: str) -> Place:
    """Say where an answer is kept."""
    return Place("", "idempotency_keys", "body", (actor, key))


def read_key(values: list[str]) -> str | None:
    """Read what stands under `Idempotency-Key`; None: nothing does.

    Raises:
        PublicError: it is none.
    """
    if not values:
        return None
    if len(values) > 1:
        raise bad_request(f"there is more than one {HEADER}")
    try:
        return check_id(values[0], f"the {HEADER}")
    except RefusedError as error:
        raise bad_request(error.message) from error


def digest_of(*parts: bytes) -> str:
    """Digest what a request asks for: its parts, so that none can be taken for another."""
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


def _kept(reply: Reply) -> idempotency.Answer:
    body = "" if reply.body is None else json.dumps(reply.body)
    if KEY.search(body):
        return idempotency.Answer(_SHOWN_ONCE, "", reply.headers)
    return idempotency.Answer(reply.status, body, reply.headers)


def _told_again(kept: idempotency.Answer) -> Reply:
    if kept.status == _SHOWN_ONCE:
        raise PublicError(
            _SHOWN_ONCE,
            "shown_once",
            "this was done by the first request with this key, and what that showed is shown once: take it back, and "
            "make another",
            headers=kept.headers,
        )
    return Reply(kept.status, json.loads(kept.body) if kept.body else None, kept.headers)
