"""Endpoints by which tokens are taken back: one, or all that somebody has.

They are for keys: who keeps sessions knows which token is whose. Nothing is given back: a block ends with its token,
and a horizon never moves back, so that nobody brings a stolen token to life.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import bad_request
from admin.fits import principal_of
from admin.paging import Page, page_of
from admin.repository import Found
from admin.tokens import repository
from admin.tokens.wire import Block, BlockQuery, Horizon, NewBlock, NewHorizon
from admin.wire import nanoseconds, shown_time
from admin.writing import changing, reading
from engine.values import SECOND
from store.times import read_time
from store.writes import tokens

Kind = Literal["user", "service"]
#: A block is kept until its token's end, so that must come.
MAX_AHEAD_NS: Final = 10 * 366 * 86_400 * SECOND
#: So far clocks may be apart. A token is taken up to 30 s beyond its end for that; its block lasts for longer.
LEEWAY_NS: Final = 60 * SECOND


async def list_blocks(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        rows = await repository.list_page(connection, ask.query, now=ask.now)
    return Answer(page_of(rows, repository.BY_TOKEN, ask.query, _of_row))


async def block(ask: Ask) -> Answer:
    new: NewBlock = ask.body
    subject = principal_of(ask.services.policy().model, new.subject, "body.subject")
    said = "a time to come, at most ten years ahead"
    until = LEEWAY_NS + _moment(ask, new.expires, "body.expires", said, 1 - LEEWAY_NS, MAX_AHEAD_NS)
    async with changing(ask) as changed:
        kept = await tokens.block(changed.write, subject, new.jti, until=until, reason=new.reason)
    return changed.answer(_shown(subject, new.jti, kept))


class Horizons:
    """Endpoints of one kind of principal."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind

    async def read(self, ask: Ask) -> Answer:
        async with reading(ask) as connection:
            found = await repository.horizon(connection, self.kind, ask.path["id"])
        return Answer(self._shown(ask, None if found is None else read_time(found)))

    async def put(self, ask: Ask) -> Answer:
        new: NewHorizon = ask.body
        wanted = _moment(ask, new.moment, "body.moment", "a time that is not to come", None, LEEWAY_NS)
        async with changing(ask) as changed:
            kept = await tokens.set_valid_after(changed.write, f"{self.kind}:{ask.path['id']}", wanted)
        return changed.answer(self._shown(ask, kept))

    def _shown(self, ask: Ask, moment: int | None) -> Horizon:
        shown = None if moment is None else shown_time(moment)
        return Horizon(subject=f"{self.kind}:{ask.path['id']}", valid_after=shown)


def _moment(ask: Ask, written: datetime | None, field: str, said: str, earliest: int | None, latest: int) -> int:
    """Read a moment; what is not said is now.

    Args:
        earliest, latest: from now on; None: any.

    Raises:
        PublicError: it lies too early or too late.
    """
    found = nanoseconds(written, ask.now)
    if (earliest is not None and found < ask.now + earliest) or found > ask.now + latest:
        raise bad_request(f"not as it must be: {field}", {field: said})
    return found


def _of_row(row: Found) -> Block:
    return _shown(f"{row.type}:{row.id}", row.jti, read_time(row.until))


def _shown(subject: str, jti: str, until: int) -> Block:
    return Block(subject=subject, jti=jti, expires=shown_time(until - LEEWAY_NS) or "")


_ALL: Final = "/tokens/blocked"
_NEED: Final = Need(None)


def _horizons(kind: Kind) -> Iterator[Endpoint]:
    of, path = Horizons(kind), f"/{kind}s/{{id}}/valid-after"
    yield Endpoint("GET", path, f"Say since when a {kind}'s tokens count", of.read, _NEED, Horizon)
    yield Endpoint("PUT", path, f"Take all tokens of a {kind} back", of.put, _NEED, Horizon, NewHorizon)


ENDPOINTS: Final = (
    Endpoint("GET", _ALL, "List tokens that are blocked", list_blocks, _NEED, Page[Block], query=BlockQuery),
    Endpoint("POST", _ALL, "Block a token", block, _NEED, Block, NewBlock, is_repeatable=True),
    *_horizons("user"),
    *_horizons("service"),
)
