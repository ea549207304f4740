"""Endpoints of retention. Only a key with the scope `system` may do anything with it."""

from __future__ import annotations

import time
from typing import Final

from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.retention.service import Job
from admin.retention.wire import Periods, RunQuery, Swept
from admin.writing import changing, reading, unchanged
from store.database import Connection
from store.writes import retention

#: So long a run that somebody waits for goes on; clients wait longer.
RUN_S: Final = 20.0


async def read_periods(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        return Answer(await _periods(connection))


async def put_periods(ask: Ask) -> Answer:
    wanted: Periods = ask.body
    async with changing(ask) as changed:
        unchanged(ask, await _periods(changed.write.connection))
        await retention.put_periods(changed.write, wanted.model_dump())
    return changed.answer(wanted)


async def run(ask: Ask) -> Answer:
    query: RunQuery = ask.query
    async with reading(ask) as connection:
        periods = await retention.read_periods(connection)
    until = time.monotonic() + RUN_S
    job = Job(
        ask.services.writer,
        retention.cutoffs_of(periods, ask.now),
        actor=ask.actor.ref,
        is_over=lambda: time.monotonic() > until,
    )
    if query.dry_run:
        return Answer(await job.count(query.after or ""))
    swept = await job.run(query.after or "")
    return Answer(swept, token=job.token)


async def _periods(connection: Connection) -> Periods:
    return Periods(**await retention.read_periods(connection))


_NEED: Final = Need(None, frozenset())
ENDPOINTS: Final = (
    Endpoint("GET", "/retention", "Read how long things are kept", read_periods, _NEED, Periods),
    Endpoint("PUT", "/retention", "Say how long things are kept", put_periods, _NEED, Periods, Periods, errors=(412,)),
    Endpoint("POST", "/retention/run", "Remove what is kept no longer", run, _NEED, Swept, query=RunQuery,
             is_repeatable=True),
)  # fmt: skip
