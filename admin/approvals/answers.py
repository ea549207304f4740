"""What is answered where something waits for approval."""

from __future__ import annotations

from urllib.parse import quote

from admin.approvals.wire import Waiting
from admin.endpoint import Answer, Ask
from admin.writing import Changed


def waits(ask: Ask, changed: Changed, identity: str) -> Answer:
    """Answer a change that was written down, to wait for the approval of another."""
    said = Waiting(approval=identity, message="it waits for the approval of another who may do it, for 7 days")
    place = f"/tenants/{quote(ask.tenant, safe='')}/approvals/{identity}"
    return changed.answer(said, location=place)._replace(status=202)
