"""What somebody may do with a thing, and why: every action of its type, decided on one snapshot.

It is thought out beside the loop: of one who is in a thousand groups an explanation takes tenths of a second, in which
others are answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from admin.access.aside import aside
from admin.access.wire import Verdict
from admin.actors import EndUser
from admin.endpoint import Ask
from engine import Decision, Policy, Request
from engine.claims import context_of
from engine.explain import explain
from store.database import Connection
from store.seen import SeenFacts, seen

#: Of a token, where the roles that it claims stand.
_CLAIMED: Final = "roles"
#: What a deny is called for who may not know more of it.
DENIED: Final = "denied"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def questions(ask: Ask, subject: str, resource: str, actions: Sequence[str]) -> list[Request]:
    """Ask each action, all at one instant. Who asks about himself is asked about as his token says he is; of anybody
    else nothing is known but what is stored."""
    kind = resource.partition(":")[0]
    parts: dict[str, Any] = {}
    user = ask.actor
    if isinstance(user, EndUser) and user.ref == subject:
        parts["context"] = context_of(ask.address, ask.services.policy().model, user.said)
        parts["subject_properties"] = {_CLAIMED: list(user.claims)} if user.claims else None
        parts["token_tenant"] = user.tenant
    at = instant(ask.now)
    return [Request(ask.tenant, subject, f"{kind}.{action}", resource, now=at, **parts) for action in actions]


async def decide_all(
    connection: Connection, tenant: str, policy: Policy, asked: Sequence[Request], *, is_told_why: bool
) -> tuple[list[Verdict], str]:
    """Decide questions; return the state of the facts, too.

    Args:
        is_told_why: tell of a deny what it rests on. Who is not told cannot tell what he may not see from what is not
            there.
    """

    def attempt(facts: SeenFacts) -> tuple[list[Verdict], str]:
        decisions = [policy.decide(each, facts) for each in asked]
        for each in decisions:
            _ = each.reasons  # by facts that can still be loaded now
        verdicts = [_verdict(one, each.action or "", is_told_why) for one, each in zip(decisions, asked, strict=True)]
        return verdicts, facts.source.revision_of(tenant)

    return await seen(connection, tenant, policy, attempt, run=aside)


async def reason(connection: Connection, tenant: str, policy: Policy, question: Request) -> dict[str, Any]:
    """Decide one question, with the whole reasoning."""
    return await seen(connection, tenant, policy, lambda facts: explain(policy, question, facts), run=aside)


def instant(now: int) -> datetime:
    """Write an instant as requests name it, to the microsecond."""
    return _EPOCH + timedelta(microseconds=now // 1000)


def _verdict(decision: Decision, action: str, is_told_why: bool) -> Verdict:
    if not decision.allowed and not is_told_why:
        return Verdict(action=action, decision=False, code=DENIED, because=decision.because)
    return Verdict(
        action=action,
        decision=decision.allowed,
        code=decision.code,
        by=decision.by,
        at=decision.at,
        because=decision.because,
    )
