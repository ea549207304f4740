"""The endpoint of re-encryption. Only a key with the scope `system` may ask for it."""

from __future__ import annotations

import time
from typing import Final

from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.personal_data.service import ring_of
from admin.reencryption.service import Job
from admin.reencryption.wire import Renewed, RenewQuery

#: So long a run that somebody waits for goes on; clients wait longer.
RUN_S: Final = 20.0


async def run(ask: Ask) -> Answer:
    query: RenewQuery = ask.query
    until = time.monotonic() + RUN_S
    job = Job(ask.services.writer, ring_of(ask), actor=ask.actor.ref, is_over=lambda: time.monotonic() > until)
    renewed = await job.run(query.after or "")
    return Answer(renewed, token=job.token)


_NEED: Final = Need(None, frozenset())
ENDPOINTS: Final = (
    Endpoint("POST", "/encryption/reencrypt", "Encrypt anew what is under an old key", run, _NEED, Renewed,
             query=RenewQuery, errors=(409,), is_repeatable=True),
)  # fmt: skip
